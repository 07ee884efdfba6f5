"""The text itself -> drafted tokens.

Shapes: R rows, L size of the buffer, n places, T tokens of the longest row.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.inference.locations import Location

__all__ = ["TextDrafts"]

MATCHED = 8
"""Greatest number of tokens by which what follows is recognised."""

LEAST = 2
"""Least number of equal tokens before a place from which drafts are copied."""

NO_TOKEN = -2
"""Stands before a text, equal to no token and to no padding."""


class TextDrafts:
    """Copies what followed when the text stood as it does now.

    Of all places, it takes the one before which most tokens are equal to the newest ones; of those
    with equally many the latest that is followed by enough tokens, or else the first. This is
    prompt lookup decoding (Saxena, 2023), which takes no model.
    """

    def read(self, at: Location, count: int) -> tuple[Tensor, Tensor]:
        """Draft tokens.

        Args:
            at: the texts.
            count: n.

        Returns:
            (R, n) tokens, and whether each is one, (R, n) bool.
        """
        ids = at.ids
        time, after = int(at.lengths.max()), at.lengths.to(ids.device)[:, None]
        place = torch.arange(time, device=ids.device)
        padded = F.pad(ids[:, :time], (MATCHED, 0), value=NO_TOKEN)
        newest = padded.gather(1, after + MATCHED - 1 - torch.arange(MATCHED, device=ids.device))
        same = place < after
        equal = torch.zeros_like(same, dtype=torch.uint8)
        for back in range(MATCHED):
            first = MATCHED - 1 - back  # of the tokens so far before each place
            same = same & (padded[:, first : first + time] == newest[:, back, None])
            equal += same
        enough = place + count <= after
        best = (equal.long() * (2 * time) + torch.where(enough, time + place, time - place)).argmax(1, keepdim=True)
        source = best + torch.arange(count, device=ids.device)
        inside = (equal.gather(1, best) >= LEAST) & (source < after)
        return ids.gather(1, source.clamp(max=ids.shape[1] - 1)), inside
