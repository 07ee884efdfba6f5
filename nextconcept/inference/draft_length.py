"""How many tokens to draft, from how many were accepted.

A draft of k tokens, the first j of which are accepted with probability a_j, brings
``1 + a_1 + ... + a_k`` tokens. Against a pass without a draft it takes
``1 + overhead + k R / m_0`` times as long, with R texts. So the best k follows from the running
acceptance, and it is 0 where drafts do not pay. Nothing here looks at a clock, so that the same
text is drafted in the same way on every run.

Shapes: R rows of a pass.
"""

import torch
from torch import Tensor

from nextconcept.core.config import ModelConfig

__all__ = ["LONGEST", "DraftLength"]

BALANCE = 192.0
"""m_0: drafted positions that take as long as a pass without them (results/generation.md)."""

OVERHEAD = 0.5
"""Share of a pass that a draft takes, whatever its length."""

PRIOR = 2.0
"""Passes in which all drafts are taken to have been accepted before anything is known."""

DECAY = 0.9
"""Weight of a pass against the next one."""

RETRY = 128
"""Passes from one trial of the longest draft to the next."""

TRIAL = 2
"""Passes of a trial."""

LONGEST = 15
"""Greatest number of tokens to draft, where chunks may be longer."""


class DraftLength:
    """Chooses the length of drafts.

    Args:
        config: of the model, whose drafts end with their chunk.

    Attributes:
        longest: greatest number of tokens to draft.
        overhead: share of a pass that a draft takes, whatever its length.
    """

    def __init__(self, config: ModelConfig) -> None:
        chunk = config.hierarchy.span(1)
        # Where rules cut chunks, a draft ends with its chunk.
        self.longest = min(chunk - 1 if config.hierarchy.rules else chunk * config.horizon_of(1), LONGEST)
        # A token encoder runs twice: a concept is composed before there is a draft.
        encoder = config.token_encoder_depth
        self.overhead = OVERHEAD + encoder / (encoder + config.depths[0])
        self._tried, self._accepted = torch.full((self.longest,), PRIOR), torch.full((self.longest,), PRIOR)
        self._rates, self._passes = [1.0] * self.longest, 0

    def best(self, rows: int, place: int = 0) -> int:
        """Return how many tokens to draft in a pass over ``rows`` texts, from 0."""
        if self._passes % RETRY < TRIAL:
            return self.longest
        written, best, most = 1.0, 0, 1.0
        for index, rate in enumerate(self._rates):
            written += rate
            speed = written / (1 + self.overhead + (index + 1) * rows / BALANCE)
            if speed > most:
                best, most = index + 1, speed
        return best

    def skip(self) -> None:
        """Count a pass without drafts."""
        self._passes += 1

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
        self._rates = (self._accepted / self._tried).tolist()
