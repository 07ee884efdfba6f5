"""What a level reads of the level above.

Shapes: B batch, A anchors of the level above, H horizon, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextconcept.core.config import ModelConfig
from nextconcept.nn.places import Places, Unbind

__all__ = ["PlanGates", "PlanInput"]


class PlanGates(nn.Module):
    """Zero-initialised gates of a level that reads a plan, or with ``reader.gated: false`` ones.

    At step 0 the level is a plain causal transformer; the plan enters as it becomes useful. A gate
    per feature and pass through a block (as in LayerScale, Touvron et al., 2021) opens faster than
    one number per block.

    Args:
        config: the model's configuration.
        level: the level that reads.

    Attributes:
        plan: (passes, D) gates of the plan; of a prefix, a gate per feature of the heads.
        memory: (passes, D) gates of the memory, or None.
        pointers: (D,) gate of what tokens read by pointers, or None.
        gate_scale: factor on all gates; see :meth:`~nextconcept.NextConceptModel.set_gate_scale`.
    """

    plan: Tensor
    memory: Tensor | None
    pointers: Tensor | None

    def __init__(self, config: ModelConfig, level: int) -> None:
        super().__init__()
        passes, width = config.depths[level] * config.level_loops[level], config.widths[level]
        prefix, reads_memory = config.reader.plan_conditioning == "prefix", config.reader.memory != "none"
        shapes = {
            "plan": (passes, config.query_widths[level] if prefix else width),
            "memory": (passes, width) if reads_memory else None,
            "pointers": (width,) if level == 0 and config.reader.pointers else None,
        }
        for name, shape in shapes.items():
            if config.reader.gated or shape is None:
                self.register_parameter(name, None if shape is None else nn.Parameter(torch.zeros(shape)))
            else:
                self.register_buffer(name, torch.ones(shape), persistent=False)
        self.gate_scale = 1.0

    def plan_gate(self, index: int) -> Tensor:
        """Return the (D,) gate of the plan in a pass through a block; of a prefix, (h d,)."""
        return self.gate_scale * self.plan[index]

    def memory_gate(self, index: int) -> Tensor:
        """Return the (D,) gate of the memory in a pass through a block."""
        assert self.memory is not None, "a model whose reader.memory is none has no gate for a memory"
        return self.gate_scale * self.memory[index]

    def pointer_gate(self) -> Tensor:
        """Return the (D,) gate of what tokens read by pointers."""
        assert self.pointers is not None, "a model without reader.pointers has no gate for them"
        return self.gate_scale * self.pointers


@dataclass
class PlanInput:
    """What a level reads of the level above.

    Attributes:
        plan: (B, A, H, D_above), the normalised plan of each anchor.
        memory: (B, A, D_above) or None; entry a is a function of the elements before chunk a.
        memory_window: anchors that the memory reaches back, or None for all.
        gates: the gates of the reading level.
        places: where the positions of the reading level stand.
        unbind: reads the elements of a planned concept; see :data:`~nextconcept.nn.places.Unbind`.
            None where plans are not read at their places.
    """

    plan: Tensor
    memory: Tensor | None
    memory_window: int | None
    gates: PlanGates
    places: Places
    unbind: Unbind | None
