"""Matching: find the composition of real tokens that is nearest to a predicted concept.

Chunks that rules cut are searched in :mod:`~nextconcept.nn.uneven_matching`.

Shapes: M concepts (all leading axes together), c chunk size, K candidates per position, W beam, D
width, S tokens under a concept.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.rows import take_rows

__all__ = ["Matches", "match", "nearest_tokens"]


@dataclass
class Matches:
    """The nearest compositions found, best first.

    Attributes:
        tokens: (..., W, S) token ids.
        concepts: (..., W, D) their compositions.
        cosine: (..., W) cosine to the concept that was searched for; -inf where fewer than W
            compositions were found.
        lengths: (..., W) how many of the tokens are there, where rules cut chunks.
    """

    tokens: Tensor
    concepts: Tensor
    cosine: Tensor
    lengths: Tensor | None = None


@torch.no_grad()
def match(encoder: ConceptEncoder, concepts: Tensor, level: int, top_k: int, beam: int) -> Matches:
    """Search for compositions near to concepts, by beam search over the positions of a chunk.

    With position binding the positions are searched in order; without, a chunk is a multiset, and
    candidates are added from the nearest to the farthest. Concepts of level 2 and above are rotated
    back position by position; each position is matched by itself, and its best matches are the
    candidates. With ``encoder.flat`` every level is searched as level 1 is. The result is exact if
    ``top_k`` reaches the vocabulary and ``beam`` the number of partial compositions.

    Args:
        encoder: embeds and composes; its composition must be additive.
        concepts: (..., D) concepts of ``level``, predicted or not.
        level: 1 or more.
        top_k: candidates per position, K.
        beam: partial compositions kept, W.

    Raises:
        InputError: if there is no such level, its concepts have another width, or K or W is not
            positive.
    """
    encoder.check_concepts(concepts, level)
    if min(top_k, beam) < 1:
        raise InputError(f"top_k and beam must be 1 or more, not {top_k} and {beam}.")
    leading = concepts.shape[:-1]
    found = _match(encoder, concepts.reshape(-1, concepts.shape[-1]), level, top_k, beam)
    return Matches(*(part.reshape(*leading, *part.shape[1:]) for part in (found.tokens, found.concepts, found.cosine)))


def _match(encoder: ConceptEncoder, concepts: Tensor, level: int, top_k: int, beam: int) -> Matches:
    composition, chunk = encoder.composition(level), encoder.config.chunk_size
    stride = encoder.config.hierarchy.span(level - 1)
    if encoder.config.encoder.flat:  # a chunk of tokens, at every level
        chunk, stride = encoder.config.hierarchy.span(level), 1
    repeated = concepts[:, None].expand(-1, chunk, -1)
    wanted = composition.bind(repeated, stride, undo=True)  # (M, c, D): the element of each position, with noise
    if stride == 1:
        tokens, elements = nearest_tokens(encoder, wanted, top_k, encoder.vocabulary(wanted.shape[-1]))
    else:
        below = _match(encoder, wanted.flatten(0, 1), level - 1, top_k, beam)
        tokens, elements = (part.unflatten(0, (-1, chunk)) for part in (below.tokens, below.concepts))
    bound = composition.bind(elements.transpose(1, 2), stride).transpose(1, 2)  # (M, c, K, D)
    chosen = _beam_search(bound, concepts, beam, ordered=encoder.config.encoder.position_binding)  # (M, W, c)
    by_place = chosen.transpose(1, 2).flatten(0, 1)  # (M c, W)
    picked, parts = (
        take_rows(part.flatten(0, 1), by_place).unflatten(0, (-1, chunk)).transpose(1, 2) for part in (tokens, elements)
    )
    composed = composition(parts, stride)  # (M, W, D)
    cosine = F.cosine_similarity(composed, concepts[:, None], dim=-1)
    order = cosine.argsort(dim=1, descending=True, stable=True)
    return Matches(
        take_rows(picked.flatten(2), order),
        take_rows(composed, order),
        cosine.gather(1, order),
    )


def nearest_tokens(encoder: ConceptEncoder, wanted: Tensor, top_k: int, vocabulary: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest tokens of each position.

    Args:
        encoder: holds the embedding.
        wanted: (M, c, D) concepts, rotated back to each position.
        top_k: K.
        vocabulary: (V, D) unit embeddings.

    Returns:
        Ids (M, c, K, 1) and embeddings (M, c, K, D).
    """
    scores = wanted @ vocabulary.to(wanted.dtype).T
    ids = scores.topk(min(top_k, vocabulary.shape[0]), -1).indices
    return ids[..., None], encoder.look_up(ids, wanted.shape[-1]).to(wanted.dtype)


def _beam_search(elements: Tensor, concepts: Tensor, beam: int, ordered: bool) -> Tensor:
    """Choose one candidate per position so that their sum points towards the concept.

    The score of a partial sum s is ``s.k / |s|``. Both factors follow from inner products of the
    candidates, so that no sum is formed.

    Args:
        elements: (M, c, K, D) candidates, bound to their positions.
        concepts: (M, D).
        beam: W.
        ordered: whether positions differ; otherwise indices never fall, so that each multiset is
            tried once.

    Returns:
        (M, <= W, c) candidate indices.
    """
    count, positions, candidates, _ = elements.shape
    flat = elements.flatten(1, 2)
    toward = (flat @ concepts[..., None]).view(count, positions, candidates)
    gram = (flat @ flat.transpose(1, 2)).view(count, positions, candidates, positions, candidates)
    chosen = torch.zeros(count, 1, 0, dtype=torch.long, device=elements.device)
    dots = norms = torch.zeros(count, 1, device=elements.device, dtype=elements.dtype)
    for position in range(positions):
        new_dots = dots[..., None] + toward[:, position, None]  # (M, w, K)
        square = gram[:, position, :, position].diagonal(dim1=1, dim2=2)
        new_norms = norms[..., None] + square[:, None]
        for earlier in range(position):
            overlap = gram[:, earlier, :, position]  # (M, K, K)
            rows = chosen[..., earlier, None].expand(-1, -1, candidates)
            new_norms = new_norms + 2 * overlap.gather(1, rows)
        score = new_dots / new_norms.clamp(min=1e-12).sqrt()
        if not ordered and position:
            rank = torch.arange(candidates, device=elements.device)
            score = score.masked_fill(rank < chosen[..., -1:], -torch.inf)
        # No more than the partial compositions that exist, so that none ruled out above is chosen.
        exist = score[0].numel() if ordered else math.comb(candidates + position, position + 1)
        best = score.flatten(1).topk(min(beam, exist), 1).indices
        parent, candidate = best // candidates, best % candidates
        chosen = torch.cat((chosen.gather(1, parent[..., None].expand(-1, -1, position)), candidate[..., None]), 2)
        dots, norms = (part.flatten(1).gather(1, best) for part in (new_dots, new_norms))
    return chosen
