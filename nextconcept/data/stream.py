"""Training windows from a stream of documents, without a copy on disk.

Shapes: B batch, T context_length.
"""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from fsspec.asyn import reset_lock
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from nextconcept.core.errors import InputError
from nextconcept.data.corpus import check_document
from nextconcept.data.processes import gather_objects
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.data.windows import ConceptBatch, identity_collate

if TYPE_CHECKING:  # loaded where a dataset is opened: it takes as long as torch
    import datasets

__all__ = ["StreamLoader", "StreamedWindows"]


class StreamedWindows(IterableDataset[ConceptBatch]):
    """Windows of consecutive documents, in the order of the stream, without end.

    The stream is divided among all workers of all processes after the held-out documents are taken
    away: each worker reads its own shards, if all get equally many, or otherwise its own documents.
    A worker that has read its part begins the part again, so that workers with unequal parts never
    wait for each other. Windows of ``context_length + 1`` tokens overlap by one token, so that each
    token is predicted once.

    Args:
        stream: documents.
        column: column that holds the text.
        tokenizer: tokenizer of the documents.
        context_length: T.
        rank: rank of this process.
        ranks: number of processes.
        held_out: number of documents at the beginning that are left out. Give a number instead of
            a stream after ``skip``, which ``datasets`` would cut in each shard.

    Attributes:
        positions: of each worker of this process, the position in its part, None at the beginning.
            A loader without workers has one position.
        first: the worker whose position the first worker is to continue from.
    """

    def __init__(
        self,
        stream: "datasets.IterableDataset",
        column: str,
        tokenizer: Tokenizer,
        context_length: int,
        rank: int = 0,
        ranks: int = 1,
        held_out: int = 0,
    ) -> None:
        self.stream, self.column, self.tokenizer, self.context_length = stream, column, tokenizer, context_length
        self.rank, self.ranks, self.held_out = rank, ranks, held_out
        self.positions: list[dict[str, Any] | None] = [None]
        self.first = 0
        self._shards: list[datasets.IterableDataset] | None = None

    @property
    def worker(self) -> int:
        """The number of this worker's position, 0 outside a worker."""
        info = get_worker_info()
        return 0 if info is None else (info.id + self.first) % info.num_workers

    def find_shards(self, workers: int) -> None:
        """Find the shards after the held-out documents, if all workers can get equally many."""
        parts, count = self.ranks * max(1, workers), self.stream.num_shards
        # Without held-out documents the stream may be cut itself, so that its shards say nothing.
        if parts == 1 or not self.held_out or count < parts:
            return
        left = self.held_out
        for index in range(count):
            shard = self.stream.shard(count, index)
            size = 0
            for batch in shard.iter(1000):
                size += len(batch[self.column])
                if size > left:
                    break
            if size > left:
                rest = [self.stream.shard(count, later) for later in range(index + 1, count)]
                self._shards = [shard.skip(left), *rest]
                break
            left -= size
        if self._shards is not None and len(self._shards) % parts:
            self._shards = None

    def __iter__(self) -> Iterator[ConceptBatch]:
        """Yield windows, each a batch of one.

        Raises:
            InputError: if a document is not text, or this part of the stream fills no window.
        """
        info, worker = get_worker_info(), self.worker
        if info is not None:
            reset_lock()  # of the process that this one was forked from
        part, parts = self.rank + self.ranks * worker, self.ranks * (1 if info is None else info.num_workers)
        start = self.positions[worker] or {"rest": [], "source": 0, "documents": 0, "stream": None}
        rest, first, documents = np.array(start["rest"], np.int64), start["source"], start["documents"]
        state = copy.deepcopy(start["stream"])  # None is the beginning
        windows = int(state is not None)  # of this pass over the part
        sources = [self.stream.skip(self.held_out)] if self._shards is None else self._shards[part::parts]
        divided = parts > 1 and self._shards is None
        while True:
            for number in range(first, len(sources)):
                source = sources[number]
                source.load_state_dict(state)
                state = None
                # By iter(): a loop over the dataset would divide it among the workers once more.
                for row in source.iter(1):
                    documents += 1
                    if divided and (documents - 1) % parts != part:
                        continue
                    text = check_document(row[self.column][0], f"column {self.column!r} of the stream")
                    rest = np.concatenate((rest, self.tokenizer.encode(text), [self.tokenizer.end_of_text]))
                    position = {"source": number, "documents": documents, "stream": source.state_dict()}
                    while len(rest) > self.context_length:
                        window, rest = rest[: self.context_length + 1], rest[self.context_length :]
                        windows += 1
                        self.positions[worker] = position | {"rest": rest}
                        tokens = torch.from_numpy(window.astype(np.int64))[None]
                        yield ConceptBatch(tokens, torch.ones_like(tokens, dtype=torch.bool))
            if not windows:
                raise InputError(
                    f"the stream without its {self.held_out} held-out documents, divided in {parts}, holds no window "
                    f"of {self.context_length + 1} tokens: hold out fewer documents, or use fewer processes and "
                    "workers or a smaller context_length."
                )
            first = documents = windows = 0


class StreamLoader(DataLoader[ConceptBatch]):
    """Batches of streamed windows, with a position from which a resumed run continues.

    An epoch goes on where the one before ended, and so does a resumed run, which needs as many
    processes and workers as before.

    Args:
        windows: windows of this process.
        batch_size: B.
        length: batches that count as an epoch.
        collate_fn: what to do with a batch in the process that reads it.
        **options: arguments of :class:`torch.utils.data.DataLoader`.
    """

    def __init__(
        self,
        windows: StreamedWindows,
        batch_size: int,
        length: int = 1000,
        collate_fn: Callable[[Any], ConceptBatch] = identity_collate,
        **options: Any,
    ) -> None:
        super().__init__(windows, batch_size, collate_fn=partial(_join, collate_fn), **options)
        windows.positions = [None] * max(1, self.num_workers)
        windows.find_shards(self.num_workers)
        self.windows, self.length = windows, length
        # One iterator for all epochs: what workers have read ahead is not lost.
        self._batches: Iterator[Any] | None = None
        self._worker = 0

    def __len__(self) -> int:
        """Return the number of batches that count as an epoch."""
        return self.length

    def __iter__(self) -> Iterator[ConceptBatch]:  # type: ignore[override]
        """Yield batches without end, from where the last iteration stopped.

        Raises:
            InputError: if a document is not text, or a part of the stream fills no window.
        """
        if self._batches is None:
            self._batches = super().__iter__()
        while True:
            try:
                batch, position = next(self._batches)
            except InputError as error:  # a worker's error quotes its whole traceback
                raise InputError(str(error).split("InputError: ")[-1].strip()) from None
            if position is not None:
                self.windows.positions[self._worker] = position
                self._worker = (self._worker + 1) % self.num_workers  # they take turns
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the positions of all processes; every process has to call this method."""
        own = {"positions": [_plain(one) for one in self.windows.positions], "next": self._worker}
        return {"ranks": gather_objects(own)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the positions that :meth:`state_dict` returned.

        Raises:
            InputError: if the number of processes or workers has changed.
        """
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank, ranks = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
        if len(state["ranks"]) != ranks:
            raise InputError(
                f"the run was saved with {len(state['ranks'])} processes, each with its position in the stream: "
                "resume it with as many."
            )
        own = state["ranks"][rank]
        if len(own["positions"]) != len(self.windows.positions):
            raise InputError(
                f"the run was saved with {len(own['positions'])} workers per process, each with its position in the "
                f"stream: resume it with --data.num_workers {len(own['positions'])}."
            )
        self.windows.positions, self.windows.first = list(own["positions"]), own["next"]
        self._worker, self._batches = own["next"], None


def _join(
    collate_fn: Callable[[Any], ConceptBatch], windows: list[ConceptBatch]
) -> tuple[ConceptBatch, dict[str, Any] | None]:
    """Concatenate windows to a batch; a worker adds its position after the batch."""
    tokens, masks = zip(*((window.tokens, window.mask) for window in windows), strict=True)
    batch = collate_fn(ConceptBatch(torch.cat(tokens), torch.cat(masks)))
    info = get_worker_info()
    if info is None:
        return batch, None
    dataset = cast(StreamedWindows, info.dataset)
    return batch, dataset.positions[dataset.worker]


def _plain(position: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a position as a checkpoint holds it."""
    return None if position is None else position | {"rest": np.asarray(position["rest"]).tolist()}
