"""How much of a plan can be read back as tokens.

Shapes: B batch, T tokens, P places of a chunk, N chunks that there is room for.
"""

import torch
from torch import Tensor

from nextconcept.nn.chunk_lengths import length_odds, likeliest_lengths
from nextconcept.nn.concept_encoder import READ_BACK_SCALE
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.model_output import ModelOutput
from nextconcept.nn.rows import take_rows

__all__ = ["MOST_PLACES", "right_by_place", "right_lengths"]

MOST_PLACES = 16
"""Places of a chunk that are reported."""


def right_by_place(
    model: NextConceptModel,
    output: ModelOutput,
    tokens: Tensor,
    mask: Tensor,
    places: int,
    scale: float = READ_BACK_SCALE,
) -> tuple[Tensor, Tensor]:
    """Read the next planned concept of level 1 back at the place of each token, and compare.

    Args:
        model: a model whose composition is a sum or mean.
        output: its output for (B, T) tokens.
        tokens: (B, T) the tokens, with ``output.offset`` of padding in front.
        mask: (B, T) bool, the tokens that count.
        places: P.
        scale: inverse temperature of the tokens.

    Returns:
        (P,) share of the tokens at each place that are the likeliest by the plan, and (P,) their
        number.
    """
    plan = output.plans[1][:, :, 0].float()
    if output.chunks is None:
        index = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        chunk_size = model.config.hierarchy.chunk_size
        anchor, place = index // chunk_size, index % chunk_size
        turns = place
    else:
        chunks = output.chunks[1]
        anchor, place = chunks.index[:, :-1], chunks.place[:, :-1]
        turns = chunks.turns(plan)[:, :-1]
    own = take_rows(plan, anchor)
    read = model.encoder.read_back_logits(model.encoder.read_back_at(own, turns), scale)
    right = read.argmax(-1) == tokens
    counted = mask & (place < places)
    slot = place.clamp(max=places - 1)[counted]
    counts = torch.bincount(slot, minlength=places)
    hits = torch.bincount(slot, weights=right[counted].double(), minlength=places)
    return hits / counts.clamp(min=1), counts


def right_lengths(
    model: NextConceptModel, output: ModelOutput, mask: Tensor, scale: float = READ_BACK_SCALE
) -> tuple[Tensor, Tensor]:
    """Say how often the next planned concept of level 1, read back, ends where its chunk ends.

    Args:
        model: a model whose chunks are cut by rules, and whose composition is a sum or mean with
            position binding.
        output: its output for (B, T) tokens.
        mask: (B, T) bool, the tokens that count. A chunk counts if all its tokens do, and if the
            rule ends it: where a longer one is cut says nothing about a plan.
        scale: see :func:`~nextconcept.nn.chunk_lengths.length_odds`.

    Returns:
        The share of the chunks whose length is the likeliest one, and their number, both scalars.
    """
    assert model.chunker is not None, "chunks of one length need no rule"
    assert output.chunks is not None
    chunks = output.chunks[1]
    counted = chunks.all(mask) & (chunks.lengths < model.config.hierarchy.chunk_lengths(1)[0])
    plans = output.plans[1][:, :-1, 0].float()  # (B, N, D)
    odds = length_odds(model.encoder, model.chunker, plans.flatten(0, 1), scale)
    right = likeliest_lengths(odds).view_as(counted) == chunks.lengths
    count = counted.sum()
    return (right & counted).sum() / count.clamp(min=1), count
