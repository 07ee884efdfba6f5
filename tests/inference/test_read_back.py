import pytest
import torch

from nextconcept.inference.read_back import read_chunk
from tests.helpers import open_model, small_config

MODEL = open_model(small_config(levels=2, chunking=["words"], vocab_size=256, width=512, sharing="separate"))


def ids(text: str) -> torch.Tensor:
    return torch.tensor(list(text.encode()))


@pytest.mark.parametrize("word", ["a ", "fox.", "something ", "über "])
def test_read_chunk__reads_a_word_up_to_its_own_end(word: str):
    (found,) = read_chunk(MODEL, MODEL.compose(ids(word)), 1)
    assert bytes(found.tokens.tolist()).decode() == word
    assert found.cosine == pytest.approx(1, abs=1e-5)


def test_read_chunk__alternatives_are_other_readings_and_less_near():
    found = read_chunk(MODEL, MODEL.compose(ids("fox.")), 1, alternatives=3)
    assert len(found) == 4
    assert len({tuple(one.tokens.tolist()) for one in found}) == 4
    assert [one.cosine for one in found] == sorted((one.cosine for one in found), reverse=True)


def test_read_chunk__what_never_ends_is_as_long_as_a_chunk_may_be():
    letters = "abcdefghijklmnopqrst"
    (found,) = read_chunk(MODEL, MODEL.compose(ids(letters)), 1)
    assert len(found.tokens) == 16


def test_read_chunk__a_plan_of_several_words_holds_no_unlikely_tokens():
    """Of tokens at random some are always near; the prior says which of them never occur."""
    torch.manual_seed(0)
    model = open_model(small_config(levels=2, chunking=["words"], vocab_size=256, width=32, sharing="separate"))
    words = [model.compose(ids(word), 1) for word in ("something ", "anything ", "fox.")]
    plans = sum(words) + 2 * torch.randn(20, *words[0].shape)
    found = [one for plan in plans for one in read_chunk(model, plan, 1, alternatives=3)]
    assert any((one.tokens > 127).any() for one in found)
    model.encoder.token_prior[128:] = -50.0
    found = [one for plan in plans for one in read_chunk(model, plan, 1, alternatives=3)]
    assert len(found) > 40
    assert all((one.tokens < 128).all() for one in found)
