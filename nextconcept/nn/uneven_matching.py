"""Matching of concepts whose chunks are cut by rules.

How many elements a chunk has follows from the elements: the search runs the rules over the tokens
of each partial composition, which is complete where a rule ends its chunk. Compositions of all
lengths compete in one beam.

Shapes: M concepts (all leading axes together), W beam, K candidates per place, D width, S tokens
that a chunk may have.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.core.chunk_ends import Tables
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.nn.chunks import Chunker
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.matching import Matches, nearest_tokens
from nextconcept.nn.rows import take_rows

__all__ = ["match_uneven"]


@torch.no_grad()
def match_uneven(
    encoder: ConceptEncoder, chunker: Chunker, concepts: Tensor, level: int, top_k: int, beam: int
) -> Matches:
    """Search for chunks whose compositions are near to concepts.

    The chunks are those that the rules cut from a text that begins with them. A chunk of concepts
    is searched concept by concept, each by a search one level below, so that a search above level 1
    takes as many searches below as its longest chunk has elements.

    Args:
        encoder: embeds and composes; its composition must be additive, with position binding.
        chunker: the rules.
        concepts: (..., D) concepts of ``level``, predicted or not.
        level: 1 or more.
        top_k: candidates per place, K.
        beam: partial compositions kept, W.
    """
    vocabulary = encoder.vocabulary(concepts.shape[-1])
    search = _Search(encoder, vocabulary, chunker.hierarchy, chunker.tables, top_k, beam)
    leading, flat = concepts.shape[:-1], concepts.reshape(-1, concepts.shape[-1])
    found = search.chunks(
        flat, level, {rule: torch.zeros_like(flat[:, 0], dtype=torch.long) for rule in chunker.tables}
    )
    order = found.cosine.argsort(dim=1, descending=True, stable=True)
    parts = (found.tokens, found.concepts, found.cosine, found.lengths)
    return Matches(*(take_rows(part, order).reshape(*leading, -1, *part.shape[2:]) for part in parts))


@dataclass
class _Beam:
    """Chunks, whole or partial, W of each concept.

    Attributes:
        tokens: (M, W, S) ids.
        lengths: (M, W) tokens that are there.
        concepts: (M, W, D) compositions; of partial chunks the sums of bound elements.
        cosine: (M, W) to the concept that is searched for, -inf where there is no chunk.
        states: per rule that reads the text, (M, W) its state after the tokens.
        ended: per such rule, (M, W) bool, whether it has ended a chunk after any of the tokens.
    """

    tokens: Tensor
    lengths: Tensor
    concepts: Tensor
    cosine: Tensor
    states: dict[int, Tensor]
    ended: dict[int, Tensor]

    def unflatten(self, beam: int) -> "_Beam":
        """Divide (M, ...) into (M / beam, beam, ...)."""

        def divided(value: Tensor | dict[int, Tensor]) -> Any:
            """Divide the first axis of a tensor, or of those of each rule."""
            if isinstance(value, dict):
                return {rule: part.unflatten(0, (-1, beam)) for rule, part in value.items()}
            return value.unflatten(0, (-1, beam))

        return _Beam(*(divided(getattr(self, one.name)) for one in fields(self)))


class _Search:
    """Beam search over the places of a chunk."""

    def __init__(
        self,
        encoder: ConceptEncoder,
        vocabulary: Tensor,
        hierarchy: Hierarchy,
        tables: Mapping[int, Tables],
        top_k: int,
        beam: int,
    ) -> None:
        self.encoder, self.vocabulary, self.hierarchy = encoder, vocabulary, hierarchy
        self.tables, self.top_k, self.beam = tables, top_k, beam

    def chunks(self, wanted: Tensor, level: int, states: dict[int, Tensor]) -> _Beam:
        """Search for chunks of ``level`` near to (M, D), whose text begins in ``states`` (M,)."""
        composition, rule = self.encoder.composition(level), self.hierarchy.rules[level - 1]
        beam = self._none(wanted, level, states)
        count, done = torch.zeros_like(beam.lengths), torch.zeros_like(beam.lengths, dtype=torch.bool)
        for place in range(rule.max_length):
            more = self._one_more(wanted, level, beam, place)
            # A chunk that has ended, or that there is none of, has no further element.
            scores = more.cosine.masked_fill(~(beam.cosine > -torch.inf)[..., None] | done[..., None], -torch.inf)
            kept = beam.cosine.masked_fill(~done, -torch.inf)
            best, index = torch.cat((scores.flatten(1), kept), 1).topk(self.beam, 1)
            width = scores.shape[2]
            extended = index < self.beam * width
            parent = torch.where(extended, index // width, index - self.beam * width)
            beam = self._chosen(beam, more, parent, index.clamp(max=self.beam * width - 1), extended)
            beam.cosine, count = best, take_rows(count, parent) + extended
            ended = torch.zeros_like(done)
            if rule.of_text:
                ended = take_rows(more.ended[level].flatten(1), index.clamp(max=self.beam * width - 1)) & extended
            done = take_rows(done, parent) | ended
        beam.concepts = composition.after_sum(beam.concepts, count.clamp(min=1))
        # A norm after the sum may change directions.
        cosine = F.cosine_similarity(beam.concepts, wanted[:, None], dim=-1)
        beam.cosine = torch.where(beam.cosine > -torch.inf, cosine, beam.cosine)
        return beam

    def _none(self, wanted: Tensor, level: int, states: dict[int, Tensor]) -> _Beam:
        """Return chunks without elements, one of each concept."""
        shape = len(wanted), self.beam
        cosine = torch.full(shape, -torch.inf, device=wanted.device, dtype=wanted.dtype)
        cosine[:, 0] = 0
        lengths = torch.zeros(shape, device=wanted.device, dtype=torch.long)
        return _Beam(
            lengths.new_zeros(*shape, self.hierarchy.span(level)),
            lengths,
            wanted.new_zeros(*shape, wanted.shape[1]),
            cosine,
            {rule: state[:, None].expand(shape) for rule, state in states.items()},
            {rule: torch.zeros(shape, device=wanted.device, dtype=torch.bool) for rule in states},
        )

    def _one_more(self, wanted: Tensor, level: int, beam: _Beam, place: int) -> _Beam:
        """Return candidates for the next element of each partial chunk: (M, W, K, ...).

        Their concepts are the sums with the element, and their cosines those of the sums.
        """
        composition = self.encoder.composition(level)
        if level == 1:
            found = self._tokens(wanted, beam, place)
        else:
            every = composition.bind_at(wanted[:, None].expand(-1, self.beam, -1), beam.lengths, undo=True)
            found = self.chunks(
                every.flatten(0, 1), level - 1, {r: state.flatten() for r, state in beam.states.items()}
            )
            found = found.unflatten(self.beam)
        elements = found.concepts
        offsets = beam.lengths[..., None].expand(-1, -1, elements.shape[2])
        sums = beam.concepts[:, :, None] + composition.before_sum(composition.bind_at(elements, offsets))
        toward = torch.einsum("mwkd,md->mwk", sums, F.normalize(wanted, dim=-1))
        cosine = toward / sums.square().sum(-1).clamp(min=1e-12).sqrt()
        found.concepts, found.cosine = sums, cosine.masked_fill(found.cosine == -torch.inf, -torch.inf)
        return found

    def _tokens(self, wanted: Tensor, beam: _Beam, place: int) -> _Beam:
        """Return the tokens nearest to (M, D) at a place, for each chunk that goes on there."""
        at = torch.full_like(beam.lengths[:, :1], place)
        there = self.encoder.composition(1).bind_at(wanted[:, None], at, undo=True)
        ids, elements = nearest_tokens(self.encoder, there, self.top_k, self.vocabulary)  # (M, 1, K, ...)
        tokens = ids.expand(-1, self.beam, -1, -1)
        read = {rule: (beam.states[rule][..., None], tokens[..., 0]) for rule in self.tables}
        return _Beam(
            tokens,
            torch.ones_like(tokens[..., 0]),
            elements.expand(-1, self.beam, -1, -1),
            torch.zeros_like(tokens[..., 0], dtype=wanted.dtype),
            {rule: self.tables[rule][0][at] for rule, at in read.items()},
            {rule: self.tables[rule][1][at] for rule, at in read.items()},
        )

    def _chosen(self, beam: _Beam, more: _Beam, parent: Tensor, index: Tensor, extended: Tensor) -> _Beam:
        """Return what was chosen: chunks that have ended, and others with one more element.

        Args:
            beam: (M, W) chunks.
            more: (M, W, K) candidates.
            parent: (M, W) the chunk that is kept or goes on.
            index: (M, W) the candidate, of W K.
            extended: (M, W) bool, whether it goes on.
        """

        def chosen(old: Tensor, new: Tensor) -> Tensor:
            """Return the parents' old values, or new ones where a chunk has grown."""
            old, new = take_rows(old, parent), take_rows(new.flatten(1, 2), index)
            return torch.where(extended.view(*extended.shape, *[1] * (old.dim() - 2)), new, old)

        tokens, lengths = take_rows(beam.tokens, parent), take_rows(beam.lengths, parent)
        added, sizes = (
            take_rows(more.tokens.flatten(1, 2), index),
            take_rows(more.lengths.flatten(1, 2), index) * extended,
        )
        place = torch.arange(added.shape[2], device=added.device)
        # What is not there goes into a column of its own.
        target = torch.where(place < sizes[..., None], lengths[..., None] + place, tokens.shape[2])
        tokens = F.pad(tokens, (0, 1)).scatter(2, target, added)[..., :-1]
        ended = {
            rule: take_rows(old, parent) | (take_rows(more.ended[rule].flatten(1, 2), index) & extended)
            for rule, old in beam.ended.items()
        }
        states = {rule: chosen(old, more.states[rule]) for rule, old in beam.states.items()}
        return _Beam(tokens, lengths + sizes, chosen(beam.concepts, more.concepts), beam.cosine, states, ended)
