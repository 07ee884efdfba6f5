"""Sharded parameters: PyTorch's FSDP2, under Lightning's ``ModelParallelStrategy``.

Each process holds a shard of every parameter, of its gradient and of its moments, and gathers the
parameters of a block while the block runs (ZeRO, Rajbhandari et al., 2020). Written for
:class:`~nextconcept.NextConceptModel`, whose blocks run once per level that shares them.
"""

import warnings
from collections.abc import Iterable
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from nextconcept.core.errors import InputError
from nextconcept.nn.transformer import Block, Transformer

__all__ = [
    "check_sharding",
    "full_tensor",
    "gather",
    "gradient_norm",
    "release",
    "shard",
    "shard_like",
]

T = TypeVar("T")


def check_sharding(tensor_parallel_size: int, processes: int, inference_mode: bool) -> None:
    """Check settings of ``ModelParallelStrategy`` and ``Trainer``.

    Raises:
        InputError: if matrices are to be split, or if evaluation would run in inference mode.
    """
    if tensor_parallel_size > 1:
        raise InputError(
            f"the model can't be split within its matrices: set the strategy's data_parallel_size to {processes}, the "
            "number of processes, and tensor_parallel_size to 1."
        )
    if inference_mode:
        raise InputError("sharded parameters can't be gathered in inference mode: set trainer.inference_mode to false.")


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard the parameters of a model over ``mesh``: block by block, then the rest.

    The rest (embeddings, composition, heads, gates) stays gathered from the forward to the backward
    pass, because the losses use it.
    """
    for part in _blocks(model):
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    # Logits are a view, and no code changes them in place.
    warnings.filterwarnings("ignore", message=".*returned a view tensor")
    root = fully_shard(model, mesh=mesh, reshard_after_forward=False)
    # By default processes gather in the order of their latest forward passes. One process that has
    # drawn a plan in between has another order, and all would wait for ever.
    root.set_modules_to_backward_prefetch([root])
    for stack in model.modules():
        if isinstance(stack, Transformer):
            blocks = cast(list[FSDPModule], list(stack.blocks))
            for block, before in zip(blocks, (root, *blocks), strict=False):
                block.set_modules_to_backward_prefetch([before])


def gather(model: nn.Module) -> None:
    """Gather all parameters until :func:`release`; a collective call if the model is sharded.

    A gathered model runs on one process without the others: in validation each process has batches
    of its own, and one process alone draws plans and writes texts.
    """
    for part in (*_blocks(model), model):
        if isinstance(part, FSDPModule):
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()


def release(model: nn.Module) -> None:
    """Shard the parameters again that :func:`gather` has gathered."""
    for part in (*_blocks(model), model):
        if isinstance(part, FSDPModule):
            part.set_reshard_after_forward(part is not model, recurse=False)
            part.reshard()


def full_tensor(tensor: Tensor) -> Tensor:
    """Return the full tensor of one that may be sharded; a collective call if it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Shard a replicated tensor like ``like``; scalars stay replicated."""
    if not isinstance(like, DTensor) or tensor.dim() == 0:
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements)


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm of the gradients of parameters together, a scalar."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return full_tensor(torch.nn.utils.get_total_norm(gradients))


def _blocks(model: nn.Module) -> list[Block]:
    return [module for module in model.modules() if isinstance(module, Block)]
