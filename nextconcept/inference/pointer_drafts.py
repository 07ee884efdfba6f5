"""Pointers -> drafted tokens.

Shapes: R rows, L size of the buffer, n places, k pointers of an anchor.
"""

import torch
from torch import Tensor

from nextconcept.inference.locations import Reading
from nextconcept.inference.pointer_cache import PointerCache
from nextconcept.nn.rows import take_rows

__all__ = ["PointerDrafts"]

COMPARED = 8
"""Greatest number of tokens by which what follows is recognised."""

LEAST = 2
"""Least number of equal tokens before a place from which drafts are copied. With one, a fifth more
passes draft, for half as many accepted tokens each."""


class PointerDrafts:
    """Copies what followed in the earlier chunk in which the text stands as it does now.

    Of the chunks at which the anchor points, this is the one in which most tokens before the own
    place are equal to the newest ones, and of those with equally many, the one of the most similar
    anchor. So a draft needs no pass through any weights. (Copying what followed the longest match
    in the whole text is prompt lookup decoding, Saxena, 2023.)

    Args:
        cache: where anchors point.
    """

    def __init__(self, cache: PointerCache) -> None:
        self.cache = cache

    def read(
        self, reading: Reading, ids: Tensor, starts: Tensor, lengths: Tensor, rows: Tensor, count: int
    ) -> tuple[Tensor, Tensor]:
        """Draft tokens.

        Args:
            reading: what the newest position of each row reads.
            ids: (R, L) texts.
            starts: (R,) first visible token, on the CPU.
            lengths: (R,) tokens of each text, on the CPU.
            rows: (R,) rows of the batch, on the CPU.
            count: n.

        Returns:
            (R, n) tokens, and whether each is one, (R, n) bool.
        """
        device = ids.device
        first, after = starts.to(device)[:, None], lengths.to(device)[:, None]
        scores, begin = (part[:, 0] for part in self.cache.pointed(reading))
        at = begin + reading.place + first  # (R, k), places in the texts
        back = 1 + torch.arange(COMPARED, device=device)
        before = at[..., None] - back
        newest = ids.gather(1, (after - back).clamp(min=0))[:, None]
        same = take_rows(ids, before.clamp(0, ids.shape[1] - 1).flatten(1)).view_as(before) == newest
        equal = (same & (before >= first[..., None])).long().cumprod(2).sum(2)
        there = scores > -torch.inf
        # Pointers are sorted, and of equal entries the first counts.
        best = torch.where(there, equal, -1).argmax(1, keepdim=True)
        known = (there & (equal >= LEAST)).gather(1, best)
        source = at.gather(1, best) + torch.arange(count, device=device)
        inside = known & (source < after)
        return ids.gather(1, torch.where(inside, source, 0)), inside
