"""Tokens -> concepts: composition of chunks by addition and a norm.

Shapes: B batch, T tokens, N elements of a level, c chunk size, D width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from nextconcept.config import ModelConfig
from nextconcept.nn.layers import binding_angles, rotate
from nextconcept.nn.transformer import LevelShape, Transformer, initialise

__all__ = ["ConceptEncoder", "concept_norm"]


def concept_norm(x: Tensor) -> Tensor:
    """Scale (..., D) to root mean square 1: the norm that ends a composition and that any reader of a concept applies."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-6)


class ConceptEncoder(nn.Module):
    """Embeds tokens and composes them, level by level, into concepts.

    ``k^l_n = norm(sum_i R(i c^(l-1)) k^(l-1)_(n c + i))``, where R rotates an element by its place (the identity without
    ``position_binding``) and ``k^0`` is the token embedding. The rotation counts tokens, so that every token under a concept of any
    level has a rotation of its own. Level l composes the first ``d_l`` columns of the embedding all the way up.

    Args:
        config: the model's configuration.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, max(config.widths))
        initialise(self, 1)
        self.shape = LevelShape.of(config, 0)
        self.context = Transformer(config, self.shape.width, config.encoder_depth) if config.encoder_depth else None

    def embed(self, tokens: Tensor, level: int) -> Tensor:
        """(B, T) token ids to (B, T, D_level), the columns of the embedding that ``level`` reads."""
        return F.embedding(tokens, self.embedding.weight[:, : self.config.widths[level]])

    def states(self, tokens: Tensor) -> Tensor:
        """(B, T) token ids to (B, T, D_0): what the token decoder starts from.

        The embedding, or with ``encoder_depth`` the embedding plus what the causal token encoder adds.
        """
        embedded = self.embed(tokens, 0)
        return embedded if self.context is None else embedded + self.context(embedded, self.shape)

    def compose(self, elements: Tensor, level: int) -> Tensor:
        """Compose chunks of ``level - 1`` into concepts of ``level``: (B, N c, D) to (B, N, D)."""
        chunk = self.config.chunk_size
        grouped = rearrange(elements, "b (n c) d -> b n c d", c=chunk)
        if self.config.position_binding:
            places = torch.arange(chunk, device=elements.device) * self.config.hierarchy.span(level - 1)
            grouped = rotate(grouped, binding_angles(places, elements.shape[-1]))
        return concept_norm(grouped.sum(2))

    def read_back(self, concepts: Tensor, level: int) -> Tensor:
        """How near each token lies to each place of a concept.

        ``cos(R(-i) k, E)``: because the composition is a sum of rotated embeddings, turning it back by the place of token i leaves that
        token plus near-orthogonal rest.

        Args:
            concepts: (..., D) concepts of ``level``.
            level: 1 or more.

        Returns:
            (..., c^level, V) cosines; gradients reach the concepts alone.
        """
        span, width = self.config.hierarchy.span(level), concepts.shape[-1]
        places = F.normalize(concepts, dim=-1).unsqueeze(-2).expand(*concepts.shape[:-1], span, width)
        if self.config.position_binding:
            places = rotate(places, -binding_angles(torch.arange(span, device=concepts.device), width))
        vocabulary = F.normalize(self.embedding.weight[:, :width].detach(), dim=-1)
        return places @ vocabulary.to(places.dtype).T

    def concepts(self, elements: Tensor, level: int) -> Tensor:
        """Compose ``level`` times: (B, T, D) at the tokens to (B, T // c^level, D)."""
        hierarchy = self.config.hierarchy
        composed = elements[:, : hierarchy.length(elements.shape[1], level) * hierarchy.span(level)]
        for lower in range(1, level + 1):
            composed = self.compose(composed, lower)
        return composed

    def forward(self, tokens: Tensor) -> dict[int, Tensor]:
        """Concepts of every level: (B, T) token ids to ``{level: (B, T // c^level, D_level)}``."""
        return {
            level: self.concepts(self.embed(tokens, level), level) for level in self.config.hierarchy.concept_levels
        }

    def inputs(self, tokens: Tensor, states: Tensor, concepts: dict[int, Tensor]) -> dict[int, Tensor]:
        """What the predictors read, shaped as ``concepts``.

        Without a token encoder the concepts themselves. With one, compositions of its states: the first ``D_0`` columns of
        each embedding are replaced by the state, the rest stays.
        """
        if self.context is None:
            return concepts
        width = self.shape.width
        return {
            level: self.concepts(torch.cat((states, self.embed(tokens, level)[..., width:]), -1), level)
            for level in concepts
        }
