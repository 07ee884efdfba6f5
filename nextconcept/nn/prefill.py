"""What a forward pass leaves, beside its output, for generation to continue from."""

from dataclasses import dataclass, field

from nextconcept.nn.chunk_pointers import PointerMemory
from nextconcept.nn.level_context import RolloutCache
from nextconcept.nn.plan_input import PlanInput

__all__ = ["PrefillState"]


@dataclass
class PrefillState:
    """Caches of a forward pass, and what its levels read.

    Attributes:
        caches: per level, keys and values of the teacher-forced pass.
        token_encoder: keys and values of the token encoder.
        plan_inputs: per level >= 1, what the level below read of it.
        pointers: what later positions can point at, with ``reader.pointers``.
    """

    caches: dict[int, RolloutCache]
    token_encoder: RolloutCache = field(default_factory=RolloutCache)
    plan_inputs: dict[int, PlanInput] = field(default_factory=dict)
    pointers: PointerMemory | None = None
