"""Next-token logits for texts that grow, with and without a cache.

Texts are rows of a buffer: row r holds ``lengths[r]`` ids, of which the model sees those from ``starts[r]`` on, a whole
number of top-level chunks after the first.

Shapes: B rows, R rows that do something, L size of the buffer, V vocabulary, H horizon, D width of a level.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.inference.level_stepper import LevelStepper, RowPositions
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.prefill import PrefillState

__all__ = ["CachedGenerator", "UncachedGenerator", "PlanHook"]

PlanHook = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""``(level, plan (R, A, H, D), anchors (R, A), rows (R,))`` to the plan that is read; anchors count from the first token."""


def _window(ids: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """(R, longest) the visible part of each row of (R, L); what lies behind its end is never looked at."""
    longest = int((lengths - starts).max())
    index = starts[:, None] + torch.arange(longest)
    return ids.gather(1, index.clamp(max=ids.shape[1] - 1).to(ids.device))


class UncachedGenerator:
    """Runs the whole model on all that is visible, for every token.

    Args:
        model: in eval mode.
        hook: changes plans before they are read.
    """

    def __init__(self, model: NextConceptModel, hook: PlanHook | None = None) -> None:
        self.model, self.hook = model, hook

    def __call__(self, ids: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) ids to the (B, V) logits of what follows each row."""
        return self.run(ids, starts, lengths, torch.arange(len(ids)))

    def run(
        self, ids: Tensor, starts: Tensor, lengths: Tensor, rows: Tensor, trace: PrefillState | None = None
    ) -> Tensor:
        """(R, V) logits of ``rows`` alone, which index all other arguments."""
        starts, lengths = starts[rows], lengths[rows]
        window = _window(ids[rows.to(ids.device)], starts, lengths)

        def changed(level: int, predicted: Tensor) -> Tensor:
            if self.hook is None:
                return predicted
            anchors = torch.arange(predicted.shape[1]) + starts[:, None] // self.model.config.hierarchy.span(level)
            return self.hook(level, predicted, anchors, rows)

        # Not through a compiled call: every prompt has another length.
        logits = self.model.forward(window, changed, offset=0, trace=trace).logits
        last = (lengths - starts - 1).to(ids.device)
        return logits[torch.arange(len(rows), device=ids.device), last]


class CachedGenerator:
    """Keeps keys and values at every level; a concept is composed and its plan made only when its chunk is complete.

    Where the visible part of a row moves, the row is read anew.

    Args:
        model: in eval mode.
        rows: B.
        size: tokens that are ever visible at once.
        hook: changes plans before they are read.
    """

    def __init__(self, model: NextConceptModel, rows: int, size: int, hook: PlanHook | None = None) -> None:
        self.model, self.config, self.hook = model, model.config, hook
        self.plain, self.encoder = UncachedGenerator(model, hook), model.encoder
        config, hierarchy = model.config, model.config.hierarchy
        self.steppers = {}
        for level in range(config.levels):
            part = model.part(level)
            above = config.sliding_windows[level + 1] if level + 1 < config.levels else None
            kept, first = size // hierarchy.span(level) + 1, int(level == 0)
            self.steppers[level] = LevelStepper(
                part.transformer, part.shape, rows, kept, part.gates, config.chunk_size, first, above
            )
        context, shape = self.encoder.context, self.encoder.shape
        self.context = LevelStepper(context, shape, rows, size) if context else None
        self.states = model.decoder.output_matrix.new_zeros(rows, hierarchy.top_span, shape.width)
        self.starts = torch.full((rows,), -1)

    def __call__(self, ids: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) ids, one more per row than at the last call, to the (B, V) logits of what follows each row."""
        fresh = starts != self.starts
        self.starts = starts.clone()
        if not fresh.any():
            return self._step(ids, starts, lengths, None)
        rows = fresh.nonzero().squeeze(1)
        logits = self._read(ids, starts, lengths, rows)
        if len(rows) == len(ids):
            return logits
        all_logits = logits.new_empty(len(ids), logits.shape[1])
        all_logits[rows.to(ids.device)] = logits
        rest = (~fresh).nonzero().squeeze(1)
        all_logits[rest.to(ids.device)] = self._step(ids, starts, lengths, rest)
        return all_logits

    def _place(self, last: Tensor, rows: Tensor | None) -> RowPositions:
        return RowPositions(last, rows, self.states.device)

    def _read(self, ids: Tensor, starts: Tensor, lengths: Tensor, rows: Tensor) -> Tensor:
        trace = PrefillState.of(self.config.levels)
        logits = self.plain.run(ids, starts, lengths, rows, trace)
        counts, hierarchy = (lengths - starts)[rows], self.config.hierarchy
        tokens = self._place(counts - 1, rows)
        self.steppers[0].load(tokens, trace.caches[0])
        for level in hierarchy.concept_levels:
            place, below = self._place(counts // hierarchy.span(level), rows), self.steppers[level - 1]
            self.steppers[level].load(place, trace.caches[level])
            below.read_plan(place, trace.plans[level][torch.arange(len(rows), device=ids.device), place.last])
            below.load_memory(place, trace.past[level])
        if self.context is not None and trace.states is not None:
            self.context.load(tokens, trace.context)
            slots = torch.arange(hierarchy.top_span, device=ids.device)
            latest = (tokens.last[:, None] - (tokens.last[:, None] - slots) % hierarchy.top_span).clamp(min=0)
            index = latest[..., None].expand(-1, -1, self.states.shape[2])
            self.states[tokens.rows] = trace.states.gather(1, index).to(self.states.dtype)
        return logits

    def _step(self, ids: Tensor, starts: Tensor, lengths: Tensor, rows: Tensor | None) -> Tensor:
        starts, lengths = (starts, lengths) if rows is None else (starts[rows], lengths[rows])
        ids = ids if rows is None else ids[rows.to(ids.device)]
        counts, hierarchy = lengths - starts, self.config.hierarchy
        tokens = self._place(counts - 1, rows)
        newest = ids.gather(1, (lengths - 1)[:, None].to(ids.device))
        state = self.encoder.embed(newest, 0)[:, 0]
        if self.context is not None:
            state = self.context.step(state, tokens)
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
        hidden = self.steppers[0].step(state, tokens)
        return F.linear(hidden, self.model.decoder.output_matrix)

    def _advance(self, level: int, ids: Tensor, starts: Tensor, lengths: Tensor, rows: Tensor | None) -> None:
        """Compose the concept that the rows have completed, and make its plan."""
        span = self.config.hierarchy.span(level)
        place = self._place((lengths - starts) // span, rows)
        concept = self._compose(level, ids, lengths, lengths - starts, place)
        predictor, stepper, feed_back = self.model.predictor(level), self.steppers[level], self.model.feed_back(level)
        hidden = stepper.step(concept, place)
        plan = predictor.head(hidden)
        if predictor.rollout:
            own: list[list[Tensor]] = [[] for _ in stepper.passes]
            steps = [plan]
            for shift in range(1, predictor.horizon):
                said = feed_back(steps[-1]).squeeze(1)
                steps.append(predictor.head(stepper.step(said, place, shift, own)))
            plan = torch.cat(steps, 1)
        if self.hook is not None:
            every = torch.arange(len(ids)) if rows is None else rows
            plan = self.hook(level, plan[:, None], (lengths // span)[:, None], every)[:, 0]
        below = self.steppers[level - 1]
        below.read_plan(place, self.encoder.composition(level).norm(plan))
        below.read_memory(place, hidden if self.config.reader.memory == "states" else concept)

    def _compose(self, level: int, ids: Tensor, lengths: Tensor, counts: Tensor, place: RowPositions) -> Tensor:
        """What the predictor reads: (R, D)."""
        span, top = self.config.hierarchy.span(level), self.config.hierarchy.top_span
        inside = torch.arange(-span, 0)
        chunk = ids.gather(1, (lengths[:, None] + inside).to(ids.device))
        if self.context is None:
            concepts: Tensor = self.encoder(chunk)[level]
            return concepts[:, 0]
        slots = ((counts[:, None] + inside) % top).to(ids.device)
        states = place.of(self.states).gather(1, slots[..., None].expand(-1, -1, self.states.shape[2]))
        elements = torch.cat((states, self.encoder.embed(chunk, level)[..., states.shape[2] :]), -1)
        return self.encoder.concepts(elements, level)[:, 0]
