import pytest
import torch
import torch.nn.functional as F

from nextconcept import InputError
from nextconcept.baselines import NextLatent
from tests.baselines.batches import gpt, lines, outputs


@pytest.mark.parametrize("tied", [False, True])
def test_forward__is_the_formula(tied: bool):
    model = gpt(tie_embeddings=tied)
    objective = NextLatent(model, steps=3, hidden=24, state_weight=0.7, kl_weight=0.3)
    tokens, mask = lines()
    output = outputs(model, tokens)
    terms = objective(model, output, tokens, mask)
    dynamics = objective.dynamics
    matrix = model.encoder.embedding.weight if tied else model.decoder.head.weight
    regression, divergence = [[], [], []], [[], [], []]
    with torch.no_grad():
        embedded, states = model.encoder.embed(tokens, 0), output.states
        for row in range(len(tokens)):
            for t in range(16):
                rolled = states[row, t]
                for step in range(3):
                    after = t + step + 1
                    if after >= 16:
                        break
                    read = F.layer_norm(torch.cat((rolled, embedded[row, after])), (64,))
                    rolled = rolled + dynamics.last(F.gelu(dynamics.second(F.gelu(dynamics.first(read)))))
                    regression[step].append(F.smooth_l1_loss(rolled, states[row, after]))
                    if mask[row, after + 1]:
                        true, predicted = ((matrix @ state).log_softmax(0) for state in (states[row, after], rolled))
                        divergence[step].append((true.exp() * (true - predicted)).sum())
    wanted = [torch.stack([torch.stack(values).mean() for values in part]).mean() for part in (regression, divergence)]
    torch.testing.assert_close(terms["next_state"].detach(), 0.7 * wanted[0])
    torch.testing.assert_close(terms["next_state_kl"].detach(), 0.3 * wanted[1])
    cross_entropy = F.cross_entropy(output.logits[mask[:, 1:]], tokens[:, 1:][mask[:, 1:]])
    torch.testing.assert_close(terms["next_token"], cross_entropy)


def test_forward__targets_and_output_matrix_get_no_gradient():
    model, (tokens, mask) = gpt(), lines()
    objective = NextLatent(model, steps=1)
    output = outputs(model, tokens)
    output.states.retain_grad()
    terms = objective(model, output, tokens, mask)
    (terms["next_state"] + terms["next_state_kl"]).backward()
    assert model.decoder.head.weight.grad is None
    assert output.states.grad[:, :-1].any()
    assert not output.states.grad[:, -1].any()  # the last state is a target alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "from 1 to 15"),
        ({"steps": 16}, "not 16"),
        ({"hidden": 0}, "must be 1 or more"),
        ({"kl_weight": -1.0}, "must be 0 or more"),
    ],
)
def test_init__bad_input(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        NextLatent(gpt(), **options)
