import pytest
import torch
import torch.nn.functional as F

from nextconcept import InputError
from nextconcept.baselines import MultiToken
from nextconcept.nn.level_context import ParallelContext
from tests.baselines.batches import gpt, lines, outputs


def test_forward__is_the_formula():
    """Each head is one block after all but the last one of the model, then norm, unembedding."""
    model = gpt(depth=3)
    objective = MultiToken(model, tokens_ahead=3, weight=0.5)
    tokens, mask = lines()
    terms = objective(model, outputs(model, tokens), tokens, mask)
    with torch.no_grad():
        trunk = model.encoder.embed(tokens[:, :-1], 0)
        stack, shape = model.transformer(0), model.decoder.shape
        for index, block in enumerate(list(stack.blocks)[:-1]):
            trunk = block(trunk, ParallelContext(trunk, shape), index)
        heads = [stack.blocks[-1], *(head.blocks[0] for head in objective.heads)]
        for ahead, head in enumerate(heads, 1):
            logits = stack.norm(head(trunk, ParallelContext(trunk, shape), 2)) @ model.decoder.head.weight.T
            losses = [
                F.cross_entropy(logits[row, t], tokens[row, t + ahead])
                for row in range(len(tokens))
                for t in range(tokens.shape[1] - ahead)
                if mask[row, t + 1 : t + ahead + 1].all()
            ]
            wanted = torch.stack(losses).mean() * (1.0 if ahead == 1 else 0.5)
            torch.testing.assert_close(terms[f"ahead_{ahead}"].detach(), wanted)


@pytest.mark.parametrize("ahead", [2, 3])
def test_forward__a_head_knows_nothing_of_the_tokens_that_it_skips(ahead: int):
    model = gpt()
    objective = MultiToken(model, tokens_ahead=3)
    tokens = torch.arange(17)[None]  # each id once, so that its embedding is read at one place
    mask = torch.zeros(1, 17, dtype=torch.bool)
    mask[:, 9 : 9 + ahead] = True
    objective(model, outputs(model, tokens), tokens, mask)[f"ahead_{ahead}"].backward()
    read = model.encoder.embedding.weight.grad.abs().sum(1)
    assert (read[:9] > 0).all()
    assert not read[9:].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens_ahead": 1}, "from 2 to the context_length 16"),
        ({"tokens_ahead": 17}, "not 17"),
        ({"weight": 0.0}, "must be positive"),
    ],
)
def test_init__bad_input(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        MultiToken(gpt(), **options)
