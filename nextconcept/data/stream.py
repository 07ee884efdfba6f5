"""Training windows from a stream of documents, without a copy on disk.

Shapes: B batch, T context_length.
"""

import copy
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
import torch
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from nextconcept.core.errors import InputError
from nextconcept.data.tokenizers import Tokenizer
from nextconcept.data.windows import ConceptBatch

__all__ = ["StreamLoader", "StreamedWindows"]


class StreamedWindows(IterableDataset[ConceptBatch]):
    """Windows of consecutive documents, in the order of the stream, without end.

    Each process reads its own shards, or its own documents if the shards can't be divided evenly,
    and each worker a part of them. A process that has read its part begins again, so that processes
    with unequal parts never wait for each other. Windows of ``context_length + 1`` tokens overlap
    by one token, so that each token is predicted once.

    Args:
        stream: documents.
        column: column that holds the text.
        tokenizer: tokenizer of the documents.
        context_length: T.
        rank: rank of this process.
        ranks: number of processes.
    """

    def __init__(
        self,
        stream: datasets.IterableDataset,
        column: str,
        tokenizer: Tokenizer,
        context_length: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.stream = split_dataset_by_node(stream, rank, ranks) if ranks > 1 else stream
        self.column, self.tokenizer, self.context_length = column, tokenizer, context_length
        self.rest = np.empty(0, np.int64)
        self.position = self._beginning = self.stream.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the stream, for a loader without workers."""
        return {"rest": self.rest.tolist(), "stream": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the position that :meth:`state_dict` returned."""
        self.rest = np.array(state["rest"], np.int64)
        self.position = state["stream"]

    def __iter__(self) -> Iterator[ConceptBatch]:
        """Yield windows, each a batch of one.

        Raises:
            InputError: if a document is not text, or this part of the stream fills no window.
        """
        # The position of a worker's part is not known here.
        alone = get_worker_info() is None
        while True:
            filled = False
            if alone:
                self.stream.load_state_dict(copy.deepcopy(self.position))
            for row in self.stream:
                text = row[self.column]
                if not isinstance(text, str):
                    raise InputError(f"column {self.column!r} of the stream holds {type(text).__name__}, not text.")
                self.position = self.stream.state_dict() if alone else self.position
                self.rest = np.concatenate((self.rest, self.tokenizer.encode(text), [self.tokenizer.end_of_text]))
                while len(self.rest) > self.context_length:
                    window, self.rest = self.rest[: self.context_length + 1], self.rest[self.context_length :]
                    filled = True
                    tokens = torch.from_numpy(window.astype(np.int64))[None]
                    yield ConceptBatch(tokens, torch.ones_like(tokens, dtype=torch.bool))
            if not filled and alone:
                raise InputError(
                    f"a process's part of the stream holds no window of {self.context_length + 1} tokens: use fewer "
                    "processes or a smaller context_length."
                )
            if not filled:
                return  # more workers than shards
            self.position = self._beginning


class StreamLoader(DataLoader[ConceptBatch]):
    """Batches of streamed windows, with a position from which a resumed run continues.

    Args:
        windows: windows of this process.
        batch_size: B.
        length: batches that count as an epoch.
        **options: arguments of :class:`torch.utils.data.DataLoader`. With workers a resumed run
            begins the stream anew, because the documents that they have read ahead are lost.
    """

    def __init__(self, windows: StreamedWindows, batch_size: int, length: int = 1000, **options: Any) -> None:
        super().__init__(windows, batch_size, collate_fn=_join, **options)
        self.windows, self.length = windows, length

    def __len__(self) -> int:
        """Return the number of batches that count as an epoch."""
        return self.length

    def state_dict(self) -> dict[str, Any]:
        """Return the positions of all processes; every process has to call this method."""
        own = self.windows.state_dict() if self.num_workers == 0 else None
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return {"ranks": [own]}
        states: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(states, own)
        return {"ranks": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the positions that :meth:`state_dict` returned.

        Raises:
            InputError: if the number of processes has changed.
        """
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank, ranks = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
        if len(state["ranks"]) != ranks:
            raise InputError(
                f"the run was saved with {len(state['ranks'])} processes, each with its position in the stream: "
                "resume it with as many."
            )
        if self.num_workers == 0 and state["ranks"][rank] is not None:
            self.windows.load_state_dict(state["ranks"][rank])


def _join(windows: list[ConceptBatch]) -> ConceptBatch:
    """Concatenate windows to a batch."""
    return ConceptBatch(*(torch.cat(parts) for parts in zip(*windows, strict=True)))
