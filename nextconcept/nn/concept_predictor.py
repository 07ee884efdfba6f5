"""Concepts -> plan: regression of the next concepts of one level.

Shapes: B batch, N concepts, A = N + 1 anchors, H horizon, D width of the level.
"""

import torch
from torch import Tensor, nn

from nextconcept.config import ModelConfig
from nextconcept.nn.layers import RMSNorm
from nextconcept.nn.transformer import LevelShape, PlanGates, Reading, Transformer

__all__ = ["ConceptPredictor"]


class ConceptPredictor(nn.Module):
    """Causal transformer over ``[BOS, k_0, ..., k_(N-1)]`` whose state at anchor m is regressed onto ``k_m ... k_(m+H-1)``.

    Args:
        config: the model's configuration.
        level: the level it predicts, 1 or more.
        transformer: weights that it shares with other levels; they belong to whoever made them and stay out of this
            module's own parameters. By default it makes its own.
    """

    def __init__(self, config: ModelConfig, level: int, transformer: Transformer | None = None) -> None:
        super().__init__()
        self.shape = LevelShape.of(config, level)
        width = self.shape.width
        self.own = None if transformer else Transformer.for_levels(config, range(level, level + 1))
        self._borrowed = (transformer,)
        self.bos = nn.Parameter(torch.randn(width))
        reads_plan = level + 1 < config.levels
        self.gates = PlanGates(config.depths[level], width, config.past != "none") if reads_plan else None
        self.head_norm = RMSNorm(width)
        self.heads = nn.Parameter(torch.randn(config.horizon, width, width) * width**-0.5)

    @property
    def transformer(self) -> Transformer:
        """The weights in use, own or shared."""
        return self.own or self._borrowed[0]

    def start(self, concepts: Tensor) -> Tensor:
        """Put the BOS in front: (B, N, D) to (B, A, D), the predictor's inputs."""
        bos = self.bos.to(concepts.dtype).expand(concepts.shape[0], 1, -1)
        return torch.cat((bos, concepts), 1)

    def forward(self, concepts: Tensor, reading: Reading | None = None) -> tuple[Tensor, Tensor]:
        """Predict from every anchor at once.

        Args:
            concepts: (B, N, D).
            reading: plan and past of the level above.

        Returns:
            ``(states, plan)``: (B, A, D) hidden states and (B, A, H, D) predictions; both at anchor m are functions of
            concepts < m alone.
        """
        states = self.transformer(self.start(concepts), self.shape, reading)
        return states, torch.einsum("bad,hed->bahe", self.head_norm(states), self.heads.to(states.dtype))
