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
    """What positions of rows read of the level above.

    Attributes:
        anchors: the anchor whose plan the first position of each row reads; those of its other
            positions lie ``anchors.ahead`` after it at most.
        anchor: (R, n) the anchor whose plan each position reads.
        place: (R, n) elements between the element that it predicts and the first of the chunk.
        offset: (R, n) tokens between the two, where rules cut chunks.
        chunk_length: elements by which later chunks follow.
        stride: tokens of an element, where chunks have one length.
        first: (R, A) first element of each chunk, where rules cut them.
    """

    anchors: RowPositions
    anchor: Tensor
    place: Tensor
    offset: Tensor | None
    chunk_length: float
    stride: int = 1
    first: Tensor | None = None

    @property
    def common(self) -> bool:
        """Whether all positions of a row read the plan of one anchor."""
        return self.anchors.ahead == 0

    def first_elements(self, anchors: Tensor) -> Tensor:
        """Return the first element of the chunk after each of (R, n, k) anchors, alike."""
        if self.first is None:
            return anchors * int(self.chunk_length)
        return _at(self.first, anchors.flatten(1)).view_as(anchors)

    def unbound(self, plan: Tensor, unbind: Unbind, shift: int) -> Tensor:
        """Return what plans say about the elements ``shift`` after those of the positions.

        Args:
            plan: (R, H, D), or if it is not :attr:`common`, (R, n, H, D).
            unbind: see :data:`~nextconcept.nn.places.Unbind`.
            shift: steps of a rollout.

        Returns:
            (R, n, D).
        """
        if self.offset is None:
            places = self.place + shift if self.common else (self.place + shift)[..., None]
            unbound = unbind_at(plan, places, int(self.chunk_length), self.stride, unbind)
            return unbound if self.common else unbound.squeeze(2)
        # After its first element a rollout does not know where chunks will end.
        first = plan[:, :1].expand(-1, self.place.shape[1], -1) if self.common else plan[:, :, 0]
        return unbind(first, self.offset) * (shift == 0)


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
            chunks: chunks of the visible tokens, with anything after the end of a row.
            rows: (R,) rows of the batch, or None for all.
            tokens: (R, T) the visible tokens, where concepts are to be composed from them.
        """
        counts = {0: lengths}
        for level in hierarchy.concept_levels:
            if chunks is None:
                counts[level] = lengths // hierarchy.span(level)
            else:
                index = chunks[level].index
                counts[level] = _at(index, counts[level - 1].to(index.device)[:, None])[:, 0].cpu()
        return cls(hierarchy, counts, chunks, rows, tokens)

    def done(self, level: int) -> Tensor:
        """Return whether the newest token of each row completes an element of ``level``, (R,)."""
        if self.chunks is None:
            return self.counts[0] % self.hierarchy.span(level) == 0
        start = self.chunks[level].start
        ends = _at(start, self.counts[level].to(start.device)[:, None])[:, 0].cpu() == self.counts[0]
        return ends & (self.counts[level] > 0)

    def before(self) -> dict[int, Tensor]:
        """Return per concept level, (R,) complete elements without the newest token, on the CPU."""
        return {level: self.counts[level] - self.done(level).long() for level in self.hierarchy.concept_levels}

    def chunk_length(self, level: int) -> float:
        """Return the elements of a chunk of ``level``, with rules on average."""
        return self.hierarchy.chunk_size if self.chunks is None else self.hierarchy.rules[level - 1].mean_length

    def positions(self, level: int, device: torch.device, ahead: int = 0) -> RowPositions:
        """Return the newest position of each row at a level, which has predicted nothing yet.

        ``ahead`` drafted positions follow it.
        """
        return RowPositions(self.counts[level] - int(level == 0), self.rows, device, ahead)

    def completed(self, level: int, before: Tensor, device: torch.device) -> RowPositions:
        """Return the anchors of ``level`` after the first ``before`` (R,), on the CPU."""
        return RowPositions(before + 1, self.rows, device, int((self.counts[level] - before).max()) - 1)

    def reading(self, level: int, positions: RowPositions) -> Reading | None:
        """Return what positions of a level read, None at the top."""
        above = level + 1
        if above >= self.hierarchy.levels:
            return None
        offset = starts = None
        element = int(level == 0)  # position 0 predicts this element
        known = positions.every() + element
        if self.chunks is None:
            size, stride = float(self.hierarchy.chunk_size), self.hierarchy.span(level)
            anchor, place = known // self.hierarchy.chunk_size, known % self.hierarchy.chunk_size
            first = (positions.known + element) // self.hierarchy.chunk_size
        else:
            chunks, size, stride = self.chunks[above], self.hierarchy.rules[level].mean_length, 1
            anchor, place, offset = (_at(part, known) for part in (chunks.index, chunks.place, chunks.offset))
            first, starts = anchor[:, 0].cpu(), chunks.first
        ahead = 0
        if positions.ahead:  # what a row has not is taken to read its last anchor
            ahead = int((self.counts[above] - first).max())
            anchor = torch.minimum(anchor, self.counts[above].to(anchor.device)[:, None])
        anchors = RowPositions(first, positions.rows, anchor.device, ahead)
        return Reading(anchors, anchor, place, offset, size, stride, starts)

    def first_elements(self, level: int, anchors: RowPositions) -> Tensor:
        """Return the first element of the chunk of ``level`` after each anchor, (R, n)."""
        if self.chunks is None:
            return anchors.every() * self.hierarchy.chunk_size
        return _at(self.chunks[level].first, anchors.every())

    def first_tokens(self, level: int, anchors: RowPositions) -> Tensor:
        """Return the first token of the chunk of ``level`` after each anchor, (R, n)."""
        if self.chunks is None:
            return anchors.every() * self.hierarchy.span(level)
        return _at(self.chunks[level].start, anchors.every())

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
    """Return the entries ``index`` (R, n) of each row of (R, m), beyond the last one that one."""
    return values.gather(1, index.clamp(max=values.shape[1] - 1))
