"""One causal transformer, run at the width of any level that fits into its matrices.

Shapes: B batch, T positions, D width of the level.
"""

import functools
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nextconcept.core.config import ModelConfig
from nextconcept.nn.attention import (
    AnchorReading,
    AttentionWidths,
    MemoryAttention,
    PlanAttention,
    PlanPrefix,
    PlanUnbinding,
    SelfAttention,
)
from nextconcept.nn.feed_forward import FeedForward
from nextconcept.nn.initial_weights import draw
from nextconcept.nn.layers import Norm
from nextconcept.nn.level_context import LevelContext, ParallelContext, RolloutCache
from nextconcept.nn.level_weights import LevelShape
from nextconcept.nn.plan_input import PlanInput

__all__ = ["Block", "Transformer"]


class Block(nn.Module):
    """Self-attention, attention to plan and memory, feed-forward.

    Each part reads the residual stream through a norm, and writes into it, with ``post_norm``
    through another one. What is read of plan and memory has gates instead, unless they are left
    out.

    Args:
        config: the model's configuration.
        own: full widths of self-attention.
        reads: full widths of the matrices that read a plan, or None.
    """

    def __init__(self, config: ModelConfig, own: AttentionWidths, reads: AttentionWidths | None) -> None:
        super().__init__()
        width = own.width

        def norm() -> Norm:
            """Return a norm of the residual stream."""
            return Norm(width, config.block.norm, config.block.norm_affine)

        conditioning, memory = config.reader.plan_conditioning, config.reader.memory
        self.attention_norm = norm()
        self.attention = SelfAttention(own)
        self.plan_attention = PlanAttention(reads) if reads and conditioning == "cross" else None
        self.plan_prefix = PlanPrefix(reads) if reads and conditioning == "prefix" else None
        self.plan_unbinding = PlanUnbinding(reads) if reads and conditioning == "unbind" else None
        self.memory_attention = MemoryAttention(reads) if reads and memory in ("concepts", "states") else None
        self.anchor_reading = AnchorReading(reads) if reads and memory == "anchor" else None
        self.cross_attention_norm = norm() if self.plan_attention or self.memory_attention else None
        self.feed_forward_norm = norm()
        block = config.block
        self.feed_forward = FeedForward(width, block.hidden_width(width), block.feed_forward, block.feed_forward_bias)
        self.attention_post_norm = norm() if config.block.post_norm else nn.Identity()
        self.feed_forward_post_norm = norm() if config.block.post_norm else nn.Identity()
        normed = config.block.post_norm and not config.reader.gated and bool(self._readers)
        self.cross_attention_post_norm = norm() if normed else nn.Identity()
        self.reads_first = config.reader.order == "before"
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    @property
    def _readers(self) -> list[nn.Module]:
        """The modules that read plan and memory beside self-attention."""
        every = (self.plan_attention, self.plan_unbinding, self.memory_attention, self.anchor_reading)
        return [part for part in every if part is not None]

    def forward(self, x: Tensor, context: LevelContext, index: int = 0) -> Tensor:
        """Run the block.

        Args:
            x: (B, T, D).
            context: where the positions stand and what they see.
            index: pass through a block, which has gates, keys and values of its own.

        Returns:
            (B, T, D).
        """
        if self.reads_first:
            x = self._read(x, context, index)
        prefix = self.plan_prefix if context.reads_plan else None
        attended = self.attention(self.attention_norm(x), context, index, prefix)
        x = x + self.dropout(self.attention_post_norm(attended))
        if not self.reads_first:
            x = self._read(x, context, index)
        mapped = self.feed_forward(self.feed_forward_norm(x), context.weights)
        states: Tensor = x + self.dropout(self.feed_forward_post_norm(mapped))
        return states

    def _read(self, x: Tensor, context: LevelContext, index: int) -> Tensor:
        """Add to (B, T, D) what is read of plan and memory."""
        readers = self._readers
        if not readers or not context.reads_plan:
            return x
        normed = x if self.cross_attention_norm is None else self.cross_attention_norm(x)
        parts: list[Tensor] = [reader(normed, context, index) for reader in readers]
        read = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        states: Tensor = x + self.dropout(self.cross_attention_post_norm(read))
        return states


class Transformer(nn.Module):
    """A stack of blocks, and a final norm unless another stack follows.

    Args:
        config: the model's configuration.
        levels: the levels whose weights these are: one, or with common weights all.
        depth: number of blocks; None for the depth of the levels.
        reads_plans: whether the levels that have a level above read its plan.
        num_loops: greatest number of passes through the stack, for which the initial scale allows;
            None for that of the levels.
        normalised: whether a norm ends the stack; without one the output is the residual stream,
            from which another stack continues.
    """

    def __init__(
        self,
        config: ModelConfig,
        levels: Sequence[int],
        depth: int | None = None,
        reads_plans: bool = True,
        num_loops: int | None = None,
        normalised: bool = True,
    ) -> None:
        super().__init__()
        depth = config.depths[levels[-1]] if depth is None else depth
        num_loops = num_loops or max(config.level_loops[level] for level in levels)
        reading = [level for level in levels if level + 1 < config.levels] if reads_plans else []
        own = AttentionWidths.of(config, levels)
        reads = AttentionWidths.of(config, reading, above=1) if reading else None
        self.blocks = nn.ModuleList(Block(config, own, reads) for _ in range(depth))
        self.norm = Norm(own.width, config.block.norm, config.block.norm_affine) if normalised else nn.Identity()
        self.gradient_checkpointing = config.block.gradient_checkpointing
        _draw_weights(self, config, levels, depth * num_loops)

    def passes(self, num_loops: int) -> list[Block]:
        """Return the blocks in the order in which a level runs them."""
        return cast(list[Block], list(self.blocks)) * num_loops

    def forward(
        self,
        x: Tensor,
        shape: LevelShape,
        plan_input: PlanInput | None = None,
        cache: RolloutCache | None = None,
        trunk: list[Tensor] | None = None,
    ) -> Tensor:
        """Run a level.

        Args:
            x: (B, T, D) inputs of the level, D = ``shape.width``.
            shape: the part of the matrices to use.
            plan_input: plan and memory of the level above.
            cache: of a rollout; its first pass fills the cache, later ones continue from it.
            trunk: receives the (B, T, D) residual stream that the last block reads.

        Returns:
            (B, T, D) hidden states; state t is a function of inputs <= t and of what their chunks
            read.
        """
        if shape.input_scale != 1:
            x = x * shape.input_scale
        context = ParallelContext(x, shape, plan_input, cache)
        # A recomputed block would write into the cache a second time.
        recompute = self.gradient_checkpointing and self.training and cache is None
        for index, block in enumerate(self.passes(shape.num_loops)):
            if trunk is not None:
                trunk[:] = [x]  # alone, so that no stream outlives its block
            run = functools.partial(checkpoint, block, use_reentrant=False) if recompute else block
            x = run(x, context, index)
        states: Tensor = self.norm(x)
        return states


def _draw_weights(stack: Transformer, config: ModelConfig, levels: Sequence[int], passes: int) -> None:
    """Draw the matrices of a stack, as :mod:`~nextconcept.nn.initial_weights` says.

    Matrices that write into the residual stream get ``1 / sqrt(2 passes)`` of that, so that the
    stream grows alike at any depth (Radford et al., 2019). Those that read a plan through a gate do
    not, because their gate starts at zero: behind a small output it would open slowly.
    """
    fan_ins = {
        "out": [config.query_widths[level] for level in levels],
        "down": [config.block.hidden_width(config.widths[level]) for level in levels],
        "own": [config.widths[level] for level in levels],
        "above": [config.widths[level + 1] for level in levels if level + 1 < config.levels],
    }
    for name, parameter in stack.named_parameters():
        if parameter.dim() < 2:
            continue
        module, matrix, _ = name.rsplit(".", 2)
        module = module.rpartition(".")[2]
        reader = module in ("plan_attention", "plan_prefix", "plan_unbinding", "memory_attention", "anchor_reading")
        writes = matrix in ("out", "down") or module in ("plan_unbinding", "anchor_reading")  # "value" is all they have
        writes = writes and not (reader and config.reader.gated)
        source = matrix if matrix in ("out", "down") else "above" if reader and matrix != "query" else "own"
        draw(parameter, fan_ins[source], (2 * passes) ** -0.5 if writes else 1.0)
