"""Which drafted tokens are kept, and how many that were.

Shapes: B rows, R rows of a pass, L size of the buffer, n positions of a pass, V vocabulary.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["DraftFigures", "DraftedPass", "UncheckedDrafts"]


@dataclass
class DraftFigures:
    """How many tokens passes have written.

    The tokens of a pass count whole, those after the end of a text among them, and so do rows that
    have ended in a batch that has not: they are computed like the others.

    Attributes:
        passes: passes of the token level, each row counted.
        drafted: tokens drafted.
        accepted: drafted tokens that were written.
        was_drafted: for each token that was yielded, (B,) bool on the CPU, whether it was a draft.
    """

    passes: int = 0
    drafted: int = 0
    accepted: int = 0
    was_drafted: list[Tensor] = field(default_factory=list, repr=False)

    def add(self, accepted: Tensor, drafted: Tensor) -> None:
        """Count a pass with its accepted and drafted tokens, (R,) each."""
        self.passes += len(accepted)
        self.drafted += int(drafted.sum())
        self.accepted += int(accepted.sum())

    @property
    def tokens(self) -> int:
        """Tokens written: one in each pass besides the accepted ones."""
        return self.passes + self.accepted

    @property
    def tokens_per_pass(self) -> float:
        """Tokens written in a pass; 1 without drafts."""
        return self.tokens / max(1, self.passes)

    def __str__(self) -> str:
        """Return tokens per pass and how many drafts were accepted, as ``--verbose`` prints."""
        accepted = f"{self.accepted} of {self.drafted} drafted tokens accepted"
        return f"{self.tokens_per_pass:.2f} tokens per pass, {accepted}"


@dataclass
class UncheckedDrafts:
    """Drafts that were not checked, to be compared with what is written in their place.

    Attributes:
        lengths: (B,) tokens of each row before them.
        drafts: (B, n) tokens.
        counts: (B,) how many of them are there.
        asked: (B,) bool, whether any might have been drafted.
    """

    lengths: Tensor
    drafts: Tensor
    counts: Tensor
    asked: Tensor

    def accepted(self, ids: Tensor, lengths: Tensor) -> Tensor | None:
        """Return how many are right, (B,) on the CPU; None before all are written.

        Args:
            ids: (B, L) texts.
            lengths: (B,) tokens of each text.
        """
        if (lengths < self.lengths + self.counts).any():
            return None
        ahead = torch.arange(self.drafts.shape[1])
        written = ids.gather(1, (self.lengths[:, None] + ahead).to(ids.device))
        return _leading(written == self.drafts, self.counts)


@dataclass
class DraftedPass:
    """A pass over the newest token and drafted ones after it.

    Attributes:
        rows: (R,) rows of the batch, on the CPU.
        logits: (R, n, V) of the token after each position.
        drafts: (R, n - 1) drafted tokens.
        counts: (R,) how many of them are there; what follows is arbitrary.
        asked: (R,) bool, whether any might have been drafted.
    """

    rows: Tensor
    logits: Tensor
    drafts: Tensor
    counts: Tensor
    asked: Tensor

    @classmethod
    def alone(cls, rows: Tensor, logits: Tensor) -> "DraftedPass":
        """Return a pass of (R,) rows without drafts, which gave (R, V) logits."""
        none = torch.zeros_like(rows)
        return cls(rows, logits[:, None], none[:, None][:, :0].to(logits.device), none, none > 0)

    @property
    def width(self) -> int:
        """Positions of the pass, n."""
        return self.logits.shape[1]

    def accepted(self, drawn: Tensor) -> Tensor:
        """Return how many drafts are the (R, n) tokens that the model writes, (R,) on the CPU."""
        return self.counts if self.width == 1 else _leading(drawn[:, :-1] == self.drafts, self.counts)


def _leading(right: Tensor, counts: Tensor) -> Tensor:
    """Count (R, n) drafts, of which (R,) are there, up to the first wrong one: (R,) on the CPU."""
    return (right.cpu() & (torch.arange(right.shape[1]) < counts[:, None])).long().cumprod(1).sum(1)
