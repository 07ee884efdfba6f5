"""How long the chunk of a planned concept is, as far as the plan says.

Read place by place, a plan gives each token a probability. Places are independent, so the rule that
ends chunks makes them a distribution over lengths, by a forward pass over its states. Taking the
likeliest token at each place is another thing: where a chunk may end at any of several places, an
end is likely after none of them.

Shapes: M concepts, S states of the rule, V vocabulary, P places of a chunk, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.nn.chunks import Chunker
from nextconcept.nn.concept_encoder import READ_BACK_SCALE, ConceptEncoder

__all__ = ["length_odds", "likeliest_lengths", "likeliest_tokens"]


def length_odds(encoder: ConceptEncoder, chunker: Chunker, concepts: Tensor, scale: float = READ_BACK_SCALE) -> Tensor:
    """Compute how likely each length of the chunks of concepts of level 1 is.

    Args:
        encoder: its composition must be additive.
        chunker: the rules; that of level 1 reads the text.
        concepts: (M, D).
        scale: inverse temperature of the tokens.

    Returns:
        (M, P) probabilities of 1 to P tokens, the last with that of no end at all.
    """
    rule = chunker.hierarchy.rules[0]
    following, ends = chunker.tables[1]
    states = len(following)
    # A token leads to one of the states, or ends the chunk.
    leads = F.one_hot(torch.where(ends, states, following), states + 1).to(concepts.dtype)  # (S, V, S + 1)
    reached = F.one_hot(torch.zeros_like(concepts[:, 0]).long(), states).to(concepts.dtype)
    vocabulary, odds = encoder.vocabulary(concepts.shape[1]).to(concepts.dtype), []
    # As one product, because einsum would make a tensor of all states and tokens of each concept.
    leads = leads.transpose(0, 1).flatten(1)  # (V, S * (S + 1))
    for place in torch.arange(rule.max_length, device=concepts.device)[:, None]:
        cosines = encoder.unbound_at(concepts[:, None], place)[:, 0] @ vocabulary.T
        moves = encoder.read_back_logits(cosines, scale).softmax(-1) @ leads
        after = (reached[:, None] @ moves.unflatten(1, (states, states + 1)))[:, 0]
        odds.append(after[:, -1])
        reached = after[:, :-1]
    odds[-1] = odds[-1] + reached.sum(1)  # a longer chunk is cut
    return torch.stack(odds, 1)


def likeliest_lengths(odds: Tensor) -> Tensor:
    """Return the likeliest length of chunks, (M,), from (M, P) probabilities.

    P, at which longer chunks are cut, is chosen if nothing else is possible: it has the probability
    of all that is not known to end.
    """
    ended = odds[:, :-1]
    return torch.where(ended.sum(1) > 0, ended.argmax(1) + 1, odds.shape[1]) if ended.shape[1] else odds.argmax(1) + 1


def likeliest_tokens(encoder: ConceptEncoder, chunker: Chunker, concept: Tensor, length: int) -> Tensor:
    """Find the likeliest chunk of a given length, by the algorithm of Viterbi (1967).

    Args:
        encoder: its composition must be additive.
        chunker: the rules; that of level 1 reads the text.
        concept: (D,) concept of level 1.
        length: tokens of the chunk, at most P.

    Returns:
        (length,) token ids, of which the last alone ends the chunk if ``length`` is below P.
    """
    following, ends = chunker.tables[1]
    places = torch.arange(length, device=concept.device)
    log_odds = encoder.read_back_logits(encoder.read_back_at(concept.expand(length, -1), places)).log_softmax(-1)
    flat = following.flatten()
    steps = torch.arange(len(flat), device=flat.device)  # a state and a token
    reached = concept.new_full((len(following),), -torch.inf)
    reached[0], origins = 0, list[Tensor]()
    for place in range(length - 1):
        odds = (reached[:, None] + log_odds[place]).masked_fill(ends, -torch.inf).flatten()
        reached = torch.full_like(reached, -torch.inf).scatter_reduce(0, flat, odds, "amax")
        best = odds == reached[flat]
        origins.append(torch.zeros_like(reached, dtype=torch.long).scatter(0, flat[best], steps[best]))
    odds = reached[:, None] + log_odds[length - 1]
    if length < chunker.hierarchy.rules[0].max_length:
        odds = odds.masked_fill(~ends, -torch.inf)
    step = odds.flatten().argmax()
    path = [step]
    for origin in reversed(origins):
        step = origin[step // following.shape[1]]
        path.append(step)
    return torch.stack(path[::-1]) % following.shape[1]
