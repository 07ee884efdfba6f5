import numpy as np
import pytest

from nextconcept.core.errors import InputError
from nextconcept.data.tokenizers import ByteTokenizer, tokenizer_from_json, train_bpe

TEXT = "the cat sat on the mat, the café closed — naïve 日本\n\n" * 20
TOKENIZERS = {"bytes": ByteTokenizer(), "bpe": train_bpe([TEXT], 300)}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("text", [TEXT, "unseen: Ω≈ç√ <|endoftext|>", " leading", "\r\n\ttabs"])
def test_encode__decodes_to_the_same_text(kind: str, text: str):
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(text)
    assert ids.max() < tokenizer.vocab_size
    assert tokenizer.end_of_text not in ids
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_byte_counts__add_up_to_the_text(kind: str):
    tokenizer = TOKENIZERS[kind]
    counts = tokenizer.byte_counts()
    assert counts[tokenizer.encode(TEXT)].sum() == len(TEXT.encode())
    assert counts[tokenizer.end_of_text] == 0


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_to_json__round_trip(kind: str):
    tokenizer = TOKENIZERS[kind]
    again = tokenizer_from_json(tokenizer.to_json())
    assert np.array_equal(again.encode(TEXT), tokenizer.encode(TEXT))
    assert again.end_of_text not in again.encode("<|endoftext|>")


def test_train_bpe__is_deterministic_and_compresses():
    assert train_bpe([TEXT], 300).to_json() == TOKENIZERS["bpe"].to_json()
    assert len(TOKENIZERS["bpe"].encode(TEXT)) < len(TEXT) / 2


def test_train_bpe__too_small():
    with pytest.raises(InputError, match="vocab_size 100 is too small"):
        train_bpe([TEXT], 100)


@pytest.mark.parametrize(("prompt", "message"), [("", "the prompt is empty"), ("\udcff", "not valid UTF-8")])
def test_encode_prompt__bad(prompt: str, message: str):
    with pytest.raises(InputError, match=message):
        ByteTokenizer().encode_prompt(prompt)


@pytest.mark.parametrize("text", ["", "{}", "nonsense", '{"type": "dragon"}'])
def test_tokenizer_from_json__not_one(text: str):
    with pytest.raises(InputError, match="not a tokenizer"):
        tokenizer_from_json(text)
