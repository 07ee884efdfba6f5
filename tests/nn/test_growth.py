"""Growing forgets nothing."""

import dataclasses
from collections.abc import Callable

import pytest
import torch

from nextconcept import InputError, ModelConfig, NextConceptModel
from nextconcept.nn.growth import grow, grown_config, shrink, shrunk_config
from tests.helpers import GRID, RULE_TEXT, open_model, small_config

GATED = [index for index, config in enumerate(GRID) if config.get("reader__gated", True)]
CASES = [index for index in GATED if GRID[index]["levels"] < 4][::3]


@torch.no_grad()
def check_same(old: NextConceptModel, new: NextConceptModel, time: int) -> None:
    tokens = torch.randint(64, (2, time))
    before, after = old(tokens, offset=0), new(tokens, offset=0)
    assert torch.equal(before.logits, after.logits)
    for level, plan in before.plans.items():
        assert torch.equal(plan, after.plans[level])


@pytest.mark.parametrize("sharing", ["nested", "shared", "separate"])
@pytest.mark.parametrize("init", ["copy", "random", "zeros"])
@pytest.mark.parametrize(
    ("rules", "rule", "composition"),
    [
        (None, "words", "mlp"),
        (["words"], "sentences", "linear"),  # whose chunks may be longer
        (["words"], None, "sum"),
        ([5, "words"], 3, "sum"),
    ],
    ids=str,
)
def test_grow__a_level_of_any_rule(sharing: str, init: str, rules: list | None, rule: object, composition: str):
    common = {"sharing": sharing, "vocab_size": 256, "width": 32, "depth": 1, "context_length": 90}
    common |= {"encoder__composition": composition}
    model = open_model(small_config(levels=len(rules or []) + 1, chunking=rules, **common))
    bigger = grow(model, init, rule=rule)
    tokens = torch.tensor([list(RULE_TEXT)])
    before, after = model(tokens), bigger(tokens)
    assert torch.equal(before.logits, after.logits)
    assert all(torch.equal(plan, after.plans[level]) for level, plan in before.plans.items())
    assert bigger.config.hierarchy.rules[-1].rule == (rule or model.config.chunk_size)
    again = shrink(bigger)
    assert torch.equal(again(tokens).logits, before.logits)
    stored = NextConceptModel(ModelConfig.from_dict(bigger.config.to_dict()))
    stored.load_state_dict(bigger.state_dict())
    assert torch.equal(stored.eval()(tokens).logits, before.logits)


@pytest.mark.parametrize("init", ["copy", "random", "zeros"])
@pytest.mark.parametrize("rules", [[], ["words"]])
def test_grow__a_level_of_another_shape(init: str, rules: list):
    common = {"sharing": "separate", "vocab_size": 256, "width": 32, "depth": 2, "sliding_window": 8, "horizon": 2}
    model = open_model(small_config(levels=len(rules) + 1, chunking=rules or None, context_length=90, **common))
    shape = {"width": 48, "depth": 1, "num_heads": 3, "num_loops": 2, "sliding_window": [None], "horizon": 1}
    bigger = grow(model, init, rule="sentences" if rules else "words", new_level=shape)
    top = bigger.config.levels - 1
    assert (bigger.config.widths[top], bigger.config.depths[top], bigger.config.level_loops[top]) == (48, 1, 2)
    assert (bigger.config.block_windows(top), bigger.config.block_windows(0)) == ([None], [8, 8])
    assert (bigger.config.level_heads[top], bigger.config.horizon_of(top)) == (3, 1)
    tokens = torch.tensor([list(RULE_TEXT)])
    before, after = model(tokens), bigger(tokens)
    assert torch.equal(before.logits, after.logits)
    assert all(torch.equal(plan, after.plans[level]) for level, plan in before.plans.items())
    assert torch.equal(shrink(bigger)(tokens).logits, before.logits)


@pytest.mark.parametrize(
    ("sharing", "given", "message"),
    [
        ("separate", {"depht": 1}, "no setting 'depht' of its own: did you mean depth"),
        ("separate", {"depth": 0}, "depth must be positive"),
        ("separate", {"depth": "two"}, "depth can't be"),
        ("separate", {"sliding_window": [4]}, "has 1 values where its 2 blocks need one each"),
        ("nested", {"depth": 1}, "depth must be one number when sharing is 'nested'"),
    ],
)
def test_grown_config__settings_of_the_new_level_that_do_not_fit(sharing: str, given: dict, message: str):
    with pytest.raises(InputError, match=message):
        grown_config(ModelConfig(levels=1, width=64, depth=2, sharing=sharing), new_level=given)


def test_grow__a_rule_does_not_grow_on_chunks_of_one_length():
    with pytest.raises(InputError, match="can't grow on chunks of 4"):
        grow(open_model(small_config(vocab_size=256)), rule="words")


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


@pytest.mark.parametrize(
    ("slicing", "heads", "kv_heads", "size"), [("heads", [4, 8, 16], [2, 4, 8], 8), ("head_size", [8] * 3, [4] * 3, 16)]
)
def test_grown_config__keeps_the_proportion_of_shared_keys(slicing: str, heads: list, kv_heads: list, size: int):
    block = {"num_kv_heads": 4, "head_size": 8}
    config = ModelConfig(levels=2, width=64, num_heads=8, block=block, nested={"slicing": slicing})
    bigger = grown_config(config)
    assert (bigger.level_heads, bigger.level_kv_heads, bigger.block.head_size) == (heads, kv_heads, size)
    assert bigger.level_head_sizes[:2] == config.level_head_sizes
    assert bigger.key_widths[:2] == config.key_widths
    assert shrunk_config(bigger) == dataclasses.replace(config, context_length=bigger.context_length)


@pytest.mark.parametrize(("init", "expected"), [("copy", [1.0, 1.0]), ("zeros", [1.0, 0.0]), ("random", [1.0, 0.0])])
def test_grow__new_biases_are_copies_or_zero(init: str, expected: list[float]):
    model = open_model(small_config(levels=2, block__feed_forward_bias=True))
    torch.nn.init.ones_(model.transformer(0).blocks[0].feed_forward.down.bias)
    bias = grow(model, init).transformer(0).blocks[0].feed_forward.down.bias
    assert [bias[:32].mean(), bias[32:].mean()] == expected


@pytest.mark.parametrize("alignment", ["start", "end"])
def test_grow__zeros_is_zero_but_for_the_gains_of_norms(alignment: str):
    model = open_model(small_config(levels=2, encoder__chunk_alignment=alignment))
    old, new = model.state_dict(), grow(model, "zeros").state_dict()
    vectors = {name: new[name] for name, was in old.items() if was.dim() == 1 and was.shape != new[name].shape}
    assert any("norm" in name for name in vectors)
    assert ("encoder.padding" in vectors) == (alignment == "end")
    for name, tensor in vectors.items():
        assert (tensor[len(old[name]) :] == float("norm" in name)).all(), name


@pytest.mark.parametrize("time", [1, 15, 17])
def test_grow__a_gpt_gets_no_padding(time: int):
    model = open_model(small_config(levels=1, encoder__chunk_alignment="end"))
    tokens = torch.randint(64, (2, time))
    assert torch.equal(grow(model)(tokens).logits, model(tokens).logits)


def test_grow__needs_gates():
    model = open_model(small_config(levels=2, reader__gated=False))
    with pytest.raises(InputError, match="reader.gated is false can't grow"):
        grow(model)
    assert shrink(model)(torch.randint(64, (1, 9))).logits.isfinite().all()


def test_grow_and_shrink__bad_input():
    model = open_model(small_config(levels=1))
    with pytest.raises(InputError, match="can't be shrunk"):
        shrink(model)
    with pytest.raises(InputError, match="unknown init 'magic'"):
        grow(model, "magic")
    for levels in (0, 10**20):
        with pytest.raises(InputError, match="levels to add must be 1 to 16"):
            grow(model, levels=levels)


@pytest.mark.parametrize("sharing", ["nested", "shared", "separate"])
def test_grow_and_shrink__keep_frozen_parameters_that_do_not_grow(sharing: str):
    model = NextConceptModel(small_config(levels=2, sharing=sharing)).requires_grad_(False)
    model.decoder.requires_grad_(True)
    bigger, old = grow(model), dict(model.named_parameters())
    for name, parameter in bigger.named_parameters():
        kept = name in old and old[name].shape == parameter.shape
        assert parameter.requires_grad == (old[name].requires_grad if kept else True), name
    assert any(not parameter.requires_grad for parameter in bigger.parameters())
    again = dict(shrink(bigger).named_parameters())
    assert all(again[name].requires_grad == old[name].requires_grad for name in old if sharing != "nested")


def test_shrink__a_token_encoder_is_not_dropped_silently():
    with pytest.raises(InputError, match="encoder.depth is 1 can't be shrunk"):
        shrink(NextConceptModel(small_config(levels=2, encoder__depth=1)))
    shrink(NextConceptModel(small_config(levels=3, encoder__depth=1)))


@torch.no_grad()
def test_grow_and_shrink__a_model_that_torch_compile_wraps():
    model = open_model(small_config(levels=2))
    wrapped = torch.compile(model, backend="eager")
    check_same(model, grow(wrapped), 21)
    assert torch.equal(shrink(wrapped)(torch.arange(20)[None]).logits, shrink(model)(torch.arange(20)[None]).logits)


@pytest.mark.parametrize("change", [grow, shrink])
def test_grow_and_shrink__anything_but_a_model(change: Callable[[object], object]):
    with pytest.raises(InputError, match=rf"{change.__name__} takes a NextConceptModel, not Sequential: .* its model"):
        change(torch.nn.Sequential())


def test_grow__settings_of_the_new_level_are_a_mapping():
    with pytest.raises(InputError, match="new_level takes a mapping of settings, .*, not 5"):
        grow(NextConceptModel(small_config(levels=1)), new_level=5)
