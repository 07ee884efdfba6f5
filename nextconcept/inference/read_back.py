"""Planned concepts -> tokens, where rules cut chunks.

A concept is unbound place by place. Nothing says how long its chunk is but the rule, which ends it
behind one of the tokens that were read: ``decode`` trains those too.

Shapes: H planned concepts, D width, S tokens that a chunk may have.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.nn.model import NextConceptModel

__all__ = ["ReadChunk", "read_chunk"]


@dataclass
class ReadChunk:
    """Tokens that a planned concept was read as.

    Attributes:
        tokens: (n,) token ids, up to where the rule ends the chunk.
        cosine: of the concept and the composition of the tokens.
    """

    tokens: Tensor
    cosine: float


@torch.no_grad()
def read_chunk(model: NextConceptModel, concept: Tensor, level: int, alternatives: int = 0) -> list[ReadChunk]:
    """Read a planned concept.

    Args:
        model: a model whose chunks are cut by rules, with an additive composition.
        concept: (D,) concept of ``level``.
        level: 1 or more.
        alternatives: further readings, which differ from the first one in the place that is least
            sure.

    Returns:
        Readings, the nearest to the concept first.
    """
    scores = model.encoder.read_back(concept, level)  # (S, V)
    best = scores.topk(2, -1)
    readings = [best.indices[:, 0]]
    # What is read behind the end of the chunk is noise.
    end = _end(model, readings[0], level)
    places = (best.values[:end, 0] - best.values[:end, 1]).argsort()[: 4 * alternatives]
    for place in places.tolist():
        readings.append(readings[0].clone())
        readings[-1][place] = best.indices[place, 1]
    found: dict[tuple[int, ...], ReadChunk] = {}
    for reading in readings:
        tokens = reading[: _end(model, reading, level)]
        cosine = F.cosine_similarity(model.compose(tokens, level), concept, dim=-1)
        found.setdefault(tuple(tokens.tolist()), ReadChunk(tokens, float(cosine)))
    ranked = sorted(found.values(), key=lambda one: -one.cosine)
    return ranked[: alternatives + 1]


def _end(model: NextConceptModel, tokens: Tensor, level: int) -> int:
    """Return the number of (S,) tokens up to the end of the first chunk of ``level``."""
    assert model.chunker is not None, "chunks of one length need no rule"
    chunks = model.chunker(tokens[None])[level]
    return int(chunks.start[0, 1]) if chunks.counts[0] else len(tokens)
