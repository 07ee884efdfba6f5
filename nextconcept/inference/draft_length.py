"""How many tokens to draft, from how many were accepted.

Time is counted in passes of the token level that read one token of each text. A draft of k tokens,
the first j of which are accepted with probability a_j, brings ``1 + a_1 + ... + a_k`` tokens. Such
a pass takes ``1 + overhead + (R - 1) / r_0 + k (R / m_0 + head)``, with R texts, which stand at
different places once drafts are rejected, and the time ``head`` that a draft head takes for each
draft, and if the draft ends a chunk, ``above`` for the levels above. Without drafts those tokens
take one pass each, and ``above`` for each chunk that they end. The k with the greatest ratio of the
two is drafted, and none if no ratio is clearly above 1. Nothing here looks at a clock, so that the
same text is drafted in the same way on every run.

Where nothing is drafted, the plan is still read back now and then, and compared with what is
written. This tells how many drafts would have been accepted at the cost of the reading alone.

Shapes: R rows of a pass.
"""

import torch
from torch import Tensor

from nextconcept.core.config import ModelConfig

__all__ = ["LONGEST", "DraftLength"]

BALANCE = 192.0
"""m_0: drafted positions that take as long as a pass without them (results/generation.md)."""

UNEQUAL = 80.0
"""r_0: texts at different places whose pass takes twice the time of texts at equal ones
(results/generation.md)."""

OVERHEAD = 0.6
"""Share of a pass that a draft takes, whatever its length."""

HEAD = 0.25
"""Blocks of the token level that take as long as the draft head does for one draft
(results/generation.md)."""

MARGIN = 1.05
"""Least ratio at which drafts are made."""

PRIOR = 0.25
"""Passes in which the first draft is taken to have been tried before anything is known; of the k-th
one, the k-th part, because it is sure only after the ones before it."""

HOPE = 0.9
"""Share of these passes in which a draft is taken to be accepted, if those before it were."""

DECAY = 0.9
"""Weight of a pass against the next one."""

WATCHED = 1, 256
"""Passes from the last draft until plan and text are compared, and at most from one comparison to
the next: each interval is four times as long as the one before."""

LONGEST = 15
"""Greatest number of tokens to draft, where plans may be longer."""


class DraftLength:
    """Chooses the length of drafts.

    Args:
        config: of the model.

    Attributes:
        longest: greatest number of tokens to draft.
        overhead: share of a pass that a draft takes, whatever its length.
        above: passes of the token level that take as long as one step of all levels above.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.chunk, rules = config.hierarchy.span(1), bool(config.hierarchy.rules)
        # Where rules cut chunks, a draft ends with its chunk.
        self.longest = min(self.chunk - 1 if rules else self.chunk * config.horizon_of(1), LONGEST)
        # A block counts by its width, between its operations and the time to call them.
        tokens, concepts = (config.depths[level] * config.level_loops[level] * config.widths[level] for level in (0, 1))
        encoder = config.token_encoder_depth * config.widths[0]
        steps = config.horizon_of(1) if config.planner.mode == "rollout" else 1
        self.above = 0.0 if rules else steps * concepts / (encoder + tokens)
        # A token encoder runs twice where a concept is composed before there is a draft.
        self.overhead = OVERHEAD + encoder / (encoder + tokens)
        blocks = config.depths[0] * config.level_loops[0] + config.token_encoder_depth
        self._head = HEAD / blocks if config.planner.draft_width else 0.0
        places = torch.arange(1, self.longest + 1)
        hoped = HOPE**places
        self._tried, self._accepted = PRIOR / places, PRIOR / places * hoped
        self._rates, self._skipped, self._wait = hoped.tolist(), 0, WATCHED[0]
        self._found: dict[tuple[int, int], int] = {}

    def pays(self, rows: int) -> bool:
        """Return whether there is a place in the chunk from which ``rows`` texts are drafted."""
        return any(self.best(rows, place) for place in range(1 if self.above == 0 else self.chunk))

    def best(self, rows: int, place: int = 0) -> int:
        """Return how many tokens to draft, from 0.

        Args:
            rows: texts that take part in the pass.
            place: place in its chunk of the first drafted token.
        """
        if (rows, place) not in self._found:
            self._found[rows, place] = self._best(rows, place)
        return self._found[rows, place]

    def _best(self, rows: int, place: int) -> int:
        gained, best, most, each = 1.0, 0, MARGIN, rows / BALANCE + self._head
        fixed = 1 + self.overhead + (rows - 1) / UNEQUAL
        for count, rate in enumerate(self._rates, 1):
            chunks, rest = divmod(place + count, self.chunk)
            gained += rate * (1 + self.above * (rest == 0))
            ratio = gained / (fixed + count * each + self.above * (chunks > 0))
            if ratio > most:
                best, most = count, ratio
        return best

    def skip(self) -> bool:
        """Count a pass without drafts, and return whether to compare plan and text from here on."""
        self._skipped += 1
        if self._skipped < self._wait:
            return False
        self._skipped, self._wait = 0, min(4 * self._wait, WATCHED[1])
        return True

    def update(self, accepted: Tensor, counts: Tensor, compared: bool = False) -> None:
        """Learn from a pass, or from a comparison.

        Args:
            accepted: (R,) tokens accepted.
            counts: (R,) tokens drafted.
            compared: whether nothing was drafted, but plan and text were compared.
        """
        if not counts.any():
            return
        if not compared:
            self._skipped, self._wait = 0, WATCHED[0]
        tried, right = ((part[:, None] > torch.arange(self.longest)).float().mean(0) for part in (counts, accepted))
        kept = 1 - (1 - DECAY) * (tried > 0).float()  # what is not tried is not forgotten
        self._tried, self._accepted = kept * self._tried + tried, kept * self._accepted + right
        # A draft is accepted after those before it alone, which says something of untried lengths.
        self._rates = (self._accepted / self._tried).cummin(0).values.tolist()
        self._found.clear()
