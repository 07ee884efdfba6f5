"""Plan -> logits: the level of the tokens.

Shapes: B batch, T tokens, D width of level 0, V vocabulary.
"""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept.core.config import ModelConfig
from nextconcept.nn.initial_weights import draw
from nextconcept.nn.layers import Linear, normalise
from nextconcept.nn.level_context import RolloutCache
from nextconcept.nn.level_weights import LevelShape
from nextconcept.nn.plan_input import PlanGates, PlanInput
from nextconcept.nn.transformer import Transformer

__all__ = ["TokenDecoder"]


class TokenDecoder(nn.Module):
    """Runs a causal transformer over tokens that reads the plan of level 1; maps states to logits.

    Args:
        config: the model's configuration.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.shape = LevelShape.of(config, 0)
        if config.token_encoder_depth:  # which has scaled the inputs
            self.shape = replace(self.shape, input_scale=1.0)
        self.norm = config.block.norm if config.norm_embeddings else None
        self.head = None if config.tie_embeddings else Linear(self.shape.width, config.vocab_size)
        if self.head is not None:
            draw(self.head.weight)
        self.gates = PlanGates(config, 0) if config.levels > 1 else None

    def forward(
        self,
        transformer: Transformer,
        states: Tensor,
        embedding: Tensor,
        plan_input: PlanInput | None = None,
        cache: RolloutCache | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute next-token logits.

        Args:
            transformer: the weights.
            states: (B, T, D) token embeddings or states of the token encoder.
            embedding: (V, >= D) token embedding.
            plan_input: plan and memory of level 1.
            cache: receives the keys and values.

        Returns:
            (B, T, V) logits, entry t of token t + 1; the (B, T, D) normalised states that they are
            made from; the (B, T, D) residual stream that the last block reads.
        """
        trunk: list[Tensor] = []
        hidden = transformer(states, self.shape, plan_input, cache, trunk)
        return self.logits(hidden, embedding), hidden, trunk[0]

    def logits(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """Map (..., D) to (..., V) by :meth:`output_matrix`."""
        return F.linear(hidden, self.output_matrix(embedding))

    def output_matrix(self, embedding: Tensor) -> Tensor:
        """Return the (V, D) head, or with ``tie_embeddings`` the embedding (V, >= D)."""
        if self.head is not None:
            return self.head.weight
        matrix = embedding[:, : self.shape.width]
        return matrix if self.norm is None else normalise(matrix, self.norm)
