"""Intermediate results of a forward pass, from which generation continues.

Shapes: B batch, P tokens (padding in front included), A anchors, H horizon, D width of a level.
"""

from dataclasses import dataclass, field

from torch import Tensor

from nextconcept.nn.chunk_pointers import PointerMemory
from nextconcept.nn.chunks import Chunks
from nextconcept.nn.level_context import RolloutCache

__all__ = ["PrefillState"]


@dataclass
class PrefillState:
    """Intermediate results of a forward pass over (B, P) tokens.

    Attributes:
        caches: per level, keys and values of the teacher-forced pass.
        token_encoder: keys and values of the token encoder.
        states: (B, P, D_0), the inputs of the token decoder, without what pointers read.
        inputs: per level >= 1, (B, A, D), the inputs of the predictor.
        plans: per level >= 1, (B, A, H, D), normalised as the level below read them.
        chunks: per level >= 1, where its chunks lie, if rules cut them.
        memory: per level >= 1, (B, A, D), the memory that the level below read, or None.
        pointers: what later positions can point at, with ``reader.pointers``.
    """

    caches: dict[int, RolloutCache]
    token_encoder: RolloutCache = field(default_factory=RolloutCache)
    states: Tensor | None = None
    inputs: dict[int, Tensor] = field(default_factory=dict)
    plans: dict[int, Tensor] = field(default_factory=dict)
    chunks: dict[int, Chunks] | None = None
    memory: dict[int, Tensor | None] = field(default_factory=dict)
    pointers: PointerMemory | None = None

    @classmethod
    def of(cls, levels: int) -> "PrefillState":
        """Make an empty state of a model with ``levels`` levels."""
        return cls({level: RolloutCache() for level in range(levels)})
