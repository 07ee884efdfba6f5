"""RMSNorm (Zhang & Sennrich, 2019) with a backward pass of one operation on CPUs.

Shapes: D width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["rms_norm"]

EPS = 1e-6


def rms_norm(x: Tensor, gain: Tensor | None = None) -> Tensor:
    """Divide (..., D) by its root mean square over the last axis, and multiply it by gains.

    It can be differentiated once. The result is that of ``torch.nn.functional.rms_norm``.

    Args:
        x: any features.
        gain: (D,) gains; None for ones.
    """
    recorded = torch.is_grad_enabled() and (x.requires_grad or (gain is not None and gain.requires_grad))
    fused = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    if recorded and fused and not torch.compiler.is_compiling():
        result: Tensor = _RMSNorm.apply(x, gain)  # type: ignore[no-untyped-call]
        return result
    return F.rms_norm(x, (x.shape[-1],), gain, eps=EPS)


class _RMSNorm(torch.autograd.Function):
    """RMSNorm whose gradient is that of LayerNorm, which PyTorch computes in one pass.

    On CPUs PyTorch 2.13 differentiates RMSNorm operation by operation, which takes several times as
    long. With the mean 0, LayerNorm's gradient differs in one term, which takes the mean of the
    incoming gradient off; it is added again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor | None) -> Tensor:
        """Normalise (..., D), and multiply by a gain (D,) if there is one."""
        x = x.contiguous()  # as torch does, and as the backward pass needs it
        scale = (x.pow(2).mean(-1, keepdim=True) + EPS).rsqrt_()
        ctx.save_for_backward(x, gain, scale)
        return x * scale if gain is None else (x * scale).mul_(gain)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the gradients of input (..., D) and gain (D,)."""
        x, gain, scale = ctx.saved_tensors
        width, wanted = x.shape[-1], [True, gain is not None, False]
        to_x, to_gain, _ = torch.ops.aten.native_layer_norm_backward(
            gradient, x, [width], torch.zeros_like(scale), scale, gain, None, wanted
        )
        mean = gradient.mean(-1, keepdim=True) if gain is None else (gradient @ gain).div_(width).unsqueeze(-1)
        return to_x.add_(mean.mul_(scale)), to_gain  # addcmul_ takes several times as long where it broadcasts
