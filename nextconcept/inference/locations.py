"""Where texts that grow stand in the chunks of every level.

Shapes: B rows of the batch, R rows that take a step, L size of the buffer, n positions of a row, H
horizon, D width of a level.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from nextconcept.core.hierarchy import Hierarchy
from nextconcept.inference.ring_cache import RowPositions
from nextconcept.inference.running_chunks import OpenChunk
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
        stride: tokens of an element, at most where rules cut chunks.
    """

    anchors: RowPositions
    anchor: Tensor
    place: Tensor
    offset: Tensor | None
    chunk_length: float
    stride: int = 1

    @property
    def common(self) -> bool:
        """Whether all positions of a row read the plan of one anchor."""
        return self.anchors.ahead == 0

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
    """Texts, and where they stand in the chunks of every level.

    Attributes:
        hierarchy: the levels of the model.
        ids: (R, L) texts; what stands after the end of a row is arbitrary.
        starts: (R,) first visible token of each row, on the CPU.
        lengths: (R,) tokens of each row, on the CPU.
        chunks: per concept level, the chunk that has not ended, if rules cut chunks.
        rows: (R,) rows of the batch, on the CPU, or None for all.
        counts: per level, (R,) complete elements on the CPU; at level 0 visible tokens. Where rules
            cut chunks, those of levels whose chunks are not given are missing.
    """

    hierarchy: Hierarchy
    ids: Tensor
    starts: Tensor
    lengths: Tensor
    chunks: dict[int, OpenChunk] | None = None
    rows: Tensor | None = None
    counts: dict[int, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        time = self.lengths - self.starts
        if self.hierarchy.rules:
            counts = {level: chunk.number for level, chunk in (self.chunks or {}).items()}
        else:
            counts = {level: time // self.hierarchy.span(level) for level in self.hierarchy.concept_levels}
        self.counts = {0: time} | counts

    @property
    def every_row(self) -> Tensor:
        """:attr:`rows`, also where these are all."""
        return torch.arange(len(self.ids)) if self.rows is None else self.rows

    @cached_property
    def newest(self) -> Reading | None:
        """What the newest token of each row reads, None if there is no level above."""
        return self.reading(0, self.positions(0))

    def done(self, level: int) -> Tensor:
        """Return whether the newest token of each row completes an element of ``level``, (R,)."""
        if self.chunks is None:
            return self.counts[0] % self.hierarchy.span(level) == 0
        return (self.chunks[level].start == self.counts[0]) & (self.counts[level] > 0)

    def newest_tokens(self) -> Tensor:
        """Return the last token of each row, (R, 1)."""
        return self.ids.gather(1, (self.lengths - 1)[:, None].to(self.ids.device))

    def before(self) -> dict[int, Tensor]:
        """Return per concept level, (R,) complete elements without the newest token, on the CPU."""
        return {level: self.counts[level] - self.done(level).long() for level in self.hierarchy.concept_levels}

    def positions(self, level: int, ahead: int = 0) -> RowPositions:
        """Return the newest position of each row at a level, which has predicted nothing yet.

        ``ahead`` drafted positions follow it.
        """
        return RowPositions(self.counts[level] - int(level == 0), self.rows, self.ids.device, ahead)

    def completed(self, level: int, before: Tensor) -> RowPositions:
        """Return the anchors of ``level`` after the first ``before`` (R,), on the CPU."""
        return RowPositions(before + 1, self.rows, self.ids.device, int((self.counts[level] - before).max()) - 1)

    def reading(self, level: int, positions: RowPositions) -> Reading | None:
        """Return what positions of a level read, None at the top."""
        above = level + 1
        if above >= self.hierarchy.levels:
            return None
        element, offset, ahead = int(level == 0), None, 0  # position 0 predicts this element
        known, size = positions.every() + element, self.hierarchy.chunk_size
        if self.chunks is None:
            anchor, place, first = known // size, known % size, (positions.known + element) // size
            if positions.ahead:  # what a row has not is taken to read its last anchor
                ahead = int((self.counts[above] - first).max())
                anchor = torch.minimum(anchor, self.counts[above].to(anchor.device)[:, None])
        else:  # drafts end with their chunk
            chunk = self.chunks[above]
            first, anchor = chunk.number, chunk.number.to(known.device)[:, None].expand_as(known)
            offset = place = known - chunk.first.to(known.device)[:, None]
            if level > 0:
                offset = (self.chunks[level].start - chunk.start).to(known.device)[:, None].expand_as(known)
        anchors = RowPositions(first, positions.rows, anchor.device, ahead)
        length = self.hierarchy.chunk_lengths(above)[1]
        return Reading(anchors, anchor, place, offset, length, self.hierarchy.span(level))

    def first_elements(self, level: int, anchors: RowPositions) -> Tensor:
        """Return the first element of the chunk of ``level`` after each anchor, (R, n)."""
        if self.chunks is None:
            return anchors.every() * self.hierarchy.chunk_size
        return self.chunks[level].first.to(anchors.last.device)[:, None]

    def first_tokens(self, level: int, anchors: RowPositions) -> Tensor:
        """Return the first token of the chunk of ``level`` after each anchor, (R, n)."""
        if self.chunks is None:
            return anchors.every() * self.hierarchy.span(level)
        return self.chunks[level].start.to(anchors.last.device)[:, None]

    def select(self, index: Tensor) -> "Location":
        """Return the location of some of the rows, by their indices (R,) on the CPU."""
        return replace(
            self,
            ids=self.ids[index.to(self.ids.device)],
            starts=self.starts[index],
            lengths=self.lengths[index],
            chunks=None if self.chunks is None else {level: one.select(index) for level, one in self.chunks.items()},
            rows=self.every_row[index],
        )
