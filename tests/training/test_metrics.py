import pytest
import torch

from nextconcept.training.metrics import EffectiveRank, WeightedMeans


def test_means__weigh_batches_and_ignore_what_has_no_weight():
    means = WeightedMeans(["a", "b", "c"])
    means.update({"a": (torch.tensor(1.0), torch.tensor(3)), "b": (torch.tensor(float("nan")), torch.tensor(0))})
    means.update({"a": (torch.tensor(5.0), torch.tensor(1))})
    assert means.compute() == {"a": (2.0, 4.0)}
    means.update({"b": (torch.tensor(3.0), torch.tensor(1))})
    assert means.compute()["b"] == (3.0, 1.0)
    means.reset()
    means.update({"b": (torch.tensor(7.0), torch.tensor(2))})
    assert means.compute() == {"b": (7.0, 2.0)}


def test_means__long_sums_stay_exact():
    means = WeightedMeans(["a"])
    for _ in range(1000):
        means.update({"a": (torch.tensor(1.1), torch.tensor(100_000))})
    assert means.compute()["a"][0] == pytest.approx(1.1, rel=1e-7)


def test_collapse__counts_directions():
    spread, line = EffectiveRank(16), EffectiveRank(16)
    for _ in range(4):
        x = torch.randn(5000, 16)
        spread.update(3 * x)
        line.update(x[:, :1] * torch.arange(16.0) + 7)
    rank, variance = spread.compute()
    assert rank == pytest.approx(16, rel=0.01)
    assert variance == pytest.approx(16 * 9, rel=0.05)
    assert line.compute()[0] == pytest.approx(1, abs=0.01)


def test_collapse__is_the_entropy_of_singular_values():
    rank = EffectiveRank(2)
    rank.update(torch.tensor([[3.0, 1.0], [3.0, -1.0], [-3.0, 1.0], [-3.0, -1.0]]) + 5)
    assert rank.compute() == pytest.approx((4 / 3**0.75, 10.0))  # exp(-3/4 log 3/4 - 1/4 log 1/4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_means__stay_exact_in_a_module_that_is_halved_and_after_a_reset(dtype: torch.dtype):
    holder = torch.nn.ModuleDict({"means": WeightedMeans(["a"])}).to(dtype)
    for _ in range(2):
        holder["means"].update({"a": (torch.tensor(1e6), torch.tensor(3e6))})
        assert holder["means"].compute() == {"a": (1e6, 3e6)}
        holder["means"].reset()
