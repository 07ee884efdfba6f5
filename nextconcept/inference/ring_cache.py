"""The latest keys and values of each row of a batch.

Shapes: B rows of the batch, R rows that take a step, E entries per position, h heads of keys and
values, d head size, S stored positions, n visible positions, T positions.
"""

import torch
from torch import Tensor

__all__ = ["RingCache", "RowPositions"]


class RowPositions:
    """The current position of each row.

    Args:
        last: (R,) position of each row, on the CPU.
        rows: (R,) indices of the rows in the batch, or None for the whole batch.
        device: device of the model.

    Attributes:
        last: (R,) on the device.
        rows: (R,) on the device, or None.
        newest: the greatest position.
        oldest: the smallest position.
    """

    def __init__(self, last: Tensor, rows: Tensor | None, device: torch.device) -> None:
        self.oldest, self.newest = (int(bound) for bound in last.aminmax())
        self.last = last.to(device)
        self.rows = None if rows is None else rows.to(device)

    def select(self, stored: Tensor) -> Tensor:
        """Return the part of (B, ...) that belongs to the rows, (R, ...)."""
        return stored if self.rows is None else stored[self.rows]


class RingCache:
    """A ring buffer of the latest keys and values of each row.

    Args:
        rows: B.
        shape: (E, h, d).
        size: S, the number of positions to store; with a window never more than the window.
        window: positions that a query sees, or None for all.
        like: a tensor of the dtype and device to use.
    """

    def __init__(self, rows: int, shape: tuple[int, int, int], size: int, window: int | None, like: Tensor) -> None:
        entries, heads, features = shape
        self.window, self.size = window, size if window is None else min(size, window)
        self.data = like.new_zeros(rows, entries, heads, self.size, features)

    def load(self, positions: RowPositions, entries: Tensor) -> None:
        """Store the latest of (R, E, h, T, d) entries, up to the current position of each row."""
        slots = torch.arange(self.size, device=entries.device)
        last = positions.last[:, None]
        position = (last - (last - slots) % self.size).clamp(0, entries.shape[3] - 1)
        index = position[:, None, None, :, None].expand(-1, *entries.shape[1:3], -1, entries.shape[4])
        loaded = entries.gather(3, index)
        self.data[slice(None) if positions.rows is None else positions.rows] = loaded.to(self.data.dtype)

    def write(self, positions: RowPositions, entries: Tensor) -> None:
        """Store (R, E, h, 1, d) entries of the current positions."""
        if positions.rows is None and positions.oldest == positions.newest:
            slot = positions.newest % self.size
            self.data[:, :, :, slot : slot + 1] = entries
        else:
            rows = torch.arange(len(self.data), device=entries.device) if positions.rows is None else positions.rows
            self.data[rows, :, :, positions.last % self.size] = entries.squeeze(3)

    def read(self, positions: RowPositions, shift: int = 0) -> tuple[Tensor, Tensor | None]:
        """Return the entries that a query sees.

        Args:
            positions: the latest stored position of each row.
            shift: positions that the query stands after it.

        Returns:
            (R, E, h, n, d) entries, and (R, 1, 1, n) bool, whether each is visible, or None if all
            are.
        """
        count = min(self.size, positions.newest + 1)
        stored = positions.select(self.data)[..., :count, :]
        if positions.oldest + 1 >= count and (shift == 0 or self.window is None):
            return stored, None
        age = (positions.last[:, None] - torch.arange(count, device=positions.last.device)) % self.size
        visible = age <= positions.last[:, None]
        if self.window is not None:
            visible &= age + shift < self.window
        return stored, visible[:, None, None]
