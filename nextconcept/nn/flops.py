"""Counting floating-point operations."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["counted_products", "flops_per_token", "without_data"]

Module = TypeVar("Module", bound=nn.Module)


def without_data(module: Module) -> Module:
    """Return a copy in eval mode that has shapes but no data."""
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

    Matrix products are counted (:func:`counted_products`). Attention to small plans and what
    pointers read are computed element by element where there is data; without data they are
    products, so that they count as such.

    Args:
        model: maps (1, ``time``) token ids to anything.
        time: number of tokens.
        parts: names of submodules.

    Returns:
        The operations of the whole model, and of each part.
    """
    ghost = without_data(model)
    tokens = torch.zeros(1, time, dtype=torch.long, device="meta")
    with counted_products() as counter:
        ghost(tokens)
    by_module, name = counter.get_flop_counts(), type(model).__name__
    of_parts = [sum(by_module[f"{name}.{part}"].values()) / time for part in parts]
    return counter.get_total_flops() / time, of_parts
