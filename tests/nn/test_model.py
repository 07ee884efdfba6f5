"""Laws of the whole model."""

import copy
import itertools

import pytest
import torch

from nextconcept import InputError, NextConceptModel
from nextconcept.nn.model import future
from tests.conftest import open_model, small_config

CONFIGS = [
    {"levels": 1},
    *(
        {"levels": levels, "sharing": sharing, "past": past, "position_binding": binding}
        for levels, sharing, past, binding in itertools.product(
            (2, 3), ("nested", "shared", "separate"), ("none", "concepts", "states"), (True, False)
        )
    ),
    {"levels": 2, "encoder_depth": 1},
    {"levels": 3, "encoder_depth": 1, "past": "concepts"},
    {"levels": 4, "chunk_size": 2, "heads": 2},
    {"levels": 2, "sharing": "separate", "width": [16, 48], "depth": [1, 3], "heads": [2, 3], "tie_embeddings": False},
    {"levels": 2, "feed_forward": "gelu", "chunk_size": 5, "horizon": 1},
    {"levels": 2, "detach_plan": True, "horizon": 6},
]


def leaks(model: NextConceptModel, plan: str, time: int) -> list[str]:
    """Places where changing the tokens from t on changes what must not know them."""
    config, found = model.config, []
    tokens = torch.randint(config.vocab_size, (2, time))
    with torch.no_grad():
        before = model(tokens, plan)
        for t in range(1, time):
            changed = tokens.clone()
            changed[:, t:] = (changed[:, t:] + torch.randint(1, config.vocab_size, (2, time - t))) % config.vocab_size
            after = model(changed, plan)
            if not torch.equal(before.logits[:, :t], after.logits[:, :t]):
                found.append(f"logits before {t}")
            for level, plans in before.plans.items():
                known = t // config.hierarchy.span(level) + 1
                if not torch.equal(plans[:, :known], after.plans[level][:, :known]):
                    found.append(f"plan of level {level} before {t}")
    return found


@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_causality__no_later_token_changes_an_earlier_output(changes: dict):
    model = open_model(small_config(**changes))
    for plan in ("predicted", "zero", "shuffled") if model.config.levels > 1 else ("predicted",):
        for time in (5, 18):
            assert leaks(model, plan, time) == []


@pytest.mark.parametrize("levels", [2, 3])
def test_causality__oracle_leaks_so_the_test_can_fail(levels: int):
    assert leaks(open_model(small_config(levels=levels)), "oracle", 18)


@pytest.mark.parametrize("changes", [{"levels": 1}, {"levels": 2}, {"levels": 3, "chunk_size": 3}], ids=str)
@pytest.mark.parametrize("time", [1, 2, 3, 4, 5, 9, 16, 31])
def test_forward__shapes_for_any_length(changes: dict, time: int):
    config = small_config(**changes)
    out = NextConceptModel(config)(torch.randint(64, (2, time)))
    assert out.logits.shape == (2, time, 64)
    for level in config.hierarchy.concept_levels:
        count, width = time // config.chunk_size**level, config.widths[level]
        assert out.concepts[level].shape == (2, count, width)
        assert out.plans[level].shape == (2, count + 1, 3, width)


def test_forward__at_step_0_the_plan_is_not_heard():
    model, tokens = NextConceptModel(small_config(levels=3)).eval(), torch.randint(64, (2, 20))
    assert torch.equal(model(tokens).logits, model(tokens, "zero").logits)


@pytest.mark.parametrize("source", ["zero", "shuffled", "oracle"])
def test_forward__an_open_model_hears_its_plan(source: str):
    model, tokens = open_model(small_config(levels=2)), torch.randint(64, (2, 20))
    assert not torch.allclose(model(tokens).logits, model(tokens, source).logits)


def test_forward__a_given_plan_replaces_the_predicted_one():
    model, tokens = open_model(small_config(levels=3)), torch.randint(64, (2, 20))
    out = model(tokens)
    assert torch.equal(model(tokens, out.plans).logits, out.logits)
    given = model(tokens, {1: torch.zeros_like(out.plans[1])})
    assert torch.equal(given.plans[1], out.plans[1])
    assert not torch.allclose(given.logits, out.logits)


def test_forward__oracle_reads_the_true_future():
    model, tokens = open_model(small_config(levels=2)), torch.randint(64, (2, 20))
    out = model(tokens)
    targets, known = future(out.concepts[1], 3)
    assert torch.equal(
        model(tokens, {1: torch.where(known[..., None], targets, out.plans[1])}).logits, model(tokens, "oracle").logits
    )


def test_future__aligns_targets_with_anchors():
    concepts = torch.arange(5.0).reshape(1, 5, 1)
    targets, known = future(concepts, 3)
    assert targets.shape == (1, 6, 3, 1)
    for m, j in itertools.product(range(6), range(3)):
        assert known[m, j] == (m + j < 5)
        if known[m, j]:
            assert targets[0, m, j, 0] == m + j


def test_forward__shuffled_needs_another_row():
    with pytest.raises(InputError, match="two rows"):
        NextConceptModel(small_config())(torch.zeros(1, 8, dtype=torch.long), "shuffled")


def test_forward__empty():
    with pytest.raises(InputError, match="time >= 1"):
        NextConceptModel(small_config())(torch.zeros(1, 0, dtype=torch.long))


@pytest.mark.parametrize("sharing", ["nested", "shared", "separate"])
def test_state_dict__each_tensor_has_one_name(sharing: str):
    model = NextConceptModel(small_config(levels=3, sharing=sharing))
    storages = [tensor.data_ptr() for tensor in model.state_dict().values()]
    assert len(storages) == len(set(storages))
    assert len(storages) == len(list(model.parameters()))


def test_nested__lower_levels_use_the_top_left_blocks():
    """Noise outside the blocks of level 0 must not reach the logits of a model whose plan is off."""
    model, tokens = NextConceptModel(small_config(levels=2)).eval(), torch.randint(64, (2, 20))
    before, width = model(tokens).logits, model.config.widths[0]
    noisy = copy.deepcopy(model)
    hidden = model.config.hidden_width(width)
    with torch.no_grad():
        for name, weight in noisy.transformer.named_parameters():
            if "plan_attention" in name or "past_attention" in name:
                continue
            rows = hidden if name.endswith(("up.weight", "gate.weight")) else width
            columns = hidden if name.endswith("down.weight") else width
            block = weight.clone()
            torch.nn.init.normal_(weight)
            weight[(slice(rows), slice(columns))[: weight.dim()]] = block[(slice(rows), slice(columns))[: weight.dim()]]
    assert torch.equal(noisy(tokens).logits, before)


@pytest.mark.parametrize("sharing", ["nested", "separate"])
def test_save_pretrained__round_trip(sharing: str, tmp_path):
    model, tokens = open_model(small_config(levels=2, sharing=sharing)), torch.randint(64, (2, 20))
    model.save_pretrained(tmp_path)
    again = NextConceptModel.from_pretrained(tmp_path).eval()
    assert again.config == model.config
    assert torch.equal(again(tokens).logits, model(tokens).logits)


def test_deepcopy__keeps_shared_weights_shared():
    copied = copy.deepcopy(NextConceptModel(small_config(levels=2)))
    assert copied.decoder.transformer is copied.transformer
    assert copied.predictors["1"].transformer is copied.transformer


def test_decode_plan__reads_true_concepts():
    model, tokens = NextConceptModel(small_config(width=512, heads=4)), torch.randint(64, (1, 16))
    targets, _ = future(model(tokens).concepts[1], 3)
    assert torch.equal(model.decode_plan(targets, top_k=2)[0, 0, :, :, 0].flatten(), tokens[0, :12])
