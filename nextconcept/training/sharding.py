"""Parameters shared out among processes: PyTorch's FSDP2, under Lightning's ``ModelParallelStrategy``.

Each process keeps a part of every parameter, of its gradient and of its moments, and gathers a block's parameters while it runs (ZeRO,
Rajbhandari et al., 2020). Written for :class:`~nextconcept.NextConceptModel`, whose blocks run once per level that shares them.
"""

import warnings
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from nextconcept.nn.transformer import Block, Transformer

__all__ = ["shard_like", "gather", "gradient_norm", "release", "shard", "full_tensor"]


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Share out the parameters of ``model``: each block by itself, and the rest together.

    The rest (embeddings, composition, heads, gates) stays gathered from the forward to the backward pass, because the losses use it.
    """
    for part in _blocks(model):
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    # Logits are a view, and nobody changes them in place.
    warnings.filterwarnings("ignore", message=".*returned a view tensor")
    root = fully_shard(model, mesh=mesh, reshard_after_forward=False)
    # By default processes gather in the order of their latest forward passes, and wait for each other for ever when one of them has
    # drawn a plan in between.
    root.set_modules_to_backward_prefetch([root])
    for stack in model.modules():
        if isinstance(stack, Transformer):
            blocks = cast(list[FSDPModule], list(stack.blocks))
            for block, before in zip(blocks, (root, *blocks), strict=False):
                block.set_modules_to_backward_prefetch([before])


def gather(model: nn.Module) -> None:
    """Gather all parameters until :func:`release`; a collective call, unless the model is not shared out.

    In between the model runs on one process without the others: validation has batches of its own on each, and plans are drawn and
    texts written on one.
    """
    for part in (*_blocks(model), model):
        if isinstance(part, FSDPModule):
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()


def release(model: nn.Module) -> None:
    """Undo :func:`gather`."""
    for part in (*_blocks(model), model):
        if isinstance(part, FSDPModule):
            part.set_reshard_after_forward(part is not model, recurse=False)
            part.reshard()


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be shared out; a collective call if it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Share out a tensor that every process has in the way that ``like``, of the same shape, is; a number stays whole."""
    if not isinstance(like, DTensor) or tensor.dim() == 0:
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements)


def gradient_norm(model: nn.Module) -> Tensor:
    """Euclidean norm of all gradients together, ()."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return full_tensor(torch.nn.utils.get_total_norm(gradients))


def _blocks(model: nn.Module) -> list[Block]:
    return [module for module in model.modules() if isinstance(module, Block)]
