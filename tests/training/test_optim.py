import copy
import math

import pytest
import torch
from torch.optim import AdamW, Muon
from torch.utils.flop_counter import FlopCounterMode

from nextconcept import InputError, NextConceptModel
from nextconcept.training.optim import (
    OptimizerConfig,
    apply_settings,
    check_groups,
    make_optimizer,
    make_schedule,
    number_by_position,
    optimizer_flops,
    parameter_groups,
)
from tests.helpers import small_config

OPTIMIZERS = ["muon", "adamw"]


def with_gradients(model: NextConceptModel, seed: int = 0) -> NextConceptModel:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizer_flops__as_torch_counts_them(optimizer: str):
    model = with_gradients(NextConceptModel(small_config(levels=2, block__feed_forward_ratio=3.0)))
    config = OptimizerConfig(optimizer=optimizer)
    with FlopCounterMode(display=False) as counter:
        make_optimizer(config, model).step()
    assert optimizer_flops(config, model) == counter.get_total_flops()
    assert (optimizer_flops(config, model) > 0) == (optimizer == "muon")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("sharing", ["nested", "separate"])
def test_parameter_groups__every_parameter_once_and_only_matrices_decay(optimizer: str, sharing: str):
    model = NextConceptModel(small_config(levels=3, sharing=sharing, encoder__depth=1))
    groups = parameter_groups(OptimizerConfig(optimizer=optimizer), model)
    names = [name for group in groups for name in group.parameters]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    decayed = {name for group in groups if group.decays for name in group.parameters}
    assert not any(".gates." in name or "norm" in name or "bos" in name for name in decayed)
    by_muon = {name for group in groups if group.muon for name in group.parameters}
    blocks = {name for name, one in model.named_parameters() if ".blocks." in name and one.dim() == 2}
    assert by_muon == (blocks if optimizer == "muon" else set())
    assert any("token_encoder.blocks" in name for name in blocks)


def test_parameter_groups__rates_of_adamw_fall_with_the_columns_that_tokens_read():
    model = NextConceptModel(small_config(levels=3, width=256, num_heads=8))  # widths 64, 128, 256
    groups = parameter_groups(OptimizerConfig(), model)
    rates = {name: group.ratio for group in groups for name in group.parameters}
    assert rates["encoder.embedding.weight"] == 1.0
    assert (rates["predictors.1.head.maps"], rates["predictors.2.head.maps"]) == (0.5, 0.25)
    assert rates["decoder.gates.plan"] == rates["predictors.1.bos"] == 1.0
    composition = {"encoder__composition": "mlp->sum->mlp->norm"}  # which level 1 reads first, 128 of 256 columns
    learned = NextConceptModel(small_config(levels=3, width=256, num_heads=8, **composition))
    learned_groups = parameter_groups(OptimizerConfig(), learned)
    maps = {name: one.ratio for one in learned_groups for name in one.parameters if ".compositions." in name}
    assert set(maps.values()) == {0.5}
    plain = parameter_groups(OptimizerConfig(optimizer="adamw"), model)
    assert [(group.ratio, group.decays) for group in plain] == [(1.0, True), (1.0, False)]


def test_parameter_groups__no_rate_is_above_that_of_vectors():
    """Also for parameters of an encoder of one's own, whatever their shape."""
    options = {"levels": 3, "width": 32, "planner__noise_width": 4, "encoder__composition": "geglu->sum->geglu->norm"}
    model = NextConceptModel(small_config(**options))
    model.encoder.own = torch.nn.ParameterList([torch.zeros(64, 1), torch.zeros(4, 8, 3), torch.zeros(2, 2, 2, 2)])
    groups = parameter_groups(OptimizerConfig(), model)
    assert all(0 < group.ratio <= 1 for group in groups if not group.muon)


def test_make_optimizer__makes_the_steps_of_torchs_own_optimizers():
    config = OptimizerConfig(lr=0.01, muon_ratio=3.0, weight_decay=0.3, momentum=0.9)
    model = with_gradients(NextConceptModel(small_config(levels=2)))
    other, (muon, *rest) = copy.deepcopy(model), parameter_groups(config, model)
    with_gradients(other)
    parameters = dict(other.named_parameters())
    expected = [Muon([parameters[name] for name in muon.parameters], lr=0.03, weight_decay=0.3, momentum=0.9)]
    for group in rest:
        decay = 0.3 if group.decays else 0.0
        chosen = [parameters[name] for name in group.parameters]
        expected.append(AdamW(chosen, lr=0.01 * group.ratio, betas=(0.9, 0.95), weight_decay=decay, fused=True))
    made = make_optimizer(config, model)
    for _ in range(2):
        for optimizer in (made, *expected):
            optimizer.step()
    for name, parameter in model.named_parameters():
        # On a CPU the iterations of Muon are in float32, those of torch's own in bfloat16.
        rounding = 1e-3 if name in muon.parameters else 0.0
        torch.testing.assert_close(parameter, parameters[name], rtol=0.0, atol=rounding)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_make_optimizer__its_state_continues_bit_for_bit(optimizer: str):
    config = OptimizerConfig(optimizer=optimizer)
    models = [NextConceptModel(small_config())]
    models.append(copy.deepcopy(models[0]))
    first, second = (make_optimizer(config, model) for model in models)
    with_gradients(models[0], 1)
    first.step()
    models[1].load_state_dict(models[0].state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for model, one in zip(models, (first, second), strict=True):
        with_gradients(model, 2)
        one.step()
    assert all(map(torch.equal, models[0].parameters(), models[1].parameters()))


def test_muon_with_adamw__a_copy_goes_on_alike():
    model = with_gradients(NextConceptModel(small_config()))
    optimizer = make_optimizer(OptimizerConfig(), model)
    optimizer.step()
    pair = {"model": model, "optimizer": optimizer}
    copied = copy.deepcopy(pair)
    for one in (pair, copied):
        with_gradients(one["model"], 1)
        one["optimizer"].step()
    assert all(map(torch.equal, model.parameters(), copied["model"].parameters()))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_number_by_position__an_optimizer_loads_them_again(optimizer: str):
    config, model = OptimizerConfig(optimizer=optimizer), with_gradients(NextConceptModel(small_config(levels=3)))
    made = make_optimizer(config, model)
    made.step()
    state = made.state_dict()
    number_by_position([state], config, model)
    for place, parameter in enumerate(model.parameters()):
        assert all(torch.equal(value, made.state[parameter][key]) for key, value in state["state"][place].items())
    other = make_optimizer(config, model)
    other.load_state_dict(state)
    for parameter in model.parameters():
        assert all(torch.equal(value, made.state[parameter][key]) for key, value in other.state[parameter].items())
    empty: dict = {}  # what a process has that does not save
    number_by_position([empty], config, model)
    assert not any(empty.values())


def test_check_groups__refuses_the_state_of_another_optimizer():
    model, muon, adamw = NextConceptModel(small_config()), OptimizerConfig(), OptimizerConfig(optimizer="adamw")
    check_groups([make_optimizer(muon, model).state_dict()], OptimizerConfig(lr=1.0), model)
    with pytest.raises(InputError, match="optimizer.optimizer adamw"):
        check_groups([make_optimizer(adamw, model).state_dict()], muon, model)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_check_groups__refuses_damaged_moments(optimizer: str):
    config, model = OptimizerConfig(optimizer=optimizer), with_gradients(NextConceptModel(small_config()))
    made = make_optimizer(config, model)
    made.step()
    state = made.state_dict()
    number_by_position([state], config, model)
    check_groups([state], config, model)
    first = state["state"][0]
    for damaged in ({}, dict(list(first.items())[:-1]), {name: torch.zeros(7) for name in first}):
        state["state"][0] = damaged
        with pytest.raises(InputError, match="the checkpoint is damaged: .* incomplete or of another shape"):
            check_groups([state], config, model)


def test_apply_settings__gives_each_group_its_rate():
    model, config = NextConceptModel(small_config()), OptimizerConfig(lr=1.0)
    optimizer = make_optimizer(config, model)
    schedule = make_schedule(config, optimizer, 100)
    before = [dict(group) for group in optimizer.param_groups]
    apply_settings(config, model, optimizer, schedule)
    assert [{**group, "params": 0} for group in before] == [{**g, "params": 0} for g in optimizer.param_groups]
    halved = OptimizerConfig(lr=0.5, momentum=0.8)
    apply_settings(halved, model, optimizer, schedule)
    assert [group["lr"] for group in optimizer.param_groups] == [group["lr"] / 2 for group in before]
    assert optimizer.param_groups[0]["momentum"] == 0.8


def test_make_schedule__warms_up_and_falls_to_the_minimum():
    optimizer = make_optimizer(OptimizerConfig(lr=1.0), NextConceptModel(small_config()))
    schedule = make_schedule(OptimizerConfig(lr=1.0, warmup_steps=9, min_lr_ratio=0.1), optimizer, 100)
    rates = []
    for _ in range(101):
        rates.append(schedule.get_last_lr()[-1])  # of vectors, whose rate is lr itself
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
    assert schedule.get_last_lr()[-1] == OptimizerConfig().lr


@pytest.mark.parametrize(
    "options",
    [{"lr": 0}, {"weight_decay": -1}, {"warmup_steps": -1}, {"min_lr_ratio": 2}, {"muon_ratio": 0}, {"momentum": 1}],
)
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
        {"lr": "1e-3"},
        {"betas": 0.9},
        {"decay": "exponential"},
        {"optimizer": "sgd"},
        {"warmup_steps": 1.5},
    ],
)
def test_optimizer_config__numbers_that_adamw_refuses(options: dict):
    with pytest.raises(InputError, match=next(iter(options))):
        OptimizerConfig(**options)
