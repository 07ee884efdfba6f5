"""Sharding over a group of one process; tests/test_ddp.py has two."""

from collections.abc import Iterator

import pytest
import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from nextconcept import InputError, NextConceptModel, generate
from nextconcept.training.sharding import check_sharding, full_tensor, gather, gradient_norm, release, shard, shard_like
from tests.helpers import small_config


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """A mesh of one process."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sharing": "separate", "encoder__depth": 1, "planner__detach": True, "num_loops": [1, 2, 2]},
        {"planner__mode": "rollout"},
    ],
)
def test_shard__same_loss_and_gradient(mesh: DeviceMesh, changes: dict):
    config = small_config(levels=3, **changes)
    torch.manual_seed(0)
    plain = NextConceptModel(config)
    sharded = NextConceptModel(config)
    sharded.load_state_dict(plain.state_dict())
    shard(sharded, mesh)
    assert all(isinstance(parameter, DTensor) for parameter in sharded.parameters())
    tokens = torch.randint(config.vocab_size, (2, 30))
    results = []
    for model in (plain, sharded):
        for _ in range(2):  # the second after something else has looked at the model
            model.zero_grad()
            output = model(tokens)
            (
                output.logits.logsumexp(-1).mean() + sum(plan.square().mean() for plan in output.plans.values())
            ).backward()
            gather(model)
            with torch.no_grad():
                model(tokens)
                generate(model, tokens, 2, temperature=0.0)
            release(model)
        results.append(
            (
                output.logits,
                gradient_norm(model.parameters()),
                [full_tensor(one.grad) for one in model.parameters() if one.grad is not None],
            )
        )
    torch.testing.assert_close(results[1], results[0])
    assert all(isinstance(parameter, DTensor) for parameter in sharded.parameters())


def test_gather__lets_the_model_run_in_parts(mesh: DeviceMesh):
    model = NextConceptModel(small_config(levels=2))
    shard(model, mesh)
    gather(model)
    assert not any(isinstance(parameter, DTensor) for parameter in model.parameters())
    assert model.compose(torch.zeros(1, 4, dtype=torch.long)).isfinite().all()
    release(model)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())


def test_shard_like__and_full_tensor(mesh: DeviceMesh):
    model = NextConceptModel(small_config(levels=2))
    values = [parameter.detach().clone() for parameter in model.parameters()]
    shard(model, mesh)
    for value, parameter in zip(values, model.parameters(), strict=True):
        sharded = shard_like(value, parameter)
        assert isinstance(sharded, DTensor)
        assert torch.equal(full_tensor(sharded), value)
    assert shard_like(values[0], values[0]) is values[0] is full_tensor(values[0])


def test_check_sharding__settings_that_do_not_suit():
    check_sharding(1, 2, inference_mode=False)
    with pytest.raises(InputError, match="data_parallel_size to 2, .* tensor_parallel_size to 1"):
        check_sharding(2, 2, inference_mode=False)
    with pytest.raises(InputError, match=r"set trainer.inference_mode to false"):
        check_sharding(1, 2, inference_mode=True)
