"""What processes that train together tell one another."""

from typing import Any, TypeVar

import torch

__all__ = ["gather_objects"]

T = TypeVar("T")


def gather_objects(value: T) -> list[T]:
    """Return the values of all processes, by rank; a collective call if there are several."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
