import pytest
import torch
import torch.nn.functional as F

from nextconcept import InputError
from nextconcept.baselines import BeliefState
from tests.baselines.batches import gpt, lines, outputs


@pytest.mark.parametrize("prompt", [0, 1, 12])
def test_forward__is_the_formula(prompt: int):
    """One pair after another, each suffix encoded by itself."""
    model, (tokens, mask) = gpt(depth=1), lines(rows=2)
    objective = BeliefState(model, prompt=prompt, hidden=24)
    output = outputs(model, tokens)
    terms = objective(model, output, tokens, mask)
    head, wanted = objective.head, {"next": [], "previous": []}
    with torch.no_grad():
        for row in range(2):
            suffixes = {17: objective.empty}
            for s in range(2, 17):
                backwards = model.encoder.embed(tokens[row, s:].flip(0)[None], 0)
                suffixes[s] = objective.backward_encoder(backwards, model.decoder.shape)[0, -1]
            for t in range(max(prompt - 1, 0), 16):
                for s in range(t + 2, 18):
                    f, b = output.states[row, t], suffixes[s]
                    joint = torch.cat((f, b)) + head.out(F.gelu(head.of_prefix(f) + head.of_suffix(b)))
                    after, before = (head.norm(part) for part in joint.chunk(2))
                    if s == 17:
                        after = f
                    for name, state, target in (("next", after, t + 1), ("previous", before, s - 1)):
                        if mask[row, target]:
                            logits = model.decoder.head.weight @ state
                            wanted[name].append(F.cross_entropy(logits, tokens[row, target]))
    for name, losses in wanted.items():
        torch.testing.assert_close(terms[name].detach(), torch.stack(losses).mean() / 2)


@pytest.mark.parametrize("target", [1, 5, 15, 16])
def test_forward__no_pair_reads_the_token_that_it_predicts(target: int):
    model = gpt()
    objective = BeliefState(model)
    tokens = torch.arange(17)[None]  # each id once, so that its embedding is read at one place
    mask = torch.zeros(1, 17, dtype=torch.bool)
    mask[:, target] = True
    sum(objective(model, outputs(model, tokens), tokens, mask).values()).backward()
    read = model.encoder.embedding.weight.grad.abs().sum(1) > 0
    assert read[:17].tolist() == [place != target for place in range(17)]


@pytest.mark.parametrize(
    ("options", "message"), [({"prompt": 16}, "from 0 to 15"), ({"hidden": 0}, "must be 1 or more")]
)
def test_init__bad_input(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        BeliefState(gpt(), **options)
