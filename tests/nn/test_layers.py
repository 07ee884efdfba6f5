from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from nextconcept.inference.packed_weights import PackedWeights
from nextconcept.nn.feed_forward import FeedForward
from nextconcept.nn.layers import Linear, Norm, binding_angles, full_precision, normalise, rotary_angles, rotate
from nextconcept.nn.level_weights import LevelShape, SlicedWeights


def test_linear__narrow_input_uses_the_top_left_block():
    layer, x = Linear(8, 6), torch.randn(2, 5)
    torch.testing.assert_close(layer(x, 3), x @ layer.weight[:3, :5].T)


@pytest.mark.parametrize("kind", ["rms", "layer", "cosine"])
def test_norm__narrow_input_uses_the_first_gains(kind: str):
    norm = Norm(8, kind, affine=True)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(3, 4)
    centred = x - x.mean(-1, keepdim=True) if kind == "layer" else x
    scale = centred.norm(dim=-1, keepdim=True) / (1 if kind == "cosine" else 2)
    torch.testing.assert_close(norm(x), centred / scale * norm.weight[:4], rtol=1e-4, atol=1e-4)
    assert not list(Norm(8, kind, affine=False).parameters())


@pytest.mark.parametrize("kind", ["rms", "layer", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_normalise__nothing_stays_nothing(kind: str, dtype: torch.dtype):
    """The sum of a chunk that is not there."""
    assert normalise(torch.zeros(2, 8, dtype=dtype), kind).eq(0).all()


def test_feed_forward__narrow_level_ignores_the_rest_of_the_weights():
    layer, x = FeedForward(8, 24, "swiglu"), torch.randn(2, 4)
    weights = SlicedWeights(
        LevelShape(4, 1, num_kv_heads=1, head_size=4, hidden=12, sliding_windows=(None,), interleaved=False)
    )
    before = layer(x, weights)
    with torch.no_grad():
        for linear in (layer.up, layer.gate, layer.down):
            linear.weight[12 if linear is not layer.down else 4 :] = 0
            linear.weight[:, 4 if linear is not layer.down else 12 :] = 0
    torch.testing.assert_close(layer(x, weights), before, rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "activation"), [("swiglu", F.silu), ("geglu", F.gelu)])
def test_feed_forward__gates_and_adds_biases(kind: str, activation: Callable):
    layer, x = FeedForward(8, 24, kind, bias=True), torch.randn(2, 4)
    for linear in (layer.up, layer.gate, layer.down):
        assert not linear.bias.any()
        torch.nn.init.normal_(linear.bias)
    shape = LevelShape(4, 1, num_kv_heads=1, head_size=4, hidden=12, sliding_windows=(None,), interleaved=False)
    up, gate = (x @ linear.weight[:12, :4].T + linear.bias[:12] for linear in (layer.up, layer.gate))
    expected = (activation(gate) * up) @ layer.down.weight[:4, :12].T + layer.down.bias[:4]
    for weights in (SlicedWeights(shape), PackedWeights(shape)):
        torch.testing.assert_close(layer(x, weights), expected)


def test_rotate__keeps_norms_and_depends_on_relative_position_alone():
    x, y = torch.randn(1, 8), torch.randn(1, 8)

    def score(i: int, j: int) -> torch.Tensor:
        angles = [rotary_angles(torch.tensor([position]), 8, 10_000.0) for position in (i, j)]
        return (rotate(x, angles[0]) * rotate(y, angles[1])).sum()

    torch.testing.assert_close(score(7, 3), score(11, 7))
    torch.testing.assert_close(rotate(x, rotary_angles(torch.tensor([5]), 8, 10_000.0)).norm(), x.norm())


def test_rotate__gradient_is_that_of_finite_differences():
    """Also of heads that lie apart in memory, and of features that several angles rotate."""
    heads = torch.randn(2, 3, 2, 4, dtype=torch.float64).transpose(1, 2).requires_grad_()
    single = torch.randn(2, 1, 4, dtype=torch.float64, requires_grad=True)
    angles = rotary_angles(torch.arange(3), 4, 10_000.0, torch.float64)
    for x in (heads, single):
        assert torch.autograd.gradcheck(lambda x: rotate(x, angles), [x])


def test_rotate__keeps_the_layout_of_heads_in_memory():
    features = torch.randn(2, 3, 8, requires_grad=True)
    heads = features.unflatten(2, (2, 4)).transpose(1, 2)
    rotated = rotate(heads, rotary_angles(torch.arange(3), 4, 10_000.0))
    assert rotated.stride() == heads.stride()


def test_binding_angles__positions_are_nearly_orthogonal_and_independent_of_width():
    angles = binding_angles(torch.arange(16), 256)
    overlaps = (angles[:, None] - angles[None]).cos().mean(-1)
    assert overlaps.fill_diagonal_(0).abs().max() < 0.15
    torch.testing.assert_close(binding_angles(torch.arange(16), 64), angles[:, :32])


def test_full_precision__suspends_autocast():
    x = torch.randn(3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with full_precision(x.device):
            assert (x @ x).dtype == torch.float32
    with full_precision(torch.device("meta")):  # knows no autocast
        assert torch.empty(2, 2, device="meta").dtype == torch.float32
