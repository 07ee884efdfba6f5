"""Next-token logits for texts that grow, with and without a cache.

Texts are rows of a buffer. Row r holds ``lengths[r]`` ids, of which the model sees those from
``starts[r]`` on, a whole number of top-level chunks after the first.

Shapes: B rows, R rows that take a step, L size of the buffer, V vocabulary, A anchors, H horizon, D
width of a level.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from nextconcept.inference.level_stepper import LevelStepper
from nextconcept.inference.ring_cache import RowPositions
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.prefill import PrefillState

__all__ = ["CachedGenerator", "PlanHook", "UncachedGenerator"]

PlanHook = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Maps ``(level, plan (R, A, H, D), anchors (R, A), rows (R,))`` to the plan that is read.

Anchors are counted from the first token of the text.
"""


def _visible_part(ids: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """Return the visible part of each row of (R, L): (R, longest).

    Entries behind the end of a row are arbitrary, because no output that is used depends on them.
    """
    longest = int((lengths - starts).max())
    index = starts[:, None] + torch.arange(longest)
    return ids.gather(1, index.clamp(max=ids.shape[1] - 1).to(ids.device))


class UncachedGenerator:
    """Runs the whole model on the visible part of the text for every token.

    Args:
        model: in eval mode.
        hook: changes plans before they are read.
    """

    def __init__(self, model: NextConceptModel, hook: PlanHook | None = None) -> None:
        self.model, self.hook = model, hook

    def __call__(self, ids: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
        """Compute the logits of the token after each row: (B, L) ids to (B, V)."""
        return self.run(ids, starts, lengths, torch.arange(len(ids)))

    def run(
        self, ids: Tensor, starts: Tensor, lengths: Tensor, rows: Tensor, prefill: PrefillState | None = None
    ) -> Tensor:
        """Compute the (R, V) logits of ``rows`` alone, which index all other arguments.

        ``prefill`` receives the caches and plans from which generation continues.
        """
        starts, lengths = starts[rows], lengths[rows]
        window = _visible_part(ids[rows.to(ids.device)], starts, lengths)

        def changed(level: int, predicted: Tensor) -> Tensor:
            if self.hook is None:
                return predicted
            anchors = torch.arange(predicted.shape[1]) + starts[:, None] // self.model.config.hierarchy.span(level)
            return self.hook(level, predicted, anchors, rows)

        # Not through a compiled call: prompts differ in length, so each would be compiled anew.
        logits = self.model.forward(window, changed, offset=0, prefill=prefill).logits
        last = (lengths - starts - 1).to(ids.device)
        return logits[torch.arange(len(rows), device=ids.device), last]


class CachedGenerator:
    """Keeps keys and values at every level.

    A concept is composed and its plan made only when its chunk is complete. Where the visible part
    of a row moves, the row is read anew.

    Args:
        model: in eval mode.
        rows: B.
        size: the greatest number of tokens that are visible at once.
        hook: changes plans before they are read.
    """

    def __init__(self, model: NextConceptModel, rows: int, size: int, hook: PlanHook | None = None) -> None:
        self.model, self.config, self.hook = model, model.config, hook
        self.uncached, self.encoder = UncachedGenerator(model, hook), model.encoder
        config, hierarchy = model.config, model.config.hierarchy
        self.steppers = {}
        for level in range(config.levels):
            part = model.part(level)
            window_above = config.memory_window(level + 1) if level + 1 < config.levels else None
            positions, first = size // hierarchy.span(level) + 1, int(level == 0)
            self.steppers[level] = LevelStepper(
                model.transformer(level),
                part.shape,
                rows,
                positions,
                part.gates,
                config.chunk_size,
                first,
                window_above,
                model.unbind(level + 1) if part.gates is not None else None,
            )
        token_encoder, shape = self.encoder.token_encoder, self.encoder.shape
        self.token_encoder = LevelStepper(token_encoder, shape, rows, size) if token_encoder else None
        self.embedding = self.encoder.embedding.weight
        self.states = self.embedding.new_zeros(rows, hierarchy.top_span, shape.width)
        self.inputs = {
            level: self.embedding.new_zeros(rows, config.widths[level]) for level in hierarchy.concept_levels
        }
        self.starts = torch.full((rows,), -1)

    def __call__(self, ids: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
        """Compute the logits of the token after each row: (B, L) ids to (B, V).

        Each row must be one id longer than at the last call.
        """
        fresh = starts != self.starts
        self.starts = starts.clone()
        if not fresh.any():
            return self._step(ids, starts, lengths, None)
        rows = fresh.nonzero().squeeze(1)
        logits = self._prefill(ids, starts, lengths, rows)
        if len(rows) == len(ids):
            return logits
        all_logits = logits.new_empty(len(ids), logits.shape[1])
        all_logits[rows.to(ids.device)] = logits
        rest = (~fresh).nonzero().squeeze(1)
        all_logits[rest.to(ids.device)] = self._step(ids, starts, lengths, rest)
        return all_logits

    def _positions(self, last: Tensor, rows: Tensor | None) -> RowPositions:
        return RowPositions(last, rows, self.states.device)

    def _prefill(self, ids: Tensor, starts: Tensor, lengths: Tensor, rows: Tensor) -> Tensor:
        """Read whole rows in parallel, and fill the caches."""
        prefill = PrefillState.of(self.config.levels)
        logits = self.uncached.run(ids, starts, lengths, rows, prefill)
        counts, hierarchy = (lengths - starts)[rows], self.config.hierarchy
        tokens = self._positions(counts - 1, rows)
        self.steppers[0].load(tokens, prefill.caches[0])
        for level in hierarchy.concept_levels:
            anchors, below = self._positions(counts // hierarchy.span(level), rows), self.steppers[level - 1]
            self.steppers[level].load(anchors, prefill.caches[level])
            newest = (torch.arange(len(rows), device=ids.device), anchors.last)
            below.set_plan(anchors, prefill.plans[level][newest])
            self.inputs[level][rows.to(ids.device)] = prefill.inputs[level][newest].to(self.embedding.dtype)
            below.load_memory(anchors, prefill.memory[level])
        if self.token_encoder is not None and prefill.states is not None:
            self.token_encoder.load(tokens, prefill.token_encoder)
            slots = torch.arange(hierarchy.top_span, device=ids.device)
            latest = (tokens.last[:, None] - (tokens.last[:, None] - slots) % hierarchy.top_span).clamp(min=0)
            index = latest[..., None].expand(-1, -1, self.states.shape[2])
            self.states[tokens.rows] = prefill.states.gather(1, index).to(self.states.dtype)
        return logits

    def _step(self, ids: Tensor, starts: Tensor, lengths: Tensor, rows: Tensor | None) -> Tensor:
        """Read the newest token of ``rows`` at every level whose chunk it completes."""
        starts, lengths = (starts, lengths) if rows is None else (starts[rows], lengths[rows])
        ids = ids if rows is None else ids[rows.to(ids.device)]
        counts, hierarchy = lengths - starts, self.config.hierarchy
        tokens = self._positions(counts - 1, rows)
        newest = ids.gather(1, (lengths - 1)[:, None].to(ids.device))
        state = self.encoder.embed(newest, 0)[:, 0]
        if self.token_encoder is not None:
            state = self.token_encoder.step(state, tokens)
            every = torch.arange(len(self.states)) if rows is None else rows
            self.states[every, (counts - 1) % hierarchy.top_span] = state.to(self.states.dtype)
        for level in reversed(hierarchy.concept_levels):
            done = counts % hierarchy.span(level) == 0
            if done.all():
                self._advance(level, ids, starts, lengths, rows)
            elif done.any():
                chosen = done.nonzero().squeeze(1)
                some = chosen if rows is None else rows[chosen]
                self._advance(level, ids[chosen.to(ids.device)], starts[chosen], lengths[chosen], some)
        return self.model.decoder.logits(self.steppers[0].step(state, tokens), self.embedding)

    def _advance(self, level: int, ids: Tensor, starts: Tensor, lengths: Tensor, rows: Tensor | None) -> None:
        """Compose the concept that the rows have completed, and make its plan."""
        span = self.config.hierarchy.span(level)
        anchors = self._positions((lengths - starts) // span, rows)
        concept = self._compose(level, ids, lengths, lengths - starts, anchors)
        predictor, stepper, feed_back = self.model.predictor(level), self.steppers[level], self.model.feed_back(level)
        previous = anchors.select(self.inputs[level])
        hidden = stepper.step(predictor.pair(concept, previous), anchors)
        self.inputs[level][slice(None) if anchors.rows is None else anchors.rows] = concept.to(previous.dtype)
        plan = predictor.head(hidden)
        if predictor.rollout:
            own: list[list[Tensor]] = [[] for _ in stepper.passes]
            steps, last = [plan], concept
            for shift in range(1, predictor.horizon):
                previous, last = last, feed_back(steps[-1]).squeeze(1)
                steps.append(predictor.head(stepper.step(predictor.pair(last, previous), anchors, shift, own)))
            plan = torch.cat(steps, 1)
        if self.hook is not None:
            every = torch.arange(len(ids)) if rows is None else rows
            plan = self.hook(level, plan[:, None], (lengths // span)[:, None], every)[:, 0]
        below = self.steppers[level - 1]
        below.set_plan(anchors, self.encoder.composition(level).norm(plan))
        below.add_memory(anchors, hidden if self.config.reader.memory == "states" else concept)

    def _compose(self, level: int, ids: Tensor, lengths: Tensor, counts: Tensor, anchors: RowPositions) -> Tensor:
        """Compose the predictor's next input, (R, D)."""
        span, top = self.config.hierarchy.span(level), self.config.hierarchy.top_span
        inside = torch.arange(-span, 0)
        chunk = ids.gather(1, (lengths[:, None] + inside).to(ids.device))
        if self.token_encoder is None:
            concepts: Tensor = self.encoder(chunk)[level]
            return concepts[:, 0]
        slots = ((counts[:, None] + inside) % top).to(ids.device)
        states = anchors.select(self.states).gather(1, slots[..., None].expand(-1, -1, self.states.shape[2]))
        return self.encoder.concepts(self.encoder.elements(chunk, states, level), level)[:, 0]
