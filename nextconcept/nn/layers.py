"""Layers whose weights can be used in part, norms, and rotations.

A *nested* ("matryoshka") weight serves several widths: a layer that gets an input narrower than itself uses the top-left
block of its matrix. At its own full width each layer here is the ordinary one.

Shapes: B batch, T time, D width, h heads, d head size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FeedForward", "Linear", "Norm", "binding_angles", "normalise", "rotary_angles", "rotate"]


class Linear(nn.Linear):
    """A bias-free linear map of which any top-left block can be applied.

    Args:
        in_features: columns of the full matrix.
        out_features: rows of the full matrix.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def forward(self, x: Tensor, out_features: int | None = None, gate: Tensor | None = None) -> Tensor:
        """Map (..., in) to (..., out) by the first ``out`` rows and ``in = x.shape[-1]`` columns of the weight.

        ``gate`` (out,) multiplies the result.
        """
        weight, columns = self.weight, x.shape[-1]
        # A slice that changes nothing would still cost a copy of the matrix in the backward pass.
        if out_features is not None and out_features < weight.shape[0]:
            weight = weight[:out_features]
        if columns < weight.shape[1]:
            weight = weight[:, :columns]
        if gate is not None:
            weight = gate[:, None] * weight  # much smaller than the result
        return F.linear(x, weight)


def normalise(x: Tensor, kind: str, weight: Tensor | None = None) -> Tensor:
    """Normalise (..., D) over its last axis.

    Args:
        x: any features.
        kind: ``rms`` (Zhang & Sennrich, 2019), ``layer`` (Ba et al., 2016; without bias) or ``cosine`` (unit length).
        weight: (>= D,) gains, of which the first D are used.
    """
    width = x.shape[-1]
    gain = None if weight is None else weight[:width].to(x.dtype)
    if kind == "rms":
        return F.rms_norm(x, (width,), gain, eps=1e-6)
    if kind == "layer":
        return F.layer_norm(x, (width,), gain, eps=1e-6)
    unit = F.normalize(x, dim=-1)
    return unit if gain is None else unit * gain


class Norm(nn.Module):
    """A norm of which any leading part can be applied.

    Args:
        width: full number of features.
        kind: ``rms``, ``layer`` or ``cosine``; see :func:`normalise`.
        affine: whether it learns a gain per feature.
    """

    def __init__(self, width: int, kind: str, affine: bool) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.ones(width)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., D) over its last axis."""
        return normalise(x, self.kind, self.weight)


class FeedForward(nn.Module):
    """Position-wise feed-forward layer: ``down(silu(gate x) * up x)`` (SwiGLU, Shazeer 2020) or ``down(gelu(up x))``.

    Args:
        width: full width of input and output.
        hidden: full hidden width.
        kind: ``swiglu`` or ``gelu``.
    """

    def __init__(self, width: int, hidden: int, kind: str) -> None:
        super().__init__()
        self.up = Linear(width, hidden)
        self.gate = Linear(width, hidden) if kind == "swiglu" else None
        self.down = Linear(hidden, width)

    def forward(self, x: Tensor, hidden: int) -> Tensor:
        """(..., D) to (..., D), through the first ``hidden`` hidden features."""
        up = self.up(x, hidden)
        inner = F.gelu(up) if self.gate is None else F.silu(self.gate(x, hidden)) * up
        mapped: Tensor = self.down(inner, x.shape[-1])
        return mapped


def rotary_angles(positions: Tensor, head_size: int, base: float) -> Tensor:
    """Angles of rotary positions (Su et al., 2021).

    Args:
        positions: (...) positions of any numeric type.
        head_size: d, even.
        base: the lowest frequency is close to 1 / base.

    Returns:
        (..., d / 2) angles in radians.
    """
    exponents = torch.arange(0, head_size, 2, device=positions.device, dtype=torch.float32) / head_size
    return positions.float().unsqueeze(-1) * base**-exponents


def binding_angles(places: Tensor, width: int) -> Tensor:
    """Angles that mark an element's place in its chunk before elements are summed.

    Frequencies are spread over the whole circle (multiples of the golden ratio), not log-spaced as in attention, so that
    a rotation by one place and a rotation by another are nearly orthogonal: the mean of ``cos(n theta)`` is about 0 for
    n > 0, and each element can be read back out of the sum (binding in the sense of Plate, 1995). A frequency depends on
    its own index alone, so that the first columns of a wider concept are bound as in a narrow one.

    Args:
        places: (c,) places in tokens.
        width: D, even.

    Returns:
        (c, D / 2) angles in radians.
    """
    golden = (math.sqrt(5) - 1) / 2
    index = torch.arange(1, width // 2 + 1, device=places.device, dtype=torch.float64)
    theta = 2 * math.pi * torch.frac(index * golden)
    return torch.remainder(places.double()[:, None] * theta, 2 * math.pi).float()


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate pairs of neighbouring features of ``x`` (..., T, D) by ``angles`` (..., T, D / 2), or complex ``exp(i angles)``."""
    pairs = x.unflatten(-1, (-1, 2))
    if x.dtype == torch.float32 and not torch.compiler.is_compiling():
        # One pass instead of seven; a compiler fuses the plain way below, and knows no complex numbers.
        pairs = pairs if pairs.stride(-1) == 1 else pairs.contiguous()
        turn = angles if angles.is_complex() else torch.polar(torch.ones_like(angles), angles)
        return torch.view_as_real(torch.view_as_complex(pairs) * turn).flatten(-2)
    cos, sin = (angles.real, angles.imag) if angles.is_complex() else (angles.cos(), angles.sin())
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    even, odd = pairs.unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)
