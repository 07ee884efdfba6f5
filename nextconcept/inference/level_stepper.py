"""A level that advances by a position or a few, with caches of earlier keys and values.

The blocks are those of the parallel pass, and so is their mathematics; this module gives them
weights that are packed for speed, and a context that reads caches. Rotations are computed once per
step for all blocks.

Shapes: B rows of the batch, R rows that take a step, n positions of a row, h heads of queries, g
heads of keys and values, d head size, D width, b passes through blocks, H horizon, A anchors. Where
each row takes one position, blocks see no axis n, which saves them time.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.inference.locations import Reading
from nextconcept.inference.packed_weights import PackedWeights
from nextconcept.inference.ring_cache import AnchorStore, RingCache, RingView, RowPositions
from nextconcept.nn.attention import MemoryAttention, PlanAttention, PlanPrefix
from nextconcept.nn.layers import compute_dtype, rotary_angles, rotate, rotations
from nextconcept.nn.level_context import KeysOf, LevelContext, RolloutCache
from nextconcept.nn.level_weights import LevelShape
from nextconcept.nn.places import Unbind, step_starts
from nextconcept.nn.plan_input import PlanGates
from nextconcept.nn.transformer import Transformer

__all__ = ["LevelStepper", "StepContext"]


class StepContext(LevelContext):
    """A position of each row or a few, with the caches of a :class:`LevelStepper`.

    Args:
        stepper: the level.
        positions: the positions of the rows.
        shift: in a rollout, steps after ``positions``; 0 is a true position, which is stored.
        own: per pass through a block, keys and values of the rollout so far, (R, 2, g, n, d) each;
            receives those of this step.
        reading: what the positions read, of a level that reads a plan.
    """

    def __init__(
        self,
        stepper: "LevelStepper",
        positions: RowPositions,
        shift: int,
        own: Sequence[list[Tensor]],
        reading: Reading | None,
    ) -> None:
        self.weights, self.reads_plan = stepper.weights, stepper.gates is not None
        self.stepper, self.positions, self.shift, self.own = stepper, positions, shift, own
        self.turns = stepper.turns(positions.every() + shift)
        self.views: dict[tuple[int, int | None], RingView] = {}
        self.visible_plan: Tensor | None = None
        if reading is None:
            return
        self.reading = reading
        if stepper.unbind is not None:
            plan = self._of_anchors(stepper.plans)
            unbound = reading.unbound(plan, stepper.unbind, shift)
            self.unbound = unbound if positions.ahead else unbound.squeeze(1)
        else:
            self._read_plan()
        if not stepper.prefix:
            self.turns_in_chunk = stepper.reading_turns(reading.place + shift)
        if stepper.memory is not None:
            self.turns_in_text = stepper.reading_turns(positions.every() + stepper.first + shift)
            seen_from = None if reading.common else reading.anchor
            view = stepper.memory.view(reading.anchors, seen_from=seen_from)
            memory, self.visible = stepper.memory.read(reading.anchors, view)
            self.memory = memory.unbind(1)

    def _of_anchors(self, store: AnchorStore) -> Tensor:
        """Return what the common anchor left, (R, ...), or that of each position, (R, n, ...)."""
        anchors = self.reading.anchors
        return store.one(anchors) if self.reading.common else store.each(anchors, self.reading.anchor)

    def _read_plan(self) -> None:
        """Prepare attention to plans: keys and values, and which of them each position sees."""
        store, anchors = self.stepper.plans, self.reading.anchors
        if self.reading.common:
            self.plan = store.one(anchors).unbind(1)
            return
        keys = anchors.select(store.data)  # (R, S, 2 b, g, H, d)
        slots = torch.arange(store.slots, device=keys.device).repeat_interleave(keys.shape[4])
        self.visible_plan = (self.reading.anchor % store.slots)[:, None, :, None] == slots
        self.plan = keys.permute(2, 0, 3, 1, 4, 5).flatten(3, 4).unbind(0)

    def _plan_keys(self, index: int) -> "_Seen":
        return self.plan[2 * index], self.plan[2 * index + 1], self.visible_plan

    def rotate(self, x: Tensor) -> Tensor:
        """Rotate by the positions of the rows."""
        return rotate(x, self.turns)

    def attend(
        self, index: int, query: Tensor, key: Tensor, value: Tensor, plan_keys: KeysOf | None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to the stored positions, to the own rollout, and to the plan of the own chunk."""
        ring, entry = self.stepper.rings[index], torch.stack((key, value), 1)
        if self.shift == 0:
            ring.write(self.positions, entry)
            seen = [_seen(*self._stored(ring))]
        else:
            self.own[index].append(entry)
            seen = [_seen(*self._stored(ring)), self._rollout(index, ring.window)]
        mixed = _attend(query, seen)
        if plan_keys is None:
            return mixed, None
        return mixed, _attend(query, [*seen, self._plan_keys(index)])

    def _rollout(self, index: int, window: int | None) -> "_Seen":
        """Return the rollout's own positions inside the sliding window."""
        first = 0 if window is None else max(0, len(self.own[index]) - window)  # a slice from 0 is all
        parts, count = self.own[index][first:], self.positions.ahead + 1
        visible = None
        if count > 1:  # each position sees its own rollout alone
            visible = torch.eye(count, dtype=torch.bool, device=parts[0].device).repeat(1, len(parts))[None, None]
        return _seen(torch.cat(parts, 3), visible)

    def _stored(self, ring: RingCache) -> tuple[Tensor, Tensor | None]:
        """Read a ring, with one mask for all rings that are alike."""
        key = ring.size, ring.window
        if key not in self.views:
            self.views[key] = ring.view(self.positions, self.shift)
        return ring.read(self.positions, self.views[key])

    def plan_gate(self, index: int) -> Tensor:
        """Return the (D,) gate of the plan."""
        return self.stepper.plan_gates[index]

    def memory_gate(self, index: int) -> Tensor:
        """Return the (D,) gate of the memory."""
        return self.stepper.memory_gates[index]

    def fold(self, x: Tensor) -> Tensor:
        """Return ``x``: positions see their own plan by a mask."""
        return x

    def unfold(self, x: Tensor) -> Tensor:
        """Return ``x`` as it is: nothing was folded."""
        return x

    def rotate_in_chunk(self, query: Tensor) -> Tensor:
        """Rotate by positions in the chunk."""
        return rotate(query, self.turns_in_chunk)

    def attend_plan(self, index: int, query: Tensor, keys_of: KeysOf) -> Tensor:
        """Attend to the plan, whose keys were made when the chunk began."""
        return _attend(query, [self._plan_keys(index)])

    def unbound_plan(self) -> Tensor:
        """Return the plan, unbound at the places of the rows."""
        return self.unbound

    def anchor_states(self) -> Tensor:
        """Return the state of each row's anchor, (R, D_above), or of each position's."""
        return self._of_anchors(self.stepper.anchor_states)

    def spread(self, x: Tensor) -> Tensor:
        """Return (R, D), or with drafted positions (R, 1, D) or (R, n, D)."""
        return x.unsqueeze(1) if self.positions.ahead and self.reading.common else x

    def rotate_in_text(self, query: Tensor) -> Tensor:
        """Rotate by the elements that the positions predict."""
        return rotate(query, self.turns_in_text)

    def attend_memory(self, index: int, query: Tensor, keys_of: KeysOf) -> Tensor:
        """Attend to the stored memory."""
        return _attend(query, [(self.memory[2 * index], self.memory[2 * index + 1], self.visible)])


_Seen = tuple[Tensor, Tensor, Tensor | None]


def _seen(entries: Tensor, visible: Tensor | None) -> _Seen:
    """Split (R, 2, g, n, d) into keys and values."""
    key, value = entries.unbind(1)
    return key, value, visible


def _attend(query: Tensor, seen: list[_Seen]) -> Tensor:
    """Attend in one softmax to several groups of keys and values.

    Args:
        query: (R, h, n, d).
        seen: (R, g, m, d) keys, values, and (R, 1, n or 1, m) bool, whether each is visible.

    Returns:
        (R, h, n, d).
    """
    key, value, mask = seen[0]
    if len(seen) > 1:
        key, value = (torch.cat(parts, 2) for parts in ([one[0] for one in seen], [one[1] for one in seen]))
        every = [part.new_ones(1, 1, 1, part.shape[2], dtype=torch.bool) if m is None else m for part, _, m in seen]
        mask = torch.cat([part.expand(len(query), -1, query.shape[2], -1) for part in every], 3)
    if query.shape[1] == key.shape[1]:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    # Query heads that share keys are further queries of one head: no key is copied.
    grouped = query.reshape(len(query), key.shape[1], -1, query.shape[3])
    if mask is not None and mask.shape[2] > 1:
        mask = mask.repeat(1, 1, query.shape[1] // key.shape[1], 1)
    return F.scaled_dot_product_attention(grouped, key, value, attn_mask=mask).reshape(query.shape)


class LevelStepper:
    """Runs a transformer at one level, a position or a few at a time.

    Args:
        transformer: the weights.
        shape: the part of them to use.
        rows: B.
        size: the greatest number of positions.
        gates: of a level that reads a plan.
        first: element that position 0 predicts; see
            :class:`~nextconcept.nn.attention_kernels.ChunkFold`.
        anchors: the greatest number of anchors of the level above.
        memory_window: anchors that the memory reaches back, or None for all.
        unbind: see :class:`~nextconcept.nn.plan_input.PlanInput`.
        ahead: the greatest number of drafted positions of a step.
        anchors_ahead: the greatest number of anchors that these positions pass.
    """

    def __init__(
        self,
        transformer: Transformer,
        shape: LevelShape,
        rows: int,
        size: int,
        gates: PlanGates | None = None,
        first: int = 0,
        anchors: int = 0,
        memory_window: int | None = None,
        unbind: Unbind | None = None,
        ahead: int = 0,
        anchors_ahead: int = 0,
    ) -> None:
        self.passes = transformer.passes(shape.num_loops)
        self.shape, self.norm, self.gates = shape, transformer.norm, gates
        self.first = first
        self.weights = PackedWeights(shape)
        like, heads = self.passes[0].attention.query.weight, (shape.num_kv_heads, shape.head_size)
        self._dtype = compute_dtype(like.dtype)
        self.rings = [
            RingCache(rows, (2, *heads), size, shape.window(index), like, ahead) for index in range(len(self.passes))
        ]
        self.memory: RingCache | None = None
        self.plans, self.anchor_states = (AnchorStore(rows, anchors_ahead + 1) for _ in range(2))
        self.plan_gates: list[Tensor] = []
        self.memory_gates: list[Tensor] = []
        self.reads_anchor = self.passes[0].anchor_reading is not None
        self.prefix = self.passes[0].plan_prefix is not None
        self.unbind = unbind if self.passes[0].plan_unbinding is not None else None
        if gates is None:
            return
        indices = range(len(self.passes))
        self.plan_gates = [gates.plan_gate(index) for index in indices]
        if self.prefix:  # the gate acts on heads, which are packed in another order
            order = shape.feature_order(shape.query_width)
            self.plan_gates = [gate[order] for gate in self.plan_gates]
        if gates.memory is not None:
            self.memory_gates = [gates.memory_gate(index) for index in indices]
        if self.passes[0].memory_attention is not None:
            entries = (2 * len(self.passes), *heads)
            self.memory = RingCache(rows, entries, anchors, memory_window, like, anchors_ahead)

    def turns(self, positions: Tensor) -> Tensor:
        """Return the rotations by (R, n) positions, (R, 1, n, d / 2)."""
        return rotations(self._angles(positions))[:, None]

    def reading_turns(self, positions: Tensor) -> Tensor:
        """Return the rotations of queries to plan and memory, (R, 1, n, d / 2)."""
        return self.turns(positions if self.shape.reads_rotated else torch.zeros_like(positions))

    def _angles(self, positions: Tensor) -> Tensor:
        return rotary_angles(positions, self.shape.head_size, self.shape.rope_base, self._dtype)

    def load(self, positions: RowPositions, cache: RolloutCache) -> None:
        """Take over the keys and values of a parallel pass over whole prefixes."""
        for ring, (key, value) in zip(self.rings, cache.prefix, strict=True):
            ring.load(positions, torch.stack((key, value), 1))

    def load_memory(self, anchors: RowPositions, memory: Tensor | None, starts: Tensor) -> None:
        """Take over the memory (R, A, D_above) of whole prefixes, if the level reads one.

        ``starts`` are the first elements of the chunks, (A,) or (R, A).
        """
        if self.reads_anchor and memory is not None:
            newest = memory[torch.arange(len(memory), device=memory.device), anchors.last]
            self.anchor_states.write(anchors, newest[:, None])
        if self.memory is None or memory is None:
            return
        self.memory.load(anchors, self._keys(memory, [block.memory_attention for block in self.passes], starts))

    def add_memory(self, anchors: RowPositions, memory: Tensor, starts: Tensor) -> None:
        """Store the memory (R, n, D_above) of anchors, if the level reads one.

        ``starts`` (R, n) are the first elements of the chunks after the anchors.
        """
        if self.reads_anchor:
            self.anchor_states.write(anchors, memory)
        if self.memory is None:
            return
        readers = [block.memory_attention for block in self.passes]
        self.memory.write(anchors, self._keys(memory, readers, starts))

    def set_plans(self, anchors: RowPositions, plans: Tensor, starts: Tensor, chunk_length: float) -> None:
        """Let positions after anchors read their normalised plans (R, n, H, D_above).

        Attention reads them as keys and values, (R, n, 2 b, g, H, d).

        Args:
            anchors: the anchors.
            plans: (R, n, H, D_above).
            starts: (R, n) the first elements of the chunks after the anchors.
            chunk_length: elements by which later chunks follow.
        """
        if self.unbind is not None:
            self.plans.write(anchors, plans)
            return
        count, horizon = plans.shape[1:3]
        steps = step_starts(horizon, chunk_length, plans.device)
        positions = (starts[..., None] + steps - self.first).flatten(1) if self.prefix else steps.repeat(count)
        readers = [block.plan_prefix or block.plan_attention for block in self.passes]
        keys = self._keys(plans.flatten(1, 2), readers, positions)  # (R, 2 b, g, n H, d)
        self.plans.write(anchors, keys.unflatten(3, (count, horizon)).movedim(3, 1))

    def _keys(
        self, source: Tensor, readers: Sequence[PlanPrefix | PlanAttention | MemoryAttention | None], positions: Tensor
    ) -> Tensor:
        """Make the keys and values of all passes.

        Args:
            source: (R, n, D_above).
            readers: per pass, the module that reads.
            positions: (n,) or (R, n) of the keys.

        Returns:
            (R, 2 b, g, n, d).
        """
        rotated = self.shape.reads_rotated or isinstance(readers[0], PlanPrefix)
        angles = self._angles(positions if rotated else torch.zeros_like(positions))
        angles = angles if positions.dim() == 1 else angles[:, None]
        made = {reader: reader.keys(source, self.weights, angles) for reader in dict.fromkeys(readers) if reader}
        return torch.stack([part for reader in readers if reader for part in made[reader]], 1)

    def step(
        self,
        x: Tensor,
        positions: RowPositions,
        reading: Reading | None = None,
        shift: int = 0,
        own: Sequence[list[Tensor]] = (),
    ) -> Tensor:
        """Run a position of each row, or the drafted ones after it too.

        Args:
            x: (R, n, D) inputs.
            positions: the positions of the rows.
            reading: what they read, of a level that reads a plan.
            shift: in a rollout, steps after ``positions``; 0 is a true position, which is stored.
            own: see :class:`StepContext`.

        Returns:
            (R, n, D) normalised hidden states.
        """
        x = x if positions.ahead else x[:, 0]
        if self.shape.input_scale != 1:
            x = x * self.shape.input_scale
        context = StepContext(self, positions, shift, own, reading)
        for index, block in enumerate(self.passes):
            x = block(x, context, index)
        states: Tensor = self.norm(x)
        return states if positions.ahead else states[:, None]
