import dataclasses
import functools
import math
import sys
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from nextconcept import ConceptModule, InputError, ModelConfig, NextConceptModel
from nextconcept.nn.model_output import ModelOutput, horizon_targets
from nextconcept.training.loss_terms import TERMS, find_term
from nextconcept.training.losses import LossConfig, LossInputs, compute_losses, training_flops_per_token
from tests.helpers import GRID, open_model, small_config


def batch_of(time: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(64, (2, time + 1)), torch.ones(2, time + 1, dtype=torch.bool)


@pytest.mark.parametrize("discount", [0.5, 2.0])
def test_compute_losses__is_the_formula(discount: float):
    model = NextConceptModel(small_config())
    config = LossConfig({"cosine": 1.0, "mse": 0.5}, level_weight=0.3, discount=discount)
    tokens, mask = batch_of()
    out = model(tokens[:, :-1])
    losses = compute_losses(config, model, out, tokens, mask)
    tokens_loss = F.cross_entropy(out.logits.flatten(0, 1), tokens[:, 1:].flatten())
    expected = torch.tensor(0.0)
    for j in range(3):
        cosine, mse = [], []
        for m in range(5):
            if m + j < 4:
                plan, target = out.plans[1][:, m, j], out.concepts[1][:, m + j]
                cosine.append(1 - F.cosine_similarity(plan, target))
                mse.append((plan - target).pow(2).mean(-1))
        expected = expected + discount**j * (torch.cat(cosine).mean() + 0.5 * torch.cat(mse).mean()) / 3
    torch.testing.assert_close(losses.tokens, tokens_loss)
    torch.testing.assert_close(losses.concepts[1].total, expected)
    torch.testing.assert_close(losses.total, tokens_loss + 0.3 * expected)
    assert losses.concepts[1].counts.tolist() == [8, 6, 4]
    torch.testing.assert_close(losses.concepts[1].similarity, 1 - losses.concepts[1].steps["cosine"])


@pytest.mark.parametrize("chunking", [None, ["words"]], ids=str)
def test_compute_losses__steps_beyond_its_horizon_change_nothing_in_training(chunking: list[str] | None):
    """Evaluation shows them; training does not compute them."""
    rules = {"chunking": chunking, "sharing": "separate", "vocab_size": 256} if chunking else {}
    model = NextConceptModel(small_config(**rules))
    tokens, mask = torch.randint(32, 128, (2, 17)), torch.ones(2, 17, dtype=torch.bool)
    tokens = tokens if chunking else tokens % 64
    config = LossConfig({"cosine": 1.0, "info_nce": 0.5, "decode": 1.0}, horizon=2)
    found = []
    for training in (True, False):
        model.train(training).zero_grad()
        loss = compute_losses(config, model, model(tokens[:, :-1]), tokens, mask)
        loss.total.backward()
        found.append((loss.total, [parameter.grad for parameter in model.parameters()]))
        assert loss.concepts[1].plan.shape[2] == len(loss.concepts[1].similarity) == (2 if training else 3)
    torch.testing.assert_close(*found)


def test_compute_losses__is_a_mean_over_the_steps_that_have_concepts():
    model, config = NextConceptModel(small_config()), LossConfig({"cosine": 1.0, "mse": 0.5})
    tokens, mask = batch_of(8)  # two chunks, and a horizon of three
    loss = compute_losses(config, model, model(tokens[:, :-1]), tokens, mask).concepts[1]
    assert loss.counts.tolist() == [4, 2, 0]
    torch.testing.assert_close(loss.total, (loss.steps["cosine"] + 0.5 * loss.steps["mse"])[:2].mean())
    torch.testing.assert_close(loss.distances[:2].mean(), loss.total)
    nothing = compute_losses(config, model, model(tokens[:, :-1]), tokens, torch.zeros_like(mask)).concepts[1]
    assert nothing.total == 0


def test_compute_losses__may_count_the_first_steps_alone():
    model, (tokens, mask) = NextConceptModel(small_config()), batch_of()
    out = model(tokens[:, :-1])
    terms = {"cosine": 1.0, "mse": 0.5}
    for horizon in (1, 2, 9):
        loss = compute_losses(LossConfig(terms, horizon=horizon), model, out, tokens, mask).concepts[1]
        expected = (loss.steps["cosine"] + 0.5 * loss.steps["mse"])[:horizon].mean()
        torch.testing.assert_close(loss.total, expected)
        assert len(loss.steps["cosine"]) == min(horizon, 3)
    with pytest.raises(InputError, match="horizon of the loss must be 1 or more"):
        LossConfig(horizon=0)
    with pytest.raises(InputError, match="concept loss 'cosine' must be 0 or more, not '1'"):
        LossConfig({"cosine": "1"})
    for wrong in ({"horizon": 1.5}, {"discount": "1"}):
        with pytest.raises(InputError, match=f"loss.{next(iter(wrong))} can't be"):
            LossConfig(**wrong)


def with_plan(out: ModelOutput, plan: torch.Tensor) -> ModelOutput:
    prediction = dataclasses.replace(out.predictions[1], plan=plan)
    return dataclasses.replace(out, logits=out.logits.detach(), predictions={1: prediction})


@pytest.mark.parametrize("name", ["cosine", "mse", "mae", "smooth_l1", "info_nce", "decode"])
def test_terms__are_least_at_the_target(name: str):
    model = NextConceptModel(small_config(width=512))
    tokens, mask = batch_of()
    out = model(tokens[:, :-1])
    targets, _ = horizon_targets(out.concepts[1].detach(), 3)

    def loss(plan: torch.Tensor) -> float:
        config = LossConfig({name: 1.0}, decode_scale=30.0)
        return compute_losses(config, model, with_plan(out, plan), tokens, mask).concepts[1].total.item()

    assert loss(targets) < 0.1
    near, far = (loss(targets + scale * torch.randn_like(targets)) for scale in (0.3, 10.0))
    assert loss(targets) < near < far


@pytest.mark.parametrize("chunking", [{}, {"chunking": [{"ends": "\x03\x07", "max_length": 8}]}], ids=["even", "rules"])
def test_decode__halves_average_to_the_whole(chunking: dict, monkeypatch: pytest.MonkeyPatch):
    """What is scored in a step is drawn and weighted, so that the loss is right on average."""
    model, (tokens, mask) = open_model(small_config(vocab_size=256, **chunking)), batch_of()
    output, orders = (
        model(tokens[:, :-1]),
        [lambda count: torch.arange(count), lambda count: torch.arange(count).flip(0)],
    )

    def steps(share: float) -> torch.Tensor:
        config = LossConfig({"decode": 1.0}, decode_share=share)
        return compute_losses(config, model, output, tokens, mask).concepts[1].steps["decode"]

    whole = steps(1.0)
    torch.testing.assert_close(steps(0.5), whole, rtol=0, atol=0)  # all is scored outside training
    model.train()
    halves = []
    for order in orders:
        monkeypatch.setattr(torch, "randperm", lambda count, order=order, **_: order(count))
        halves.append(steps(0.5))
    assert not torch.equal(halves[0], halves[1])
    torch.testing.assert_close(sum(halves) / 2, whole)


def test_info_nce__is_the_cross_entropy_over_the_window():
    model = NextConceptModel(small_config(horizon=1))
    tokens, mask = batch_of()
    out = model(tokens[:, :-1])
    loss = compute_losses(LossConfig({"info_nce": 1.0}, temperature=0.5), model, out, tokens, mask).concepts[1].total
    plan, concepts = (F.normalize(x, dim=-1) for x in (out.plans[1][:, :4, 0], out.concepts[1]))
    logits = plan @ concepts.transpose(1, 2) / 0.5
    torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), torch.arange(4).repeat(2)))


def test_info_nce__what_follows_the_last_chunk_is_no_negative():
    model = NextConceptModel(small_config(levels=2, vocab_size=256, chunking=["words"]))
    tokens = torch.tensor([list(b"one two three four"), list(b"all is one word...")])
    out, mask = model(tokens[:, :-1]), torch.ones_like(tokens, dtype=torch.bool)
    later = torch.arange(out.concepts[1].shape[1]) >= out.counts(1)[:, None]
    assert later.any()
    changed = torch.where(later[..., None], torch.randn_like(out.concepts[1]), out.concepts[1])
    totals = [
        compute_losses(LossConfig({"info_nce": 1.0}), model, one, tokens, mask).total
        for one in (out, dataclasses.replace(out, encoding=dataclasses.replace(out.encoding, concepts={1: changed})))
    ]
    torch.testing.assert_close(*totals)


def test_info_nce__tells_the_target_from_negatives_in_half_precision():
    model = NextConceptModel(small_config(horizon=1))
    tokens, mask = batch_of()
    out = model(tokens[:, :-1])
    perfect = with_plan(out, F.pad(out.concepts[1], (0, 0, 0, 1))[:, :, None])
    config = LossConfig({"info_nce": 1.0}, temperature=0.1)
    whole = compute_losses(config, model, perfect, tokens, mask).concepts[1].total
    with torch.autocast("cpu", torch.bfloat16):
        half = compute_losses(config, model, perfect, tokens, mask).concepts[1].total
    torch.testing.assert_close(half, whole)


@pytest.mark.parametrize("mode", ["parallel", "rollout"])
def test_energy__prefers_the_right_spread(mode: str):
    """The energy score is proper: the distribution of the data scores best, not its mean."""
    model = NextConceptModel(small_config(planner__noise_width=8, planner__mode=mode))
    tokens, mask = batch_of()
    out = model(tokens[:, :-1])
    data = torch.randn(2, 5, 3, 32)
    predictor = model.predictors["1"]
    scores = {}
    for spread in (0.01, 1.0, 4.0):
        predictor.sample = lambda steps, count, spread=spread: spread * torch.randn(count, 400, *data.shape)
        out.predictions[1].steps = None
        at = LossInputs(model, out, 1, tokens, data, data, torch.ones(data.shape[:3]))
        scores[spread] = find_term("energy")(at).mean().item()
    assert scores[1.0] < min(scores[0.01], scores[4.0])
    del predictor.sample
    losses = compute_losses(LossConfig({"energy": 1.0}), model, model(tokens[:, :-1]), tokens, mask)
    losses.total.backward()
    assert predictor.head.noise.weight.grad.abs().sum() > 0


def test_compute_losses__padding_in_front_is_not_learnt():
    model = NextConceptModel(small_config(encoder__chunk_alignment="end"))
    tokens, mask = batch_of(16)
    losses = compute_losses(LossConfig({"decode": 1.0}), model, model(tokens[:, :-1], offset=3), tokens, mask)
    assert losses.concepts[1].counts.tolist() == [6, 4, 2]


def test_compute_losses__targets_get_no_gradient():
    model = NextConceptModel(small_config())
    tokens, mask = batch_of()
    out = model(tokens[:, :-1])
    plan = out.plans[1].detach().requires_grad_()
    compute_losses(LossConfig(), model, with_plan(out, plan), tokens, mask).total.backward()
    assert plan.grad.abs().sum() > 0
    assert model.encoder.embedding.weight.grad is None


def test_compute_losses__masked_tokens_do_not_count():
    model = NextConceptModel(small_config()).eval()
    tokens, mask = batch_of()
    mask[0, 6] = False
    out = model(tokens[:, :-1])
    losses = compute_losses(LossConfig({"mse": 1.0}), model, out, tokens, mask)
    nats = F.cross_entropy(out.logits.transpose(1, 2), tokens[:, 1:], reduction="none")
    nats[0, 5] = 0
    torch.testing.assert_close(losses.tokens, nats.sum() / 31)
    assert losses.concepts[1].counts.tolist() == [7, 4, 2]


def test_compute_losses__nothing_to_learn_is_zero_not_nan():
    model = NextConceptModel(small_config(levels=3))
    tokens, mask = batch_of(3)
    losses = compute_losses(LossConfig(), model, model(tokens[:, :-1]), tokens, torch.zeros_like(mask))
    assert losses.total == 0
    losses.total.backward()
    assert all(parameter.grad is not None for parameter in model.predictors.parameters())


TEXT_RULE = [{"ends": " ", "max_length": 6, "mean_length": 4}]


def chunked_config(chunking: list | None, **changes: object) -> ModelConfig:
    """Tokens are bytes where a rule reads their text."""
    return small_config(chunking=chunking, vocab_size=64 if chunking is None else 256, **changes)


@pytest.mark.parametrize("chunking", [None, TEXT_RULE])
def test_decode__learns_what_tokens_are_likely(chunking: list | None):
    """The gradient of the prior raises the tokens that occur and lowers those that never do."""
    module = ConceptModule(chunked_config(chunking), LossConfig({"decode": 1.0}))
    assert not ConceptModule(small_config(), LossConfig({"cosine": 1.0})).model.encoder.token_prior.requires_grad
    tokens, mask = torch.randint(32, (4, 33)), torch.ones(4, 33, dtype=torch.bool)
    out = module.model(tokens[:, :-1])
    compute_losses(module.loss, module.model, out, tokens, mask).concepts[1].total.backward()
    gradient = module.model.encoder.token_prior.grad
    assert (gradient[32:] > 0).all()
    torch.testing.assert_close(gradient.sum(), torch.tensor(0.0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("chunking", [None, TEXT_RULE, [*TEXT_RULE, 2]])
def test_draft__trains_the_draft_head_alone(chunking: list | None):
    levels = 3 if chunking is None else len(chunking) + 1
    config = chunked_config(chunking, levels=levels, planner__draft_width=8)
    module = ConceptModule(config, LossConfig({"draft": 1.0}))
    tokens, mask = torch.randint(64, (4, 33)), torch.ones(4, 33, dtype=torch.bool)
    torch.nn.init.normal_(module.model.draft_head.out.weight)
    module.model.encoder.token_prior.requires_grad_(True)  # as beside decode, which trains it
    losses = compute_losses(module.loss, module.model, module.model(tokens[:, :-1]), tokens, mask)
    sum(loss.total for loss in losses.concepts.values()).backward()
    for name, parameter in module.model.named_parameters():
        reached = parameter.grad is not None and parameter.grad.abs().sum() > 0
        assert reached == name.startswith("draft_head."), name


@pytest.mark.parametrize("chunking", [None, TEXT_RULE])
def test_draft__is_decode_while_the_head_says_nothing(chunking: list | None):
    model = NextConceptModel(chunked_config(chunking, planner__draft_width=8))
    tokens, mask = torch.randint(64, (4, 33)), torch.ones(4, 33, dtype=torch.bool)
    out = model(tokens[:, :-1])
    found = compute_losses(LossConfig({"decode": 1.0, "draft": 1.0}), model, out, tokens, mask).concepts[1].steps
    known = slice(None) if chunking is None else slice(1)  # where the chunk after the next one begins is not
    torch.testing.assert_close(found["draft"][known], found["decode"][known])


@pytest.mark.parametrize("chunking", [None, TEXT_RULE])
def test_draft__learns_what_follows_from_the_tokens_before(chunking: list | None):
    """Plans that say nothing, and texts in which each token says which one comes next."""
    model = NextConceptModel(chunked_config(chunking, planner__draft_width=32))
    tokens = (torch.randint(64, (8, 1)) + 5 * torch.arange(33)) % 64
    mask, config = torch.ones_like(tokens, dtype=torch.bool), LossConfig({"decode": 1.0, "draft": 1.0})
    out = model(tokens[:, :-1])
    out = with_plan(out, torch.ones_like(out.plans[1]))
    optimizer = torch.optim.Adam(model.draft_head.parameters(), 0.01)
    for _ in range(150):
        loss = compute_losses(config, model, out, tokens, mask).concepts[1].steps
        optimizer.zero_grad()
        loss["draft"].sum().backward(retain_graph=True)
        optimizer.step()
    assert loss["draft"].max() < 0.2 < 2.0 < loss["decode"].min()


def test_decode__is_chance_for_noise():
    model = NextConceptModel(small_config(width=512))
    tokens, mask = batch_of()
    out = model(tokens[:, :-1])
    noise = with_plan(out, torch.randn_like(out.plans[1]))
    assert (
        compute_losses(LossConfig({"decode": 1.0}), model, noise, tokens, mask).concepts[1].total > math.log(64) - 0.5
    )


@pytest.mark.parametrize(
    ("term", "changes", "message"),
    [
        ("energy", {}, "noise_width above 0"),
        ("draft", {}, "planner.draft_width above 0"),
        ("decode", {"encoder__composition": "max"}, "a sum or mean, not 'max'"),
    ],
)
def test_check__a_term_that_the_model_can_not_serve(term: str, changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        LossConfig({term: 1.0}).check(NextConceptModel(small_config(**changes)))


def test_check__a_model_without_concepts_needs_nothing():
    terms = {"decode": 1.0, "energy": 1.0, f"{__name__}.nothing": 1.0}
    model = NextConceptModel(small_config(levels=1, encoder__composition="max"))
    config = LossConfig(terms, level_weight=[0.1])
    config.check(model)
    tokens, mask = batch_of()
    losses = compute_losses(config, model, model(tokens[:, :-1]), tokens, mask)
    assert losses.total is losses.tokens
    assert not losses.concepts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"terms": {"wishes": 1.0}}, "unknown concept loss 'wishes': choose from cosine"),
        ({"terms": {"mse": -1.0}}, "must be 0 or more"),
        ({"discount": 0.0}, "discount must be"),
    ],
)
def test_loss_config__bad(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        LossConfig(**options)


def test_weight__list_too_short():
    assert LossConfig(level_weight=[0.1, 0.2]).weight(2) == 0.2
    with pytest.raises(InputError, match="no value for concept level 3"):
        LossConfig(level_weight=[0.1, 0.2]).weight(3)


def loss_flops(config: LossConfig, model: NextConceptModel) -> float:
    """What a loss costs more than one without products."""
    return training_flops_per_token(config, model, 64) - training_flops_per_token(
        LossConfig({"cosine": 1.0}), model, 64
    )


def test_training_flops_per_token__those_of_the_read_back():
    model = NextConceptModel(small_config(width=32, horizon=3, chunk_size=4))
    # A matrix product forward, one backward: 17 anchors x 3 steps x 4 positions, 32 features by
    # 64 tokens.
    wanted = 2 * 2 * 17 * 3 * 4 * 32 * 64 / 64
    assert loss_flops(LossConfig({"decode": 1.0}), model) == wanted
    share = LossConfig({"decode": 1.0}, decode_share=0.25)  # 4 of 17 anchors, as in training
    assert loss_flops(share, model) == pytest.approx(wanted * 4 / 17)


@pytest.mark.parametrize(
    "changes",
    [
        {"levels": 1},
        {"levels": 3, "reader__pointers": 2},
        {"levels": 2, "planner__mode": "rollout", "block__gradient_checkpointing": True},
    ],
    ids=str,
)
def test_training_flops_per_token__without_losses_three_times_the_forward_pass(changes: dict):
    model = NextConceptModel(small_config(**changes))
    passes = 3 * model.flops_per_token(64)
    assert training_flops_per_token(LossConfig({"cosine": 1.0}), model, 64) == pytest.approx(passes, rel=2e-3)


def test_training_flops_per_token__what_has_no_backward_pass_counts_once():
    """The search for similar chunks, and the plan as the tokens read it."""
    for planner in ({"mode": "rollout", "matching": {"beam": 4, "top_k": 8}}, {"detach": True}):
        model = NextConceptModel(small_config(planner=planner))
        counted = training_flops_per_token(LossConfig({"cosine": 1.0}), model, 64)
        assert model.flops_per_token(64) < counted < 2.995 * model.flops_per_token(64)


def test_training_flops_per_token__chunks_that_end_with_the_text_have_padding_before_it():
    costs = []
    for alignment in ("start", "end"):
        model = NextConceptModel(small_config(levels=3, encoder__chunk_alignment=alignment))
        costs.append(training_flops_per_token(LossConfig(), model, 64))
    assert 1.05 * costs[0] < costs[1] < 1.25 * costs[0]


def reads_all(at: LossInputs) -> torch.Tensor:
    """A user's own term with a product of all that the model has made of a level."""
    prediction, concepts = at.output.predictions[at.level], at.output.concepts[at.level]
    parts = torch.cat((prediction.states, prediction.steps.flatten(1, 2), concepts), 1)
    return at.plan.sum(-1) * (parts @ parts.mT).mean()


@pytest.mark.parametrize("term", [*TERMS, f"{__name__}.reads_all"])
def test_training_flops_per_token__a_loss_costs_the_same_above_any_model(term: str):
    costs = []
    for depth in (1, 3):
        model = NextConceptModel(small_config(depth=depth, planner__noise_width=4, planner__draft_width=8))
        costs.append(loss_flops(LossConfig({term: 1.0}), model))
    assert costs[0] == pytest.approx(costs[1])


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("math.sqrt", "fails on a plan of shape"),
        ("math.pi", "is no function, but float"),
        ("nextconcept.training.objectives.token_losses", "fails on a plan of shape"),
        (f"{__name__}.per_anchor", r"returned \(2, 3\) .* one distance per planned concept, \(2, 3, 3\)"),
        (f"{__name__}.nothing", "returned NoneType"),
        (f"{__name__}.relative", "is not finite for a target of zeros"),
    ],
)
def test_check__tries_a_users_own_term(function: str, sentence: str):
    with pytest.raises(InputError, match=sentence):
        LossConfig({function: 1.0}).check(NextConceptModel(small_config()))


def per_anchor(at: LossInputs) -> torch.Tensor:
    return at.plan.sum((2, 3))


def relative(at: LossInputs) -> torch.Tensor:
    return (at.plan - at.targets).norm(dim=-1) / at.targets.norm(dim=-1)


def of_chunks(at: LossInputs) -> torch.Tensor:
    """A term that knows how long chunks are, and how sure the next tokens."""
    lengths = at.output.chunks[at.level].lengths.float().mean()
    return at.plan.square().sum(-1) * lengths * at.output.logits.logsumexp(-1).mean()


def test_check__a_users_own_term_sees_chunks_and_logits():
    config = LossConfig({f"{__name__}.of_chunks": 1.0})
    config.check(NextConceptModel(small_config(vocab_size=256, chunking=["words"])))
    model = NextConceptModel(small_config(vocab_size=256, levels=3, chunking=["words", 2]))
    drawn = torch.get_rng_state()
    config.check(model)
    assert torch.equal(torch.get_rng_state(), drawn)


def nothing(at: LossInputs) -> None:
    return None


def users_own(at: LossInputs) -> torch.Tensor:
    return (at.plan - at.targets).square().sum(-1)


def test_compute_losses__a_users_own_term():
    model, tokens = open_model(small_config()), torch.randint(64, (2, 21))
    mask, output = torch.ones_like(tokens, dtype=torch.bool), model(tokens[:, :-1])
    name = f"{__name__}.users_own"
    config = LossConfig({name: 1.0, "mse": 1.0})
    config.check(model)
    steps = compute_losses(config, model, output, tokens, mask).concepts[1].steps
    torch.testing.assert_close(steps[name], steps["mse"] * 32)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("name", ["discount", "temperature", "decode_scale", "decode_share", "level_weight"])
def test_loss_config__numbers_out_of_range(name: str, value: float):
    with pytest.raises(InputError, match=name):
        LossConfig(**{name: value})


def squares(at: LossInputs) -> torch.Tensor:
    return (at.plan - at.targets).square().mean(-1)


def test_terms__a_function_itself(monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("own_terms")
    module.squares, squares.__module__ = squares, "own_terms"
    monkeypatch.setitem(sys.modules, "own_terms", module)
    config = LossConfig({squares: 0.5, "cosine": 1.0})
    assert config == LossConfig({"own_terms.squares": 0.5, "cosine": 1.0})
    model = NextConceptModel(small_config())
    config.check(model)
    tokens, mask = batch_of()
    steps = compute_losses(config, model, model(tokens[:, :-1]), tokens, mask).concepts[1].steps
    assert set(steps) == {"own_terms.squares", "cosine"}


@pytest.mark.parametrize("term", [lambda at: at.plan, functools.partial(squares), 3])
def test_terms__a_function_without_a_name(term: object):
    with pytest.raises(InputError, match="can't be imported by a name"):
        LossConfig({term: 1.0})
    with pytest.raises(InputError, match="must map names to weights"):
        LossConfig(term)


@pytest.mark.parametrize(
    "options", [*GRID[::16], {"planner__noise_width": 4}, {"levels": 3, "planner__noise_width": 4}]
)
@pytest.mark.parametrize("terms", [{}, {"cosine": 1.0}])
def test_compute_losses__every_parameter_gets_a_gradient(options: dict, terms: dict):
    """Several processes would wait for the gradients of others."""
    model = NextConceptModel(small_config(**options))
    tokens = torch.randint(64, (2, model.config.window_length + 1))
    output = model(tokens[:, :-1], "predicted", 0 if model.config.encoder.chunk_alignment == "end" else None)
    compute_losses(LossConfig(terms), model, output, tokens, tokens >= 0).total.backward()
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert [name for name, parameter in trained if parameter.grad is None] == []
    assert len(trained) >= len(list(model.parameters())) - 1


def test_draft__before_a_text_that_ends_with_its_chunks_stands_nothing():
    """As in generation, where no token stands there."""
    config = small_config(encoder__chunk_alignment="end", planner__draft_width=8, levels=2)
    model, seen = NextConceptModel(config), []
    model.draft_head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[1]))
    tokens = torch.randint(1, 64, (2, 32))
    out = model(tokens[:, :-1])
    assert out.offset > 0
    compute_losses(LossConfig({"draft": 1.0}), model, out, tokens, torch.ones_like(tokens, dtype=torch.bool))
    anchors, horizon = out.plans[1].shape[1:3]
    whole = seen[0].unflatten(0, (2, anchors))[:, : anchors - horizon]  # beyond stands no text
    assert (whole != 0).all()
    assert (whole < 0).any()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("import a_library_that_is_missing", "No module named 'a_library_that_is_missing'"),
        ("raise ValueError('set DATA_DIR first')", "set DATA_DIR first"),
        ("raise AttributeError('has no such thing')", "has no such thing"),
    ],
)
def test_find_term__says_why_a_module_can_not_be_imported(
    content: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "failing_terms.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=f"'failing_terms.distance' can't be imported: .*{said}"):
        find_term("failing_terms.distance")
    for name in ("no_terms.distance", "no_terms.within.distance", "nothing", "math.nothing"):
        with pytest.raises(InputError, match=f"unknown concept loss '{name}'"):
            find_term(name)
