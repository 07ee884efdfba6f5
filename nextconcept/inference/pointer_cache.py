"""What pointers of texts that grow can point at.

Shapes: B rows of the batch, R rows that take a step, n positions of a row, S positions, A anchors,
k pointers of an anchor, D width of the tokens, D_1 width of level 1.
"""

from dataclasses import fields

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.inference.locations import Reading
from nextconcept.inference.ring_cache import RowPositions
from nextconcept.nn.chunk_pointers import ChunkPointers, PointerMemory
from nextconcept.nn.rows import take_rows

__all__ = ["PointerCache"]


class PointerCache:
    """Keeps the keys and values of all visible positions, and where all anchors point.

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
        numbers, count = torch.zeros(rows, anchors, dtype=torch.long, device=like.device), min(pointers.count, anchors)
        self.stored = PointerMemory(
            like.new_zeros(rows, positions, compared),
            like.new_zeros(rows, positions, width),
            like.new_zeros(rows, anchors, pointers.search.out_features),
            numbers,
            like.new_zeros(rows, anchors, count),
            numbers[..., None].repeat(1, 1, count),
        )

    def load(self, positions: RowPositions, memory: PointerMemory) -> None:
        """Take over what a parallel pass over whole prefixes has left, of (R,) rows."""
        rows = slice(None) if positions.rows is None else positions.rows
        # A short prefix has fewer anchors than pointers.
        missing = (0, max(0, self.stored.scores.shape[2] - memory.scores.shape[2]))
        padded = {"scores": F.pad(memory.scores, missing, value=-torch.inf), "starts": F.pad(memory.starts, missing)}
        for part in fields(memory):
            stored, made = getattr(self.stored, part.name), padded.get(part.name, getattr(memory, part.name))
            count = min(stored.shape[1], made.shape[1])
            stored[rows, :count] = made[:, :count][..., : stored.shape[-1]].to(stored.dtype)

    def add_positions(self, positions: RowPositions, states: Tensor) -> None:
        """Store positions with states (R, n, D)."""
        keys, values = self.pointers.entries(states)
        positions.store(self.stored.keys, keys)
        positions.store(self.stored.values, values)

    def add_anchors(self, anchors: RowPositions, states: Tensor, first: Tensor) -> None:
        """Store anchors with the predictor's states (R, n, D_1) and first positions (R, n)."""
        own = self.pointers.directions(states)
        anchors.store(self.stored.search, own)
        anchors.store(self.stored.first, first)
        search, firsts = anchors.select(self.stored.search), anchors.select(self.stored.first)
        scores, starts = self.pointers.choose(own.to(search.dtype), anchors.every(), search, firsts)
        anchors.store(self.stored.scores, scores)
        anchors.store(self.stored.starts, starts)

    def read(self, states: Tensor, positions: RowPositions, reading: Reading) -> Tensor:
        """Return what positions with states (R, n, D) read, (R, n, D) without a gate."""
        stored, rows = self.stored, positions.rows
        scores, starts = (take_rows(part, reading.anchor, rows) for part in (stored.scores, stored.starts))
        at = starts + reading.place[..., None]
        return self.pointers.read(self.pointers.queries(states), scores, at, stored.keys, stored.values, rows)
