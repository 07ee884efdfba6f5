"""Where texts that grow stand in the chunks of every level.

Shapes: B rows of the batch, R rows that take a step, H horizon, A anchors, D width of a level.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nextconcept.core.hierarchy import Hierarchy
from nextconcept.inference.ring_cache import RowPositions
from nextconcept.nn.chunks import Chunks
from nextconcept.nn.places import Unbind, unbind_at

__all__ = ["Location", "Reading", "visible_from"]


def visible_from(lengths: Tensor, context: int, hierarchy: Hierarchy) -> Tensor:
    """Return the first token that a model sees of texts of given lengths.

    A text that outgrows the context loses whole top-level chunks, so that chunks keep their bounds,
    and half of the context at once, so that a cache is filled anew only once per half context.

    Args:
        lengths: (B,) tokens of each text.
        context: greatest number of visible tokens.
        hierarchy: the levels of the model.
    """
    span = hierarchy.alignment
    hop = max(span, context // 2 // span * span)
    excess = (lengths - context).clamp(min=0)
    return (excess + hop - 1) // hop * hop


@dataclass
class Reading:
    """What the newest position of each row reads of the level above.

    Attributes:
        anchors: the anchor whose plan it reads.
        place: (R,) elements between the element that it predicts and the first of the chunk.
        offset: (R,) tokens between the two, where rules cut chunks.
        first: (R,) first element of the chunk.
        chunk_length: elements by which later chunks follow.
        stride: tokens of an element, where chunks have one length.
    """

    anchors: RowPositions
    place: Tensor
    offset: Tensor | None
    first: Tensor
    chunk_length: float
    stride: int = 1

    def step_starts(self, horizon: int) -> Tensor:
        """Return elements between the first of the chunk and those of the planned ones, (H,)."""
        return (torch.arange(horizon, device=self.place.device) * self.chunk_length).round().long()

    def places(self, shift: int, ahead: int) -> Tensor:
        """Return the places of the element ``shift`` behind and of the ``ahead`` next, (R, n)."""
        return self.place[:, None] + torch.arange(shift, shift + ahead + 1, device=self.place.device)

    def unbound(self, plan: Tensor, unbind: Unbind, shift: int, ahead: int) -> Tensor:
        """Return what a plan (R, H, D) says about the elements at :meth:`places`, (R, n, D)."""
        if self.offset is None:
            return unbind_at(plan, self.places(shift, ahead), int(self.chunk_length), self.stride, unbind)
        # Behind its first element a rollout does not know where chunks will end. Drafted elements
        # are tokens, of the same chunk.
        offsets = self.offset[:, None] + torch.arange(ahead + 1, device=self.offset.device)
        return unbind(plan[:, :1].expand(-1, ahead + 1, -1), offsets) * (shift == 0)


@dataclass
class Location:
    """Where the visible texts of rows stand.

    Attributes:
        hierarchy: the levels of the model.
        counts: per level, (R,) complete elements on the CPU; at level 0 tokens.
        chunks: per concept level, where its chunks lie, if rules cut them.
        rows: (R,) rows of the batch, or None for all.
        tokens: (R, T) visible tokens from which ``chunks`` were made.
    """

    hierarchy: Hierarchy
    counts: dict[int, Tensor]
    chunks: dict[int, Chunks] | None
    rows: Tensor | None
    tokens: Tensor | None

    @classmethod
    def of(
        cls,
        hierarchy: Hierarchy,
        lengths: Tensor,
        chunks: dict[int, Chunks] | None,
        rows: Tensor | None = None,
        tokens: Tensor | None = None,
    ) -> "Location":
        """Locate texts.

        Args:
            hierarchy: the levels of the model.
            lengths: (R,) visible tokens of each row, on the CPU.
            chunks: chunks of the visible tokens, with anything behind the end of a row.
            rows: (R,) rows of the batch, or None for all.
            tokens: (R, T) the visible tokens, where concepts are to be composed from them.
        """
        counts = {0: lengths}
        for level in hierarchy.concept_levels:
            if chunks is None:
                counts[level] = lengths // hierarchy.span(level)
            else:
                index = chunks[level].index
                counts[level] = _at(index, counts[level - 1].to(index.device)).cpu()
        return cls(hierarchy, counts, chunks, rows, tokens)

    def done(self, level: int) -> Tensor:
        """Return whether the newest token of each row completes an element of ``level``, (R,)."""
        if self.chunks is None:
            return self.counts[0] % self.hierarchy.span(level) == 0
        start = self.chunks[level].start
        ends = _at(start, self.counts[level].to(start.device)).cpu() == self.counts[0]
        return ends & (self.counts[level] > 0)

    def positions(self, level: int, device: torch.device, ahead: int = 0) -> RowPositions:
        """Return the newest position of each row at a level, which has predicted nothing yet.

        ``ahead`` drafted positions follow it.
        """
        return RowPositions(self.counts[level] - int(level == 0), self.rows, device, ahead)

    def reading(self, level: int, device: torch.device) -> Reading | None:
        """Return what the newest positions of a level read, None at the top."""
        above = level + 1
        if above >= self.hierarchy.levels:
            return None
        anchors, count = self.positions(above, device), self.counts[level].to(device)
        if self.chunks is None:
            size = self.hierarchy.chunk_size
            place = count % size
            return Reading(anchors, place, None, count - place, size, self.hierarchy.span(level))
        chunks, mean = self.chunks[above], self.hierarchy.rules[level].mean_length
        place, offset = _at(chunks.place, count), _at(chunks.offset, count)
        return Reading(anchors, place, offset, count - place, mean)

    def chunk_starts(self, level: int, count: int, device: torch.device) -> Tensor:
        """Return the first elements of the chunks of ``level``: (A,), or with rules (R, A)."""
        if self.chunks is None:
            return torch.arange(count, device=device) * self.hierarchy.chunk_size
        return self.chunks[level].first

    def select(self, index: Tensor) -> "Location":
        """Return the location of some of the rows, by their indices (R,) on the CPU."""
        counts = {level: count[index] for level, count in self.counts.items()}
        rows = index if self.rows is None else self.rows[index]
        if self.chunks is None or self.tokens is None:
            return Location(self.hierarchy, counts, None, rows, None)
        there = index.to(self.tokens.device)
        chunks = {level: one.select(there) for level, one in self.chunks.items()}
        return Location(self.hierarchy, counts, chunks, rows, self.tokens[there])


def _at(values: Tensor, index: Tensor) -> Tensor:
    """Return entry ``index`` (R,) of each row of (R, n)."""
    return values.gather(1, index[:, None])[:, 0]
