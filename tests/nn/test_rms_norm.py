"""RMSNorm: PyTorch's own result, and the gradient of it."""

import pytest
import torch
import torch.nn.functional as F

from nextconcept.nn.rms_norm import EPS, rms_norm


def inputs(gains: bool, dtype: torch.dtype) -> list[torch.Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 6, dtype=dtype, generator=generator).transpose(0, 1)
    gain = torch.randn(6, dtype=dtype, generator=generator) if gains else None
    return [one if one is None else one.requires_grad_() for one in (x.detach(), gain)]


@pytest.mark.parametrize("gains", [False, True])
def test_gradient__is_that_of_finite_differences(gains: bool):
    assert torch.autograd.gradcheck(rms_norm, inputs(gains, torch.float64))


@pytest.mark.parametrize("gains", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_result_and_gradient__are_those_of_torch(gains: bool, dtype: torch.dtype):
    ours, theirs = inputs(gains, dtype), inputs(gains, dtype)
    found, wanted = rms_norm(*ours), F.rms_norm(theirs[0], (6,), theirs[1], eps=EPS)
    assert torch.equal(found, wanted)
    for result in (found, wanted):
        (result * torch.arange(6, dtype=dtype)).sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        if one is not None:
            torch.testing.assert_close(one.grad, other.grad)


def test_gain__learns_where_features_are_constants():
    x, gain = inputs(True, torch.float64)
    rms_norm(x.detach(), gain).sum().backward()
    assert gain.grad.abs().sum() > 0


def test_without_gradients__the_result_is_the_same():
    x, gain = inputs(True, torch.float32)
    recorded = rms_norm(x, gain)
    with torch.no_grad():
        assert torch.equal(rms_norm(x, gain), recorded)


@pytest.mark.slow
def test_compiled__has_one_graph():
    ours, theirs = inputs(True, torch.float32), inputs(True, torch.float32)
    found = torch.compile(rms_norm, fullgraph=True)(*ours)
    wanted = rms_norm(*theirs)
    for result in (found, wanted):
        result.square().sum().backward()
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(ours[0].grad, theirs[0].grad)
