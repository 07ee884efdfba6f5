"""What pointers of texts that grow can point at.

Shapes: B rows of the batch, R rows that take a step, n positions of a row, S positions, A anchors,
D width of the tokens, D_1 width of level 1.
"""

from dataclasses import fields

import torch
from torch import Tensor

from nextconcept.inference.locations import Reading
from nextconcept.inference.ring_cache import RowPositions
from nextconcept.nn.chunk_pointers import ChunkPointers, PointerMemory

__all__ = ["PointerCache"]


_PARTS = tuple(part.name for part in fields(PointerMemory))


class PointerCache:
    """Keeps the keys and values of all visible positions, and what is known of all anchors.

    What drafted tokens leave that turn out wrong needs no removal: it lies after what the next
    positions see, until they overwrite it.

    Args:
        pointers: the weights.
        rows: B.
        positions: S, the greatest number of positions, drafted ones included.
        anchors: A, the greatest number of anchors, those that drafted tokens pass included.
    """

    def __init__(self, pointers: ChunkPointers, rows: int, positions: int, anchors: int) -> None:
        self.pointers = pointers
        like, compared, width = pointers.key.weight, pointers.key.out_features, pointers.value.out_features
        self.stored = PointerMemory(
            like.new_zeros(rows, positions, compared),
            like.new_zeros(rows, positions, width),
            like.new_zeros(rows, anchors, pointers.search.out_features),
            torch.zeros(rows, anchors, dtype=torch.long, device=like.device),
        )

    def load(self, positions: RowPositions, memory: PointerMemory) -> None:
        """Take over what a parallel pass over whole prefixes has left, of (R,) rows."""
        rows = slice(None) if positions.rows is None else positions.rows
        for name in _PARTS:
            stored, made = getattr(self.stored, name), getattr(memory, name)
            count = min(stored.shape[1], made.shape[1])
            stored[rows, :count] = made[:, :count].to(stored.dtype)

    def add_positions(self, positions: RowPositions, states: Tensor) -> None:
        """Store positions with states (R, n, D)."""
        keys, values = self.pointers.entries(states)
        self._write(self.stored.keys, positions, keys)
        self._write(self.stored.values, positions, values)

    def add_anchors(self, anchors: RowPositions, states: Tensor, first: Tensor) -> None:
        """Store anchors with the predictor's states (R, n, D_1) and first positions (R, n)."""
        self._write(self.stored.search, anchors, self.pointers.directions(states))
        self._write(self.stored.first, anchors, first)

    def read(self, states: Tensor, positions: RowPositions, reading: Reading) -> Tensor:
        """Return what positions with states (R, D) or (R, n, D) read, without a gate, alike."""
        memory = PointerMemory(*(positions.select(getattr(self.stored, name)) for name in _PARTS))
        every = states if states.dim() == 3 else states[:, None]
        own = memory.search.gather(1, reading.anchor[..., None].expand(-1, -1, memory.search.shape[2]))
        scores, index = self.pointers.choose(own, reading.anchor, memory.search)
        at = memory.first.gather(1, index.flatten(1)).view_as(index) + reading.place[..., None]
        read = self.pointers.read(self.pointers.queries(every), scores, at, positions.every(), memory)
        return read if states.dim() == 3 else read[:, 0]

    def _write(self, stored: Tensor, positions: RowPositions, entries: Tensor) -> None:
        every = torch.arange(len(stored), device=stored.device) if positions.rows is None else positions.rows
        stored[every[:, None], positions.every()] = entries.to(stored.dtype)
