"""Tokens -> concepts: recursive composition of chunks.

Shapes: B batch, P tokens (padding in front included), N elements of a level, c chunk size, D width,
V vocabulary.
"""

import inspect
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.nn.chunks import Chunks, in_tokens
from nextconcept.nn.composition import Composition
from nextconcept.nn.initial_weights import draw
from nextconcept.nn.layers import normalise
from nextconcept.nn.level_context import RolloutCache
from nextconcept.nn.level_weights import LevelShape
from nextconcept.nn.rows import take_rows
from nextconcept.nn.transformer import Transformer

__all__ = ["PADDING", "READ_BACK_SCALE", "ConceptEncoder", "takes_chunks"]

PADDING = -1
"""The id of the learned padding vector that may stand in front of the tokens."""

READ_BACK_SCALE = 16.0
"""Inverse temperature of tokens that are read back, as the concept loss ``decode`` trains them."""


class ConceptEncoder(nn.Module):
    """Embeds tokens and composes them, level by level, into concepts.

    ``k^l_n = norm(sum_i R(i c^(l-1)) k^(l-1)_(n c + i))`` in the default composition, where R
    rotates an element by its position (the identity without ``position_binding``) and ``k^0`` is
    the token embedding. With ``encoder.flat`` the sum is over all tokens under the concept, without
    norms in between. The concepts of level l are composed from the first ``d_l`` columns of the
    embedding.

    A model with one level has no concepts, and its encoder only embeds.

    Args:
        config: the model's configuration.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, concept_levels = max(config.widths), config.levels - 1
        self.normed = config.norm_embeddings
        otherwise = config.tie_embeddings or config.norm_embeddings or config.scale_inputs
        self.scaled = config.scale_embeddings and not otherwise
        self.embedding = nn.Embedding(config.vocab_size, width)
        draw(self.embedding.weight, config.widths)
        reads_back = concept_levels and config.encoder.additive
        # What tokens are likely where a plan says nothing. It is trained where ``decode`` counts:
        # elsewhere DDP would wait for its gradients.
        prior = torch.zeros(config.vocab_size)
        self.token_prior = nn.Parameter(prior, requires_grad=False) if reads_back else None
        self.register_load_state_dict_pre_hook(_add_token_prior)  # type: ignore[no-untyped-call]
        padded = concept_levels and config.encoder.chunk_alignment == "end"
        self.padding = nn.Parameter(torch.empty(width)) if padded else None
        if self.padding is not None:
            draw(self.padding, config.widths)
        # Shaped like the decoder, but each block runs once.
        depth = config.token_encoder_depth
        windows = tuple(config.block_windows(0)[: depth or None])
        self.shape = replace(LevelShape.of(config, 0), num_loops=1, sliding_windows=windows)
        self.token_encoder = None
        if depth:
            # Its residual stream continues into the decoder.
            self.token_encoder = Transformer(config, [0], depth, reads_plans=False, num_loops=1, normalised=False)
        # Levels that share weights compose alike; otherwise each level has its own composition.
        count = concept_levels if config.sharing == "separate" else min(1, concept_levels)
        self.compositions = nn.ModuleList(
            Composition(config, width, [level] if config.sharing == "separate" else ()) for level in range(1, count + 1)
        )

    def composition(self, level: int) -> Composition:
        """Return the composition that makes concepts of ``level``, 1 or more."""
        return cast(Composition, self.compositions[min(level, len(self.compositions)) - 1])

    def embed(self, tokens: Tensor, level: int) -> Tensor:
        """Look up the embeddings that a level reads.

        Args:
            tokens: (B, P) token ids. With ``chunk_alignment: end``, an id of :data:`PADDING` stands
                for the learned padding vector.
            level: the level.

        Returns:
            (B, P, D_level).
        """
        embedded = self.look_up(tokens, self.config.widths[level])
        # Concepts are composed from the embeddings as they are.
        return normalise(embedded, self.config.block.norm) if self.normed and level == 0 else embedded

    def look_up(self, tokens: Tensor, width: int) -> Tensor:
        """Look up the first ``width`` columns of the embeddings of (...) token ids, (..., width).

        With ``scale_embeddings`` their features are as large as those of a normalised concept.
        """
        weight = self.embedding.weight[:, :width]
        if self.padding is None:
            embedded = F.embedding(tokens, weight)
        else:
            padding = (tokens == PADDING)[..., None]
            embedded = F.embedding(tokens.clamp(min=0), weight)
            embedded = torch.where(padding, self.padding[:width].to(weight.dtype), embedded)
        return embedded * width**0.5 if self.scaled else embedded

    def states(self, embedded: Tensor, cache: RolloutCache | None = None) -> Tensor:
        """Compute the inputs of the token decoder.

        Args:
            embedded: (B, P, D_0) token embeddings.
            cache: receives the keys and values of the token encoder.

        Returns:
            (B, P, D_0): the embeddings; with ``encoder.depth``, plus what the causal token encoder
            adds to them.
        """
        if self.token_encoder is None:
            return embedded
        return cast(Tensor, self.token_encoder(embedded, self.shape, cache=cache))

    def concepts(self, elements: Tensor, level: int, chunks: dict[int, Chunks] | None = None) -> Tensor:
        """Compose ``level`` times: (B, P, D) at the tokens to (B, N, D), N = P // c^level.

        With ``chunks``, per level, N is the number that these have room for.
        """
        hierarchy = self.config.hierarchy
        if chunks is not None:
            if self.config.encoder.flat:
                return self.composition(level).of_chunks(elements, in_tokens(chunks, level), hierarchy.span(level))
            for lower in range(1, level + 1):
                most = hierarchy.chunk_lengths(lower)[0]
                elements = self.composition(lower).of_chunks(elements, chunks[lower], most)
            return elements
        count, span = hierarchy.length(elements.shape[1], level), hierarchy.span(level)
        composed = elements[:, : count * span]
        if self.config.encoder.flat:
            flat: Tensor = self.composition(level)(composed.unflatten(1, (count, span)), 1)
            return flat
        for lower in range(1, level + 1):
            chunks = composed.unflatten(1, (composed.shape[1] // self.config.chunk_size, self.config.chunk_size))
            composed = self.composition(lower)(chunks, hierarchy.span(lower - 1))
        return composed

    def forward(self, tokens: Tensor, chunks: dict[int, Chunks] | None = None) -> dict[int, Tensor]:
        """Compose the concepts of every level.

        Args:
            tokens: (B, P) token ids.
            chunks: per level, the chunks that rules cut, if the model has rules.

        Returns:
            ``{level: (B, N, D_level)}``, as :meth:`concepts`.
        """
        levels = self.config.hierarchy.concept_levels
        return {level: self.concepts(self.embed(tokens, level), level, chunks) for level in levels}

    def elements(self, tokens: Tensor, states: Tensor, level: int) -> Tensor:
        """Replace the leading columns of token embeddings by states of the token encoder.

        Args:
            tokens: (B, P) token ids.
            states: (B, P, D_0).
            level: the level whose predictor reads compositions of the result.

        Returns:
            (B, P, D_level): the states, cut or filled up with the further columns of the embedding.
        """
        rest = self.embed(tokens, level)[..., self.shape.width :]
        return torch.cat((states[..., : self.config.widths[level]], rest), -1)

    def inputs(
        self,
        tokens: Tensor,
        states: Tensor,
        concepts: dict[int, Tensor],
        chunks: dict[int, Chunks] | None = None,
    ) -> dict[int, Tensor]:
        """Compute the inputs of the predictors.

        Args:
            tokens: (B, P) token ids.
            states: (B, P, D_0) inputs of the token decoder.
            concepts: per level, (B, N, D_level).
            chunks: as in :meth:`forward`.

        Returns:
            Shaped as ``concepts``: the concepts themselves, or with a token encoder the
            compositions of its states (see :meth:`elements`).
        """
        if self.token_encoder is None:
            return concepts
        return {level: self.concepts(self.elements(tokens, states, level), level, chunks) for level in concepts}

    def end_states(self, states: Tensor, level: int, chunks: dict[int, Chunks] | None = None) -> Tensor:
        """Return the state of the token that ends each chunk of ``level``.

        Args:
            states: (B, P, D_0) inputs of the token decoder.
            level: 1 or more.
            chunks: as in :meth:`forward`.

        Returns:
            (B, N, D_0); those of chunks that are not complete are arbitrary.
        """
        if chunks is None:
            span = self.config.hierarchy.span(level)
            return states[:, span - 1 :: span]
        last = (chunks[level].start[:, 1:] - 1).clamp(min=0)
        return take_rows(states, last)

    def vocabulary(self, width: int) -> Tensor:
        """Return the unit embeddings of all tokens, (V, width); gradients do not reach them."""
        return F.normalize(self.embedding.weight[:, :width].detach(), dim=-1)

    def unbound(self, concepts: Tensor, level: int) -> Tensor:
        """Rotate concepts back by the position of each of their tokens.

        Because the composition is a sum of rotated embeddings, this leaves that token, and a rest
        that is nearly orthogonal to it.

        Args:
            concepts: (..., D) concepts of ``level``.
            level: 1 or more.

        Returns:
            (..., c^level, D) unit vectors.
        """
        span, width = self.config.hierarchy.span(level), concepts.shape[-1]
        positions = F.normalize(concepts, dim=-1).unsqueeze(-2).expand(*concepts.shape[:-1], span, width)
        return self.composition(1).bind_at(positions, torch.arange(span, device=concepts.device), undo=True)

    def unbound_at(self, concepts: Tensor, offsets: Tensor) -> Tensor:
        """Rotate concepts back by one position each.

        Args:
            concepts: (..., n, D).
            offsets: (n,) or (..., n) tokens between the position and the first of the chunk, or
                their rotations.

        Returns:
            (..., n, D) unit vectors, as :meth:`unbound`.
        """
        return self.composition(1).bind_at(F.normalize(concepts, dim=-1), offsets, undo=True)

    def read_back(self, concepts: Tensor, level: int) -> Tensor:
        """Compute how near each token lies to each position of a concept, ``cos(R(-i) k, E)``.

        Args:
            concepts: (..., D) concepts of ``level``.
            level: 1 or more.

        Returns:
            (..., c^level, V) cosines; gradients reach the concepts, but not the embedding.

        Raises:
            InputError: if there is no such level, or its concepts have another width.
        """
        self.check_concepts(concepts, level)
        return self.unbound(concepts, level) @ self.vocabulary(concepts.shape[-1]).to(concepts.dtype).T

    def check_concepts(self, concepts: Tensor, level: int) -> None:
        """Check that vectors may be concepts of a level.

        Raises:
            InputError: if there is no such level, or its concepts have another width.
        """
        self.config.hierarchy.check_level(level)
        if concepts.shape[-1] != (width := self.config.widths[level]):
            raise InputError(
                f"a concept of level {level} has {width} features, not {concepts.shape[-1]}: give the level that the "
                "concepts are of."
            )

    def read_back_at(self, concepts: Tensor, offsets: Tensor) -> Tensor:
        """Compute how near each token lies to one position of each concept.

        Args:
            concepts: (..., n, D).
            offsets: as for :meth:`unbound_at`.

        Returns:
            (..., n, V) cosines, as :meth:`read_back`.
        """
        return self.unbound_at(concepts, offsets) @ self.vocabulary(concepts.shape[-1]).to(concepts.dtype).T

    def read_back_logits(self, cosines: Tensor, scale: float = READ_BACK_SCALE, trained: bool = True) -> Tensor:
        """Turn cosines of read-back tokens into logits: ``scale * cosines + prior``.

        Without the prior, all the tokens that a corpus never has would together be likelier than
        those that a plan holds: each has a cosine of about 0.

        Args:
            cosines: (..., V), of :meth:`read_back` or :meth:`read_back_at`.
            scale: inverse temperature.
            trained: whether gradients reach the prior.
        """
        logits = scale * cosines
        if self.token_prior is None:
            return logits
        prior = self.token_prior if trained else self.token_prior.detach()
        return logits + prior.to(logits.dtype)


def takes_chunks(encoder: ConceptEncoder) -> bool:
    """Return whether the forward pass of an encoder takes chunks beside tokens."""
    try:
        inspect.signature(encoder.forward).bind("tokens", "chunks")
    except TypeError:
        return False
    return True


def _add_token_prior(encoder: ConceptEncoder, weights: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Add a prior of zero to weights that were trained without one."""
    if encoder.token_prior is not None:
        weights.setdefault(f"{prefix}token_prior", torch.zeros_like(encoder.token_prior))
