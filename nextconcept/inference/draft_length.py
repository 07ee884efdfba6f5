"""How many tokens to draft, from how many were accepted.

A draft of k tokens, the first j of which are accepted with probability a_j, brings
``1 + a_1 + ... + a_k`` tokens per pass. A pass over m positions takes about ``1 + m / m_0`` times
as long as reading the weights. So the best k follows from the running acceptance, and it is 0 where
drafts do not pay. Nothing here looks at a clock, so that the same text is drafted in the same way
on every run.

Shapes: R rows of a pass.
"""

import torch
from torch import Tensor

__all__ = ["BALANCE", "DraftLength"]

BALANCE = {"cpu": 8.0, "cuda": 256.0}
"""m_0 by type of device."""

PRIOR = 4.0
"""Passes in which all drafts are taken to have been accepted before anything is known."""

DECAY = 0.98
"""Weight of a pass against the next one."""

RETRY = 128
"""Passes from one trial of the longest draft to the next."""

TRIAL = 8
"""Passes of a trial, so that a chunk begins in it: a draft is read when its chunk begins."""


class DraftLength:
    """Chooses the length of drafts.

    Args:
        longest: greatest number of tokens to draft.
        device: where the model runs.
    """

    def __init__(self, longest: int, device: torch.device) -> None:
        self.longest, self._balance = longest, BALANCE.get(device.type, BALANCE["cuda"])
        self._tried, self._accepted = torch.full((longest,), PRIOR), torch.full((longest,), PRIOR)
        self._passes = 0

    def best(self, rows: int) -> int:
        """Return how many tokens to draft in a pass over ``rows`` texts, from 0."""
        if self._passes % RETRY < min(TRIAL, self.longest + 1):
            return self.longest
        written, best, most = 1.0, 0, 0.0
        for length, rate in enumerate([0.0, *(self._accepted / self._tried).tolist()]):
            written += rate
            speed = written / (self._balance + rows * (length + 1))
            if speed > most:
                best, most = length, speed
        return best

    def update(self, accepted: Tensor, counts: Tensor) -> None:
        """Learn from a pass.

        Args:
            accepted: (R,) tokens accepted.
            counts: (R,) tokens drafted.
        """
        self._passes += 1
        if not counts.any():
            return
        tried, right = ((part[:, None] > torch.arange(self.longest)).float().mean(0) for part in (counts, accepted))
        kept = 1 - (1 - DECAY) * (tried > 0).float()  # what is not tried is not forgotten
        self._tried, self._accepted = kept * self._tried + tried, kept * self._accepted + right
