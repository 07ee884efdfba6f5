import math

import pytest
import torch

from nextconcept import InputError, NextConceptModel
from nextconcept.training.optim import OptimizerConfig, make_optimizer, make_schedule, number_by_position
from tests.helpers import small_config


def test_make_optimizer__every_parameter_once_and_only_matrices_decay():
    model = NextConceptModel(small_config(levels=3, sharing="separate"))
    decayed, rest = make_optimizer(OptimizerConfig(weight_decay=0.3), model).param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.3, 0.0)
    ids = [id(parameter) for parameter in decayed["params"] + rest["params"]]
    assert sorted(ids) == sorted(id(parameter) for parameter in model.parameters())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert not any(
        ".gates." in names[id(p)] or "norm" in names[id(p)] or "bos" in names[id(p)] for p in decayed["params"]
    )


def test_number_by_position__an_optimizer_loads_them_again():
    model = NextConceptModel(small_config(levels=3))
    optimizer = make_optimizer(OptimizerConfig(), model)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    state = optimizer.state_dict()
    number_by_position([state], model)
    for place, parameter in enumerate(model.parameters()):
        assert torch.equal(state["state"][place]["exp_avg"], optimizer.state[parameter]["exp_avg"])
    other = make_optimizer(OptimizerConfig(), model)
    other.load_state_dict(state)
    for parameter in model.parameters():
        assert torch.equal(other.state[parameter]["exp_avg"], optimizer.state[parameter]["exp_avg"])
    empty: dict = {}  # what a process has that does not save
    number_by_position([empty], model)
    assert not any(empty.values())


def test_make_schedule__warms_up_and_falls_to_the_minimum():
    optimizer = make_optimizer(OptimizerConfig(lr=1.0), NextConceptModel(small_config()))
    schedule = make_schedule(OptimizerConfig(lr=1.0, warmup_steps=9, min_lr_ratio=0.1), optimizer, 100)
    rates = []
    for _ in range(101):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[100] == pytest.approx(0.1)
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_make_schedule__may_be_linear():
    optimizer = make_optimizer(OptimizerConfig(lr=1.0), NextConceptModel(small_config()))
    config = OptimizerConfig(lr=1.0, warmup_steps=0, decay="linear", min_lr_ratio=0.2)
    factor = make_schedule(config, optimizer, 100).lr_lambdas[0]
    assert [factor(step) for step in (0, 25, 100, 200)] == pytest.approx([1.0, 0.8, 0.2, 0.2])


def test_make_schedule__unbounded_training_stays_at_the_peak():
    optimizer = make_optimizer(OptimizerConfig(), NextConceptModel(small_config()))
    schedule = make_schedule(OptimizerConfig(warmup_steps=0), optimizer, math.inf)
    assert schedule.get_last_lr() == [OptimizerConfig().lr] * 2


@pytest.mark.parametrize("options", [{"lr": 0}, {"weight_decay": -1}, {"warmup_steps": -1}, {"min_lr_ratio": 2}])
def test_config__out_of_range(options: dict):
    with pytest.raises(InputError, match="out of range"):
        OptimizerConfig(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"betas": (1.5, 0.9)},
        {"betas": (0.9, 1.0)},
        {"betas": (-0.1, 0.9)},
        {"betas": (0.9, math.nan)},
        {"betas": (0.9,)},
        {"lr": math.nan},
        {"lr": math.inf},
        {"weight_decay": math.nan},
        {"min_lr_ratio": math.nan},
    ],
)
def test_optimizer_config__numbers_that_adamw_refuses(options: dict):
    with pytest.raises(InputError, match=next(iter(options))):
        OptimizerConfig(**options)
