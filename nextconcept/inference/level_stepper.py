"""A level that advances by a position or a few, with caches of earlier keys and values.

The blocks are those of the parallel pass, and so is their mathematics; this module gives them
weights that are packed for speed, and a context that reads caches. Rotations are computed once per
step for all blocks.

Shapes: B rows of the batch, R rows that take a step, n positions of a row, h heads of queries, g
heads of keys and values, d head size, D width, b passes through blocks, H horizon, A anchors. Where
each row takes one position, inputs and states have no axis n.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.inference.locations import Reading
from nextconcept.inference.packed_weights import PackedWeights
from nextconcept.inference.ring_cache import RingCache, RingView, RowPositions
from nextconcept.nn.attention import MemoryAttention, PlanAttention, PlanPrefix
from nextconcept.nn.layers import compute_dtype, rotary_angles, rotate, rotations
from nextconcept.nn.level_context import KeysOf, LevelContext, RolloutCache
from nextconcept.nn.level_weights import LevelShape
from nextconcept.nn.places import Unbind
from nextconcept.nn.plan_input import PlanGates
from nextconcept.nn.transformer import Transformer

__all__ = ["LevelStepper", "StepContext"]


class StepContext(LevelContext):
    """One position of each row or a few, with the caches of a :class:`LevelStepper`.

    All positions of a row read the plan of one anchor.

    Args:
        stepper: the level.
        positions: the positions of the rows.
        shift: in a rollout, steps after ``positions``; 0 is a true position, which is stored.
        own: per pass through a block, keys and values of the rollout so far, (R, 2, g, 1, d) each;
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
        if reading is None:
            return
        plan, places = positions.select(stepper.plan), reading.places(shift, positions.ahead)
        if stepper.unbind is not None:
            unbound = reading.unbound(plan, stepper.unbind, shift, positions.ahead)
            self.unbound = unbound if positions.ahead else unbound.squeeze(1)
        else:
            self.plan = plan.unbind(1)
        if not stepper.prefix:
            self.turns_in_chunk = stepper.reading_turns(places)
        if stepper.memory is not None:
            self.turns_in_text = stepper.reading_turns(reading.first[:, None] + places)
            memory, self.visible = stepper.memory.read(reading.anchors, stepper.memory.view(reading.anchors))
            self.memory = memory.unbind(1)

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
            # Of the rollout's own positions those inside the sliding window; a slice from 0 is all.
            first = 0 if ring.window is None else max(0, len(self.own[index]) - ring.window)
            own = torch.cat(self.own[index][first:], 3)
            seen = [_seen(*self._stored(ring)), _seen(own, None)]
        mixed = _attend(query, seen)
        if plan_keys is None:
            return mixed, None
        return mixed, _attend(query, [*seen, (self.plan[2 * index], self.plan[2 * index + 1], None)])

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
        """Return ``x``: the positions of a row are in one chunk."""
        return x

    def unfold(self, x: Tensor) -> Tensor:
        """Return ``x`` as it is: nothing was folded."""
        return x

    def rotate_in_chunk(self, query: Tensor) -> Tensor:
        """Rotate by positions in the chunk."""
        return rotate(query, self.turns_in_chunk)

    def attend_plan(self, index: int, query: Tensor, keys_of: KeysOf) -> Tensor:
        """Attend to the plan, whose keys were made when the chunk began."""
        return _attend(query, [(self.plan[2 * index], self.plan[2 * index + 1], None)])

    def unbound_plan(self) -> Tensor:
        """Return the plan, unbound at the places of the rows."""
        return self.unbound

    def anchor_states(self) -> Tensor:
        """Return the state of each row's anchor, (R, D_above)."""
        return self.positions.select(self.stepper.anchor_state)

    def spread(self, x: Tensor) -> Tensor:
        """Return (R, D), or with drafted positions (R, 1, D): those of a row have one anchor."""
        return x.unsqueeze(1) if self.positions.ahead else x

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
    ) -> None:
        self.passes = transformer.passes(shape.num_loops)
        self.shape, self.norm, self.gates = shape, transformer.norm, gates
        self.first = first
        self.weights, self._rows = PackedWeights(shape), rows
        like, heads = self.passes[0].attention.query.weight, (shape.num_kv_heads, shape.head_size)
        self._dtype = compute_dtype(like.dtype)
        self.rings = [
            RingCache(rows, (2, *heads), size, shape.window(index), like, ahead) for index in range(len(self.passes))
        ]
        self.memory: RingCache | None = None
        self.plan = self.anchor_state = like.new_zeros(0)
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
            self.memory = RingCache(rows, entries, anchors, memory_window, like)

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
            self.anchor_state = self._with_rows(self.anchor_state, anchors, newest)
        if self.memory is None or memory is None:
            return
        self.memory.load(anchors, self._keys(memory, [block.memory_attention for block in self.passes], starts))

    def add_memory(self, reading: Reading, memory: Tensor) -> None:
        """Store the memory (R, D_above) of the anchor that is read, if the level reads one."""
        if self.reads_anchor:
            self.anchor_state = self._with_rows(self.anchor_state, reading.anchors, memory)
        if self.memory is None:
            return
        readers = [block.memory_attention for block in self.passes]
        self.memory.write(reading.anchors, self._keys(memory[:, None], readers, reading.first[:, None]))

    def set_plan(self, reading: Reading, plan: Tensor) -> None:
        """Read the normalised plan (R, H, D_above) from the next step on.

        Attention reads it as keys and values, (R, 2 b, g, H, d).
        """
        starts = reading.step_starts(plan.shape[1])
        if self.prefix:
            starts = reading.first[:, None] + starts - self.first
        keys = plan
        if self.unbind is None:
            keys = self._keys(plan, [block.plan_prefix or block.plan_attention for block in self.passes], starts)
        self.plan = self._with_rows(self.plan, reading.anchors, keys)

    def _with_rows(self, stored: Tensor, positions: RowPositions, values: Tensor) -> Tensor:
        """Return (B, ...) in which the rows of ``positions`` have the values (R, ...)."""
        if positions.rows is None:
            return values
        if not stored.numel():
            stored = values.new_zeros(self._rows, *values.shape[1:])
        stored[positions.rows] = values.to(stored.dtype)
        return stored

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
        """Run a position of each row, or the drafted ones behind it too.

        Args:
            x: (R, D) inputs, or (R, n, D) with drafted positions.
            positions: the positions of the rows.
            reading: what they read, of a level that reads a plan.
            shift: in a rollout, steps after ``positions``; 0 is a true position, which is stored.
            own: see :class:`StepContext`.

        Returns:
            (R, D) or (R, n, D) normalised hidden states.
        """
        if self.shape.input_scale != 1:
            x = x * self.shape.input_scale
        context = StepContext(self, positions, shift, own, reading)
        for index, block in enumerate(self.passes):
            x = block(x, context, index)
        states: Tensor = self.norm(x)
        return states
