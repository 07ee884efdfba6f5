import pytest
import torch

from nextconcept import InputError, NextConceptModel
from nextconcept.hierarchy import Hierarchy
from nextconcept.nn.generation import sample, slide
from tests.conftest import open_model, small_config


def test_generate__greedy_takes_the_likeliest_token():
    model, tokens = open_model(small_config()), torch.randint(64, (2, 7))
    written = model.generate(tokens, 5, temperature=0)
    assert torch.equal(written[:, :7], tokens)
    for t in range(7, 12):
        assert torch.equal(written[:, t], model(written[:, :t]).logits[:, -1].argmax(-1))


def test_generate__seed_decides():
    model, tokens = open_model(small_config()), torch.randint(64, (1, 3))
    texts = [model.generate(tokens, 20, generator=torch.Generator().manual_seed(seed)).tolist() for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_generate__goes_on_beyond_the_context_and_keeps_the_mode():
    model = open_model(small_config(context=16)).train()
    assert model.generate(torch.randint(64, (1, 15)), 10).shape == (1, 25)
    assert model.training


def test_slide__keeps_the_latest_whole_chunks():
    tokens = torch.arange(40)[None]
    for time in range(1, 41):
        kept = slide(tokens[:, :time], 16, Hierarchy(3, 2))
        assert kept[0, 0] % 4 == 0
        assert kept[0, -1] == time - 1
        assert min(time, 13) <= kept.shape[1] <= 16


@pytest.mark.parametrize(
    ("options", "allowed"),
    [({"top_k": 2}, {0, 1}), ({"top_p": 0.6}, {0, 1}), ({"top_p": 0.4}, {0}), ({"top_k": 99}, {0, 1, 2, 3})],
    ids=str,
)
def test_sample__keeps_what_is_likely(options: dict, allowed: set):
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(500, 4)
    drawn = sample(logits, 1.0, options.get("top_k"), options.get("top_p"), torch.Generator().manual_seed(0))
    assert set(drawn.flatten().tolist()) == allowed


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        (torch.zeros(1, 0, dtype=torch.long), {}, "at least one token"),
        (torch.tensor([[3, 64]]), {}, "token id 64 of the prompt is outside the vocabulary of 64"),
        (torch.tensor([[-1]]), {}, "token id -1"),
        (torch.zeros(1, 2), {}, "int64"),
        (torch.tensor([[1]]), {"temperature": -1.0}, "temperature -1.0"),
        (torch.tensor([[1]]), {"top_k": 0}, "top_k must be 1 or more"),
        (torch.tensor([[1]]), {"top_p": 1.5}, "top_p must be above 0"),
    ],
)
def test_generate__bad_input(tokens: torch.Tensor, options: dict, message: str):
    with pytest.raises(InputError, match=message):
        NextConceptModel(small_config()).generate(tokens, 2, **options)
