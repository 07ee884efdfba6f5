"""How many tokens to draft, from how many were accepted.

Time is counted in passes of the token level that read one token of each text. A draft of k tokens,
the first j of which are accepted with probability a_j, brings ``1 + f (a_1 + ... + a_k)`` tokens,
where f is the share of passes in which there is something to draft. With R texts, in a share of
``g = 1 - (1 - f)^R`` one of them has a draft, and a pass takes

    1 + reading + (R - 1) / r_0 + g (checking + k (R / m_0 + head))

with the time ``head`` that a draft head takes for each draft, and if the draft ends a chunk,
``above`` for the levels above. Without drafts those tokens take one pass each, and ``above`` for
each chunk that they end. Because texts that are written together take as long as the slowest of
them, the tokens count by the share that this one has had of the mean. The k with the greatest ratio
of the two is drafted, and none if no ratio is clearly above 1. Nothing here looks at a clock, so
that the same text is drafted in the same way on every run.

Where nothing is drafted, drafts are still read now and then, and compared with what is written.
This tells how many would have been accepted at the cost of the reading alone.

Shapes: B rows of the batch, R rows of a pass.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nextconcept.core.config import ModelConfig

__all__ = ["LONGEST_DRAFT", "SOURCES", "DraftLength"]

BALANCE = 192.0
"""m_0: drafted positions that take as long as a pass without them (results/generation.md)."""

UNEQUAL = 80.0
"""r_0: texts at different places whose pass takes twice the time of texts at equal ones
(results/generation.md)."""

CHECKING = 0.35
"""Share of a pass that the check of a draft takes, whatever its length."""

BEGINNING = 0.4
"""Share of drafts that begin with a chunk, where rules cut chunks and drafts end with them."""

HEAD = 0.25
"""Blocks of the token level that take as long as the draft head does for one draft
(results/generation.md)."""

MARGIN = 1.05
"""Least ratio at which drafts are made."""

FOUND_PRIOR = 2.0
"""Passes of which it is taken to be known whether there was something to draft, before any."""

FOUND_DECAY = 0.9
"""Weight of a pass against the next one, for that share."""

LONGEST_DRAFT = 15
"""Greatest number of tokens to draft."""

ROW_DECAY = 0.9
"""Weight of a pass against the next one, for the tokens that a row has had."""


@dataclass(frozen=True)
class _Source:
    """What is expected of drafts from one source.

    Attributes:
        reading: share of a pass that it takes to look for a draft.
        found: share of passes in which there is taken to be one, before anything is known.
        tried: passes in which the first draft is taken to have been tried then; of the k-th one,
            the k-th part, because it is sure only after the ones before it.
        hope: share of these passes in which a draft is taken to be accepted, if those before it
            were.
        decay: weight of a pass against the next one.
        watched: passes from one comparison of drafts and text to the next where nothing is drafted,
            at most. The first comes after one pass, and each interval is four times as long as the
            one before.
    """

    reading: float
    found: float
    tried: float
    hope: float
    decay: float
    watched: int


SOURCES = {"plan": _Source(0.25, 1.0, 0.25, 0.9, 0.9, 256), "text": _Source(0.08, 0.5, 2.0, 0.8, 0.97, 8)}
"""Where drafts may come from. A plan is right nearly always or hardly ever; texts repeat themselves
for a while and stop again."""


class DraftLength:
    """Chooses the length of drafts.

    Args:
        config: of the model.
        draft: where drafts come from: ``plan`` or ``text``.
        batch: B.

    Attributes:
        longest: greatest number of tokens to draft.
        checking: share of a pass that the check of a draft takes, whatever its length.
        above: passes of the token level that take as long as one step of all levels above.
    """

    def __init__(self, config: ModelConfig, draft: str = "plan", batch: int = 1) -> None:
        hierarchy, plan = config.hierarchy, draft == "plan"
        self.chunk, rules = hierarchy.span(1), bool(hierarchy.rules)
        # Where rules cut chunks, a draft ends with its chunk, and one from the plan with the plan.
        most = self.chunk - 1 if rules else self.chunk * config.horizon_of(1) if plan else LONGEST_DRAFT
        self.longest = min(most, LONGEST_DRAFT)
        # A block counts by its width, between its operations and the time to call them.
        costs = [
            config.depths[level] * config.level_loops[level] * config.widths[level] for level in range(config.levels)
        ]
        encoder = config.token_encoder_depth * config.widths[0]
        self.above = 0.0
        if config.levels > 1 and not rules:
            steps = config.horizon_of(1) if config.planner.mode == "rollout" else 1
            self.above = steps * costs[1] / (encoder + costs[0])
        # A token encoder runs twice where a concept is composed before there is a draft.
        twice = encoder / (encoder + costs[0]) * (BEGINNING if rules else 1)
        self.source, self.checking = SOURCES[draft], CHECKING + twice
        blocks = config.depths[0] * config.level_loops[0] + config.token_encoder_depth
        self._head = HEAD / blocks if plan and config.planner.draft_width else 0.0
        places = torch.arange(1, self.longest + 1)
        hoped = self.source.hope**places
        self._tried, self._accepted = self.source.tried / places, self.source.tried / places * hoped
        self._rates, self._skipped, self._wait = hoped.tolist(), 0, 1
        self._asked, self._found = FOUND_PRIOR, FOUND_PRIOR * self.source.found
        # Tokens that each row has had of a pass, and whether this is known.
        self._written, self._known = torch.ones(batch), torch.zeros(batch, dtype=torch.bool)
        self._best: dict[tuple[int, int], int] = {}

    def pays(self, rows: int) -> bool:
        """Return whether there is a place in the chunk from which ``rows`` texts are drafted."""
        return any(self.best(rows, place) for place in range(1 if self.above == 0 else self.chunk))

    def best(self, rows: int, place: int = 0) -> int:
        """Return how many tokens to draft, from 0.

        Args:
            rows: texts that take part in the pass.
            place: place in its chunk of the first drafted token.
        """
        if (rows, place) not in self._best:
            self._best[rows, place] = self._longest(rows, place)
        return self._best[rows, place]

    def _longest(self, rows: int, place: int) -> int:
        gained, best, most, each = 1.0, 0, MARGIN, rows / BALANCE + self._head
        found, slowest = self._found / self._asked, self._slowest()
        drafting, fixed = 1 - (1 - found) ** rows, 1 + self.source.reading + (rows - 1) / UNEQUAL
        for count, rate in enumerate(self._rates, 1):
            chunks, rest = divmod(place + count, self.chunk)
            gained += found * rate * (1 + self.above * (rest == 0))
            ratio = slowest * gained / (fixed + drafting * (self.checking + count * each + self.above * (chunks > 0)))
            if ratio > most:
                best, most = count, ratio
        return best

    def _slowest(self) -> float:
        """Return the tokens of the row that has had the fewest, as a share of the mean."""
        written = self._written[self._known]
        return float(written.min() / written.mean()) if len(written) else 1.0

    def skip(self) -> bool:
        """Count a pass without drafts, and return whether to compare drafts and text from here."""
        self._skipped += 1
        if self._skipped < self._wait:
            return False
        self._skipped, self._wait = 0, min(4 * self._wait, self.source.watched)
        return True

    def update(self, rows: Tensor, accepted: Tensor, counts: Tensor, asked: Tensor, compared: bool = False) -> None:
        """Learn from a pass, or from a comparison.

        Args:
            rows: (R,) rows of the batch.
            accepted: (R,) tokens accepted.
            counts: (R,) tokens drafted.
            asked: (R,) whether any might have been drafted.
            compared: whether nothing was drafted, but drafts and text were compared.
        """
        if not asked.any():
            return
        if not compared:
            self._skipped, self._wait = 0, 1
        self._known[rows] = True
        self._written[rows] += (1 - ROW_DECAY) * (1 + accepted - self._written[rows])
        self._asked = FOUND_DECAY * self._asked + 1
        self._found = FOUND_DECAY * self._found + float((counts[asked] > 0).float().mean())
        if counts.any():
            tried, right = ((part[:, None] > torch.arange(self.longest)).float().mean(0) for part in (counts, accepted))
            kept = 1 - (1 - self.source.decay) * (tried > 0).float()  # what is not tried is not forgotten
            self._tried, self._accepted = kept * self._tried + tried, kept * self._accepted + right
            # A draft is accepted after those before it alone: this bounds what is untried.
            self._rates = (self._accepted / self._tried).cummin(0).values.tolist()
        self._best.clear()
