"""Windows of a token stream, whose length is a multiple of the chunks of every level.

Shapes: B batch, T context_length, L levels.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from mmap import mmap
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler

from nextconcept.core.chunk_ends import Tables, chunk_ends
from nextconcept.core.hierarchy import Hierarchy

__all__ = [
    "AddChunkEnds",
    "ConceptBatch",
    "ContiguousWindows",
    "TrainingWindows",
    "WindowLoader",
    "WindowSampler",
    "Windows",
    "identity_collate",
]


class ConceptBatch(NamedTuple):
    """Windows of T tokens, whole chunks at every level, each followed by one more token."""

    tokens: Tensor
    """(B, T + 1) int64: all but the last are inputs, all but the first are targets."""
    mask: Tensor
    """(B, T + 1) bool: False where a token is padding or is not learnt."""
    ends: Tensor | None = None
    """(B, L - 1, T) bool: whether a chunk of each concept level, the lowest first, ends after each
    input. None for chunks of one length, and where the rules are not known. It is there to look at:
    models find the same from the tokens."""


class Windows(Dataset[ConceptBatch], ABC):
    """Base class of windows that are read a batch at a time."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of windows in an epoch."""

    @abstractmethod
    def __getitems__(self, indices: list[int]) -> ConceptBatch:
        """Return windows ``indices`` as one batch."""

    def __getitem__(self, index: int) -> ConceptBatch:
        """Return window ``index`` as a batch of one."""
        return self.__getitems__([index])

    def __iter__(self) -> Iterator[ConceptBatch]:
        """Yield the windows of an epoch: drawn windows have no end that a loop would find."""
        return map(self.__getitem__, range(len(self)))


class _TokenWindows(Windows):
    """Windows of tokens, which a worker maps into memory where the training process does."""

    def __init__(self, tokens: np.ndarray, context_length: int) -> None:
        self.tokens, self.context_length = tokens, context_length

    def __getstate__(self) -> dict[str, Any]:
        """Pickle a memory-mapped file as its path: a copy would be as large as the corpus."""
        tokens = self.tokens
        # A slice of a mapped file has the whole as its base.
        if not (isinstance(tokens, np.memmap) and isinstance(tokens.base, mmap) and tokens.filename is not None):
            return self.__dict__
        file = {"filename": tokens.filename, "dtype": tokens.dtype, "offset": tokens.offset, "shape": tokens.shape}
        return self.__dict__ | {"tokens": file}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the file again."""
        tokens = state["tokens"]
        self.__dict__ |= state | ({"tokens": np.memmap(**tokens, mode="r")} if isinstance(tokens, dict) else {})


class TrainingWindows(_TokenWindows):
    """Random windows; window i is a function of ``seed`` and ``i`` alone.

    A counter-based generator (Philox; Salmon et al., 2011) draws the windows, so that a resumed run
    and any number of processes see one sequence without keeping any state.

    Args:
        tokens: (count,) token ids, at least ``context_length + 1``.
        context_length: T.
        seed: seed of the sequence, 0 or more.
    """

    def __init__(self, tokens: np.ndarray, context_length: int, seed: int) -> None:
        super().__init__(tokens, context_length)
        self.seed = seed

    def __len__(self) -> int:
        """Return the number of windows that together are as long as the stream."""
        return max(1, len(self.tokens) // self.context_length)

    def __getitems__(self, indices: list[int]) -> ConceptBatch:
        """Return windows ``indices`` as one batch."""
        choices = len(self.tokens) - self.context_length
        starts = [np.random.Philox(key=self.seed, counter=index).random_raw() % choices for index in indices]
        return _batch(
            [self.tokens[start : start + self.context_length + 1] for start in map(int, starts)], self.context_length
        )


class ContiguousWindows(_TokenWindows):
    """Consecutive windows: each token of the stream but the first is predicted exactly once.

    The last window is padded, and its mask is False there.

    Args:
        tokens: (count,) token ids, at least 2.
        context_length: T.
    """

    def __len__(self) -> int:
        """Return the number of windows."""
        return -(-(len(self.tokens) - 1) // self.context_length)

    def __getitems__(self, indices: list[int]) -> ConceptBatch:
        """Return windows ``indices`` as one batch.

        Raises:
            IndexError: if there is no such window.
        """
        if beyond := [index for index in indices if not 0 <= index < len(self)]:
            raise IndexError(f"there is no window {beyond[0]}: the text has {len(self)}, counted from 0.")
        starts = [index * self.context_length for index in indices]
        return _batch([self.tokens[start : start + self.context_length + 1] for start in starts], self.context_length)


def _batch(windows: list[np.ndarray], context_length: int) -> ConceptBatch:
    """Stack windows of up to T + 1 tokens, padded at the end."""
    tokens = np.zeros((len(windows), context_length + 1), dtype=np.int64)
    mask = np.zeros(tokens.shape, dtype=bool)
    for row, window in enumerate(windows):
        tokens[row, : len(window)] = window
        mask[row, : len(window)] = True
    return ConceptBatch(torch.from_numpy(tokens), torch.from_numpy(mask))


class WindowSampler(DistributedSampler[Any]):
    """Indices ``rank, rank + ranks, ...``, which continue from epoch to epoch.

    Args:
        size: windows in an epoch, over all processes.
        ranks: number of processes.
        rank: rank of this process.

    Attributes:
        origin: an epoch, and the index of its first window, over all processes, which later epochs
            follow.
        skip: an epoch, and the windows, over all processes, that this epoch leaves out at its
            beginning.
    """

    def __init__(self, size: int, ranks: int, rank: int) -> None:
        super().__init__(range(size), ranks, rank, shuffle=False)  # type: ignore[arg-type]
        self.origin = self.skip = (0, 0)

    def first_of(self, epoch: int) -> int:
        """Return the index of the first window of an epoch, over all processes."""
        since, first = self.origin
        return first + (epoch - since) * self.total_size

    @property
    def skipped(self) -> int:
        """Windows, over all processes, that this epoch leaves out."""
        epoch, windows = self.skip
        return windows if epoch == self.epoch else 0

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this process in the epoch, after the skipped ones."""
        start, self.skip = self.skipped, (0, 0)
        first = self.first_of(self.epoch)
        yield from range(first + start + self.rank, first + self.total_size, self.num_replicas)


class RepeatingSampler(WindowSampler, SequentialSampler):
    """The indices of the first epoch, in every epoch.

    A ``SequentialSampler`` by type: with ``overfit_batches``, Lightning replaces any other sampler.
    """

    def first_of(self, epoch: int) -> int:
        """Return the first window of any epoch."""
        return 0


class WindowLoader(DataLoader[ConceptBatch]):
    """Loader of training windows that counts them, so that Lightning can resume inside an epoch.

    Args:
        windows: training windows.
        batch_size: windows per batch and process.
        ranks: number of processes.
        rank: rank of this process.
        repeat: whether every epoch has the windows of the first, as ``overfit_batches`` asks.
        **options: arguments of :class:`torch.utils.data.DataLoader`.
    """

    def __init__(
        self, windows: Windows, batch_size: int, ranks: int = 1, rank: int = 0, repeat: bool = False, **options: Any
    ) -> None:
        # Whole batches only, so that all steps of all processes have one size.
        size = -(-len(windows) // (batch_size * ranks)) * batch_size * ranks
        sampler = (RepeatingSampler if repeat else WindowSampler)(size, ranks, rank)
        super().__init__(windows, batch_size, sampler=sampler, **({"collate_fn": identity_collate} | options))
        self._read = 0
        self._stored: dict[str, int] | None = None

    def __iter__(self) -> Iterator[ConceptBatch]:  # type: ignore[override]
        """Yield the batches of this process."""
        step = self._step
        self._read = self._order.skipped
        for batch in super().__iter__():
            self._read += step
            yield batch

    def windows_of_batch(self, batch_idx: int) -> range:
        """Return the indices of the windows of a batch of this epoch, over all processes."""
        first = self._order.first_of(self._order.epoch) + batch_idx * self._step
        return range(first, first + self._step)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, its first window, how many were read, and how many make a batch.

        All numbers are over all processes. Windows that are drawn have a seed too.
        """
        epoch = self._order.epoch
        state = {"epoch": epoch, "first": self._order.first_of(epoch), "windows": self._read, "step": self._step}
        return state if self._seed is None else state | {"seed": self._seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the windows that ``state`` counts, if their epoch is continued.

        Lightning may have ended that epoch early, so that the number of its windows does not say
        whether it was complete. Windows that are drawn go on with the seed that they began with.
        """
        own = self._seed
        if own is not None and (seed := state.get("seed", own)) != own:
            self.dataset.seed = seed  # type: ignore[attr-defined]
            if self._order.rank == 0:
                warnings.warn(
                    f"the run goes on with the training windows of its own seed, {seed}, and not with those of {own}: "
                    "begin a new run for another seed.",
                    stacklevel=2,
                )
        self._order.skip = (state["epoch"], state["windows"])
        if "first" in state:  # versions before 0.3 did without
            self._order.origin = (state["epoch"], state["first"])
        self._stored = state

    def regroup(self, epoch: int, together: int, made: int, most: float) -> int | None:
        """Continue after the windows of a loaded state with batches of another size.

        Without it, the number of batches that were made would stand for other windows.

        Args:
            epoch: the epoch in which training goes on.
            together: batches of an optimizer step.
            made: batches that were made in the epoch of the state.
            most: batches in an epoch.

        Returns:
            Batches of the new size that count as made in ``epoch``, so that its other batches are
            whole steps, and begin with the first window that was not read. None, and nothing is
            done, if batches have the size that they had and whole steps were made.
        """
        state, self._stored, step = self._stored, None, self._step
        if state is None:
            return None
        whole = made % together == 0 or made >= most or state["epoch"] != epoch
        if whole and state.get("step", step) == step and state["windows"] % step == 0:
            return None
        following = self._order.first_of(state["epoch"]) + state["windows"]
        count = state["windows"] // (step * together) * together if state["epoch"] == epoch else 0
        if most <= count < len(self):  # an epoch of fewer batches than there are begins anew
            count = 0
        self._order.origin, self._order.skip = (epoch, following - count * step), (epoch, count * step)
        return count

    @property
    def _seed(self) -> int | None:
        """Return the seed of the windows, or None if they are not drawn."""
        return getattr(self.dataset, "seed", None)

    @property
    def _order(self) -> WindowSampler:
        return cast(WindowSampler, self.sampler)

    @property
    def _step(self) -> int:
        """Return the number of windows in a batch of all processes."""
        return cast(int, self.batch_size) * self._order.num_replicas


def identity_collate(batch: Any) -> ConceptBatch:
    """Return the batch as it is: windows are read a batch at a time."""
    return cast(ConceptBatch, batch)


class AddChunkEnds:
    """Collates windows that are read a batch at a time, and adds where their chunks end.

    Args:
        hierarchy: levels and rules.
        tables: the rules that read the text, by level.
        context_length: T.
    """

    def __init__(self, hierarchy: Hierarchy, tables: Mapping[int, Tables], context_length: int) -> None:
        self.hierarchy, self.tables, self.context_length = hierarchy, tables, context_length

    def __call__(self, batch: Any) -> ConceptBatch:
        """Return the batch with :attr:`ConceptBatch.ends`."""
        windows = identity_collate(batch)
        ends = chunk_ends(windows.tokens[:, :-1], self.hierarchy, self.tables, self.context_length)
        return windows._replace(ends=torch.stack(list(ends.values()), 1))
