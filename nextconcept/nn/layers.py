"""Linear maps of which a part can be used, norms, and rotations.

A *nested* ("matryoshka") weight serves several widths: a layer whose input is narrower than its
matrix applies the top-left block of the matrix. At full width each layer is the ordinary one.

Shapes: B batch, T time, D width, h heads, d head size.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nextconcept.nn.rms_norm import rms_norm

__all__ = [
    "KeyLinear",
    "Linear",
    "Norm",
    "binding_angles",
    "compute_dtype",
    "full_precision",
    "normalise",
    "rotary_angles",
    "rotate",
    "rotations",
]


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type for angles and softmax: ``dtype``, but at least single precision."""
    return torch.promote_types(dtype, torch.float32)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast, for what half precision can't tell apart."""
    if not torch.amp.is_autocast_available(device.type):  # shapes without data
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


class Linear(nn.Linear):
    """A linear map of which any top-left block can be applied.

    Args:
        in_features: columns of the full matrix.
        out_features: rows of the full matrix.
        bias: whether to add a bias, zero at first.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        super().__init__(in_features, out_features, bias=bias)
        if bias:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, out_features: int | None = None, gate: Tensor | None = None) -> Tensor:
        """Apply the first ``out`` rows and the first ``in = x.shape[-1]`` columns of the weight.

        Args:
            x: (..., in).
            out_features: number of rows to use; None for all.
            gate: (out,) factors on the result, of a map without bias.

        Returns:
            (..., out).
        """
        weight, columns = self.weight, x.shape[-1]
        # Even a slice over a whole axis takes time, forward and backward.
        if out_features is not None and out_features < weight.shape[0]:
            weight = weight[:out_features]
        if columns < weight.shape[1]:
            weight = weight[:, :columns]
        if gate is not None:
            weight = gate[:, None] * weight  # the weight is much smaller than the result
        return F.linear(x, weight, None if self.bias is None else self.bias[: weight.shape[0]])


class KeyLinear(Linear):
    """A linear map to keys or values, which may have fewer heads than queries have."""


def normalise(x: Tensor, kind: str, weight: Tensor | None = None) -> Tensor:
    """Normalise (..., D) over its last axis.

    Args:
        x: any features.
        kind: ``rms`` (Zhang & Sennrich, 2019), ``layer`` (Ba et al., 2016; without bias) or
            ``cosine`` (unit length).
        weight: (>= D,) gains, of which the first D are used.
    """
    width = x.shape[-1]
    gain = None if weight is None else weight[:width].to(x.dtype)
    if kind == "rms":
        return rms_norm(x, gain)
    if kind == "layer":
        return F.layer_norm(x, (width,), gain, eps=1e-6)
    # The least length must not be 0 in half precision, or a chunk that is not there is NaN.
    unit = F.normalize(x, dim=-1, eps=max(1e-12, torch.finfo(x.dtype).tiny))
    return unit if gain is None else unit * gain


class Norm(nn.Module):
    """A norm whose leading gains serve narrower inputs.

    Args:
        width: full number of features.
        kind: ``rms``, ``layer`` or ``cosine``; see :func:`normalise`.
        affine: whether to learn a gain per feature.
    """

    def __init__(self, width: int, kind: str, affine: bool) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.ones(width)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., D) over its last axis."""
        return normalise(x, self.kind, self.weight)


def rotary_angles(positions: Tensor, head_size: int, base: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Compute the angles of rotary positions (Su et al., 2021).

    Args:
        positions: (...) positions of any numeric type.
        head_size: d, even.
        base: the lowest frequency is close to 1 / base.
        dtype: of the result; see :func:`compute_dtype`.

    Returns:
        (..., d / 2) angles in radians.
    """
    exponents = torch.arange(0, head_size, 2, device=positions.device, dtype=dtype) / head_size
    return positions.to(dtype).unsqueeze(-1) * base**-exponents


def binding_angles(positions: Tensor, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Compute the angles that mark an element's position in its chunk before elements are summed.

    Frequencies are spread over the whole circle (multiples of the golden ratio) instead of
    log-spaced as in attention, so that rotations by different positions are nearly orthogonal: the
    mean of ``cos(n theta)`` is about 0 for n > 0, and each element can be read back out of the sum
    (binding in the sense of Plate, 1995). A frequency depends only on its own index, so the first
    columns of a wider concept are bound as in a narrow one.

    Args:
        positions: (...) positions in tokens.
        width: D, even.
        dtype: of the result; see :func:`compute_dtype`.

    Returns:
        (..., D / 2) angles in radians.
    """
    golden = (math.sqrt(5) - 1) / 2
    index = torch.arange(1, width // 2 + 1, device=positions.device, dtype=torch.float64)
    theta = 2 * math.pi * torch.frac(index * golden)
    return torch.remainder(positions.double().unsqueeze(-1) * theta, 2 * math.pi).to(dtype)


def rotations(angles: Tensor) -> Tensor:
    """Return the complex ``exp(i angles)``, which :func:`rotate` applies fastest."""
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate pairs of neighbouring features.

    Args:
        x: (..., T, D) features.
        angles: (..., T, D / 2) angles in radians, or their complex :func:`rotations`.

    Returns:
        (..., T, D).
    """
    if x.dtype in (torch.float32, torch.float64) and not torch.compiler.is_compiling():
        # One pass instead of seven; a compiler fuses the real arithmetic below, but does not
        # support complex numbers.
        turns = angles if angles.is_complex() else rotations(angles)
        turns = turns.to(x.dtype.to_complex())
        if not (torch.is_grad_enabled() and x.requires_grad):
            return _turn(x, turns)
        turned: Tensor = _Rotation.apply(x, turns)  # type: ignore[no-untyped-call]
        return turned
    pairs = x.unflatten(-1, (-1, 2))
    cos, sin = (angles.real, angles.imag) if angles.is_complex() else (angles.cos(), angles.sin())
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    even, odd = pairs.unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


def _turn(x: Tensor, turns: Tensor) -> Tensor:
    """Multiply pairs of features (..., D) by complex numbers (..., D / 2)."""
    if x.stride(-1) != 1 or any(stride % 2 for stride in (*x.stride()[:-1], x.storage_offset())):
        x = x.clone(memory_format=torch.contiguous_format)  # pairs have to lie at even places
    return (x.view(turns.dtype) * turns).view(x.dtype)


class _Rotation(torch.autograd.Function):
    """A rotation whose backward pass keeps the layout of heads in memory and copies nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, turns: Tensor) -> Tensor:
        """Multiply pairs of features (..., D) by complex numbers (..., D / 2)."""
        ctx.save_for_backward(turns)
        ctx.shape = x.shape
        return _turn(x, turns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Turn the gradient (..., D) back."""
        (turns,) = ctx.saved_tensors
        return _turn(gradient, turns.conj_physical()).sum_to_size(ctx.shape), None
