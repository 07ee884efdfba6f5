"""Which tokens of a text were drafted from the plan."""

from dataclasses import dataclass, field

from torch import Tensor

from nextconcept.inference.drafts import DraftFigures

__all__ = ["DraftedTokens"]


@dataclass
class DraftedTokens(DraftFigures):
    """Notes which tokens of one text were drafted, as it is written.

    Attributes:
        places: those of the drafted tokens, counted from the end of the prompt.
    """

    places: set[int] = field(default_factory=set)

    def add(self, accepted: Tensor, drafted: Tensor) -> None:
        """Count a pass of one row: its accepted drafts, and one token behind them."""
        assert len(accepted) == 1, "drafted tokens are noted for a single text"
        first = self.tokens
        super().add(accepted, drafted)
        self.places.update(range(first, first + int(accepted)))
