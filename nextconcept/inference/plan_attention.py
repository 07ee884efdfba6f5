"""How much the positions of each level attend to the steps of the plan that they read.

Shapes: B batch, T positions of a level, h heads, H horizon.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from nextconcept.nn.attention import PlanAttention, PlanPrefix, SelfAttention
from nextconcept.nn.level_context import ParallelContext
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.transformer import Transformer

__all__ = ["PlanAttentionRecorder"]


class PlanAttentionRecorder:
    """Records attention to plans during a forward pass inside a ``with`` block.

    The model computes what it computes without; a compiled call would skip the hooks that record.

    Args:
        model: the model, in eval mode.

    Attributes:
        passes: per level that reads a plan, (B, h, T, H) for each pass through a block. Empty where
            plans are read at their places, without attention.
    """

    def __init__(self, model: NextConceptModel) -> None:
        self.model, self.passes = model, dict[int, list[Tensor]]()
        self._handles: list[Any] = []

    def mean(self, level: int) -> Tensor | None:
        """Return (B, T, H), the mean over heads and blocks; None where no plan is attended to."""
        found = self.passes.get(level)
        return torch.stack([weights.mean(1) for weights in found]).mean(0) if found else None

    def __enter__(self) -> "PlanAttentionRecorder":
        blocks = [
            block for transformer in self.model.transformers for block in cast(Transformer, transformer).passes(1)
        ]
        for block in blocks:
            if block.plan_attention is not None:
                self._watch(block.plan_attention, _of_plan)
            if block.plan_prefix is not None:
                self._watch(block.attention, _of_prefix)
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _watch(self, module: Any, weights: Callable[..., Tensor]) -> None:
        def record(module: Any, args: tuple[Any, ...]) -> None:
            """Keep the weights of the attention that is about to be computed."""
            context = args[1]
            # A rollout continues from its first step, the only one that stands before all chunks.
            if isinstance(context, ParallelContext) and context.reads_plan and context.step == 0:
                self.passes.setdefault(self._level(context), []).append(weights(module, *args))

        self._handles.append(module.register_forward_pre_hook(record))

    def _level(self, context: ParallelContext) -> int:
        """Return the level that reads: with shared weights, several levels use a module."""
        assert context.plan_input is not None
        gates = context.plan_input.gates
        return next(level for level in range(self.model.config.levels) if self.model.part(level).gates is gates)


def _of_plan(attention: PlanAttention, x: Tensor, context: ParallelContext, index: int) -> Tensor:
    return attention.attention_weights(x, context)


def _of_prefix(attention: SelfAttention, x: Tensor, context: ParallelContext, index: int, prefix: PlanPrefix) -> Tensor:
    return attention.attention_weights(x, context, index, prefix)
