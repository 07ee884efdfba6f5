"""Rows of tensors, taken and added up by their numbers.

On CPUs this is three to six times as fast as ``gather`` and ``scatter_add``, which look up every
number of a row for itself; forward and backward pass are the same to the last bit.

Shapes: B batch, n and m rows of each batch entry, k rows of a sum, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["add_rows", "sum_rows", "take_rows"]


def take_rows(x: Tensor, index: Tensor, entries: Tensor | None = None) -> Tensor:
    """Take rows of each batch entry, or of some of them.

    Args:
        x: (B, n, ...).
        index: (B, m) from 0 to n - 1; (R, m) for some entries.
        entries: (R,) these; None for all.

    Returns:
        (B, m, ...), or (R, m, ...).
    """
    rows: Tensor = x.flatten(0, 1).index_select(0, _numbers(index, x.shape[1], entries)).unflatten(0, index.shape)
    return rows


def sum_rows(x: Tensor, index: Tensor, weights: Tensor, entries: Tensor | None = None) -> Tensor:
    """Take weighted sums of rows of each batch entry, or of some of them.

    The rows are never stored, which is faster than a matrix product with them on CPUs.

    Args:
        x: (B, n, D).
        index: (B, m, k) from 0 to n - 1, with k >= 1; (R, m, k) for some entries.
        weights: (B, m, k) or (R, m, k), of the type of ``x``.
        entries: (R,) these; None for all.

    Returns:
        (B, m, D), or (R, m, D).
    """
    if x.is_meta:  # operations are counted, and the counter knows products alone
        rows = take_rows(x, index.flatten(1), entries).unflatten(1, index.shape[1:])
        products: Tensor = (weights.unsqueeze(2) @ rows).squeeze(2)
        return products
    numbers = _numbers(index.flatten(1), x.shape[1], entries).view_as(index).flatten(0, 1)
    sums: Tensor = F.embedding_bag(numbers, x.flatten(0, 1), mode="sum", per_sample_weights=weights.flatten(0, 1))
    return sums.view(*index.shape[:2], x.shape[-1])


def add_rows(x: Tensor, index: Tensor, count: int) -> Tensor:
    """Add up the rows of each batch entry that have the same number.

    Args:
        x: (B, m, ...).
        index: (B, m) from 0 to ``count`` - 1.
        count: n.

    Returns:
        (B, n, ...), zero where a number does not occur.
    """
    sums = x.new_zeros(x.shape[0] * count, *x.shape[2:])
    added: Tensor = sums.index_add(0, _numbers(index, count), x.flatten(0, 1)).unflatten(0, (x.shape[0], count))
    return added


def _numbers(index: Tensor, count: int, entries: Tensor | None = None) -> Tensor:
    """Number the rows of all batch entries one after the other: (B, m) to (B m,)."""
    entries = torch.arange(len(index), device=index.device) if entries is None else entries
    return (index + entries[:, None] * count).flatten()
