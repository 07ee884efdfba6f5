"""Windows: fixed stretches of a token stream, aligned with the chunks of every level.

Shapes: B batch, T context_length.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

__all__ = [
    "ConceptBatch",
    "ContiguousWindows",
    "TrainingWindows",
    "WindowLoader",
    "WindowSampler",
    "Windows",
    "identity_collate",
]


class ConceptBatch(NamedTuple):
    """Windows whose first T tokens are whole chunks at every level, each followed by the token after it."""

    tokens: Tensor
    """(B, T + 1) int64: inputs are all but the last, targets all but the first."""
    mask: Tensor
    """(B, T + 1) bool: False where a token is padding or not to be learnt."""


class Windows(Dataset[ConceptBatch], ABC):
    """Windows that are read a batch at a time."""

    @abstractmethod
    def __len__(self) -> int:
        """Windows in an epoch."""

    @abstractmethod
    def __getitems__(self, indices: list[int]) -> ConceptBatch:
        """Windows ``indices``, as one batch."""

    def __getitem__(self, index: int) -> ConceptBatch:
        """Window ``index``, as a batch of one."""
        return self.__getitems__([index])


class TrainingWindows(Windows):
    """Random windows; window i is a function of ``seed`` and ``i`` alone.

    A counter-based generator (Philox; Salmon et al., 2011) draws them, so that a resumed run and any number of ranks see the
    same sequence without any state.

    Args:
        tokens: the stream, at least ``context_length + 1`` long.
        context_length: T.
        seed: of the sequence.
    """

    def __init__(self, tokens: np.ndarray, context_length: int, seed: int) -> None:
        self.tokens, self.context_length, self.seed = tokens, context_length, seed

    def __len__(self) -> int:
        """Windows that an epoch draws: as many as cover the stream once."""
        return max(1, len(self.tokens) // self.context_length)

    def __getitems__(self, indices: list[int]) -> ConceptBatch:
        """Windows ``indices``, as one batch."""
        choices = len(self.tokens) - self.context_length
        starts = [np.random.Philox(key=self.seed, counter=index).random_raw() % choices for index in indices]
        return _batch(
            [self.tokens[start : start + self.context_length + 1] for start in map(int, starts)], self.context_length
        )


class ContiguousWindows(Windows):
    """The stream cut into windows: each token but the first is predicted exactly once.

    The last window is padded, and its mask says where.

    Args:
        tokens: the stream, at least 2 long.
        context_length: T.
    """

    def __init__(self, tokens: np.ndarray, context_length: int) -> None:
        self.tokens, self.context_length = tokens, context_length

    def __len__(self) -> int:
        """Number of windows."""
        return -(-(len(self.tokens) - 1) // self.context_length)

    def __getitems__(self, indices: list[int]) -> ConceptBatch:
        """Windows ``indices``, as one batch."""
        starts = [index * self.context_length for index in indices]
        return _batch([self.tokens[start : start + self.context_length + 1] for start in starts], self.context_length)


def _batch(windows: list[np.ndarray], context_length: int) -> ConceptBatch:
    tokens = np.zeros((len(windows), context_length + 1), dtype=np.int64)
    mask = np.zeros(tokens.shape, dtype=bool)
    for row, window in enumerate(windows):
        tokens[row, : len(window)] = window
        mask[row, : len(window)] = True
    return ConceptBatch(torch.from_numpy(tokens), torch.from_numpy(mask))


class WindowSampler(DistributedSampler[Any]):
    """Indices ``rank, rank + ranks, ...``, going on where an epoch was left and where the epoch before it ended.

    Args:
        size: windows that one epoch draws over all ranks.
        ranks: number of processes.
        rank: this process.
    """

    def __init__(self, size: int, ranks: int, rank: int) -> None:
        super().__init__(range(size), ranks, rank, shuffle=False)  # type: ignore[arg-type]
        self.skip = 0

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's indices of the epoch; ``skip`` windows of it, over all ranks, are left out once."""
        start, self.skip = self.skip, 0
        yield from range(
            self.epoch * self.total_size + start + self.rank, (self.epoch + 1) * self.total_size, self.num_replicas
        )


class WindowLoader(DataLoader[ConceptBatch]):
    """A loader of training windows that knows how many it gave, so that Lightning can resume it inside an epoch.

    Args:
        windows: the windows.
        batch_size: windows per batch and rank.
        ranks: number of processes.
        rank: this process.
        **options: passed on to :class:`torch.utils.data.DataLoader`.
    """

    def __init__(self, windows: Windows, batch_size: int, ranks: int = 1, rank: int = 0, **options: Any) -> None:
        # Whole batches only, so that every step of every rank has the same size.
        size = -(-len(windows) // (batch_size * ranks)) * batch_size * ranks
        sampler = WindowSampler(size, ranks, rank)
        super().__init__(windows, batch_size, sampler=sampler, collate_fn=identity_collate, **options)
        self._given = 0

    def __iter__(self) -> Iterator[ConceptBatch]:  # type: ignore[override]
        """Yield batches of this rank."""
        step = self._step
        self._given = self._order.skip
        for batch in super().__iter__():
            self._given += step
            yield batch

    def windows_of_batch(self, batch_idx: int) -> range:
        """Indices of the windows that all ranks together read as batch ``batch_idx`` of this epoch."""
        first = self._order.epoch * self._order.total_size + batch_idx * self._step
        return range(first, first + self._step)

    def state_dict(self) -> dict[str, int]:
        """Windows given in this epoch, over all ranks."""
        return {"windows": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the windows that ``state`` counts."""
        self._order.skip = state["windows"] % self._order.total_size

    @property
    def _order(self) -> WindowSampler:
        return cast(WindowSampler, self.sampler)

    @property
    def _step(self) -> int:
        """Windows in a batch of all ranks."""
        return cast(int, self.batch_size) * self._order.num_replicas


def identity_collate(batch: Any) -> ConceptBatch:
    """Collate nothing: windows come as a batch."""
    return cast(ConceptBatch, batch)
