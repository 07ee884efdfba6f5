"""Plan -> tokens: the level that writes.

Shapes: B batch, T tokens, D width of level 0, V vocabulary.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept.core.config import ModelConfig
from nextconcept.nn.attention import LevelShape, RolloutCache
from nextconcept.nn.layers import Linear
from nextconcept.nn.transformer import PlanGates, PlanInput, Transformer

__all__ = ["TokenDecoder"]


class TokenDecoder(nn.Module):
    """Causal transformer over tokens that reads the plan of level 1, with a vocabulary head.

    Args:
        config: the model's configuration.
        transformer: weights that it shares with other levels; by default it makes its own.
        embedding: (V, >= D) token embedding whose first D columns are the output matrix; by default the head has its own.
    """

    def __init__(
        self, config: ModelConfig, transformer: Transformer | None = None, embedding: nn.Embedding | None = None
    ) -> None:
        super().__init__()
        self.shape = LevelShape.of(config, 0)
        self.own = None if transformer else Transformer.for_levels(config, range(1))
        self.head = None if embedding else Linear(self.shape.width, config.vocab_size)
        # In tuples, so that they do not count as parts of this module.
        self._borrowed: tuple[Transformer, ...] = () if transformer is None else (transformer,)
        self._tied: tuple[nn.Embedding, ...] = () if embedding is None else (embedding,)
        self.gates = PlanGates(config, 0) if config.levels > 1 else None

    @property
    def transformer(self) -> Transformer:
        """The weights in use, own or shared."""
        return self._borrowed[0] if self.own is None else self.own

    def forward(self, states: Tensor, reading: PlanInput | None = None, cache: RolloutCache | None = None) -> Tensor:
        """Next-token logits.

        Args:
            states: (B, T, D) token embeddings or encoder states.
            reading: plan and past of level 1.
            cache: keeps the keys and values.

        Returns:
            (B, T, V); entry t is for token t + 1.
        """
        return F.linear(self.transformer(states, self.shape, reading, cache), self.output_matrix)

    @property
    def output_matrix(self) -> Tensor:
        """(V, D), from hidden states to logits."""
        return self._tied[0].weight[:, : self.shape.width] if self.head is None else self.head.weight
