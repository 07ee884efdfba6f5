"""Laws of the whole model."""

import copy
import itertools
import random
from collections.abc import Callable

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nextconcept import InputError, NextConceptModel, generate
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.growth import grow, shrink
from nextconcept.nn.model_output import horizon_targets
from nextconcept.training.losses import LossConfig, compute_losses
from tests.helpers import GRID, Doubling, open_model, small_config


@torch.no_grad()
def leaks(model: NextConceptModel, plan: str, time: int) -> list[str]:
    """Outputs that changed although only later tokens did."""
    config, found = model.config, []
    tokens = torch.randint(config.vocab_size, (2, time))
    known = torch.arange(1, time)
    changes = torch.randint(1, config.vocab_size, (len(known), 2, time)) * (torch.arange(time) >= known[:, None, None])
    # All changes in one batch; where a row reads the plan of the row before it, each in its own.
    for some in known[:, None] if plan == "shuffled" else [known]:
        before, after = (
            model(rows.flatten(0, 1), plan)
            for rows in (tokens.expand(len(some), 2, time), (tokens + changes[some - 1]) % config.vocab_size)
        )
        for index, t in enumerate(some.tolist()):
            rows = slice(2 * index, 2 * index + 2)
            if not torch.equal(before.logits[rows, :t], after.logits[rows, :t]):
                found.append(f"logits before {t}")
            for level, plans in before.plans.items():
                end = (t + before.offset) // config.hierarchy.span(level) + 1
                if not torch.equal(plans[rows, :end], after.plans[level][rows, :end]):
                    found.append(f"plan of level {level} before {t}")
    return found


def test_grid__is_large_enough():
    assert len(GRID) >= 200
    assert {config["levels"] for config in GRID} == {1, 2, 3, 4}


@pytest.mark.parametrize("index", range(len(GRID)))
def test_causality__no_later_token_changes_an_earlier_output(index: int):
    model = open_model(small_config(**GRID[index]))
    plans = ("predicted", "zero", "shuffled") if model.config.levels > 1 else ("predicted",)
    assert leaks(model, plans[index % len(plans)], time=(17, 12, 7)[index % 3]) == []


class WeighingEncoder(ConceptEncoder):
    """An encoder of one's own: tokens have weights."""

    def forward(self, tokens: torch.Tensor) -> dict[int, torch.Tensor]:
        weights = 1 + tokens[..., None] / self.config.vocab_size
        levels = self.config.hierarchy.concept_levels
        return {level: self.concepts(self.embed(tokens, level) * weights, level) for level in levels}


def test_causality__holds_with_an_encoder_of_ones_own():
    torch.manual_seed(1)
    config = small_config(levels=3, chunk_size=2)
    model, plain = (NextConceptModel(config, encoder).eval() for encoder in (WeighingEncoder, ConceptEncoder))
    for name, parameter in model.named_parameters():
        if ".gates." in name:
            torch.nn.init.normal_(parameter)
    plain.load_state_dict(model.state_dict())
    assert leaks(model, "predicted", 17) == []
    tokens = torch.randint(64, (2, 17))
    assert not torch.equal(model(tokens).logits, plain(tokens).logits)


@pytest.mark.parametrize("index", [i for i, config in enumerate(GRID) if config["levels"] > 1][::5])
def test_causality__oracle_leaks_so_the_test_can_fail(index: int):
    assert leaks(open_model(small_config(**GRID[index])), "oracle", 19)


@pytest.mark.parametrize("index", [i for i, config in enumerate(GRID) if config["levels"] > 1][::5])
def test_plan__training_computes_what_inference_computes(index: int):
    """The plan for anchor m of a whole window equals the plan made from the tokens before anchor m
    alone."""
    model = open_model(small_config(**(GRID[index] | {"encoder__chunk_alignment": "start"}))).double()
    tokens = torch.randint(64, (2, 19))
    with torch.no_grad():
        whole = model(tokens).plans
        for time in (*range(1, 10), 13, 16, 18, 19):
            for level, plan in model(tokens[:, :time]).plans.items():
                torch.testing.assert_close(plan, whole[level][:, : plan.shape[1]], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("mode", ["parallel", "rollout"])
def test_detach_plan__decides_what_trains_the_predictor(mode: str, detach: bool):
    model = open_model(
        small_config(planner__mode=mode, planner__detach=detach, reader__memory="none", sharing="separate")
    ).train()
    out = model(torch.randint(64, (2, 16)))
    out.logits.sum().backward(retain_graph=True)
    head = model.predictors["1"].head.maps
    assert (head.grad is None or not head.grad.any()) == detach
    model.zero_grad()
    first = out.plans[1][:, :, 0]
    reached = torch.autograd.grad(out.plans[1][:, :, 2].sum(), first, allow_unused=True, retain_graph=True)[0]
    assert reached is None or not reached.any()  # steps are stacked; the graph runs through the states instead
    gradient = torch.autograd.grad(out.plans[1][:, :, 2].sum(), head)[0]
    assert gradient.any()


def test_rollout__first_step_equals_parallel_and_later_ones_follow_from_it():
    """Step j of anchor m is what the predictor says after it is shown its own predictions as if
    they were true."""
    model = open_model(small_config(planner__mode="rollout", levels=2, sliding_window=[None, 3]))
    concepts = model(torch.randint(64, (2, 24))).concepts[1]
    predictor, transformer, norm = model.predictor(1), model.transformer(1), model.encoder.composition(1).norm
    plan = predictor(transformer, concepts, None, norm).plan
    for anchor in (0, 2, 6):
        shown = concepts[:, :anchor]
        for step in range(3):
            predicted = predictor(transformer, shown, None, norm).plan[:, -1, 0]
            torch.testing.assert_close(predicted, plan[:, anchor, step], rtol=1e-5, atol=1e-5)
            shown = torch.cat((shown, norm(predicted)[:, None]), 1)


def test_match__rollouts_go_on_from_reachable_concepts():
    model = open_model(small_config(planner__mode="rollout", planner__matching={"top_k": 64, "beam": 8}, levels=2))
    free = open_model(small_config(planner__mode="rollout", levels=2))
    tokens = torch.randint(64, (2, 16))
    plan, unmatched = model(tokens).plans[1], free(tokens).plans[1]
    assert torch.equal(plan[:, :, 0], unmatched[:, :, 0])
    assert not torch.allclose(plan[:, :, 1], unmatched[:, :, 1])


@pytest.mark.parametrize("levels", [2, 3])
def test_chunk_alignment_end__padding_makes_the_last_chunk_end_with_the_text(levels: int):
    model = open_model(small_config(levels=levels, encoder__chunk_alignment="end", num_heads=4))
    span = model.config.hierarchy.top_span
    for time in (1, span - 1, span, span + 3):
        out = model(torch.randint(64, (2, time)))
        assert (time + out.offset) % span == 0
        assert out.logits.shape[1] == time
        assert out.concepts[levels - 1].shape[1] == (time + out.offset) // span
    assert model(torch.randint(64, (2, 9)), offset=2).offset == 2
    with pytest.raises(InputError, match=r"must be below"):
        model(torch.randint(64, (2, 9)), offset=span)
    with pytest.raises(InputError, match="needs encoder.chunk_alignment 'end'"):
        open_model(small_config())(torch.randint(64, (2, 9)), offset=1)


@pytest.mark.parametrize("slicing", ["heads", "head_size"])
def test_nested__parameters_are_those_of_the_top_level_and_small_extras(slicing: str):
    one = NextConceptModel(small_config(levels=1, width=64, num_heads=8))
    three = NextConceptModel(
        small_config(levels=3, width=64, num_heads=8, nested__slicing=slicing, reader__memory="none")
    )
    names = [
        name
        for name, _ in three.transformer(0).named_parameters()
        if not name.endswith("cross_attention_norm.weight") and "plan_attention" not in name
    ]
    assert names == [name for name, _ in one.transformer(0).named_parameters()]
    assert all(
        three.transformer(0).get_parameter(name).shape == one.transformer(0).get_parameter(name).shape for name in names
    )


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
    replaced = model(tokens, {1: torch.zeros_like(out.plans[1])})
    assert torch.equal(replaced.plans[1], out.plans[1])
    assert not torch.allclose(replaced.logits, out.logits)


def test_forward__oracle_reads_the_true_future():
    model, tokens = open_model(small_config(levels=2)), torch.randint(64, (2, 20))
    out = model(tokens)
    targets, known = horizon_targets(out.concepts[1], 3)
    assert torch.equal(
        model(tokens, {1: torch.where(known[..., None], targets, out.plans[1])}).logits, model(tokens, "oracle").logits
    )


def test_forward__empty():
    with pytest.raises(InputError, match="time >= 1"):
        NextConceptModel(small_config())(torch.zeros(1, 0, dtype=torch.long))


def test_forward__tokens_are_ids():
    with pytest.raises(InputError, match="tokens must be int64 ids, not torch.float32"):
        NextConceptModel(small_config())(torch.zeros(1, 8))


@pytest.mark.parametrize("method", ["forward", "compose"])
def test_tokens_are_a_tensor(method: str):
    model = NextConceptModel(small_config())
    with pytest.raises(InputError, match="tokens must be a tensor of int64 ids, not list"):
        getattr(model, method)([[1, 2, 3, 4]])


@pytest.mark.parametrize("sharing", ["nested", "shared", "separate"])
def test_state_dict__each_tensor_has_one_name(sharing: str):
    model = NextConceptModel(small_config(levels=3, sharing=sharing))
    storages = [tensor.data_ptr() for tensor in model.state_dict().values()]
    assert len(storages) == len(set(storages))
    assert len(storages) == len(list(model.parameters()))


@pytest.mark.parametrize("slicing", ["heads", "head_size"])
def test_nested__lower_levels_use_the_top_left_blocks(slicing: str):
    """Noise outside the blocks of level 0 must not reach the logits of a model whose plan is
    off."""
    model, tokens = NextConceptModel(small_config(nested__slicing=slicing)).eval(), torch.randint(64, (2, 20))
    before, width = model(tokens).logits, model.config.widths[0]
    noisy = copy.deepcopy(model)
    hidden = model.config.block.hidden_width(width)
    with torch.no_grad():
        for name, weight in noisy.transformer(0).named_parameters():
            if "plan_attention" in name or "memory_attention" in name:
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


@pytest.mark.parametrize("content", ["[1]", '"a"', "nonsense", None])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_from_pretrained__of_a_broken_folder(name: str, content: str | None, tmp_path):
    open_model(small_config()).save_pretrained(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=f"{tmp_path}.* export"):
        NextConceptModel.from_pretrained(tmp_path)


def test_encoder_of_ones_own__is_named_when_a_model_is_loaded(tmp_path):
    model, tokens = open_model(small_config(), Doubling), torch.randint(17, (1, 9))
    assert model.config.encoder.class_name == "Doubling"
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="an encoder of its own, Doubling, not ConceptEncoder"):
        NextConceptModel.from_pretrained(tmp_path)
    loaded = NextConceptModel.from_pretrained(tmp_path, encoder=Doubling)
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)
    for other in (grow(model), shrink(model)):
        assert isinstance(other.encoder, Doubling)


def test_deepcopy__keeps_shared_weights_shared():
    model = NextConceptModel(small_config(levels=2))
    copied = copy.deepcopy(model)
    assert copied.transformer(0) is copied.transformer(1)
    assert copied.transformer(0) is not model.transformer(0)


def test_decode_plan__reads_true_concepts():
    model, tokens = NextConceptModel(small_config(width=512, num_heads=4)), torch.randint(64, (1, 16))
    targets, _ = horizon_targets(model(tokens).concepts[1], 3)
    assert torch.equal(model.decode_plan(targets, top_k=2)[0, 0, :, :, 0].flatten(), tokens[0, :12])


@pytest.mark.parametrize(
    ("options", "call", "message"),
    [
        ({}, lambda model: model.compose(torch.zeros(6, dtype=torch.int64)), "6 tokens are no concept .* which has 4"),
        ({}, lambda model: model.compose(torch.zeros(3, dtype=torch.int64)), "3 tokens are no concept .* which has 4"),
        ({}, lambda model: model.compose(torch.zeros(4, dtype=torch.int64), 0), "no concept level 0: those are 1"),
        (
            {"chunking": ["words"], "vocab_size": 256},
            lambda model: model.compose(torch.zeros(0, dtype=torch.int64)),
            "which has one or more",
        ),
        (
            {},
            lambda model: model(torch.tensor([[1, 64]])),
            "token id 64 is outside .* from 0 to 63",
        ),
        (
            {"encoder__chunk_alignment": "end"},
            lambda model: model(torch.tensor([[-1, 3]])),
            "token id -1 is outside the model's vocabulary",
        ),
        ({}, lambda model: model(torch.tensor([[True, False]])), "int64 ids, not torch.bool"),
        ({}, lambda model: NextConceptModel({"levels": 2}), "takes a ModelConfig, not dict: use ModelConfig.from_dict"),
        ({}, lambda model: model.compose(torch.tensor([1, 2, 3, 64])), "token id 64 is outside"),
        ({"levels": 1}, lambda model: model.decode_plan(torch.zeros(1, 1, 1, 32)), "it has tokens alone"),
        ({}, lambda model: model.decode_plan(torch.zeros(1, 1, 1, 32), level=2), "no concept level 2: those are 1"),
        ({}, lambda model: model.decode_plan(torch.zeros(1, 1, 1, 32), top_k=99), "from 1 to the 64 tokens"),
        (
            {"encoder__composition": "max"},
            lambda model: model.decode_plan(torch.zeros(1, 1, 1, 32)),
            "'max' can't be read back",
        ),
    ],
)
def test_model__what_it_can_not_take(options: dict, call: Callable, message: str):
    with pytest.raises(InputError, match=message):
        call(NextConceptModel(small_config(**{"width": 32, "levels": 2} | options)))


@pytest.mark.parametrize(
    "changes",
    [
        {"levels": 1},
        {"levels": 2},
        {"levels": 3},
        {"levels": 3, "planner__mode": "rollout"},
        {"reader__plan_conditioning": "prefix", "sliding_window": 16},
    ],
    ids=str,
)
def test_flops_per_token__agrees_with_the_counter_on_real_tensors(changes: dict):
    model = NextConceptModel(small_config(**changes)).eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.randint(64, (1, 64)))
    counted = counter.get_total_flops() / 64
    if model.config.reader.plan_conditioning == "cross" and model.config.levels > 1:
        assert model.flops_per_token(64) > counted  # the counter misses attention to small plans
    assert model.flops_per_token(64) == pytest.approx(counted, rel=0.1)


def test_flops_per_token__is_the_sum_of_the_matrices_of_a_gpt():
    config = small_config(levels=1)
    d, hidden, time = 32, config.block.hidden_width(32), 64
    per_block = 2 * (4 * d * d + 3 * d * hidden) + 4 * time * d
    expected = 2 * per_block + 2 * d * 64
    assert NextConceptModel(config).flops_per_token(time) == pytest.approx(expected, rel=0.01)


def training_loss(model: NextConceptModel, tokens: torch.Tensor, forward=None) -> tuple[torch.Tensor, dict]:
    out = (model if forward is None else forward)(tokens[:, :-1])
    loss = out.logits.float().logsumexp(-1).mean() + sum(plan.float().square().mean() for plan in out.plans.values())
    model.zero_grad()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


RUNTIME = [
    {"levels": 1},
    {"levels": 3},
    {"levels": 2, "planner__mode": "rollout", "sliding_window": 8},
    {"levels": 2, "reader__plan_conditioning": "prefix", "num_loops": [1, 2]},
    {"levels": 3, "reader__plan_conditioning": "unbind", "planner__shift": True},
    {"levels": 3, "chunking": [4, 2], "reader__plan_conditioning": "unbind", "reader__pointers": 2},
]


@pytest.mark.parametrize("changes", RUNTIME, ids=str)
def test_gradient_checkpointing__gives_the_same_gradients(changes: dict):
    tokens = torch.randint(64, (2, 33))
    plain, saving = (
        open_model(small_config(**changes, block__gradient_checkpointing=flag)).train() for flag in (False, True)
    )
    (loss, gradients), (again, recomputed) = training_loss(plain, tokens), training_loss(saving, tokens)
    assert torch.equal(loss, again)
    for name, gradient in gradients.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=0, atol=0)


@pytest.mark.parametrize("index", range(0, len(GRID), 45))
def test_device__nothing_is_made_on_another_than_the_models(index: int):
    """The meta device computes nothing, and refuses what lies on another device as a GPU does."""
    with torch.device("meta"):
        model = NextConceptModel(small_config(**GRID[index])).train()
    tokens = torch.randint(64, (2, 34), device="meta")
    terms = {"cosine": 1.0, "mse": 1.0, "info_nce": 1.0} | ({"energy": 1.0} if model.config.planner.noise_width else {})
    if model.config.encoder.composition.startswith("sum"):
        terms["decode"] = 1.0
    mask = torch.ones_like(tokens, dtype=torch.bool)
    compute_losses(LossConfig(terms), model, model(tokens[:, :-1]), tokens, mask).total.backward()
    assert all(parameter.grad is None or parameter.grad.is_meta for parameter in model.parameters())
    for plan in ("zero", "shuffled", "oracle"):
        assert model(tokens, plan=plan).logits.is_meta


@pytest.mark.parametrize("changes", RUNTIME, ids=str)
def test_bf16__autocast_gives_nearly_the_same_loss(changes: dict):
    model, tokens = open_model(small_config(**changes)), torch.randint(64, (2, 33))
    loss, _ = training_loss(model, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, gradients = training_loss(model, tokens)
    torch.testing.assert_close(rounded, loss, rtol=0.02, atol=0)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("changes", RUNTIME[1:], ids=str)
def test_compile__fullgraph_gives_the_same_loss(changes: dict):
    model = open_model(small_config(**(changes | {"depth": 1, "horizon": 2}))).train()
    tokens = torch.randint(64, (2, 33))
    loss, gradients = training_loss(model, tokens)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    again, traced = training_loss(model, tokens, compiled)
    torch.testing.assert_close(again, loss, rtol=1e-5, atol=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(traced[name], gradient, rtol=1e-4, atol=1e-5)


def test_flops_per_token__counts_attention_to_a_small_plan_as_matrix_products():
    """A horizon of 8 in chunks of 4 is computed element by element, a horizon of 9 by products."""
    attention = []
    for horizon in (7, 8, 9, 10):
        model = NextConceptModel(small_config(horizon=horizon, reader__memory="none", width=32, nested__width_ratio=1))
        attention.append(model.flops_per_token(64))
    steps = [after - before for before, after in itertools.pairwise(attention)]
    assert max(steps) == pytest.approx(min(steps))


@pytest.mark.parametrize("rotated", [True, False])
def test_forward__a_plan_without_rotation_is_read_as_a_set(rotated: bool):
    model = open_model(small_config(reader__memory="none", reader__rotated=rotated))
    tokens = torch.randint(64, (2, 20))
    plan = torch.randn_like(model(tokens).plans[1])
    logits, shuffled = model(tokens, {1: plan}).logits, model(tokens, {1: plan.flip(2)}).logits
    assert torch.allclose(logits, shuffled, atol=1e-4) != rotated


@pytest.mark.parametrize("order", ["after", "before"])
def test_forward__without_gates_a_plan_is_read_from_the_start(order: str):
    tokens = torch.randint(64, (2, 20))
    for gated in (True, False):
        model = NextConceptModel(small_config(reader__gated=gated, reader__order=order)).eval()
        assert torch.equal(model(tokens).logits, model(tokens, "zero").logits) == gated
        assert not any(".gates." in name for name in model.state_dict()) or gated


def test_forward__scaled_inputs_are_scaled_once_below_a_token_encoder():
    options = {"levels": 1, "num_heads": 4, "depth": 1}
    plain, scaled = (NextConceptModel(small_config(**options, scale_inputs=scale)).eval() for scale in (False, True))
    scaled.load_state_dict(plain.state_dict())
    tokens = torch.randint(64, (2, 9))
    torch.testing.assert_close(scaled(tokens).logits, plain(tokens).logits)
    both = NextConceptModel(small_config(scale_inputs=True, encoder__depth=1))
    assert (both.encoder.shape.input_scale, both.decoder.shape.input_scale) == (4.0, 1.0)


def test_flops_per_token__shared_keys_cost_less():
    costs, attention = [], {"reader__memory": "none", "width": 64, "nested__width_ratio": 1, "num_heads": 4}
    for kv_heads in (4, 2, 1):
        model = NextConceptModel(small_config(**attention, block__num_kv_heads=kv_heads))
        costs.append(model.flops_per_token(64))
    # Only the maps to keys and values shrink, of tokens, concepts and plans; scores stay.
    assert costs[0] - costs[1] == pytest.approx(2 * (costs[1] - costs[2]))
    assert costs[1] > costs[2]


def test_set_gate_scale__closes_the_gates_of_one_level_and_is_not_saved():
    model, tokens = open_model(small_config(levels=3)), torch.randint(64, (2, 40))
    before, names = model(tokens), list(model.state_dict())
    model.set_gate_scale(2, 0.0)
    zero = {2: torch.zeros_like(before.plans[2])}
    assert torch.equal(model(tokens).plans[1], model(tokens, zero).plans[1])
    assert not torch.equal(model(tokens).logits, model(tokens, "zero").logits)  # level 1 is still read
    assert list(model.state_dict()) == names
    model.set_gate_scale(2, 1.0)
    assert torch.equal(model(tokens).logits, before.logits)


def test_float64__computes_in_double_precision():
    """Logits in double precision differ from those in single precision, but not between ways."""
    model, tokens = open_model(small_config(levels=3, planner__mode="rollout")).double(), torch.randint(64, (2, 40))
    single = open_model(small_config(levels=3, planner__mode="rollout"))
    out = model(tokens)
    assert out.logits.dtype == torch.float64
    torch.testing.assert_close(out.logits.float(), single(tokens).logits, rtol=1e-3, atol=1e-3)
    for time in (5, 16, 23):
        part = model(tokens[:, :time])
        torch.testing.assert_close(part.logits, out.logits[:, :time], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_accepted_configurations__run(seed: int):
    """Whatever a configuration accepts can be run, written with and grown."""
    draw = random.Random(seed)
    levels = draw.choice([1, 2, 2, 3])
    sharing = draw.choice(["nested", "shared", "separate", "separate"])
    widths = [draw.choice([16, 24, 32, 48]) for _ in range(levels)]
    options = {
        "levels": levels,
        "chunk_size": draw.choice([2, 3]),
        "sharing": sharing,
        "width": widths if sharing == "separate" else 32,
        "num_heads": [draw.choice([1, 2]) for _ in range(levels)] if sharing == "separate" else 4,
        "depth": [draw.choice([1, 2]) for _ in range(levels)] if sharing == "separate" else 1,
        "horizon": draw.choice([1, 2, 3]),
        "context_length": 2 * 3 ** (levels - 1) * 2 ** (levels - 1),
        "encoder__depth": draw.choice([0, 1, 1]),
        "encoder__composition": draw.choice(["sum", "mlp", "linear->max"]),
        "encoder__chunk_alignment": draw.choice(["start", "end"]),
        "planner__mode": draw.choice(["parallel", "rollout"]),
        "reader__plan_conditioning": draw.choice(["cross", "prefix"]),
        "reader__memory": draw.choice(["none", "concepts", "states", "anchor"]),
        "block__num_kv_heads": draw.choice([None, 1]),
        "block__head_size": draw.choice([None, 12]),
        "block__feed_forward": draw.choice(["swiglu", "geglu"]),
        "reader__order": draw.choice(["after", "before"]),
        "scale_inputs": draw.choice([False, True]),
        "norm_embeddings": draw.choice([False, True]),
    }
    model, tokens = open_model(small_config(**options)), torch.randint(64, (2, 15))
    logits = model(tokens, offset=0).logits
    assert torch.equal(grow(model, draw.choice(["copy", "random", "zeros"]))(tokens, offset=0).logits, logits)
    written = generate(model, tokens, 7, temperature=0)
    assert torch.equal(written, generate(model, tokens, 7, temperature=0, use_cache=False))


def test_separate__upper_levels_may_be_narrower_than_the_tokens_that_they_compose():
    options = {"sharing": "separate", "width": [32, 16], "num_heads": 2, "depth": [2, 2], "encoder__depth": 1}
    model, tokens = open_model(small_config(**options)), torch.randint(64, (2, 15))
    assert model(tokens).concepts[1].shape == (2, 3, 16)
    written = generate(model, tokens, 9, temperature=0)
    assert torch.equal(written, generate(model, tokens, 9, temperature=0, use_cache=False))


@pytest.mark.parametrize("composition", ["sum", "mlp->sum", "linear"])
def test_levels_1__every_parameter_gets_a_gradient(composition: str):
    options = {"encoder__composition": composition, "encoder__depth": 2, "planner__noise_width": 4}
    model = NextConceptModel(small_config(levels=1, encoder__chunk_alignment="end", **options))
    model(torch.randint(64, (2, 9))).logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"levels": 3},
        {"levels": 3, "planner__mode": "rollout", "encoder__depth": 1, "encoder__chunk_alignment": "end"},
    ],
    ids=str,
)
@pytest.mark.parametrize("source", ["predicted", "zero", "shuffled", "oracle", {1: "zero"}, {2: "shuffled"}], ids=str)
def test_forward__what_is_taken_over_from_the_predicted_output_changes_nothing(changes: dict, source: object):
    model, tokens = open_model(small_config(**changes)), torch.randint(64, (2, 21))
    if isinstance(source, dict) and max(source) >= model.config.levels:
        pytest.skip("this model has no such level")
    plain, short = model(tokens, source), model(tokens, source, like=model(tokens))
    assert torch.equal(plain.logits, short.logits)
    assert all(torch.equal(plan, short.plans[level]) for level, plan in plain.plans.items())


def test_config__belongs_to_one_model_alone():
    config = small_config()
    first, second = NextConceptModel(config), NextConceptModel(config)
    first.config.planner.detach = True
    assert not second.config.planner.detach
    assert not config.planner.detach


class TokensAlone(ConceptEncoder):
    def forward(self, tokens: torch.Tensor) -> dict[int, torch.Tensor]:
        return super().forward(tokens)


def test_init__an_encoder_for_chunks_of_one_length():
    tokens = torch.randint(64, (2, 16))
    assert NextConceptModel(small_config(), TokensAlone)(tokens).logits.shape == (2, 16, 64)
    with pytest.raises(InputError, match="TokensAlone.forward takes tokens alone"):
        NextConceptModel(small_config(chunking=["words"]), TokensAlone)


@pytest.mark.parametrize("memory", ["states", "concepts"])
def test_set_gate_scale__closes_the_gates_of_plan_and_memory(memory: str):
    model, tokens = open_model(small_config(levels=2, reader__memory=memory)), torch.randint(64, (2, 16))
    model.set_gate_scale(1, 0.0)
    closed = model(tokens).logits
    model.set_gate_scale(1, 1.0)
    assert not torch.equal(model(tokens).logits, closed)
    with torch.no_grad():
        for gate in model.decoder.gates.parameters():
            gate.zero_()
    assert torch.equal(model(tokens).logits, closed)


@pytest.mark.parametrize("changes", [{"levels": 3}, {"chunking": ["words"], "vocab_size": 256}], ids=str)
def test_plan_input__modules_put_together_by_hand_are_the_model(changes: dict):
    model, tokens = open_model(small_config(**changes)), torch.randint(32, 64, (2, 40))
    output = model(tokens)
    chunks = output.chunks if model.chunker else None
    read = model.plan_input(1, output.plans[1], output.predictions[1].states, chunks)
    embedded, table = model.encoder.embed(tokens, 0), model.encoder.embedding.weight
    assert torch.equal(model.decoder(model.transformer(0), embedded, table, read)[0], output.logits)
    with pytest.raises(InputError, match="no concept level 7"):
        model.plan_input(7, output.plans[1])
    with pytest.raises(InputError, match="a plan of level 1 has shape"):
        model.plan_input(1, torch.zeros(3))
    if chunks is not None:
        with pytest.raises(InputError, match="rules cut the chunks of this model"):
            model.plan_input(1, output.plans[1])
