"""The feed-forward layer of a block.

Shapes: D width of the level.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept.core.config_groups import BlockConfig
from nextconcept.nn.initial_weights import draw
from nextconcept.nn.layers import Linear
from nextconcept.nn.level_weights import LevelWeights

__all__ = ["FeedForward", "GeGlu"]


class FeedForward(nn.Module):
    """``down(silu(gate x) * up x)`` (SwiGLU), with GELU for SiLU (GEGLU), or ``down(gelu(up x))``.

    The gated layers are those of Shazeer (2020).

    Args:
        width: full width of input and output.
        hidden: full hidden width.
        kind: ``swiglu``, ``geglu`` or ``gelu``.
        bias: whether the maps have biases.
    """

    def __init__(self, width: int, hidden: int, kind: str, bias: bool = False) -> None:
        super().__init__()
        self.up = Linear(width, hidden, bias)
        self.gate = None if kind == "gelu" else Linear(width, hidden, bias)
        self.down = Linear(hidden, width, bias)
        self.activation = F.silu if kind == "swiglu" else F.gelu

    def forward(self, x: Tensor, weights: LevelWeights) -> Tensor:
        """Map each position: (..., D) to (..., D).

        Args:
            x: normalised positions.
            weights: applies the part of the matrices that the level uses.
        """
        if self.gate is None:
            (up,) = weights.project_hidden(x, self.up)
            return weights.write_hidden(self.activation(up), self.down)
        up, gate = weights.project_hidden(x, self.up, self.gate)
        return weights.write_hidden(self.activation(gate) * up, self.down)


class GeGlu(nn.Module):
    """``gelu(gate x) * up x``, the gated hidden layer of an MLP outside the blocks.

    Args:
        width: full width of the input.
        block: says the hidden width of an input's width, and whether the maps have biases.
        readers: widths of the inputs that the maps serve, if not only the full one.
    """

    def __init__(self, width: int, block: BlockConfig, readers: Sequence[int] = ()) -> None:
        super().__init__()
        self.block = block
        self.up = Linear(width, block.hidden_width(width), block.feed_forward_bias)
        self.gate = Linear(width, block.hidden_width(width), block.feed_forward_bias)
        for linear in (self.up, self.gate):
            draw(linear.weight, readers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., hidden width of D)."""
        hidden = self.block.hidden_width(x.shape[-1])
        gated: Tensor = F.gelu(self.gate(x, hidden)) * self.up(x, hidden)
        return gated
