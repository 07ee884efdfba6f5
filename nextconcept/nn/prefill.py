"""What a forward pass leaves behind for whoever goes on from it."""

from dataclasses import dataclass, field

from torch import Tensor

from nextconcept.nn.attention import RolloutCache

__all__ = ["PrefillState"]


@dataclass
class PrefillState:
    """Intermediate results of a forward pass over (B, P) tokens.

    Attributes:
        caches: per level, keys and values of the teacher-forced pass.
        context: those of the token encoder.
        states: (B, P, D_0), what the token decoder starts from.
        plans: per level >= 1, (B, A, H, D), normalised as the level below read them.
        past: per level >= 1, (B, A, D), what the level below read of the past, if it did.
    """

    caches: dict[int, RolloutCache]
    context: RolloutCache = field(default_factory=RolloutCache)
    states: Tensor | None = None
    plans: dict[int, Tensor] = field(default_factory=dict)
    past: dict[int, Tensor | None] = field(default_factory=dict)

    @classmethod
    def of(cls, levels: int) -> "PrefillState":
        """Make an empty trace of a model with ``levels`` levels."""
        return cls({level: RolloutCache() for level in range(levels)})
