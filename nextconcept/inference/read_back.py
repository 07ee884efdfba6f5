"""Planned concepts -> tokens -> words.

Chunks of one length are matched; see :func:`~nextconcept.nn.matching.match`. Where rules cut
chunks, a concept is unbound place by place. Nothing says how long its chunk is but the rule, which
ends it after one of the tokens that were read: ``decode`` trains those too. The nearest token of
each place reads a concept that is composed of real tokens. A predicted concept may hold several
chunks at once, of which no end is the nearest token of its place: of it the likeliest tokens are
read, and at level 1 the likeliest length, see :mod:`~nextconcept.nn.chunk_lengths`.

Shapes: H planned concepts, D width, S tokens that a chunk may have.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.inference.plan_steps import END_MARK
from nextconcept.nn.chunk_lengths import length_odds, likeliest_lengths, likeliest_tokens
from nextconcept.nn.matching import match
from nextconcept.nn.model import NextConceptModel

__all__ = ["ReadChunk", "check_readable", "decode_chunk", "decode_tokens", "read_chunk", "read_concepts"]

COMPOSED = 0.85
"""Cosine of a concept and its reading from which on the concept counts as composed of tokens."""

AT_ONCE = 256
"""Concepts that are matched at a time: the memory of the search grows with their number."""


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
        The reading, and after it the others, the nearest to the concept first.
    """
    cosines = model.encoder.read_back(concept, level)  # (S, V)
    best = cosines.topk(2, -1)
    reading = best.indices[:, 0].clone()
    first = _cut(model, reading, concept, level)
    if first.cosine < COMPOSED:
        best = model.encoder.read_back_logits(cosines).topk(2, -1)
        reading = best.indices[:, 0].clone()
        if level == 1 and model.config.hierarchy.rules[0].of_text:
            reading = _likeliest(model, reading, concept)
        first = _cut(model, reading, concept, level)
    # What is read after the end of the chunk is noise.
    end = len(first.tokens)
    places = (best.values[:end, 0] - best.values[:end, 1]).argsort()[: 4 * alternatives]
    found = {tuple(first.tokens.tolist()): first}
    for place in places.tolist():
        other = reading.clone()
        other[place] = best.indices[place, int(reading[place] == best.indices[place, 0])]
        cut = _cut(model, other, concept, level)
        if len(cut.tokens) <= end:
            found.setdefault(tuple(cut.tokens.tolist()), cut)
    others = sorted(list(found.values())[1:], key=lambda one: -one.cosine)
    return [first, *others[:alternatives]]


def _cut(model: NextConceptModel, reading: Tensor, concept: Tensor, level: int) -> ReadChunk:
    """Cut (S,) tokens after the end of their first chunk, and compare it with a concept (D,)."""
    tokens = reading[: _end(model, reading, level)]
    cosine = F.cosine_similarity(model.compose(tokens, level), concept, dim=-1)
    return ReadChunk(tokens, float(cosine))


def _likeliest(model: NextConceptModel, reading: Tensor, concept: Tensor) -> Tensor:
    """Begin a reading (S,) with the likeliest chunk of the likeliest length."""
    assert model.chunker is not None, "chunks of one length need no rule"
    length = int(likeliest_lengths(length_odds(model.encoder, model.chunker, concept[None])))
    chunk = likeliest_tokens(model.encoder, model.chunker, concept, length)
    return torch.cat((chunk, reading[length:]))


def _end(model: NextConceptModel, tokens: Tensor, level: int) -> int:
    """Return the number of (S,) tokens up to the end of the first chunk of ``level``."""
    assert model.chunker is not None, "chunks of one length need no rule"
    chunks = model.chunker(tokens[None])[level]
    return int(chunks.start[0, 1]) if chunks.counts[0] else len(tokens)


@torch.no_grad()
def read_concepts(model: NextConceptModel, concepts: Tensor, level: int, alternatives: int) -> list[list[ReadChunk]]:
    """Read planned concepts.

    Args:
        model: a model with an additive composition.
        concepts: (H, D) normalised concepts of ``level``.
        level: 1 or more.
        alternatives: further readings of each concept.

    Returns:
        The nearest compositions of each concept, best first.
    """
    if model.chunker is not None:
        return [read_chunk(model, concept, level, alternatives) for concept in concepts]
    found = [match(model.encoder, some, level, top_k=8, beam=8) for some in concepts.split(AT_ONCE)]
    rows = [row for one in found for row in zip(one.tokens, one.cosine.tolist(), strict=True)]
    return [[ReadChunk(*pair) for pair in zip(*row, strict=True)][: alternatives + 1] for row in rows]


def decode_chunk(tokenizer: Tokenizer, tokens: Tensor, ordered: bool) -> str:
    """Decode the tokens of a concept, and show the end of a document as ``<|endoftext|>``.

    Args:
        tokenizer: the model's tokenizer.
        tokens: (S,) token ids.
        ordered: whether the order of the tokens is known; if not, they are sorted and put in
            braces.
    """
    ids: list[int] = tokens.tolist()
    if not ordered:
        return "{" + " ".join(sorted(decode_tokens(tokenizer, [token]) for token in ids)) + "}"
    return decode_tokens(tokenizer, ids)


def decode_tokens(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Decode token ids, and show the end of a document as ``<|endoftext|>``."""
    texts, run = [""], list[int]()
    for token in ids:
        if token == tokenizer.end_of_text:
            texts += [tokenizer.decode(run), END_MARK]
            run = []
        else:
            run.append(token)
    return "".join([*texts, tokenizer.decode(run)])


def check_readable(model: NextConceptModel) -> None:
    """Check that a model has plans, and that they can be put into words.

    Raises:
        InputError: if it has tokens alone, or its composition is not additive.
    """
    if model.config.levels == 1:
        raise InputError("the model has tokens alone, and no plan: train one with more levels.")
    if not model.config.encoder.additive:
        raise InputError(
            "a plan can be put into words if the composition is a sum or mean, not "
            f"{model.config.encoder.composition!r}."
        )
