"""The laws of models whose chunks are cut by rules."""

import dataclasses
from typing import Any

import pytest
import torch

from nextconcept import NextConceptModel
from nextconcept.core.config import ModelConfig
from nextconcept.nn.places import UnevenPlaces
from nextconcept.training.losses import LossConfig, compute_losses, training_flops_per_token
from tests.helpers import RULE_TEXT, RULES, open_model, rule_grid, small_config

GRID = rule_grid()
TOKENS = torch.tensor([list(RULE_TEXT), list(RULE_TEXT[::-1])])


@pytest.mark.parametrize("options", GRID, ids=str)
@torch.no_grad()
def test_causality__logits_and_plans_depend_on_what_came_before(options: dict):
    """Changes also move later boundaries; a prefix alone gives the same but for rounding."""
    model = open_model(small_config(**options)).eval()
    whole = model(TOKENS)
    for known in (1, 30, 51):
        changed = TOKENS.clone()
        changed[:, known:] = torch.randint(32, 127, changed[:, known:].shape)
        other, prefix = model(changed), model(TOKENS[:, :known])
        torch.testing.assert_close(whole.logits[:, :known], other.logits[:, :known], rtol=0, atol=0)
        torch.testing.assert_close(whole.logits[:, :known], prefix.logits, atol=1e-4, rtol=1e-4)
        for level, plan in whole.plans.items():
            for row, count in enumerate(prefix.chunks[level].counts.tolist()):
                torch.testing.assert_close(plan[row, : count + 1], other.plans[level][row, : count + 1], rtol=0, atol=0)


@pytest.mark.parametrize("options", GRID, ids=str)
@torch.no_grad()
def test_causality__another_rows_plan_is_of_earlier_text(options: dict):
    """Anchors of two rows stand at different places; with two rows, plans of plans come back."""
    model = open_model(small_config(**options)).eval()
    changed = TOKENS.clone()
    changed[:, 51:] = torch.randint(32, 127, changed[:, 51:].shape)
    whole, other = (model(tokens, "shuffled").logits[:, :51] for tokens in (TOKENS, changed))
    assert torch.equal(whole, other)


@pytest.mark.parametrize("rules", RULES, ids=str)
@torch.no_grad()
def test_causality__an_oracle_plan_leaks(rules: list):
    options = next(one for one in GRID if one["chunking"] == rules)
    model = open_model(small_config(**options)).eval()
    changed = TOKENS.clone()
    changed[:, 30:] = torch.randint(32, 127, changed[:, 30:].shape)
    before, after = (model(tokens, "oracle").logits[:, :30] for tokens in (TOKENS, changed))
    assert (before - after).abs().max() > 0


@pytest.mark.parametrize("conditioning", ["cross", "prefix", "unbind"])
@pytest.mark.parametrize("memory", ["none", "states", "anchor"])
@pytest.mark.parametrize(("levels", "size"), [(2, 4), (3, 3)])
def test_rules__that_cut_chunks_of_one_length_are_a_chunk_size(levels: int, size: int, conditioning: str, memory: str):
    """Rules of another kind that happen to cut every ``size`` elements, losses included."""
    assert_a_chunk_size(levels, size, reader__plan_conditioning=conditioning, reader__memory=memory)


@pytest.mark.parametrize(
    "options",
    [
        {"encoder__composition": "linear"},
        {"encoder__composition": "norm->mlp", "encoder__position_binding": False},
        {"encoder__flat": True, "encoder__composition": "mlp->mean"},
        {"planner__mode": "rollout", "planner__matching": {"top_k": 3, "beam": 4}},
    ],
    ids=str,
)
@pytest.mark.parametrize(("levels", "size"), [(2, 4), (3, 3)])
def test_rules__compose_and_match_as_a_chunk_size_does(levels: int, size: int, options: dict):
    assert_a_chunk_size(levels, size, **options)


def assert_a_chunk_size(levels: int, size: int, **options: object):
    common = {"levels": levels, "sharing": "separate", "vocab_size": 256, "width": 32, "num_heads": 2, "depth": 1}
    common |= {"horizon": 2, "context_length": size**levels, "planner__shift": True, "encoder__depth": 1}
    common |= options
    never = {"ends": "\1", "max_length": size, "mean_length": size}
    fixed = open_model(small_config(chunk_size=size, **common)).eval()
    ruled = NextConceptModel(small_config(chunking=[*[size] * (levels - 2), never], **common)).eval()
    ruled.load_state_dict(
        fixed.state_dict() | {name: value for name, value in ruled.state_dict().items() if "chunker" in name}
    )
    tokens = TOKENS[:, : size**levels + 1]
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[:, : size + 1] = False
    outputs = [model(tokens[:, :-1]) for model in (fixed, ruled)]
    torch.testing.assert_close(outputs[0].logits, outputs[1].logits, atol=1e-4, rtol=1e-4)
    for term in ("cosine", "decode", "info_nce", "mse"):
        if term == "decode" and not fixed.config.encoder.additive:
            continue
        losses = [
            compute_losses(LossConfig(terms={term: 1.0}), model, output, tokens, mask)
            for model, output in zip((fixed, ruled), outputs, strict=True)
        ]
        torch.testing.assert_close(losses[0].total, losses[1].total, atol=1e-4, rtol=1e-4)
        for level in range(1, levels):
            assert losses[0].concepts[level].counts.tolist() == losses[1].concepts[level].counts.tolist()


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_gradients__reach_every_parameter(rules: list):
    options = next(one for one in GRID if one["chunking"] == rules and one["reader__plan_conditioning"] == "unbind")
    config = dataclasses.asdict(small_config(**options | {"encoder__composition": "sum", "horizon": 1}))
    model = open_model(ModelConfig(**config))
    model.encoder.token_prior.requires_grad_()  # as in a module whose loss has `decode`
    mask = torch.ones_like(TOKENS, dtype=torch.bool)
    terms = {"decode": 1.0, "cosine": 1.0} | ({"draft": 1.0} if model.draft_head else {})
    losses = compute_losses(LossConfig(terms), model, model(TOKENS[:, :-1]), TOKENS, mask)
    losses.total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    passes = 3 * model.flops_per_token(64)
    assert training_flops_per_token(LossConfig(terms={"decode": 1.0}), model, 64) > passes > 0


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("options", [GRID[0], GRID[2]], ids=["flat", "linear"])
def test_compile__has_no_graph_break(options: dict[str, Any]):
    model = open_model(small_config(**options))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(TOKENS).logits, model(TOKENS).logits, atol=1e-4, rtol=1e-4)


def test_step_starts__are_rounded_multiples_of_the_mean_length():
    model = NextConceptModel(small_config(vocab_size=256, levels=2, chunking=["words"]))
    places = UnevenPlaces(model.chunker(TOKENS)[1], 1, 3.6)
    assert places.step_starts(4, torch.device("cpu")).tolist() == [0, 4, 7, 11]


def test_unbound__a_rollout_reads_the_plan_at_its_first_element_alone():
    """Where later chunks end is not known."""
    model = NextConceptModel(small_config(vocab_size=256, levels=2, chunking=["words"]))
    chunks, unbind = model.chunker(TOKENS)[1], model.unbind(1)
    places, plan = UnevenPlaces(chunks, 0, 4.0), torch.randn(2, chunks.most + 1, 3, 32)
    assert places.unbound(plan, 0, unbind).any()
    assert not places.unbound(plan, 1, unbind).any()
