import pytest
import torch

from nextconcept.metrics import Means


def test_means__weigh_batches_and_ignore_what_has_no_weight():
    means = Means(["a", "b", "c"])
    means.update({"a": (torch.tensor(1.0), torch.tensor(3)), "b": (torch.tensor(float("nan")), torch.tensor(0))})
    means.update({"a": (torch.tensor(5.0), torch.tensor(1))})
    assert means.compute() == pytest.approx({"a": 2.0})
    means.reset()
    means.update({"b": (torch.tensor(7.0), torch.tensor(2))})
    assert means.compute() == {"b": 7.0}


def test_means__long_sums_stay_exact():
    means = Means(["a"])
    for _ in range(1000):
        means.update({"a": (torch.tensor(1.1), torch.tensor(100_000))})
    assert means.compute()["a"] == pytest.approx(1.1, rel=1e-7)
