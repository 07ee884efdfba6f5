"""Growing forgets nothing."""

import pytest
import torch

from nextconcept import InputError, ModelConfig, NextConceptModel
from nextconcept.nn.growth import grow, grown_config, shrink, shrunk_config
from tests.helpers import GRID, open_model, small_config

CASES = [index for index, config in enumerate(GRID) if config["levels"] < 4][::3]


@torch.no_grad()
def check_same(old: NextConceptModel, new: NextConceptModel, time: int) -> None:
    tokens = torch.randint(64, (2, time))
    before, after = old(tokens, offset=0), new(tokens, offset=0)
    assert torch.equal(before.logits, after.logits)
    for level, plan in before.plans.items():
        assert torch.equal(plan, after.plans[level])


def test_cases__are_many():
    assert len(CASES) >= 50


@pytest.mark.parametrize("index", CASES)
def test_grow__keeps_the_function_bit_for_bit_and_shrink_gives_it_back(index: int):
    model, init = open_model(small_config(**GRID[index])), ("copy", "random", "zeros")[index % 3]
    bigger = grow(model, init)
    assert bigger.config.levels == model.config.levels + 1
    check_same(model, bigger, (17, 12, 7)[index % 3])
    again = shrink(bigger)
    assert list(again.state_dict()) == list(model.state_dict())
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("init", ["copy", "random", "zeros"])
@pytest.mark.parametrize("sharing", ["nested", "shared", "separate"])
def test_grow__from_a_plain_gpt_to_four_levels(sharing: str, init: str):
    model = open_model(small_config(levels=1, sharing=sharing, chunk_size=2))
    bigger = grow(model, init, levels=3)
    assert bigger.config.levels == 4
    check_same(model, bigger, 19)


@pytest.mark.parametrize("init", ["copy", "random", "zeros"])
def test_grow__the_new_level_learns(init: str):
    """After a step of training everything that is new has moved, and what shrink cuts out still
    works."""
    bigger = grow(open_model(small_config(levels=2)), init).train()
    optimizer = torch.optim.SGD(bigger.parameters(), 0.1)
    for _ in range(2):
        out = bigger(torch.randint(64, (2, 64)))
        (out.logits.square().mean() + sum(plan.square().mean() for plan in out.plans.values())).backward()
        optimizer.step()
    assert bigger.predictors["2"].head.maps.grad.any()
    assert bigger.predictors["1"].gates.plan.any()
    smaller = shrink(bigger).eval()
    assert smaller(torch.randint(64, (1, 9))).logits.isfinite().all()


def test_grow__the_test_of_the_function_can_fail():
    model = open_model(small_config(levels=2))
    bigger = grow(model, "random")
    torch.nn.init.normal_(bigger.predictors["1"].gates.plan)
    with pytest.raises(AssertionError):
        check_same(model, bigger, 40)


def test_grow__copy_repeats_the_old_top_level():
    """On features that are duplicated, diagonal blocks compute the same twice."""
    model = open_model(small_config(levels=2, width=32, reader__memory="none"))
    bigger = grow(model, "copy")
    old, new = (m.transformer(0).blocks[0].attention.query.weight for m in (model, bigger))
    assert torch.equal(new[32:, 32:], old)
    assert not new[:32, 32:].any()
    assert torch.equal(bigger.encoder.embedding.weight[:, 32:], model.encoder.embedding.weight)
    assert torch.equal(bigger.predictors["2"].bos, model.predictors["1"].bos.repeat(2))


def test_grown_config__rounds_the_context_and_keeps_full_horizons():
    config = ModelConfig(levels=2, chunk_size=4, context_length=20, horizon="full")
    bigger = grown_config(config)
    assert (bigger.context_length, bigger.horizon, bigger.width, bigger.num_heads) == (32, [5, "full"], 512, 8)
    assert shrunk_config(bigger).width == config.width


def test_grow_and_shrink__bad_input():
    model = open_model(small_config(levels=1))
    with pytest.raises(InputError, match="can't be shrunk"):
        shrink(model)
    with pytest.raises(InputError, match="unknown init 'magic'"):
        grow(model, "magic")
    with pytest.raises(InputError, match="1 or more"):
        grow(model, levels=0)
