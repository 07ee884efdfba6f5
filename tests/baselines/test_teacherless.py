import pytest
import torch

from nextconcept import InputError
from nextconcept.baselines import Teacherless
from nextconcept.training.losses import LossConfig, compute_losses
from nextconcept.training.objectives import token_loss
from tests.baselines.batches import gpt, lines


def test_inputs__hide_the_answer_and_nothing_else():
    tokens, mask = lines()
    objective = Teacherless(gpt(), dummy=7)
    inputs = objective.inputs(tokens, mask)
    assert torch.equal(inputs, torch.where(mask, 7, tokens)[:, :-1])
    answers = torch.where(mask, tokens.flip(0), tokens)
    assert torch.equal(objective.inputs(answers, mask), inputs)


def test_loss__is_the_cross_entropy_behind_hidden_answers():
    model, (tokens, mask) = gpt(), lines()
    objective = Teacherless(model)
    output = model(torch.where(mask, 19, tokens)[:, :-1])
    losses = compute_losses(LossConfig(), model, output, tokens, mask, None, objective)
    assert losses.total == losses.tokens == token_loss(output.logits, tokens, mask)


def test_write__predicts_each_token_as_in_training():
    model, (tokens, mask) = gpt().eval(), lines()
    objective = Teacherless(model)
    mask[:] = False
    mask[:, 11:15] = True
    written = objective.write(model, tokens[:, :11], 4)
    assert torch.equal(written, model(objective.inputs(tokens, mask)).logits[:, 10:14].argmax(-1))


def test_init__unknown_dummy():
    with pytest.raises(InputError, match="from 0 to 19, not 20"):
        Teacherless(gpt(), dummy=20)
