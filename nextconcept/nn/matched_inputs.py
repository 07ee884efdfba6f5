"""Inputs of a rollout that are moved onto concepts that chunks of tokens have.

Shapes: D width of a level, W chunks that were found.
"""

from torch import Tensor

from nextconcept.core.config_groups import MatchingConfig
from nextconcept.nn.chunks import Chunker
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.matching import match
from nextconcept.nn.uneven_matching import match_uneven

__all__ = ["matched_input"]


def matched_input(
    encoder: ConceptEncoder, chunker: Chunker | None, concept: Tensor, level: int, settings: MatchingConfig, draw: bool
) -> Tensor:
    """Replace predictions by concepts of chunks near to them, with a straight-through gradient.

    The gradient passes as if nothing was replaced (Bengio et al., 2013).

    Args:
        encoder: embeds and composes.
        chunker: the rules that cut chunks, None for chunks of one length.
        concept: (..., D) predictions, normed as concepts are.
        level: their level.
        settings: width of the search, and the temperature at which one of W is drawn.
        draw: whether to draw where there is a temperature; else the nearest counts.

    Returns:
        (..., D).
    """
    if chunker is None:
        found = match(encoder, concept, level, settings.top_k, settings.beam)
    else:
        found = match_uneven(encoder, chunker, concept, level, settings.top_k, settings.beam)
    nearest = found.concepts[..., 0, :]
    if settings.temperature and draw:
        # torch.multinomial takes two axes at most.
        weights = (found.cosine / settings.temperature).softmax(-1)
        choice = weights.flatten(0, -2).multinomial(1).view(*weights.shape[:-1], 1, 1)
        nearest = found.concepts.gather(-2, choice.expand(*choice.shape[:-1], concept.shape[-1])).squeeze(-2)
    return concept + (nearest - concept).detach()
