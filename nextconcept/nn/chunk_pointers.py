"""Reading earlier chunks at the own place.

Each anchor points at the earlier anchors at which the level above was in the most similar state. A
position of that anchor's chunk reads what stood at its own place in the chunks after these anchors:
if a phrase comes again, this is its next token. A pointer at earlier text is that of Vinyals et al.
(2015) and Gu et al. (2016); here concepts search, so that a position is compared with k others,
however long the text is, and only an anchor with each earlier one.

Shapes: B batch, T positions, n positions that read, A anchors, S positions that can be read, k
pointers of an anchor, D width of the tokens, D_1 width of level 1, K = D / 2 features of a
comparison.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextconcept.core.config import ModelConfig
from nextconcept.nn.initial_weights import draw
from nextconcept.nn.layers import Linear, Norm, compute_dtype, full_precision, normalise
from nextconcept.nn.places import Places
from nextconcept.nn.rows import sum_rows, take_rows

__all__ = ["ChunkPointers", "PointerMemory"]

SHARPNESS = 8.0
"""Initial factor on the cosine of two anchors: one at a right angle counts e^-8."""

RECENCY = 2e-6
"""What an anchor gains in cosine on the one before it, so that of those that are alike the latest
are chosen, and not those that rounding favours."""

QUERY_SCALE = 3**-0.5
"""Of the initial query, so that a position that is equal at first counts about e^2."""


@dataclass
class PointerMemory:
    """What can be pointed at.

    Attributes:
        keys: (B, S, K) of positions, by which the ones after them are found.
        values: (B, S, D) what is read of positions.
        search: (B, A, D_1) unit vectors of anchors.
        first: (B, A) int64, the first position of the chunk after each anchor.
        scores: (B, A, k) how similar the anchors are that each anchor points at, see
            :meth:`ChunkPointers.choose`.
        starts: (B, A, k) int64, the first positions of the chunks after those.
    """

    keys: Tensor
    values: Tensor
    search: Tensor
    first: Tensor
    scores: Tensor
    starts: Tensor


class ChunkPointers(nn.Module):
    """Each position reads earlier chunks, at which its anchor points, at its own place.

    With unit vectors ``s`` of the anchors' states, anchor m points at the k earlier anchors n with
    the greatest ``s_m s_n + 2e-6 n``, so that of anchors that are alike the later ones are read.
    The position t whose next token stands at place i of chunk m compares itself with the positions
    before place i of those chunks, and reads the tokens there::

        a = softmax(beta (s_m s_n - 1) + q_t k_(n, i - 1) / sqrt(K), b)
        r_t = sum_n a_n v_(n, i)

    The last entry, b, stands for reading nothing. Because ``(n, i)`` lies before the token that is
    predicted, the law of causality holds. What is read, r, enters the inputs of the token decoder
    through a gate of :class:`~nextconcept.nn.plan_input.PlanGates`. At the first token, which has
    none before it, the comparison is with this token itself.

    Args:
        config: the model's configuration.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, above = config.widths[:2]
        self.count = config.reader.pointers
        self.norm = Norm(width, config.block.norm, config.block.norm_affine)
        self.search = Linear(above, above)
        nn.init.eye_(self.search.weight)  # at first the states themselves are compared
        self.query, self.key, self.value = (Linear(width, out) for out in (width // 2, width // 2, width))
        draw(self.query.weight, factor=QUERY_SCALE)
        draw(self.value.weight)
        with torch.no_grad():  # at first, equal tokens match
            self.key.weight.copy_(self.query.weight)
        self.sharpness = nn.Parameter(torch.full((1,), SHARPNESS))
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, states: Tensor, anchors: Tensor, places: Places) -> tuple[Tensor, PointerMemory]:
        """Read at all positions of a sequence.

        Args:
            states: (B, T, D) inputs of the token decoder.
            anchors: (B, A, D_1) states of the predictor of level 1.
            places: where the positions stand.

        Returns:
            (B, T, D) what is read, without a gate, and what positions after these can point at;
            entry t is a function of positions <= t.
        """
        time, device = states.shape[1], states.device
        search, normed = self.directions(anchors), self.norm(states)
        first = places.chunk_starts(search.shape[1], device).expand(len(states), -1)
        scores, starts = self.choose(search, torch.arange(search.shape[1], device=device)[None], search, first)
        own, place = (part.expand(len(states), -1) for part in places.standing(time, device))
        positions = take_rows(starts, own) + place[..., None]
        memory = PointerMemory(self.key(normed), self.value(normed), search, first, scores, starts)
        read = self.read(self.query(normed), take_rows(scores, own), positions, memory.keys, memory.values)
        return read, memory

    def directions(self, anchors: Tensor) -> Tensor:
        """Return the unit vectors (..., D_1) by which anchors with these states are compared."""
        return normalise(self.search(anchors), "cosine")

    def entries(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys (..., K) and values (..., D) of positions (..., D)."""
        normed = self.norm(states)
        return self.key(normed), self.value(normed)

    def queries(self, states: Tensor) -> Tensor:
        """Return the queries (..., K) of positions (..., D)."""
        queries: Tensor = self.query(self.norm(states))
        return queries

    def choose(self, own: Tensor, numbers: Tensor, search: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Point at the most similar of the earlier anchors.

        This is done once for an anchor, not for each position of its chunk.

        Args:
            own: (B, m, D_1) unit vectors of the anchors that point.
            numbers: (B or 1, m) which anchors these are.
            search: (B, A, D_1) unit vectors of all anchors.
            first: (B, A) the first position of the chunk after each of them.

        Returns:
            (B, m, k) how similar they are, negative, the most similar first, and -inf where there
            are not so many; and (B, m, k) where the chunks after them begin; k is at most A.
        """
        precise = compute_dtype(own.dtype)
        with full_precision(own.device):  # half precision makes similar anchors equal
            cosines = own.to(precise) @ search.to(precise).transpose(1, 2)
        every, numbers = torch.arange(search.shape[1], device=search.device), numbers[..., None]
        order = (cosines.detach() + RECENCY * every).masked_fill(every >= numbers, -torch.inf)
        index = order.topk(min(self.count, search.shape[1]), dim=-1).indices
        scores = self.sharpness * (cosines.gather(2, index) - 1).to(own.dtype)
        return scores.masked_fill(index >= numbers, -torch.inf), first.gather(1, index.flatten(1)).view_as(index)

    def read(
        self,
        query: Tensor,
        scores: Tensor,
        positions: Tensor,
        keys: Tensor,
        values: Tensor,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Read what is pointed at.

        Args:
            query: (B, n, K) queries of the positions.
            scores: (B, n, k) how similar the anchors are that are pointed at, as :meth:`choose`.
            positions: (B, n, k) where in their chunks the place of each position lies.
            keys: (B, S, K) of what can be pointed at.
            values: (B, S, D) of the same.
            rows: those of keys and values to which the others belong; None for all.

        Returns:
            (B, n, D) what is read, without a gate.
        """
        last = keys.shape[1] - 1
        before = (positions - 1).clamp(0, last)  # any where there is no such position
        compared = take_rows(keys, before.flatten(1), rows).unflatten(1, before.shape[1:])
        if query.is_meta:  # operations are counted, and the counter knows products alone
            matches = (compared @ query.unsqueeze(3)).squeeze(3)
        else:  # a third less time than a product
            matches = (query.unsqueeze(2) * compared).sum(-1)
        scores = scores + matches / query.shape[-1] ** 0.5
        scores = torch.cat((scores, self.nothing.expand(*scores.shape[:2], 1)), -1)
        shares = scores.softmax(-1, dtype=compute_dtype(scores.dtype)).to(values.dtype)[..., :-1]
        return sum_rows(values, positions.clamp(0, last), shares, rows)
