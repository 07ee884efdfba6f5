"""Initial weights whose scale follows the number of inputs, so that it suits every width.

A matrix with ``fan_in`` columns gets normal entries of standard deviation ``fan_in ** -0.5``: then
its outputs are as large as its inputs, whatever the width (LeCun et al., 1998). Each column of a
nested matrix counts the columns of the narrowest level that reads it, so that the part of a level
is drawn alike whether the levels above exist or not.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["column_scale", "draw"]


def column_scale(columns: int, fan_ins: Sequence[int]) -> Tensor:
    """Return the standard deviation of the entries of each column, (columns,).

    Args:
        columns: columns of the full matrix.
        fan_ins: per level, the leading columns that it reads; the widest one if empty.
    """
    scale = torch.full((columns,), float(columns))
    for fan_in in sorted({*fan_ins}, reverse=True):
        scale[:fan_in] = fan_in
    return scale**-0.5


@torch.no_grad()
def draw(weight: Tensor, fan_ins: Sequence[int] = (), factor: float = 1.0) -> None:
    """Draw normal entries, whose scale follows the columns of the last axis.

    Args:
        weight: (..., columns), changed in place.
        fan_ins: per level, the leading columns that it reads; all of them if empty.
        factor: on the standard deviation.
    """
    nn.init.normal_(weight, std=factor)
    weight.mul_(column_scale(weight.shape[-1], fan_ins).to(weight))
