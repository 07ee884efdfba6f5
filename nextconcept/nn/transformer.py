"""One causal transformer, run at the width of any level that fits into its matrices.

Shapes: B batch, T positions, D width of the level, A anchors above, H horizon.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nextconcept.core.config import ModelConfig
from nextconcept.nn.attention import (
    LevelShape,
    MemoryAttention,
    PlanAttention,
    PlanPrefix,
    RolloutCache,
    SelfAttention,
)
from nextconcept.nn.attention_kernels import ChunkFold, ExtraKeys
from nextconcept.nn.layers import FeedForward, Norm

__all__ = ["PlanGates", "PlanInput", "Transformer", "initialise"]


class PlanGates(nn.Module):
    """Zero-initialised gates of a level: at step 0 it is a plain causal transformer; the plan enters as it becomes useful.

    A gate per pass through a block and feature (as in LayerScale, Touvron et al., 2021) opens faster than one number per block would.

    Args:
        config: the model's configuration.
        level: whose they are.

    Attributes:
        opening: factor on all gates, for a curriculum that engages levels one after another.
    """

    def __init__(self, config: ModelConfig, level: int) -> None:
        super().__init__()
        passes, width = config.depths[level] * config.level_loops[level], config.widths[level]
        self.plan = nn.Parameter(torch.zeros(passes, width))
        self.past = nn.Parameter(torch.zeros(passes, width)) if config.reader.memory != "none" else None
        self.opening = 1.0


@dataclass
class PlanInput:
    """What a level reads of the level above.

    Attributes:
        plan: (B, A, H, D_above), the plan of each anchor.
        past: (B, A, D_above) or None; entry a knows the elements before chunk a.
        memory_window: anchors that the past reaches back, or None for all.
        fold: assigns the level's positions to chunks.
        gates: the level's own gates.
    """

    plan: Tensor
    past: Tensor | None
    memory_window: int | None
    fold: ChunkFold
    gates: PlanGates


class Block(nn.Module):
    """Attention to itself, gated attention to plan and past, feed-forward; each behind a norm, and before one if asked.

    Args:
        config: the model's configuration.
        width: full width of the matrices.
        reads: full widths (reader, level above) of what reads the plan, or None.
    """

    def __init__(self, config: ModelConfig, width: int, reads: tuple[int, int] | None) -> None:
        super().__init__()

        def norm() -> Norm:
            return Norm(width, config.block.norm, config.block.norm_affine)

        self.attention_norm = norm()
        self.attention = SelfAttention(width, config.block.rope_base)
        self.plan_attention = (
            PlanAttention(config, *reads) if reads and config.reader.plan_conditioning == "cross" else None
        )
        self.plan_prefix = PlanPrefix(config, *reads) if reads and config.reader.plan_conditioning == "prefix" else None
        self.memory_attention = MemoryAttention(config, *reads) if reads and config.reader.memory != "none" else None
        self.reading_norm = norm() if self.plan_attention or self.memory_attention else None
        self.feed_forward_norm = norm()
        self.feed_forward = FeedForward(width, config.block.hidden_width(width), config.block.feed_forward)
        self.after_attention = norm() if config.block.post_norm else nn.Identity()
        self.after_feed_forward = norm() if config.block.post_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, shape: LevelShape, reading: PlanInput | None, cache: RolloutCache | None, index: int
    ) -> Tensor:
        """(B, T, D) to (B, T, D); ``index`` counts passes through blocks, for gates and cache."""
        plan: ExtraKeys | None = None
        gate: Tensor | float = 1.0
        if self.plan_prefix is not None and reading is not None:
            gate = reading.gates.opening * reading.gates.plan[index]
            plan = self.plan_prefix(reading.plan, reading.fold, shape)
        attended = self.attention(self.attention_norm(x), shape, plan, gate, cache, index)
        x = x + self.dropout(self.after_attention(attended))
        if self.reading_norm is not None and reading is not None:
            x = x + self.dropout(self._read(self.reading_norm(x), shape, reading, cache.step if cache else 0, index))
        mapped = self.feed_forward(self.feed_forward_norm(x), shape.hidden)
        states: Tensor = x + self.dropout(self.after_feed_forward(mapped))
        return states

    def _read(self, x: Tensor, shape: LevelShape, reading: PlanInput, step: int, index: int) -> Tensor:
        gates, fold = reading.gates, reading.fold
        parts: list[Tensor] = []
        if self.plan_attention is not None:
            gate = gates.opening * gates.plan[index]
            parts.append(self.plan_attention(x, reading.plan, fold, shape, gate, step))
        if self.memory_attention is not None:
            assert gates.past is not None  # they come together, by the configuration
            gate = gates.opening * gates.past[index]
            parts.append(self.memory_attention(x, reading.past, fold, shape, gate, reading.memory_window, step))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


class Transformer(nn.Module):
    """A stack of blocks, and a final norm unless another stack follows.

    Args:
        config: the model's configuration.
        width: full width of the matrices.
        depth: number of blocks.
        reads: full widths (reader, level above) of what reads the plan, or None for a level that reads none.
        loops: how often the stack is run through at most; its initial scale allows for that.
        normalised: whether a norm ends the stack; without one its output is the residual stream, for another stack to go on from.
    """

    def __init__(
        self,
        config: ModelConfig,
        width: int,
        depth: int,
        reads: tuple[int, int] | None = None,
        loops: int = 1,
        normalised: bool = True,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config, width, reads) for _ in range(depth))
        self.norm = Norm(width, config.block.norm, config.block.norm_affine) if normalised else nn.Identity()
        self.gradient_checkpointing = config.block.gradient_checkpointing
        initialise(self, depth * loops)

    @classmethod
    def for_levels(cls, config: ModelConfig, levels: range) -> "Transformer":
        """Make a transformer that holds the weights of all ``levels``, which is one level when weights are separate."""
        widths = config.widths
        reads = [(widths[level], widths[level + 1]) for level in levels if level + 1 < config.levels]
        width, depth = widths[levels[-1]], config.depths[levels[-1]]
        loops = max(config.level_loops[level] for level in levels)
        return cls(config, width, depth, reads[-1] if reads else None, loops)

    def passes(self, loops: int) -> list[Block]:
        """The blocks in the order in which a level runs them."""
        return cast(list[Block], list(self.blocks)) * loops

    def forward(
        self, x: Tensor, shape: LevelShape, reading: PlanInput | None = None, cache: RolloutCache | None = None
    ) -> Tensor:
        """Run a level.

        Args:
            x: (B, T, D) inputs of the level, D = ``shape.width``.
            shape: the part of the matrices to use.
            reading: plan and past of the level above.
            cache: of a rollout; its first pass fills it, later ones continue from it.

        Returns:
            (B, T, D) hidden states; state t is a function of inputs <= t and of what their chunks read.
        """
        # A recomputed block would write into the cache a second time.
        recompute = self.gradient_checkpointing and self.training and cache is None
        for index, block in enumerate(self.passes(shape.num_loops)):
            if recompute:
                x = checkpoint(block, x, shape, reading, cache, index, use_reentrant=False)
            else:
                x = block(x, shape, reading, cache, index)
        states: Tensor = self.norm(x)
        return states


def initialise(module: nn.Module, depth: int) -> None:
    """Draw normal weights of deviation 0.02, less where they write into the residual stream: ``1 / sqrt(2 depth)`` of it.

    The scheme of GPT-2 (Radford et al., 2019). What reads a plan keeps the scale of what it reads instead, because its
    gate starts at zero: a small output behind a small gate would take long to be heard.
    """
    for name, parameter in module.named_parameters():
        if parameter.dim() < 2:
            continue
        if any(part in name for part in ("plan_attention.", "plan_prefix.", "memory_attention.")):
            std = parameter.shape[1] ** -0.5
        else:
            std = 0.02 / math.sqrt(2 * depth) if name.endswith(("out.weight", "down.weight")) else 0.02
        nn.init.normal_(parameter, std=std)
