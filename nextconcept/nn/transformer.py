"""One causal transformer, run at the width of any level that fits into its matrices.

Shapes: B batch, T positions, D width of the level, A anchors above, H horizon.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextconcept.config import ModelConfig
from nextconcept.nn.attention import ChunkFold, PastAttention, PlanAttention, SelfAttention
from nextconcept.nn.layers import FeedForward, RMSNorm

__all__ = ["LevelShape", "PlanGates", "Reading", "Transformer", "initialise"]


@dataclass(frozen=True)
class LevelShape:
    """The part of a transformer's matrices that a level uses."""

    width: int
    heads: int
    hidden: int

    @classmethod
    def of(cls, config: ModelConfig, level: int) -> "LevelShape":
        """The shape of ``level``."""
        width = config.widths[level]
        return cls(width, config.level_heads[level], config.hidden_width(width))


@dataclass
class Reading:
    """What a level reads of the level above.

    Attributes:
        plan: (B, A, H, D_above), the plan of each anchor.
        past: (B, A, D_above) or None; entry a knows the elements before chunk a.
        fold: assigns the level's positions to chunks.
        gates: the level's own gates.
    """

    plan: Tensor
    past: Tensor | None
    fold: ChunkFold
    gates: "PlanGates"


class PlanGates(nn.Module):
    """Zero-initialised gates of a level: at step 0 it is a plain causal transformer, and the plan enters as it becomes useful.

    A gate per block and feature (as in LayerScale, Touvron et al., 2021) opens faster than one number per block would.

    Args:
        depth: blocks of the level.
        width: D of the level.
        past: whether the level reads the past as well.
    """

    def __init__(self, depth: int, width: int, past: bool) -> None:
        super().__init__()
        self.plan = nn.Parameter(torch.zeros(depth, width))
        self.past = nn.Parameter(torch.zeros(depth, width)) if past else None


class Block(nn.Module):
    """Pre-norm block: attention to itself, gated attention to plan and past, feed-forward."""

    def __init__(self, config: ModelConfig, width: int, reads: tuple[int, int] | None) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention = SelfAttention(width, config.rope_base)
        self.plan_attention = PlanAttention(*reads, config.rope_base) if reads else None
        self.past_attention = PastAttention(*reads, config.rope_base) if reads and config.past != "none" else None
        self.feed_forward_norm = RMSNorm(width)
        self.feed_forward = FeedForward(width, config.hidden_width(width), config.feed_forward)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, shape: LevelShape, reading: Reading | None, index: int) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), shape.heads))
        if reading is not None:
            read = reading.gates.plan[index] * self.plan_attention(x, reading.plan, reading.fold, shape.heads)
            if reading.past is not None:
                past = self.past_attention(x, reading.past, reading.fold, shape.heads)
                read = read + reading.gates.past[index] * past
            x = x + self.dropout(read)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x), shape.hidden))


class Transformer(nn.Module):
    """A stack of blocks and a final norm.

    Args:
        config: the model's configuration.
        width: full width of the matrices.
        depth: number of blocks.
        reads: full widths (reader, level above) of the cross-attention, or None for a level that reads no plan.
    """

    def __init__(self, config: ModelConfig, width: int, depth: int, reads: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config, width, reads) for _ in range(depth))
        self.norm = RMSNorm(width)
        initialise(self, depth)

    @classmethod
    def for_levels(cls, config: ModelConfig, levels: range) -> "Transformer":
        """A transformer that holds the weights of all ``levels``, which is one level when weights are separate."""
        widths = config.widths
        reads = [(widths[level], widths[level + 1]) for level in levels if level + 1 < config.levels]
        width, depth = widths[levels[-1]], config.depths[levels[-1]]
        return cls(config, width, depth, reads[-1] if reads else None)

    def forward(self, x: Tensor, shape: LevelShape, reading: Reading | None = None) -> Tensor:
        """Run a level.

        Args:
            x: (B, T, D) inputs of the level, D = ``shape.width``.
            shape: the part of the matrices to use.
            reading: plan and past of the level above.

        Returns:
            (B, T, D) normalised hidden states; state t is a function of inputs <= t and of what their chunks read.
        """
        for index, block in enumerate(self.blocks):
            x = block(x, shape, reading, index)
        return self.norm(x)


def initialise(module: nn.Module, depth: int) -> None:
    """Normal weights of deviation 0.02; matrices that write into the residual stream get ``1 / sqrt(2 depth)`` of it.

    The scheme of GPT-2 (Radford et al., 2019). Cross-attention keeps the scale of what it reads instead, because its gate starts
    at zero: a small output behind a small gate would take long to be heard.
    """
    for name, parameter in module.named_parameters():
        if parameter.dim() < 2:
            continue
        if "plan_attention." in name or "past_attention." in name:
            std = parameter.shape[1] ** -0.5
        else:
            std = 0.02 / math.sqrt(2 * depth) if name.endswith(("out.weight", "down.weight")) else 0.02
        nn.init.normal_(parameter, std=std)
