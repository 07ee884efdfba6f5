"""What a level reads of the level above.

Shapes: B batch, A anchors of the level above, H horizon, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextconcept.core.config import ModelConfig
from nextconcept.nn.attention_kernels import ChunkFold
from nextconcept.nn.chunks import Chunks

__all__ = ["Places", "PlanGates", "PlanInput", "unbind_at"]


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
        gate_scale: factor on all gates; see :meth:`~nextconcept.NextConceptModel.set_gate_scale`.
    """

    plan: Tensor
    memory: Tensor | None

    def __init__(self, config: ModelConfig, level: int) -> None:
        super().__init__()
        passes, width = config.depths[level] * config.level_loops[level], config.widths[level]
        prefix, reads_memory = config.reader.plan_conditioning == "prefix", config.reader.memory != "none"
        sizes = {"plan": config.query_widths[level] if prefix else width, "memory": width if reads_memory else None}
        for name, size in sizes.items():
            if config.reader.gated or size is None:
                self.register_parameter(name, None if size is None else nn.Parameter(torch.zeros(passes, size)))
            else:
                self.register_buffer(name, torch.ones(passes, size), persistent=False)
        self.gate_scale = 1.0

    def plan_gate(self, index: int) -> Tensor:
        """Return the (D,) gate of the plan in a pass through a block; of a prefix, (h d,)."""
        return self.gate_scale * self.plan[index]

    def memory_gate(self, index: int) -> Tensor:
        """Return the (D,) gate of the memory in a pass through a block."""
        assert self.memory is not None, "a model whose reader.memory is none has no gate for a memory"
        return self.gate_scale * self.memory[index]


def unbind_at(plan: Tensor, places: Tensor, chunk_size: int, unbind: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Read a plan at places behind its anchor.

    Args:
        plan: (..., H, D) planned concepts of consecutive chunks.
        places: (..., n) elements behind the first of the first chunk.
        chunk_size: c.
        unbind: see :class:`PlanInput`.

    Returns:
        (..., n, D): ``R(-(i mod c)) p[i div c]``, zero behind the end of the plan.
    """
    step, place = places // chunk_size, places % chunk_size
    index = step.clamp(max=plan.shape[-2] - 1).unsqueeze(-1).expand(*plan.shape[:-2], -1, plan.shape[-1])
    return unbind(plan.gather(-2, index), place) * (step < plan.shape[-2]).unsqueeze(-1)


@dataclass
class Places:
    """Where the positions of a level stand in chunks of unequal lengths.

    Attributes:
        element: the element that position 0 predicts: 1 for tokens, 0 for a level with a BOS.
        anchor: (B, T) chunk of the element that each position predicts.
        place: (B, T) elements between that element and the first of the chunk.
        first: (B, A) first element of each chunk.
        chunks: the chunks themselves.
        mean_length: elements of a chunk on average, by which later chunks are supposed to follow.
    """

    element: int
    anchor: Tensor
    place: Tensor
    first: Tensor
    chunks: Chunks
    mean_length: float

    @classmethod
    def of(cls, chunks: Chunks, element: int, mean_length: float) -> "Places":
        """Return the places of the positions of a level whose elements form ``chunks``."""
        return cls(element, chunks.index[:, element:], chunks.place[:, element:], chunks.first, chunks, mean_length)

    def turns(self, like: Tensor) -> Tensor:
        """Return the rotations that bind elements in their chunks, as :meth:`.Chunks.turns`."""
        return self.chunks.turns(like)[:, self.element :]

    def spread(self, x: Tensor) -> Tensor:
        """Give each position what belongs to its anchor: (B, A, ...) to (B, T, ...)."""
        index = self.anchor.view(*self.anchor.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
        return x.gather(1, index)

    def chunk_starts(self, count: int) -> Tensor:
        """Return elements between the first chunk and those that follow it, about: (count,)."""
        return (torch.arange(count, device=self.first.device) * self.mean_length).round().long()


@dataclass
class PlanInput:
    """What a level reads of the level above.

    Attributes:
        plan: (B, A, H, D_above), the normalised plan of each anchor.
        memory: (B, A, D_above) or None; entry a is a function of the elements before chunk a.
        memory_window: anchors that the memory reaches back, or None for all.
        fold: assigns the reading level's positions to chunks; where rules cut chunks, each position
            is folded by itself.
        places: where the positions stand, if rules cut chunks.
        gates: the gates of the reading level.
        unbind: maps (..., n, D_above) planned concepts and (..., n) places to what the concepts say
            about the elements at those places: ``R(-i) p``. Where rules cut chunks, places are
            counted in tokens, or are rotations already.
    """

    plan: Tensor
    memory: Tensor | None
    memory_window: int | None
    fold: ChunkFold
    gates: PlanGates
    unbind: Callable[[Tensor, Tensor], Tensor]
    places: Places | None = None
