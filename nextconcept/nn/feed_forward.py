"""The feed-forward layer of a block.

Shapes: D width of the level.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept.nn.layers import Linear
from nextconcept.nn.level_weights import LevelWeights

__all__ = ["FeedForward"]


class FeedForward(nn.Module):
    """``down(silu(gate x) * up x)`` (SwiGLU, Shazeer, 2020) or ``down(gelu(up x))``.

    Args:
        width: full width of input and output.
        hidden: full hidden width.
        kind: ``swiglu`` or ``gelu``.
    """

    def __init__(self, width: int, hidden: int, kind: str) -> None:
        super().__init__()
        self.up = Linear(width, hidden)
        self.gate = Linear(width, hidden) if kind == "swiglu" else None
        self.down = Linear(hidden, width)

    def forward(self, x: Tensor, weights: LevelWeights) -> Tensor:
        """Map each position: (..., D) to (..., D).

        Args:
            x: normalised positions.
            weights: applies the part of the matrices that the level uses.
        """
        if self.gate is None:
            (up,) = weights.project_hidden(x, self.up)
            return weights.write_hidden(F.gelu(up), self.down)
        up, gate = weights.project_hidden(x, self.up, self.gate)
        return weights.write_hidden(F.silu(gate) * up, self.down)
