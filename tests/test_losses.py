import math

import pytest
import torch
import torch.nn.functional as F

from nextconcept import InputError, NextConceptModel
from nextconcept.losses import DISTANCES, LossConfig, compute_losses
from nextconcept.nn.model import ModelOutput, future
from tests.conftest import small_config


def batch_of(time: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(64, (2, time + 1)), torch.ones(2, time + 1, dtype=torch.bool)


def test_compute_losses__is_the_formula():
    model = NextConceptModel(small_config())
    config = LossConfig({"cosine": 1.0, "mse": 0.5}, level_weight=0.3, discount=0.5)
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
        expected = expected + 0.5**j * (torch.cat(cosine).mean() + 0.5 * torch.cat(mse).mean()) / 3
    torch.testing.assert_close(losses.tokens, tokens_loss)
    torch.testing.assert_close(losses.concepts[1].total, expected)
    torch.testing.assert_close(losses.total, tokens_loss + 0.3 * expected)
    assert losses.concepts[1].counts.tolist() == [8, 6, 4]
    torch.testing.assert_close(losses.concepts[1].similarity, 1 - losses.concepts[1].steps["cosine"])


@pytest.mark.parametrize("name", DISTANCES)
def test_distances__are_zero_at_the_target_and_positive_elsewhere(name: str):
    target = torch.randn(5, 8)
    torch.testing.assert_close(DISTANCES[name](target, target), torch.zeros(5), atol=1e-6, rtol=0)
    assert (DISTANCES[name](target + torch.randn(5, 8), target) > 0).all()


def test_compute_losses__targets_get_no_gradient():
    model = NextConceptModel(small_config())
    tokens, mask = batch_of()
    out = model(tokens[:, :-1])
    plans = {1: out.plans[1].detach().requires_grad_()}
    free = ModelOutput(out.logits.detach(), plans, out.concepts)
    compute_losses(LossConfig(), model, free, tokens, mask).total.backward()
    assert plans[1].grad.abs().sum() > 0
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
    assert losses.concepts[1].counts.tolist() == [7, 5, 4]


def test_compute_losses__nothing_to_learn_is_zero_not_nan():
    model = NextConceptModel(small_config(levels=3))
    tokens, mask = batch_of(3)
    losses = compute_losses(LossConfig(), model, model(tokens[:, :-1]), tokens, torch.zeros_like(mask))
    assert losses.total == 0
    losses.total.backward()
    assert all(parameter.grad is not None for parameter in model.predictors.parameters())


def test_decode__is_small_for_the_true_concept_and_chance_for_noise():
    model = NextConceptModel(small_config(width=512))
    tokens, mask = batch_of()
    out = model(tokens[:, :-1])
    targets, _ = future(out.concepts[1], 3)
    config = LossConfig({"decode": 1.0}, decode_scale=30.0)

    def loss(plan: torch.Tensor) -> float:
        return (
            compute_losses(config, model, ModelOutput(out.logits, {1: plan}, out.concepts), tokens, mask)
            .concepts[1]
            .total.item()
        )

    assert loss(targets) < 0.1
    assert loss(torch.randn_like(targets)) > math.log(64) - 0.5


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
