"""The latest keys and values of each row of a batch, and what its latest anchors left.

Shapes: B rows of the batch, R rows that take a step, E entries per position, h heads of keys and
values, d head size, S stored positions, m stored positions that are read, T positions, n positions
of a step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["AnchorStore", "RingCache", "RingView", "RowPositions"]


class RowPositions:
    """The positions that each row takes in a step: the current one, and drafted ones after it.

    Args:
        last: (R,) current position of each row, on the CPU.
        rows: (R,) indices of the rows in the batch, or None for the whole batch.
        device: device of the model.
        ahead: drafted positions, n - 1; the next step begins at or before the one after them. A
            row may have fewer, and what is computed at the others is arbitrary.

    Attributes:
        last: (R,) current positions, on the device.
        known: (R,) current positions, on the CPU.
        rows: (R,) on the device, or None.
        newest: the greatest current position.
        oldest: the smallest current position.
        ahead: drafted positions.
    """

    def __init__(self, last: Tensor, rows: Tensor | None, device: torch.device, ahead: int = 0) -> None:
        self.oldest, self.newest = (int(bound) for bound in last.aminmax())
        self.known, self.last, self.ahead = last, last.to(device), ahead
        self.rows = None if rows is None else rows.to(device)

    def select(self, stored: Tensor) -> Tensor:
        """Return the part of (B, ...) that belongs to the rows, (R, ...)."""
        return stored if self.rows is None else stored[self.rows]

    def every(self) -> Tensor:
        """Return all positions, (R, n)."""
        return self.last[:, None] + torch.arange(self.ahead + 1, device=self.last.device)

    def numbers(self, count: int) -> Tensor:
        """Return :attr:`rows` of a batch of ``count`` rows, also where these are all."""
        return torch.arange(count, device=self.last.device) if self.rows is None else self.rows

    def store(self, stored: Tensor, entries: Tensor) -> None:
        """Write (R, n, ...) entries of positions p into slots ``p % S`` of a cache (B, S, ...)."""
        # Autocast may have narrowed the entries.
        stored[self.numbers(len(stored))[:, None], self.every() % stored.shape[1]] = entries.to(stored.dtype)


class RingCache:
    """A ring buffer of the latest keys and values of each row.

    Drafted positions are stored like others. Those that turn out wrong need no removal: until the
    next steps overwrite them, they lie after the positions that these see. So that they overwrite
    nothing that is still seen, there is room for ``ahead`` more positions.

    Args:
        rows: B.
        shape: (E, h, d).
        size: the number of positions to store; with a window never more than the window.
        window: positions that a query sees, or None for all.
        like: a tensor of the dtype and device to use.
        ahead: the greatest number of drafted positions of a step.
    """

    def __init__(
        self, rows: int, shape: tuple[int, int, int], size: int, window: int | None, like: Tensor, ahead: int = 0
    ) -> None:
        entries, heads, features = shape
        self.window, self.size = window, (size if window is None else min(size, window)) + ahead
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
        """Store (R, E, h, n, d) entries of the positions of a step."""
        slot = positions.newest % self.size
        if positions.rows is None and positions.oldest == positions.newest and slot + positions.ahead < self.size:
            self.data[:, :, :, slot : slot + 1 + positions.ahead] = entries
        else:
            positions.store(self.data.permute(0, 3, 1, 2, 4), entries.permute(0, 3, 1, 2, 4))

    def view(self, positions: RowPositions, shift: int = 0, seen_from: Tensor | None = None) -> "RingView":
        """Say which entries queries see; rings of one size and window share it.

        Args:
            positions: the latest stored positions of each row.
            shift: positions that the queries stand after them.
            seen_from: (R, n) the latest position that each query sees, if these are not the
                positions themselves.
        """
        device, ahead = positions.last.device, positions.ahead
        count = min(self.size, positions.newest + ahead + 1)
        if ahead == 0 and seen_from is None and positions.oldest + 1 >= count and (self.window is None or shift == 0):
            if self.window is None or count <= self.window:
                return RingView(count)
            if positions.oldest == positions.newest:
                first = (positions.newest + 1 - self.window) % self.size
                if first + self.window <= self.size:
                    return RingView(first + self.window, first)
                # A copy of the window is faster than a mask.
                slots = torch.arange(first, first + self.window, device=device) % self.size
                return RingView(count, slots=slots)
        newest = positions.last[:, None] + ahead
        age = (newest - torch.arange(count, device=device)) % self.size  # behind the newest
        seen_from = positions.every() if seen_from is None else seen_from
        back = age[:, None] - (newest - seen_from)[..., None]  # behind each query
        visible = (back >= 0) & (age <= newest)[:, None]
        if self.window is not None:
            visible &= back + shift < self.window
        return RingView(count, visible=visible[:, None])

    def read(self, positions: RowPositions, view: "RingView") -> tuple[Tensor, Tensor | None]:
        """Return the entries that queries see.

        Args:
            positions: the latest stored positions of each row.
            view: which entries that is.

        Returns:
            (R, E, h, m, d) entries, and (R, 1, n, m) bool, whether each query sees each, or None if
            all see all.
        """
        stored = positions.select(self.data)
        if view.slots is not None:
            return stored.index_select(3, view.slots), None
        return stored[..., view.first : view.count, :], view.visible


class AnchorStore:
    """What the latest anchors of each row left, such as their plans.

    As in a :class:`RingCache`, what anchors of rejected drafts left is overwritten.

    Args:
        rows: B.
        slots: the greatest number of anchors that the positions of a step read, S.

    Attributes:
        data: (B, S, ...), empty before the first anchor.
    """

    def __init__(self, rows: int, slots: int) -> None:
        self.rows, self.slots, self.data = rows, slots, torch.empty(0)

    def write(self, anchors: RowPositions, values: Tensor) -> None:
        """Store (R, n, ...) values of anchors."""
        if self.slots == 1 and anchors.rows is None:
            self.data = values
            return
        if not self.data.numel():
            self.data = values.new_zeros(self.rows, self.slots, *values.shape[2:])
        if anchors.rows is None and anchors.ahead == 0 and anchors.oldest == anchors.newest:
            self.data[:, anchors.newest % self.slots] = values[:, 0]
        else:
            anchors.store(self.data, values)

    def one(self, anchors: RowPositions) -> Tensor:
        """Return what the current anchor of each row left, (R, ...)."""
        if anchors.rows is None and anchors.oldest == anchors.newest:
            return self.data[:, anchors.newest % self.slots]
        return self.data[anchors.numbers(self.rows), anchors.last % self.slots]

    def each(self, anchors: RowPositions, anchor: Tensor) -> Tensor:
        """Return what the (R, n) anchors of positions left, (R, n, ...)."""
        return self.data[anchors.numbers(self.rows)[:, None], anchor % self.slots]


@dataclass
class RingView:
    """Which entries of a ring queries see.

    Attributes:
        count: end of the entries that are read.
        first: the first of them.
        slots: (m,) slots that are read instead, or None.
        visible: (R, 1, n, count) bool, whether each query sees each, or None if all see all.
    """

    count: int
    first: int = 0
    slots: Tensor | None = None
    visible: Tensor | None = None
