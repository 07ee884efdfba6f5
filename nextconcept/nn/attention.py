"""Attention of a level to itself, to its plan, and to the memory of the level above.

The modules hold the matrices and the mathematics; a
:class:`~nextconcept.nn.level_context.LevelContext` knows the positions and what they see, for all
positions at once or for one with caches.

Shapes: B batch, T positions of this level, D width, h heads of queries, g heads of keys and values,
d head size, A anchors of the level above, H horizon.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from nextconcept.core.config import ModelConfig
from nextconcept.nn.attention_kernels import repeat_heads
from nextconcept.nn.layers import KeyLinear, Linear, rotate
from nextconcept.nn.level_context import LevelContext, ParallelContext
from nextconcept.nn.level_weights import LevelWeights

__all__ = [
    "AnchorReading",
    "AttentionWidths",
    "MemoryAttention",
    "PlanAttention",
    "PlanPrefix",
    "PlanUnbinding",
    "SelfAttention",
]


@dataclass(frozen=True)
class AttentionWidths:
    """Full widths of the matrices of an attention.

    Attributes:
        width: of the level that attends.
        source: of the vectors attended to.
        queries: features of all heads of queries.
        keys: features of all heads of keys or values.
    """

    width: int
    source: int
    queries: int
    keys: int

    @classmethod
    def of(cls, config: ModelConfig, levels: Sequence[int], above: int = 0) -> "AttentionWidths":
        """Return the widths of an attention of ``levels`` to the level that lies ``above`` each."""
        # With a head of its own, a narrow level may have wider keys than the top level.
        queries, keys = (max(widths[level] for level in levels) for widths in (config.query_widths, config.key_widths))
        return cls(config.widths[levels[-1]], config.widths[levels[-1] + above], queries, keys)


class _KeysAndValues(nn.Module):
    """Keys and values of the vectors attended to."""

    key: KeyLinear
    value: KeyLinear

    def keys(self, source: Tensor, weights: LevelWeights, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Make keys and values.

        Args:
            source: (..., n, D_above) vectors to attend to.
            weights: applies the part of the matrices that the reading level uses.
            angles: (n, d / 2) or (..., 1, n, d / 2) rotary angles of the keys.

        Returns:
            Keys and values, (..., g, n, d) each.
        """
        key, value = (weights.split(part) for part in weights.project(source, self.key, self.value))
        return rotate(key, angles), value


class PlanPrefix(_KeysAndValues):
    """Keys and values of a plan that self-attention attends to as if they were positions.

    Args:
        widths: full widths of the matrices.
    """

    def __init__(self, widths: AttentionWidths) -> None:
        super().__init__()
        self.key = KeyLinear(widths.source, widths.keys)
        self.value = KeyLinear(widths.source, widths.keys)


class _Attention(_KeysAndValues):
    def __init__(self, widths: AttentionWidths) -> None:
        super().__init__()
        self.query = Linear(widths.width, widths.queries)
        self.key = KeyLinear(widths.source, widths.keys)
        self.value = KeyLinear(widths.source, widths.keys)
        self.out = Linear(widths.queries, widths.width)


class SelfAttention(_Attention):
    """Causal multi-head self-attention with rotary positions.

    Args:
        widths: full widths of the matrices; the level attends to itself.
    """

    def forward(self, x: Tensor, context: LevelContext, index: int = 0, prefix: PlanPrefix | None = None) -> Tensor:
        """Attend to the own and earlier positions.

        Args:
            x: (B, T, D) normalised positions.
            context: where the positions stand and what they see.
            index: pass through a block.
            prefix: maps plan vectors that the positions of a chunk also attend to; the plan's gate
                sets how much of the attention that includes the plan replaces the plain one.

        Returns:
            (B, T, D); entry t is a function of positions <= t, of its chunk's plan and of its own
            rollout.
        """
        weights = context.weights
        query, key, value = self._projected(x, context)
        plain, with_plan = context.attend(index, query, key, value, None if prefix is None else prefix.keys)
        mixed = weights.merge(plain)
        if with_plan is not None:
            mixed = mixed + context.plan_gate(index) * (weights.merge(with_plan) - mixed)
        return weights.write(mixed, self.out)

    def attention_weights(self, x: Tensor, context: ParallelContext, index: int, prefix: PlanPrefix) -> Tensor:
        """Compute how much each position attends to each step of its plan: (B, h, T, H).

        What is missing to one is attention to the own and earlier positions.
        """
        query, key, _ = self._projected(x, context)
        return context.plan_shares(index, query, key, prefix.keys)

    def _projected(self, x: Tensor, context: LevelContext) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries and keys, and values, of (B, T, D) normalised positions."""
        weights = context.weights
        query, key, value = (weights.split(part) for part in weights.project(x, self.query, self.key, self.value))
        return context.rotate(query), context.rotate(key), value


class PlanAttention(_Attention):
    """Each position attends to the plan issued at the anchor of its chunk.

    Args:
        widths: full widths of the matrices.
    """

    def forward(self, x: Tensor, context: LevelContext, index: int = 0) -> Tensor:
        """Read the plan.

        Args:
            x: (B, T, D) normalised positions of the reading level.
            context: where the positions stand, and their plan.
            index: pass through a block.

        Returns:
            (B, T, D), with the gate applied; zero where the plan is zero.
        """
        weights = context.weights
        mixed = weights.merge(context.attend_plan(index, self._query(x, context), self.keys))
        return weights.write(context.unfold(mixed), self.out, context.plan_gate(index))

    def attention_weights(self, x: Tensor, context: ParallelContext) -> Tensor:
        """Compute how much each position attends to each step of its plan: (B, h, T, H)."""
        query, (key, _) = self._query(x, context), context.plan_keys(self.keys)
        key = repeat_heads(key, query.shape[-3])
        shares = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        return context.unfold(shares.transpose(1, 2))

    def _query(self, x: Tensor, context: LevelContext) -> Tensor:
        (query,) = context.weights.project(x, self.query)
        return context.rotate_in_chunk(context.weights.split(context.fold(query)))


class _PlacedReading(nn.Module):
    """A linear map of what a position reads by where it stands, without search."""

    def __init__(self, widths: AttentionWidths) -> None:
        super().__init__()
        self.value = Linear(widths.source, widths.width)


class PlanUnbinding(_PlacedReading):
    """Each position reads what the plan says about the element that it predicts.

    ``W R(-i) p`` for the element at place i of a chunk with the planned concept p: because a
    concept is a sum of rotated elements, rotating it back leaves this element and a rest that is
    nearly orthogonal to it, so nothing has to be searched for (unbinding in the sense of Plate,
    1995).

    Args:
        widths: full widths of the matrices.
    """

    def forward(self, x: Tensor, context: LevelContext, index: int = 0) -> Tensor:
        """Read the plan.

        Args:
            x: (B, T, D), not used: where a position stands says what it reads.
            context: where the positions stand, and their plan.
            index: pass through a block.

        Returns:
            (B, T, D), with the gate applied; zero where the plan is zero.
        """
        return context.weights.write_hidden(context.unbound_plan(), self.value, context.plan_gate(index))


class AnchorReading(_PlacedReading):
    """Each position reads what the level above knew at the anchor of its chunk.

    Args:
        widths: full widths of the matrices.
    """

    def forward(self, x: Tensor, context: LevelContext, index: int = 0) -> Tensor:
        """Read the state of the anchor.

        Args:
            x: (B, T, D), not used: where a position stands says what it reads.
            context: where the positions stand, and the states.
            index: pass through a block.

        Returns:
            (B, T, D), with the gate applied.
        """
        # Mapped once per chunk, not per position.
        mapped = context.weights.write_hidden(context.anchor_states(), self.value, context.memory_gate(index))
        return context.spread(mapped)


class MemoryAttention(_Attention):
    """Each position attends to what the level above knew at the anchors up to its chunk's.

    Args:
        widths: full widths of the matrices.
    """

    def forward(self, x: Tensor, context: LevelContext, index: int = 0) -> Tensor:
        """Read the memory.

        Args:
            x: (B, T, D) normalised positions of the reading level.
            context: where the positions stand, and their memory.
            index: pass through a block.

        Returns:
            (B, T, D), with the gate applied.
        """
        weights = context.weights
        (query,) = weights.project(x, self.query)
        query = context.rotate_in_text(weights.split(query))
        mixed = weights.merge(context.attend_memory(index, query, self.keys))
        return weights.write(mixed, self.out, context.memory_gate(index))
