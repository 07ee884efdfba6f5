"""Plans -> drafted tokens.

Shapes: R rows, H horizon, n places, K tokens before a place, D width of level 1, V vocabulary, h
hidden features of the draft head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.inference.locations import Location
from nextconcept.inference.ring_cache import AnchorStore
from nextconcept.inference.sampling import Draws
from nextconcept.nn.concept_encoder import PADDING, READ_BACK_SCALE
from nextconcept.nn.draft_head import TOKENS_BEFORE, DraftHead
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.places import unbind_at

__all__ = ["PlanDrafts"]


class PlanDrafts:
    """Reads plans back into tokens, with the draft head if the model has one.

    A draft is drawn like the token that is written in its place, with the same random number, but
    from what the plan says: where the two distributions are near, the tokens are mostly equal.

    Args:
        model: in eval mode, whose composition is additive.
        draws: how tokens are drawn.
        plans: the plans of level 1, as they are read.
    """

    def __init__(self, model: NextConceptModel, draws: Draws, plans: AnchorStore) -> None:
        self.draws, self.plans, self.hierarchy, self.unbind = draws, plans, model.config.hierarchy, model.unbind(1)
        vocabulary = model.encoder.vocabulary(model.config.widths[1])
        self.logits_of = READ_BACK_SCALE * vocabulary.T
        self.prior = model.encoder.read_back_logits(torch.zeros_like(vocabulary[:, 0]))
        self.chain = None if model.draft_head is None else _Chain(model.draft_head, vocabulary)

    def read(self, at: Location, count: int) -> tuple[Tensor, Tensor]:
        """Draft tokens; where rules cut chunks, in the first chunk alone.

        Args:
            at: the texts.
            count: n.

        Returns:
            (R, n) tokens, and whether the plan has each place, (R, n) bool.
        """
        assert at.newest is not None  # there is a level above
        plan = self.plans.one(at.newest.anchors)
        places = at.newest.place + torch.arange(count, device=at.ids.device)
        planned = self.hierarchy.span(1) if self.hierarchy.rules else plan.shape[1] * self.hierarchy.chunk_size
        return self.tokens(plan, places, at.ids, at.lengths, at.every_row), places < planned

    def tokens(self, plan: Tensor, places: Tensor, ids: Tensor, lengths: Tensor, rows: Tensor) -> Tensor:
        """Read tokens of plans.

        Args:
            plan: (R, H, D) plans.
            places: (R, n) places after their anchors, one after the other.
            ids: (R, L) texts.
            lengths: (R,) tokens of each text, after which the places begin, on the CPU.
            rows: (R,) rows of the batch, on the CPU.

        Returns:
            (R, n) tokens.
        """
        plan = F.normalize(plan, dim=-1)
        if self.hierarchy.rules:
            unbound = self.unbind(plan[:, :1].expand(-1, places.shape[1], -1), places)
        else:
            unbound = unbind_at(plan, places, self.hierarchy.chunk_size, 1, self.unbind)
        logits = torch.matmul(unbound, self.logits_of) + self.prior
        if self.chain is None:
            return self.draws.draw(logits, rows, lengths)
        index = lengths[:, None] - TOKENS_BEFORE + torch.arange(TOKENS_BEFORE)
        before = ids.gather(1, index.clamp(min=0).to(ids.device)).masked_fill((index < 0).to(ids.device), PADDING)
        hidden = self.chain.of_plan(unbound)
        for place in range(places.shape[1]):
            scores = logits[:, place] + self.chain.of_tokens(hidden[:, place], before[:, -TOKENS_BEFORE:])
            before = torch.cat((before, self.draws.draw(scores[:, None], rows, lengths + place)), 1)
        return before[:, TOKENS_BEFORE:]


class _Chain:
    """The draft head in two parts, of which one needs no token that is still to be drafted.

    Args:
        head: the head.
        vocabulary: (V, D) unit embeddings.
    """

    def __init__(self, head: DraftHead, vocabulary: Tensor) -> None:
        width = vocabulary.shape[1]
        scale = width**0.5
        self.plan = scale * head.hidden.weight[:, :width].T
        # A text has its nearest token last.
        tokens = head.hidden.weight[:, width:].unflatten(1, (TOKENS_BEFORE, width)).flip(1).flatten(1)
        self.tokens, self.bias = scale * tokens.T, head.hidden.bias
        self.out = READ_BACK_SCALE * (head.out.weight.T @ vocabulary.T)
        self.out_bias = READ_BACK_SCALE * (head.out.bias @ vocabulary.T)
        # The last row, of PADDING, is zero.
        self.vocabulary = F.pad(vocabulary, (0, 0, 0, 1))

    def of_plan(self, unbound: Tensor) -> Tensor:
        """Return what (R, n, D) unbound concepts add to the hidden features, (R, n, h)."""
        return torch.matmul(unbound, self.plan) + self.bias

    def of_tokens(self, hidden: Tensor, before: Tensor) -> Tensor:
        """Return the logits (R, V) of hidden features (R, h) and of (R, K) tokens, in order."""
        tokens = self.vocabulary[before].flatten(1)
        return torch.addmm(self.out_bias, F.gelu(torch.addmm(hidden, tokens, self.tokens)), self.out)
