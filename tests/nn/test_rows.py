"""Rows by their numbers, against gather and scatter_add."""

import pytest
import torch

from nextconcept.nn.rows import add_rows, sum_rows, take_rows


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 5, 2, 4), (3, 5), (1, 1, 4), (2, 5, 0)])
def test_take_rows__is_gather_with_its_gradient(shape: tuple[int, ...]):
    torch.manual_seed(0)
    index = torch.randint(shape[1], (shape[0], 7))
    wide = index.view(*index.shape, *[1] * (len(shape) - 2)).expand(-1, -1, *shape[2:])
    rows, outer = torch.randn(shape, requires_grad=True), torch.randn(shape[0], 7, *shape[2:])
    found, expected = take_rows(rows, index), rows.gather(1, wide)
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(one, rows, outer)[0] for one in (found, expected)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_add_rows__is_scatter_add_with_its_gradient(dtype: torch.dtype):
    torch.manual_seed(0)
    rows, index = (9 * torch.randn(2, 6, 3)).to(dtype), torch.randint(4, (2, 6))
    if dtype.is_floating_point:
        rows.requires_grad_()
    expected = rows.new_zeros(2, 5, 3).scatter_add(1, index[..., None].expand_as(rows), rows)
    found = add_rows(rows, index, 5)
    assert torch.equal(found, expected)
    if dtype.is_floating_point:
        outer = torch.randn(2, 5, 3).to(dtype)
        gradients = [torch.autograd.grad(one, rows, outer)[0] for one in (found, expected)]
        assert torch.equal(*gradients)


def test_take_rows__of_some_entries():
    x, index, entries = torch.randn(4, 6, 3), torch.randint(6, (2, 5)), torch.tensor([3, 1])
    assert torch.equal(take_rows(x, index, entries), take_rows(x[entries], index))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("k", [1, 3])
def test_sum_rows__is_a_product_with_its_gradients(k: int, dtype: torch.dtype):
    torch.manual_seed(0)
    index = torch.randint(6, (2, 5, k))
    x, weights = torch.randn(2, 6, 4).to(dtype).requires_grad_(), torch.rand(2, 5, k).to(dtype).requires_grad_()
    found = sum_rows(x, index, weights)
    rows = take_rows(x.float(), index.flatten(1)).unflatten(1, (5, k))
    expected = torch.einsum("bmk, bmkd -> bmd", weights.float(), rows)
    close = {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(found.float(), expected, **close)
    outer = torch.randn(2, 5, 4)
    gradients = torch.autograd.grad(found, [x, weights], outer.to(dtype))
    for one, other in zip(gradients, torch.autograd.grad(expected, [x, weights], outer), strict=True):
        torch.testing.assert_close(one.float(), other.float(), **close)


def test_sum_rows__of_some_entries():
    x, index, entries = torch.randn(4, 6, 3), torch.randint(6, (2, 5, 3)), torch.tensor([3, 1])
    weights = torch.rand(2, 5, 3)
    assert torch.equal(sum_rows(x, index, weights, entries), sum_rows(x[entries], index, weights))
