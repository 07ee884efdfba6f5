"""Counting floating-point operations."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nextconcept.nn.attention import PlanAttention
from nextconcept.nn.attention_kernels import LARGEST_ELEMENTWISE

__all__ = ["flops_per_token"]


@torch.no_grad()
def flops_per_token(model: nn.Module, time: int) -> float:
    """Count the operations of ``model`` on ``time`` token ids, per token.

    torch's own counter watches a copy of the model that has shapes but no data. It counts matrix
    products. Attention is counted in full, including the half above the diagonal, as is usual. The
    products of attention to small plans, which
    :func:`~nextconcept.nn.attention_kernels.small_attention` computes element by element, are added
    as if they were matrix products.

    Args:
        model: maps (1, ``time``) token ids to anything.
        time: number of tokens.
    """
    ghost = copy.deepcopy(model).to("meta").eval()
    small_products: list[int] = []

    def count(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        context = args[1]
        read, shape = context.plan_input, context.shape
        plan, chunk_size = read.plan, read.places.fold.chunk_size
        groups = read.places.spread(plan[..., 0, 0]).shape[1]
        # Heads that share keys are further queries of a group.
        rows = chunk_size * shape.num_heads // shape.num_kv_heads
        if rows * plan.shape[2] <= LARGEST_ELEMENTWISE:
            # Groups of c queries and H keys; queries by keys, and weights by values.
            products = 2 * 2 * plan.shape[0] * groups * chunk_size * plan.shape[2]
            small_products.append(products * shape.query_width)

    for module in ghost.modules():
        if isinstance(module, PlanAttention):
            module.register_forward_hook(count)
    tokens = torch.zeros(1, time, dtype=torch.long, device="meta")
    # The plain kernel consists of matrix products, which the counter knows on every device.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        ghost(tokens)
    return float(counter.get_total_flops() + sum(small_products)) / time
