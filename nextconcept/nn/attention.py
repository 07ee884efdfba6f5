"""Attention of a level to itself, to its plan, and to the past of the level above.

Shapes: B batch, T positions of this level, D width, h heads, d head size, c chunk size, A anchors of the level above,
H horizon.

Position i of a level is the one that *predicts* element i of it, so it has seen elements < i; it lies in chunk ``i // c``
and may read what the anchor of that chunk knows. Folding positions by chunk turns that rule into plain batched attention,
without a mask.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from nextconcept.core.config import ModelConfig
from nextconcept.nn.attention_kernels import ChunkFold, ExtraKeys, causal_attention, joint_attention, tiny_attention
from nextconcept.nn.layers import Linear, rotary_angles, rotate

__all__ = ["LevelShape", "MemoryAttention", "PlanAttention", "PlanPrefix", "RolloutCache", "SelfAttention"]


@dataclass(frozen=True)
class LevelShape:
    """The part of a transformer's matrices that a level uses, and how.

    Attributes:
        width: D.
        num_heads: h.
        hidden: hidden width of the feed-forward layer.
        sliding_window: positions that self-attention reaches back, or None for all.
        interleaved: whether the features of a head lie ``h`` apart, so that a leading block holds a part of every head
            (slicing by head size), not whole heads.
        num_loops: times that the blocks are run through.
    """

    width: int
    num_heads: int
    hidden: int
    sliding_window: int | None
    interleaved: bool
    num_loops: int = 1

    @classmethod
    def of(cls, config: ModelConfig, level: int) -> "LevelShape":
        """Return the shape of ``level``."""
        width = config.widths[level]
        interleaved = config.sharing == "nested" and config.nested.slicing == "head_size"
        heads, hidden = config.level_heads[level], config.block.hidden_width(width)
        return cls(width, heads, hidden, config.sliding_windows[level], interleaved, config.level_loops[level])

    @property
    def head_size(self) -> int:
        """Features per head, d."""
        return self.width // self.num_heads

    def split(self, x: Tensor) -> Tensor:
        """(..., T, D) to (..., h, T, d)."""
        pattern = "... t (d h) -> ... h t d" if self.interleaved else "... t (h d) -> ... h t d"
        return rearrange(x, pattern, h=self.num_heads)

    def merge(self, x: Tensor) -> Tensor:
        """Undo :meth:`split`: (..., h, T, d) to (..., T, D)."""
        return rearrange(x, "... h t d -> ... t (d h)" if self.interleaved else "... h t d -> ... t (h d)")

    def feature_order(self) -> Tensor:
        """(D,) indices that put the features of each head side by side, which :meth:`split` does to a tensor."""
        return self.split(torch.arange(self.width)[None]).flatten()


class RolloutCache:
    """Keys and values of a rollout: those of the true prefix, and those of each anchor's own predictions.

    Not a dataclass: FSDP2 hands blocks copies of those, and blocks write into this.

    Attributes:
        step: how far behind its anchor each query stands; 0 in the teacher-forced pass, which fills ``prefix``.
        prefix: per pass through a block, (B, h, A, d) keys and values that all anchors share.
        own: per pass and earlier step, (B, h, A, d) keys and values of each anchor alone.
    """

    def __init__(self) -> None:
        self.step = 0
        self.prefix: list[tuple[Tensor, Tensor]] = []
        self.own: list[list[tuple[Tensor, Tensor]]] = []

    def add(self, block: int, key: Tensor, value: Tensor) -> None:
        """Keep the keys and values of a pass through a block at this step."""
        if self.step == 0:
            self.prefix.append((key, value))
            self.own.append([])
        else:
            self.own[block].append((key, value))

    def extras(self, block: int, window: int | None) -> ExtraKeys:
        """The own predictions of each anchor, as extra keys of a chunk of one position."""
        key, value = (torch.stack(parts, 3) for parts in zip(*self.own[block], strict=True))
        age = self.step - 1 - torch.arange(key.shape[3], device=key.device)
        visible = torch.ones_like(age, dtype=torch.bool) if window is None else age < window
        return ExtraKeys(key, value, ChunkFold(1, 0), visible)


class SelfAttention(nn.Module):
    """Causal multi-head self-attention with rotary positions.

    Args:
        width: full width of input and output.
        rope_base: base of the rotary frequencies.
    """

    def __init__(self, width: int, rope_base: float) -> None:
        super().__init__()
        self.query = Linear(width, width)
        self.key = Linear(width, width)
        self.value = Linear(width, width)
        self.out = Linear(width, width)
        self.rope_base = rope_base

    def forward(
        self,
        x: Tensor,
        shape: LevelShape,
        plan: ExtraKeys | None = None,
        gate: Tensor | float = 1.0,
        cache: RolloutCache | None = None,
        block: int = 0,
    ) -> Tensor:
        """Attend to oneself and the past.

        Args:
            x: (B, T, D).
            shape: the part of the matrices to use.
            plan: plan vectors as attended positions of each chunk.
            gate: (D,) how much of the attention that includes the plan replaces the plain one.
            cache: of a rollout; from its first step on, position t attends to the true positions <= t and to its own
                earlier predictions.
            block: index of the pass through a block in the cache.

        Returns:
            (B, T, D); entry t is a function of positions <= t, of its chunk's plan and of its own rollout.
        """
        time, width = x.shape[-2:]
        step = cache.step if cache else 0
        query, key, value = (shape.split(part(x, width)) for part in (self.query, self.key, self.value))
        angles = rotary_angles(torch.arange(time, device=x.device) + step, shape.head_size, self.rope_base)
        query, key = rotate(query, angles), rotate(key, angles)
        extras = None
        if cache is not None:
            cache.add(block, key, value)
            if step:
                key, value = cache.prefix[block]
                extras = cache.extras(block, shape.sliding_window)
        if extras is None:
            mixed = causal_attention(query, key, value, shape.sliding_window)
        else:
            mixed = joint_attention(query, key, value, extras, shape.sliding_window, step)
        mixed = shape.merge(mixed)
        if plan is not None:
            both = plan if extras is None else _concatenate(plan, extras, time)
            with_plan = shape.merge(joint_attention(query, key, value, both, shape.sliding_window, step))
            mixed = mixed + gate * (with_plan - mixed)
        written: Tensor = self.out(mixed, width)
        return written


def _concatenate(chunked: ExtraKeys, single: ExtraKeys, time: int) -> ExtraKeys:
    """Give every position the extra keys of its chunk beside its own."""

    def spread(x: Tensor) -> Tensor:
        repeated = x.flatten(-2).unsqueeze(-2).expand(-1, -1, -1, chunked.fold.chunk_size, -1)
        own: Tensor = chunked.fold.unfold(repeated, time).unflatten(-1, x.shape[-2:])
        return own

    key = torch.cat((spread(chunked.key), single.key), 3)
    value = torch.cat((spread(chunked.value), single.value), 3)
    return ExtraKeys(key, value, single.fold, torch.cat((chunked.visible, single.visible)))


class PlanPrefix(nn.Module):
    """Turns a plan into keys and values that the self-attention of the level below attends to as if they were positions.

    Args:
        config: the model's configuration.
        width: full width of the reading level.
        memory_width: full width of the level above.
    """

    def __init__(self, config: ModelConfig, width: int, memory_width: int) -> None:
        super().__init__()
        self.key = Linear(memory_width, width)
        self.value = Linear(memory_width, width)
        self.rope_base = config.block.rope_base

    def forward(self, plan: Tensor, fold: ChunkFold, shape: LevelShape) -> ExtraKeys:
        """(B, A, H, D_above) to extra keys; step j of anchor a stands where chunk ``a + j`` begins."""
        anchors, horizon = plan.shape[1:3]
        starts = torch.arange(anchors, device=plan.device)[:, None] + torch.arange(horizon, device=plan.device)
        angles = rotary_angles(starts * fold.chunk_size - fold.first, shape.head_size, self.rope_base)
        key, value = (shape.split(part(plan, shape.width)).transpose(1, 2) for part in (self.key, self.value))
        visible = torch.ones(horizon, dtype=torch.bool, device=plan.device)
        return ExtraKeys(rotate(key, angles), value, fold, visible)


class _CrossAttention(nn.Module):
    def __init__(self, config: ModelConfig, width: int, memory_width: int) -> None:
        super().__init__()
        self.query = Linear(width, width)
        self.key = Linear(memory_width, width)
        self.value = Linear(memory_width, width)
        self.out = Linear(width, width)
        self.rope_base = config.block.rope_base


class PlanAttention(_CrossAttention):
    """Each position attends to the plan issued at the anchor of its chunk.

    Args:
        config: the model's configuration.
        width: full width of the reading level.
        memory_width: full width of the level above.
    """

    def forward(
        self,
        x: Tensor,
        plan: Tensor,
        fold: ChunkFold,
        shape: LevelShape,
        gate: Tensor | None = None,
        step: int = 0,
    ) -> Tensor:
        """Read the plan.

        Args:
            x: (B, T, D) normalised positions of the reading level.
            plan: (B, A, H, D_above), normalised.
            fold: assigns positions to chunks.
            shape: the part of the matrices to use.
            gate: (D,) factors on what is read.
            step: of a rollout: how far each position stands behind its place.

        Returns:
            (B, T, D); zero where the plan is zero.
        """
        time, width = x.shape[-2:]
        query, key = self._query_key(x, plan, fold, shape, step)
        mixed = shape.merge(tiny_attention(query, key, shape.split(self.value(plan, width))))
        read: Tensor = self.out(fold.unfold(mixed, time), width, gate)
        return read

    def weights(self, x: Tensor, plan: Tensor, fold: ChunkFold, shape: LevelShape) -> Tensor:
        """How much each position attends to each step of its plan: (B, h, T, H), arguments as in :meth:`forward`."""
        query, key = self._query_key(x, plan, fold, shape, 0)
        shares = (query @ key.transpose(-1, -2) / shape.head_size**0.5).softmax(-1)
        return fold.unfold(shares.transpose(1, 2), x.shape[-2])

    def _query_key(
        self, x: Tensor, plan: Tensor, fold: ChunkFold, shape: LevelShape, step: int
    ) -> tuple[Tensor, Tensor]:
        """(B, A, h, c, d) and (B, A, h, H, d), turned to their places."""
        query, key = shape.split(fold.fold(self.query(x, shape.width))), shape.split(self.key(plan, shape.width))
        places = torch.arange(fold.chunk_size, device=x.device) + step
        starts = torch.arange(plan.shape[2], device=x.device) * fold.chunk_size
        query = rotate(query, rotary_angles(places, shape.head_size, self.rope_base))
        return query, rotate(key, rotary_angles(starts, shape.head_size, self.rope_base))


class MemoryAttention(_CrossAttention):
    """Each position attends to what the level above knew at the anchors up to its chunk's.

    The places of a chunk become heads of their own, so that one causal attention over anchors serves all of them.

    Args:
        config: the model's configuration.
        width: full width of the reading level.
        memory_width: full width of the level above.
    """

    def forward(
        self,
        x: Tensor,
        past: Tensor,
        fold: ChunkFold,
        shape: LevelShape,
        gate: Tensor | None = None,
        window: int | None = None,
        step: int = 0,
    ) -> Tensor:
        """Read the past.

        Args:
            x: (B, T, D) normalised positions of the reading level.
            past: (B, A, D_above); entry a is a function of the elements before chunk a.
            fold: assigns positions to chunks.
            shape: the part of the matrices to use.
            gate: (D,) factors on what is read.
            window: anchors to reach back, or None for all.
            step: of a rollout: how far each position stands behind its place.

        Returns:
            (B, T, D).
        """
        time, width = x.shape[-2:]
        places = torch.arange(time, device=x.device) + fold.first + step
        anchors = torch.arange(past.shape[1], device=x.device) * fold.chunk_size
        query = shape.split(self.query(x, width))
        query = fold.fold(rotate(query, rotary_angles(places, shape.head_size, self.rope_base)))
        query = rearrange(query, "b h a c d -> b (h c) a d")
        key, value = shape.split(self.key(past, width)), shape.split(self.value(past, width))
        key = rotate(key, rotary_angles(anchors, shape.head_size, self.rope_base))
        key, value = (part.repeat_interleave(fold.chunk_size, 1) for part in (key, value))
        mixed = causal_attention(query, key, value, window)
        mixed = rearrange(mixed, "b (h c) a d -> b h a c d", h=shape.num_heads)
        read: Tensor = self.out(shape.merge(fold.unfold(mixed, time)), width, gate)
        return read
