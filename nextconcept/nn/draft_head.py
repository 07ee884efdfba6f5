"""A planned concept and the tokens before a place -> the token at that place.

Shapes: D width of level 1, K tokens before a place, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept.core.config import ModelConfig
from nextconcept.nn.concept_encoder import PADDING
from nextconcept.nn.initial_weights import draw
from nextconcept.nn.layers import Linear

__all__ = ["TOKENS_BEFORE", "DraftHead", "tokens_before"]

TOKENS_BEFORE = 4
"""K, the tokens before a place that the head reads."""


def tokens_before(tokens: Tensor) -> Tensor:
    """Return the K tokens before each of (..., T) tokens, (..., T, K), the nearest first.

    Before the first one stands :data:`~nextconcept.nn.concept_encoder.PADDING`.
    """
    padded = F.pad(tokens, (TOKENS_BEFORE, 0), value=PADDING)
    return padded.unfold(-1, TOKENS_BEFORE, 1)[..., : tokens.shape[-1], :].flip(-1)


class DraftHead(nn.Module):
    """Says what token stands at a place of a planned chunk, given the tokens before it.

    A concept is a sum, which says of each place on its own what stands there: a plan that holds
    ``to`` and ``in`` holds ``tn`` and ``io`` as much. The head adds to the unbound concept
    ``u = R(-i) p`` what follows from the tokens before, with their unit embeddings e:
    ``W_2 gelu(sqrt(D) W_1 [u, e_1, ..., e_K])``. ``W_2`` is zero at first. So a drafted token
    depends on those drafted before it, as in Hydra (Ankner et al., 2024, arXiv:2402.05109).

    Args:
        config: of a model with concepts and a ``planner.draft_width``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, hidden = config.widths[1], config.planner.draft_width
        self.hidden = Linear((1 + TOKENS_BEFORE) * width, hidden, bias=True)
        self.out = Linear(hidden, width, bias=True)
        draw(self.hidden.weight)
        nn.init.zeros_(self.out.weight)

    def forward(self, unbound: Tensor, before: Tensor, vocabulary: Tensor) -> Tensor:
        """Compute what is compared with the vocabulary.

        Args:
            unbound: (..., D) unit concepts, rotated back by their places.
            before: (..., K) ids of the tokens before the places, the nearest first, negative where
                there is none.
            vocabulary: (V, D) unit embeddings.

        Returns:
            (..., D).
        """
        tokens = F.embedding(before.clamp(min=0), vocabulary) * (before >= 0)[..., None]
        features = torch.cat((unbound[..., None, :], tokens), -2) * unbound.shape[-1] ** 0.5
        added: Tensor = self.out(F.gelu(self.hidden(features.flatten(-2))))
        return unbound + added
