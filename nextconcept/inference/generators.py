"""Next-token logits for texts that grow, with and without a cache.

Texts are rows of a buffer. Row r holds ``lengths[r]`` ids, of which the model sees those from
``starts[r]`` on, a whole number of top-level chunks after the first.

Shapes: B rows, R rows that take a step, L size of the buffer, V vocabulary, A anchors, H horizon, D
width of a level, n positions of a step, K elements of a level that they complete.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.inference.level_stepper import LevelStepper
from nextconcept.inference.locations import Location, Reading
from nextconcept.inference.pointer_cache import PointerCache
from nextconcept.inference.ring_cache import AnchorStore, RowPositions
from nextconcept.inference.running_chunks import RunningChunks
from nextconcept.nn.chunks import Chunks
from nextconcept.nn.level_context import RolloutCache
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.model_output import ModelOutput
from nextconcept.nn.prefill import PrefillState
from nextconcept.nn.rows import take_rows

__all__ = ["CachedGenerator", "PlanHook", "UncachedGenerator", "anchor_numbers", "visible_anchors", "visible_part"]

PlanHook = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Maps ``(level, plan (R, A, H, D), anchors (R, A), rows (R,))`` to the plan that is read.

Anchors are counted from the first token of the text. What a hook returns is to be a function of its
arguments alone: with drafts it is also called for text that is then rejected, and anew for what
takes its place.
"""


def visible_part(ids: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """Return the visible part of each row of (R, L): (R, longest).

    Entries after the end of a row are arbitrary, because no output that is used depends on them.
    """
    longest = int((lengths - starts).max())
    index = starts[:, None] + torch.arange(longest)
    return ids.gather(1, index.clamp(max=ids.shape[1] - 1).to(ids.device))


def anchor_numbers(model: NextConceptModel, ids: Tensor, positions: Tensor, level: int) -> Tensor:
    """Number anchors by the complete chunks of ``level`` before them, from the first token on.

    Where a text has slid past the context, rules cut its visible part anew, perhaps in the middle
    of a chunk. What an anchor is called depends on its position alone, so that it keeps its number.

    Args:
        model: the model.
        ids: (R, L) texts; what stands after the positions does not count.
        positions: (R, n) tokens before each anchor, on the CPU.
        level: level of the plans.

    Returns:
        (R, n) on the CPU.
    """
    if model.chunker is None:
        return positions // model.config.hierarchy.span(level)
    # As the chunks above the text were one, so that there is room for all of its own; the token
    # that ends it is none of the text.
    text = F.pad(ids[:, : max(1, int(positions.max()))].clamp(min=0), (0, 1))
    chunks = model.chunker(text, whole=model.config.levels)[level]
    there = torch.arange(1, chunks.start.shape[1], device=ids.device) <= chunks.counts[:, None]
    ends = torch.where(there, chunks.start[:, 1:], text.shape[1])
    return torch.searchsorted(ends.contiguous(), positions.to(ids.device), right=True).cpu()


def visible_anchors(model: NextConceptModel, window: Tensor, level: int) -> Tensor:
    """Return the tokens of (R, T) visible ones before each anchor of ``level``: (R, A) on the CPU.

    Entries after the end of a row are arbitrary.
    """
    if model.chunker is None:
        span = model.config.hierarchy.span(level)
        return torch.arange(0, window.shape[1] + 1, span).expand(len(window), -1)
    chunks: Chunks = model.chunker(window.clamp(min=0))[level]
    return chunks.start.cpu()


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
        return self.run(Location(self.model.config.hierarchy, ids, starts, lengths))[0]

    def run(self, at: Location, prefill: PrefillState | None = None) -> tuple[Tensor, ModelOutput]:
        """Compute the (R, V) logits of the token after each text, and the output for what is seen.

        ``prefill`` receives what generation continues from beside the output.
        """
        window = visible_part(at.ids, at.starts, at.lengths)

        def changed(level: int, predicted: Tensor) -> Tensor:
            """Return the plans of a level as the hook changes them."""
            if self.hook is None:
                return predicted
            positions = at.starts[:, None] + visible_anchors(self.model, window, level)
            return self.hook(level, predicted, anchor_numbers(self.model, at.ids, positions, level), at.every_row)

        # Not through a compiled call: prompts differ in length, so each would be compiled anew.
        output = self.model.forward(window, changed, offset=0, prefill=prefill)
        last = (at.counts[0] - 1).to(window.device)
        return output.logits[torch.arange(len(window), device=window.device), last], output


class CachedGenerator:
    """Keeps keys and values at every level.

    A concept is composed and its plan made only when its chunk is complete. Where the visible part
    of a row moves, the row is read anew.

    Args:
        model: in eval mode.
        rows: B.
        size: the greatest number of tokens that are visible at once.
        hook: changes plans before they are read.
        ahead: the greatest number of drafted tokens behind the newest one.
        within: whether these end with their chunk; then no level above advances with them.
    """

    def __init__(
        self,
        model: NextConceptModel,
        rows: int,
        size: int,
        hook: PlanHook | None = None,
        ahead: int = 0,
        within: bool = False,
    ) -> None:
        self.model, self.config, self.hook = model, model.config, hook
        self.uncached, self.encoder = UncachedGenerator(model, hook), model.encoder
        config, hierarchy = model.config, model.config.hierarchy
        # Elements that drafted tokens may complete, or at level 0 those tokens.
        passed = {level: 0 if within else -(-ahead // hierarchy.span(level)) for level in hierarchy.concept_levels}
        passed |= {0: ahead, config.levels: 0}
        self.steppers = {}
        # Where rules cut chunks, there is room for as many as a whole window may hold.
        room = max(size, config.window_length) if hierarchy.rules else size
        for level in range(config.levels):
            part = model.part(level)
            window_above = config.memory_window(level + 1) if level + 1 < config.levels else None
            self.steppers[level] = LevelStepper(
                model.transformer(level),
                part.shape,
                rows,
                size=hierarchy.length(room, level) + 1,
                gates=part.gates,
                first=int(level == 0),
                anchors=hierarchy.length(room, level + 1) + 2 if part.gates is not None else 0,
                memory_window=window_above,
                unbind=model.unbind(level + 1) if part.gates is not None else None,
                ahead=passed[level],
                anchors_ahead=passed[level + 1],
            )
        token_encoder, shape = self.encoder.token_encoder, self.encoder.shape
        self.token_encoder = None
        if token_encoder is not None:
            self.token_encoder = LevelStepper(token_encoder, shape, rows, size, ahead=ahead)
        self.embedding = self.encoder.embedding.weight
        # States of the token encoder, from which concepts are composed.
        self.states = self.embedding.new_zeros(rows, size + ahead if token_encoder else 0, shape.width)
        self.inputs = {level: AnchorStore(rows, passed[level] + 1) for level in hierarchy.concept_levels}
        self.pointers: PointerCache | None = None
        if model.pointers is not None:
            anchors = hierarchy.length(room, 1) + passed[1] + 2
            self.pointers = PointerCache(model.pointers, rows, size + ahead, anchors)
        self.running = None if model.chunker is None else RunningChunks(model.chunker, rows)
        self.starts = torch.full((rows,), -1)

    def __call__(self, ids: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
        """Compute the logits of the token after each row: (B, L) ids to (B, V).

        Each row must be one id longer than at the last call.
        """
        fresh = starts != self.starts
        self.starts = starts.clone()
        if not fresh.any():
            return self._step(self._locate(ids, starts, lengths, None))
        rows = fresh.nonzero().squeeze(1)
        logits = self._prefill(ids, starts, lengths, rows)
        if len(rows) == len(ids):
            return logits
        all_logits = logits.new_empty(len(ids), logits.shape[1])
        all_logits[rows.to(ids.device)] = logits
        rest = (~fresh).nonzero().squeeze(1)
        all_logits[rest.to(ids.device)] = self._step(self._locate(ids, starts, lengths, rest))
        return all_logits

    def _locate(self, ids: Tensor, starts: Tensor, lengths: Tensor, rows: Tensor | None) -> Location:
        """Locate (R,) of the rows; what is new of them is read by the rules that cut chunks."""
        if rows is not None:
            ids, starts, lengths = ids[rows.to(ids.device)], starts[rows], lengths[rows]
        chunks = None if self.running is None else self.running.read(ids, starts, lengths, rows)
        return Location(self.config.hierarchy, ids, starts, lengths, chunks, rows)

    def _prefill(self, ids: Tensor, starts: Tensor, lengths: Tensor, rows: Tensor) -> Tensor:
        """Read (R,) of the rows as a whole, in parallel, and fill the caches: (R, V) logits."""
        device, chunks = ids.device, None
        ids, starts, lengths = ids[rows.to(device)], starts[rows], lengths[rows]
        if self.running is not None:
            chunks = self.running.load(visible_part(ids, starts, lengths), lengths - starts, rows)
        at = Location(self.config.hierarchy, ids, starts, lengths, chunks, rows)
        prefill = PrefillState({level: RolloutCache() for level in self.steppers})
        logits, output = self.uncached.run(at, prefill)
        self.steppers[0].load(at.positions(0), prefill.caches[0])
        for level in self.config.hierarchy.concept_levels:
            anchors, read = at.positions(level), prefill.plan_inputs[level]
            self.steppers[level].load(anchors, prefill.caches[level])
            self._set_plans(level, at, anchors, take_rows(read.plan, anchors.last[:, None]))
            first = read.places.chunk_starts(read.plan.shape[1], device)
            self.steppers[level - 1].load_memory(anchors, read.memory, first)
            if (predictor := self.model.predictor(level)).shift is not None:
                inputs = predictor.start(output.encoding.inputs[level])
                self.inputs[level].write(anchors, take_rows(inputs, anchors.last[:, None]))
        if self.pointers is not None and prefill.pointers is not None:
            self.pointers.load(at.positions(0), prefill.pointers)
        if self.token_encoder is not None:
            self.token_encoder.load(at.positions(0), prefill.token_encoder)
            states = output.encoding.states[:, : self.states.shape[1]]
            self.states[rows.to(device), : states.shape[1]] = states.to(self.states.dtype)
        return logits

    def _step(self, at: Location) -> Tensor:
        """Read the newest token of each text at every level: (R, V) logits of the next token."""
        positions = at.positions(0)
        states = self._states(at.newest_tokens(), positions)
        self._read(at, at.before(), states, positions)
        return self._logits(states, positions, at.newest)[:, 0]

    def _states(self, tokens: Tensor, positions: RowPositions) -> Tensor:
        """Return the inputs of the token decoder at (R, n) tokens, (R, n, D_0)."""
        states = self.encoder.embed(tokens, 0)
        if self.token_encoder is not None:
            states = self.token_encoder.step(states, positions)
            positions.store(self.states, states)
        if self.pointers is not None:
            self.pointers.add_positions(positions, states)
        return states

    def _logits(self, states: Tensor, positions: RowPositions, reading: Reading | None) -> Tensor:
        """Run the token level on inputs (R, n, D_0): (R, n, V) logits."""
        if self.pointers is not None and reading is not None:
            gates = self.steppers[0].gates
            assert gates is not None  # tokens read a level above
            states = states + gates.pointer_gate() * self.pointers.read(states, positions, reading)
        hidden = self.steppers[0].step(states, positions, reading)
        return self.model.decoder.logits(hidden, self.embedding)

    def _set_plans(self, level: int, at: Location, anchors: RowPositions, plans: Tensor) -> None:
        """Let the level below read normalised plans (R, K, H, D) of ``level`` from now on."""
        starts = at.first_elements(level, anchors)
        self.steppers[level - 1].set_plans(anchors, plans, starts, self.config.hierarchy.chunk_lengths(level)[1])

    def _read(self, at: Location, before: dict[int, Tensor], states: Tensor, positions: RowPositions) -> None:
        """Read tokens at every level above whose chunks they complete.

        Args:
            at: the texts with the tokens.
            before: per level, (R,) complete elements without them, on the CPU.
            states: (R, n, D_0) inputs of the token decoder at the tokens.
            positions: of the tokens; a row may have fewer.
        """
        for level in reversed(self.config.hierarchy.concept_levels):
            done = at.counts[level] > before[level]
            if done.all():
                self._advance(level, at, before[level], states, positions)
            elif done.any():
                chosen = done.nonzero().squeeze(1)
                some = at.select(chosen)
                behind = RowPositions(positions.known[chosen], some.rows, states.device, positions.ahead)
                self._advance(level, some, before[level][chosen], states[chosen.to(states.device)], behind)

    def _advance(self, level: int, at: Location, before: Tensor, states: Tensor, positions: RowPositions) -> None:
        """Compose the concepts that tokens have completed in each row, and make their plans.

        A row may have completed fewer than another; what is made of the others is overwritten when
        they are complete.
        """
        anchors = at.completed(level, before)
        predictor, stepper = self.model.predictor(level), self.steppers[level]
        concepts = self._compose(level, at, anchors)
        if predictor.end is not None:
            ends = at.first_tokens(level, anchors) - 1 - positions.last[:, None]
            concepts = predictor.with_end(concepts, take_rows(states, ends.clamp(0, positions.ahead)))
        previous = concepts
        if predictor.shift is not None:
            last = RowPositions(before, at.rows, concepts.device)
            previous = torch.cat((self.inputs[level].one(last)[:, None], concepts[:, :-1]), 1)
            self.inputs[level].write(anchors, concepts)
        reading, own = at.reading(level, anchors), [list[Tensor]() for _ in stepper.passes]

        def run(inputs: Tensor, shift: int) -> Tensor:
            """Return the states (R, K, D) of the anchors at a step of the rollout."""
            return stepper.step(inputs, anchors, reading, shift, own)

        predicted = predictor.predict(concepts, previous, run, self.model.feed_back(level))
        plans = predicted.plan
        if self.hook is not None:
            begun = at.starts[:, None] + at.first_tokens(level, anchors).cpu()
            plans = self.hook(level, plans, anchor_numbers(self.model, at.ids, begun, level), at.every_row)
        self._set_plans(level, at, anchors, self.encoder.composition(level).norm(plans))
        if level == 1 and self.pointers is not None:
            self.pointers.add_anchors(anchors, predicted.states, at.first_elements(level, anchors))
        memory = concepts if self.config.reader.memory == "concepts" else predicted.states
        self.steppers[level - 1].add_memory(anchors, memory, at.first_elements(level, anchors))

    def _compose(self, level: int, at: Location, anchors: RowPositions) -> Tensor:
        """Compose the chunks before anchors, the predictor's next inputs: (R, K, D)."""
        ids = at.ids
        if self.running is not None and at.chunks is not None:
            slots, chunks = self.running.previous(at.chunks[level], at.rows, ids.device)
        else:
            span, chunks = self.config.hierarchy.span(level), None
            slots = (anchors.last[:, None] - 1) * span + torch.arange((anchors.ahead + 1) * span, device=ids.device)
        tokens = ids.gather(1, (slots + at.starts[:, None].to(ids.device)).clamp(max=ids.shape[1] - 1))
        if self.token_encoder is None:  # a user's own encoder may know nothing of chunks
            every = self.encoder(tokens) if chunks is None else self.encoder(tokens, chunks)
            concepts: Tensor = every[level]
        else:
            states = self.states[at.every_row.to(ids.device)[:, None], slots.clamp(max=self.states.shape[1] - 1)]
            concepts = self.encoder.concepts(self.encoder.elements(tokens, states, level), level, chunks)
        return concepts[:, : anchors.ahead + 1]
