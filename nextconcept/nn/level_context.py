"""What a block attends to: its own level, the plan and the memory of the level above.

Blocks hold the mathematics of a position. A context knows where the positions of a level stand and
what they see: :class:`ParallelContext` for all positions of a sequence at once, and
:class:`~nextconcept.inference.level_stepper.StepContext` for one position with caches.

Position i of a concept level is the one that *predicts* element i of the level, and that of the
tokens predicts token i + 1. It has seen the elements before that one, lies in its chunk, and may
read what the anchor of that chunk knows. Folding positions by chunk turns that rule into plain
batched attention, without a mask.

Shapes: B batch, T positions of this level, D width, h heads of queries, g heads of keys and values,
d head size, c chunk size, A anchors of the level above, H horizon. A context for a single position
leaves out the axes T and A.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from nextconcept.nn.attention_kernels import (
    ChunkFold,
    ExtraKeys,
    causal_attention,
    joint_attention,
    repeat_heads,
    small_attention,
)
from nextconcept.nn.layers import compute_dtype, rotary_angles, rotate, rotations
from nextconcept.nn.level_weights import LevelShape, LevelWeights, SlicedWeights
from nextconcept.nn.plan_input import PlanInput

__all__ = ["KeysOf", "LevelContext", "ParallelContext", "RolloutCache"]

KeysOf = Callable[[Tensor, LevelWeights, Tensor], tuple[Tensor, Tensor]]
"""Maps (..., n, D_above), weights and angles to keys and values, (..., g, n, d) each."""


class RolloutCache:
    """Keys and values of a rollout: of the true prefix, and of each anchor's own predictions.

    Not a dataclass: FSDP2 hands blocks copies of dataclasses, and blocks write into this object.

    Attributes:
        step: how far after its anchor each query stands; 0 in the teacher-forced pass, which fills
            ``prefix``.
        prefix: per pass through a block, (B, g, A, d) keys and values that all anchors share.
        own: per pass and earlier step, (B, g, A, d) keys and values of each anchor alone.
    """

    def __init__(self) -> None:
        self.step = 0
        self.prefix: list[tuple[Tensor, Tensor]] = []
        self.own: list[list[tuple[Tensor, Tensor]]] = []

    def add(self, index: int, key: Tensor, value: Tensor) -> None:
        """Store the keys and values of a pass through a block at the current step."""
        if self.step == 0:
            self.prefix.append((key, value))
            self.own.append([])
        else:
            self.own[index].append((key, value))

    def extras(self, index: int, window: int | None) -> ExtraKeys:
        """Return the own predictions of each anchor as extra keys of a chunk of one position."""
        key, value = (torch.stack(parts, 3) for parts in zip(*self.own[index], strict=True))
        age = self.step - 1 - torch.arange(key.shape[3], device=key.device)
        visible = torch.ones_like(age, dtype=torch.bool) if window is None else age < window
        return ExtraKeys(key, value, ChunkFold(1, 0), visible)


class LevelContext(ABC):
    """Where the positions of a level stand, and what they attend to.

    ``index`` counts passes through blocks: each pass has keys, values and gates of its own.

    Attributes:
        weights: applies the part of the matrices that the level uses.
        reads_plan: whether there is a level above to read.
    """

    weights: LevelWeights
    reads_plan: bool

    @abstractmethod
    def rotate(self, x: Tensor) -> Tensor:
        """Rotate queries or keys (..., h, T, d) of self-attention by their positions."""

    @abstractmethod
    def attend(
        self, index: int, query: Tensor, key: Tensor, value: Tensor, plan_keys: KeysOf | None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to the own and earlier positions of the level.

        Args:
            index: pass through a block.
            query: rotated queries, (..., h, T, d).
            key: rotated keys, (..., g, T, d).
            value: values, (..., g, T, d).
            plan_keys: makes keys and values of a plan whose vectors are attended as positions.

        Returns:
            The attention without a plan, and the attention that includes the plan or None.
        """

    @abstractmethod
    def plan_gate(self, index: int) -> Tensor:
        """Return the (D,) gate of the plan."""

    @abstractmethod
    def memory_gate(self, index: int) -> Tensor:
        """Return the (D,) gate of the memory."""

    @abstractmethod
    def fold(self, x: Tensor) -> Tensor:
        """Group positions by the chunk whose plan they read: (B, T, D) to (B, A, c, D)."""

    @abstractmethod
    def unfold(self, x: Tensor) -> Tensor:
        """Return folded positions (..., A, c, D) as (..., T, D), undoing :meth:`fold`."""

    @abstractmethod
    def rotate_in_chunk(self, query: Tensor) -> Tensor:
        """Rotate folded queries (B, A, h, c, d) by their positions in the chunk."""

    @abstractmethod
    def attend_plan(self, index: int, query: Tensor, keys_of: KeysOf) -> Tensor:
        """Attend from folded queries (B, A, h, c, d) to the plan of their chunk."""

    @abstractmethod
    def unbound_plan(self) -> Tensor:
        """Return what the plan says about the element of each position, (B, T, D_above)."""

    @abstractmethod
    def anchor_states(self) -> Tensor:
        """Return the state of the level above at each anchor, (B, A, D_above)."""

    @abstractmethod
    def spread(self, x: Tensor) -> Tensor:
        """Give each position what belongs to its anchor: (B, A, D) to (B, T, D)."""

    @abstractmethod
    def rotate_in_text(self, query: Tensor) -> Tensor:
        """Rotate queries (B, h, T, d) by the elements that they predict."""

    @abstractmethod
    def attend_memory(self, index: int, query: Tensor, keys_of: KeysOf) -> Tensor:
        """Attend from queries (B, h, T, d) to the memory of the chunks up to their own."""


class ParallelContext(LevelContext):
    """All positions of a sequence at once, for training and for reading a prompt.

    Args:
        x: (B, T, D) inputs of the level.
        shape: the part of the matrices to use.
        plan_input: plan and memory of the level above, if there is one.
        cache: of a rollout; its first pass fills the cache, later passes continue from it: position
            t then attends to the true positions <= t and to its own earlier predictions.
    """

    def __init__(
        self, x: Tensor, shape: LevelShape, plan_input: PlanInput | None = None, cache: RolloutCache | None = None
    ) -> None:
        self.weights, self.shape = SlicedWeights(shape), shape
        self.plan_input, self.cache, self.reads_plan = plan_input, cache, plan_input is not None
        self.device, self.dtype, self.time = x.device, compute_dtype(x.dtype), x.shape[-2]
        self.step = cache.step if cache else 0
        self._known: dict[str, Tensor] = {}
        self.angles = self._angles(torch.arange(self.time, device=self.device) + self.step)
        self.unbound: Tensor | None = None
        if plan_input is not None and plan_input.unbind is not None:
            # Not in the block that reads it first, which may be recomputed in the backward pass.
            self.unbound = self.unfold(plan_input.places.unbound(plan_input.plan, self.step, plan_input.unbind))

    def _angles(self, positions: Tensor) -> Tensor:
        """Return the rotations of positions, or their angles where a compiler fuses them."""
        angles = rotary_angles(positions, self.shape.head_size, self.shape.rope_base, self.dtype)
        return angles if torch.compiler.is_compiling() else rotations(angles)

    def _reading_angles(self, name: str, positions: Callable[[], Tensor], always: bool = False) -> Tensor:
        """Return the angles of attention to plan and memory, computed once for all blocks.

        All are zero if such attention is not rotated, unless it ``always`` is.
        """
        if name not in self._known:
            known = positions()
            rotated = always or self.shape.reads_rotated
            self._known[name] = self._angles(known if rotated else torch.zeros_like(known))
        return self._known[name]

    @property
    def _input(self) -> PlanInput:
        assert self.plan_input is not None, "a level without a level above reads no plan"
        return self.plan_input

    def rotate(self, x: Tensor) -> Tensor:
        """Rotate by positions, counted from the first one of the sequence."""
        return rotate(x, self.angles)

    def attend(
        self, index: int, query: Tensor, key: Tensor, value: Tensor, plan_keys: KeysOf | None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to positions <= t, to the own rollout, and to the plan of the own chunk."""
        window, own = self.shape.window(index), None
        if self.cache is not None:
            self.cache.add(index, key, value)
            if self.step:
                key, value = self.cache.prefix[index]
                own = self.cache.extras(index, window)
        if own is None:
            mixed = causal_attention(query, key, value, window)
        else:
            mixed = joint_attention(query, key, value, own, window, self.step)
        if plan_keys is None:
            return mixed, None
        extras = self._plan_positions(plan_keys)
        if own is not None:
            extras = _concatenate(extras, own, self.time)
        return mixed, joint_attention(query, key, value, extras, window, self.step)

    def plan_shares(self, index: int, query: Tensor, key: Tensor, plan_keys: KeysOf) -> Tensor:
        """Return how much of the attention of :meth:`attend` goes to each step of the plan.

        It is the attention itself, with values that are one for a step and zero for the text.

        Returns:
            (B, h, T, H); what is missing to one goes to the own and earlier positions.
        """
        extras = self._plan_positions(plan_keys)
        horizon = extras.key.shape[-2]
        steps = torch.eye(horizon, device=key.device, dtype=key.dtype).expand(*extras.key.shape[:-1], -1)
        plan = ExtraKeys(extras.key, steps, extras.fold, extras.visible)
        text = key.new_zeros(*key.shape[:-1], horizon)
        return joint_attention(query, key, text, plan, self.shape.window(index), self.step)

    def _plan_positions(self, plan_keys: KeysOf) -> ExtraKeys:
        """Step j of the plan of anchor a stands where chunk ``a + j`` begins."""
        plan, places = self._input.plan, self._input.places
        anchors, horizon = plan.shape[1:3]

        def positions() -> Tensor:
            """Return where the steps begin, counted as the positions are, (A, H) or (B, A, H)."""
            starts = places.chunk_starts(anchors, self.device)[..., None] + places.step_starts(horizon, self.device)
            return starts - places.element

        # An axis for the heads: angles are (A, 1, H, d / 2), or (B, A, 1, H, d / 2).
        angles = self._reading_angles("plan positions", positions, always=True).unsqueeze(-3)
        parts = plan_keys(plan, self.weights, angles)
        key, value = (places.spread(part).transpose(1, 2) for part in parts)
        visible = torch.ones(horizon, dtype=torch.bool, device=self.device)
        return ExtraKeys(key, value, places.fold, visible)

    def plan_gate(self, index: int) -> Tensor:
        """Return the (D,) gate of the plan."""
        return self._input.gates.plan_gate(index)

    def memory_gate(self, index: int) -> Tensor:
        """Return the (D,) gate of the memory."""
        return self._input.gates.memory_gate(index)

    def fold(self, x: Tensor) -> Tensor:
        """Group positions as :meth:`ChunkFold.fold`."""
        return self._input.places.fold.fold(x)

    def unfold(self, x: Tensor) -> Tensor:
        """Return folded positions (..., A, c, D) as (..., T, D), undoing :meth:`fold`."""
        return self._input.places.fold.unfold(x, self.time)

    def rotate_in_chunk(self, query: Tensor) -> Tensor:
        """Rotate by positions in the chunk, after which a rollout stands by its step."""
        in_chunk = self._input.places.in_chunk
        return rotate(query, self._reading_angles("in chunk", lambda: in_chunk(self.device) + self.step))

    def plan_keys(self, keys_of: KeysOf) -> tuple[Tensor, Tensor]:
        """Make the keys and values of the plan for each group of positions, (B, A, g, H, d)."""
        plan, places = self._input.plan, self._input.places
        angles = self._reading_angles("steps", lambda: places.step_starts(plan.shape[2], self.device))
        key, value = keys_of(plan, self.weights, angles)
        return places.spread(key), places.spread(value)

    def attend_plan(self, index: int, query: Tensor, keys_of: KeysOf) -> Tensor:
        """Attend within each chunk."""
        return small_attention(query, *self.plan_keys(keys_of))

    def unbound_plan(self) -> Tensor:
        """Return the plan of each chunk, unbound at the places of its elements."""
        assert self.unbound is not None, "plans are read at their places if plan_conditioning is unbind"
        return self.unbound

    def anchor_states(self) -> Tensor:
        """Return the memory, of which a position reads the state of its own anchor."""
        memory = self._input.memory
        assert memory is not None, "a model whose reader.memory is none reads no memory"
        return memory

    def spread(self, x: Tensor) -> Tensor:
        """Repeat what belongs to an anchor for the positions of its chunk."""
        places = self._input.places
        return self.unfold(places.spread(x).unsqueeze(2).expand(-1, -1, places.fold.chunk_size, -1))

    def rotate_in_text(self, query: Tensor) -> Tensor:
        """Rotate by the elements that the positions predict."""
        first = self._input.places.element + self.step
        angles = self._reading_angles("in text", lambda: torch.arange(self.time, device=self.device) + first)
        return rotate(query, angles)

    def attend_memory(self, index: int, query: Tensor, keys_of: KeysOf) -> Tensor:
        """Attend to the anchors up to that of the own chunk."""
        memory, places = self._input.memory, self._input.places
        assert memory is not None, "a model whose reader.memory is none reads no memory"
        angles = self._reading_angles("chunks", lambda: places.chunk_starts(memory.shape[1], self.device))
        # An axis for the heads, where rows differ.
        parts = keys_of(memory, self.weights, angles.unsqueeze(1) if angles.dim() == 3 else angles)
        key, value = (repeat_heads(part, query.shape[1], 1) for part in parts)
        return places.attend_memory(query, key, value, self._input.memory_window)


def _concatenate(chunked: ExtraKeys, single: ExtraKeys, time: int) -> ExtraKeys:
    """Give every position the extra keys of its chunk next to its own."""

    def spread(x: Tensor) -> Tensor:
        """Repeat the keys of an anchor, (B, h, A, H, d), for the positions of its chunk."""
        repeated = x.flatten(-2).unsqueeze(-2).expand(-1, -1, -1, chunked.fold.chunk_size, -1)
        own: Tensor = chunked.fold.unfold(repeated, time).unflatten(-1, x.shape[-2:])
        return own

    key = torch.cat((spread(chunked.key), single.key), 3)
    value = torch.cat((spread(chunked.value), single.value), 3)
    return ExtraKeys(key, value, single.fold, torch.cat((chunked.visible, single.visible)))
