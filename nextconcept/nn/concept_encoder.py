"""Tokens -> concepts: recursive composition of chunks.

Shapes: B batch, P tokens (padding in front included), N elements of a level, c chunk size, D width, V vocabulary.
"""

from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept.core.config import ModelConfig
from nextconcept.nn.attention import LevelShape, RolloutCache
from nextconcept.nn.composition import Composition
from nextconcept.nn.transformer import Transformer, initialise

__all__ = ["PADDING", "ConceptEncoder"]

PADDING = -1
"""The id of the learned padding vector that may stand in front of the tokens."""


class ConceptEncoder(nn.Module):
    """Embeds tokens and composes them, level by level, into concepts.

    ``k^l_n = norm(sum_i R(i c^(l-1)) k^(l-1)_(n c + i))`` in the default composition, where R rotates an element by its
    place (the identity without ``position_binding``) and ``k^0`` is the token embedding. Level l composes the first
    ``d_l`` columns of the embedding all the way up.

    Args:
        config: the model's configuration.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = max(config.widths)
        self.embedding = nn.Embedding(config.vocab_size, width)
        initialise(self.embedding, 1)
        self.padding = nn.Parameter(torch.randn(width) * 0.02) if config.encoder.chunk_alignment == "end" else None
        # Of the decoder's shape, but each block runs once.
        self.shape = replace(LevelShape.of(config, 0), num_loops=1)
        self.context = None
        if config.token_encoder_depth:
            # Its residual stream runs on into the decoder: a norm between them would drown the embeddings, which are much smaller than 1.
            self.context = Transformer(config, self.shape.width, config.token_encoder_depth, normalised=False)
        # With weights in common all levels compose alike; otherwise each level has a composition of its own.
        own = config.sharing == "separate"
        self.compositions = nn.ModuleList(Composition(config, width) for _ in range(config.levels - 1 if own else 1))

    def composition(self, level: int) -> Composition:
        """Return what makes concepts of ``level``."""
        return cast(Composition, self.compositions[min(level, len(self.compositions)) - 1])

    def embed(self, tokens: Tensor, level: int) -> Tensor:
        """(B, P) token ids to (B, P, D_level), the columns of the embedding that ``level`` reads.

        With ``grid: end``, an id of :data:`PADDING` stands for the learned padding vector.
        """
        width = self.config.widths[level]
        weight = self.embedding.weight[:, :width]
        if self.padding is None:
            return F.embedding(tokens, weight)
        padding = (tokens == PADDING)[..., None]
        return torch.where(padding, self.padding[:width].to(weight.dtype), F.embedding(tokens.clamp(min=0), weight))

    def states(self, embedded: Tensor, cache: RolloutCache | None = None) -> Tensor:
        """(B, P, D_0) embeddings to (B, P, D_0): what the token decoder starts from.

        The embedding, or with ``encoder_depth`` the embedding plus what the causal token encoder adds, whose keys and values
        ``cache`` keeps.
        """
        return embedded if self.context is None else cast(Tensor, self.context(embedded, self.shape, cache=cache))

    def concepts(self, elements: Tensor, level: int) -> Tensor:
        """Compose ``level`` times: (B, P, D) at the tokens to (B, P // c^level, D)."""
        hierarchy = self.config.hierarchy
        composed = elements[:, : hierarchy.length(elements.shape[1], level) * hierarchy.span(level)]
        for lower in range(1, level + 1):
            chunks = composed.unflatten(1, (composed.shape[1] // self.config.chunk_size, self.config.chunk_size))
            composed = self.composition(lower)(chunks, hierarchy.span(lower - 1))
        return composed

    def forward(self, tokens: Tensor) -> dict[int, Tensor]:
        """Concepts of every level: (B, P) token ids to ``{level: (B, P // c^level, D_level)}``."""
        levels = self.config.hierarchy.concept_levels
        return {level: self.concepts(self.embed(tokens, level), level) for level in levels}

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

    def read_back(self, concepts: Tensor, level: int) -> Tensor:
        """How near each token lies to each place of a concept.

        ``cos(R(-i) k, E)``: because the composition is a sum of rotated embeddings, turning it back by the place of token
        i leaves that token and a rest that is nearly orthogonal to it.

        Args:
            concepts: (..., D) concepts of ``level``.
            level: 1 or more.

        Returns:
            (..., c^level, V) cosines; gradients reach the concepts alone.
        """
        span, width = self.config.hierarchy.span(level), concepts.shape[-1]
        places = F.normalize(concepts, dim=-1).unsqueeze(-2).expand(*concepts.shape[:-1], span, width)
        vocabulary = F.normalize(self.embedding.weight[:, :width].detach(), dim=-1)
        return self.composition(1).bind(places, 1, undo=True) @ vocabulary.to(places.dtype).T
