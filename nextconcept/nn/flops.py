"""Counting floating-point operations."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nextconcept.nn.attention import PlanAttention
from nextconcept.nn.attention_kernels import LARGEST_ELEMENTWISE
from nextconcept.nn.chunk_pointers import ChunkPointers

__all__ = ["counted_products", "flops_per_token", "without_data"]

Module = TypeVar("Module", bound=nn.Module)


def without_data(module: Module) -> Module:
    """Return a copy that has shapes but no data, in eval mode, in which nothing is recomputed."""
    # Given to the copy as if they were copied already, so that no weight is.
    ghosts: dict[int, Tensor] = {
        id(one): nn.Parameter(torch.empty_like(one, device="meta"), one.requires_grad) for one in module.parameters()
    }
    ghosts |= {id(one): torch.empty_like(one, device="meta") for one in module.buffers()}
    return copy.deepcopy(module, ghosts).eval()


@contextmanager
def counted_products() -> Iterator[FlopCounterMode]:
    """Count the matrix products of what is computed in this context, by torch's own counter.

    Attention is counted in full, including the half above the diagonal, as is usual: its plain
    kernel consists of matrix products, which the counter knows on every device.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


@torch.no_grad()
def flops_per_token(model: nn.Module, time: int, parts: Iterable[str] = ()) -> tuple[float, list[float]]:
    """Count the operations of ``model`` on ``time`` token ids, per token, and those of its parts.

    Matrix products are counted (:func:`counted_products`). Those of attention to small plans, which
    :func:`~nextconcept.nn.attention_kernels.small_attention` computes element by element, and of
    what pointers read are added as if they were matrix products, to those of the whole model alone.

    Args:
        model: maps (1, ``time``) token ids to anything.
        time: number of tokens.
        parts: names of submodules.

    Returns:
        The operations of the whole model, and of each part.
    """
    ghost = without_data(model)
    small_products: list[int] = []

    def count(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        """Add attention to a plan of so few steps that it is computed element by element."""
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

    def count_pointers(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        """Add what pointers at no more anchors than there are compare element by element."""
        assert isinstance(module, ChunkPointers)
        states, anchors = args[:2]
        small_products.append(module.elementwise_flops(states.shape[1], anchors.shape[1]))

    for module in ghost.modules():
        if isinstance(module, PlanAttention):
            module.register_forward_hook(count)
        elif isinstance(module, ChunkPointers):
            module.register_forward_hook(count_pointers)
    tokens = torch.zeros(1, time, dtype=torch.long, device="meta")
    with counted_products() as counter:
        ghost(tokens)
    by_module, name = counter.get_flop_counts(), type(model).__name__
    of_parts = [sum(by_module[f"{name}.{part}"].values()) / time for part in parts]
    return float(counter.get_total_flops() + sum(small_products)) / time, of_parts
