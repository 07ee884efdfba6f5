"""Text in, text out."""

import pytest
import torch

from nextconcept import InputError, generate
from nextconcept.data.tokenizers import ByteTokenizer, train_bpe
from nextconcept.inference.sampling import Sampling
from nextconcept.inference.text import TextStream, batch_prompts, generate_text
from tests.helpers import open_model, small_config


def model():
    return open_model(small_config(vocab_size=256))


def row(text: str, stop: list[str]) -> tuple[str, list[str], bool]:
    """Feed ``text`` byte by byte; return what came out, in pieces, and whether it ended by itself."""
    made, pieces = TextStream(ByteTokenizer(), stop), []
    for token in text.encode():
        if not made.done:
            pieces.append(made.add(token))
    ended = made.done
    if not ended:
        pieces.append(made.end())
    return "".join(pieces), pieces, ended


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ([], "to be or not"),
        (["or"], "to be "),
        (["xx", "not"], "to be or "),
        (["not to"], "to be or not"),
        (["be", "b"], "to "),
    ],
)
def test_row__ends_at_a_stop_string(stop: list[str], expected: str):
    text, _, ended = row("to be or not", stop)
    assert text == expected
    assert ended == (text != "to be or not")


def test_row__holds_back_what_may_become_a_stop_string():
    _, pieces, _ = row("aaxy", ["xz"])
    assert pieces == ["a", "a", "", "xy", ""]


def test_row__characters_of_several_bytes_come_whole():
    assert row("é€", [])[1] == ["", "é", "", "", "€", ""]


def test_row__ends_with_its_document():
    made = TextStream(ByteTokenizer(), [])
    assert made.add(65) == "A"
    assert made.add(0) == ""
    assert made.done


def test_write_text__pieces_of_bpe_add_up_to_the_whole():
    tokenizer = train_bpe(["été in the plaza, über alles " * 20], 270)
    language_model = open_model(small_config(vocab_size=270))
    prompt = "été in"
    pieces = generate_text(language_model, tokenizer, [prompt], 30, seed=3)
    tokens, _ = batch_prompts(tokenizer, [prompt])
    generator = torch.Generator().manual_seed(3)
    ids = generate(language_model, tokens, 30, generator=generator)[0, tokens.shape[1] :].tolist()
    whole = tokenizer.decode(ids[: ids.index(tokenizer.end_of_text)] if tokenizer.end_of_text in ids else ids)
    assert "".join(piece for _, piece in pieces) == whole


def test_write_text__prompts_of_different_lengths():
    prompts = ["abcdefg", "x"]
    together = ["", ""]
    for index, piece in generate_text(model(), ByteTokenizer(), prompts, 12, Sampling(0.0)):
        together[index] += piece
    for index, prompt in enumerate(prompts):
        alone = generate_text(model(), ByteTokenizer(), [prompt], 12, Sampling(0.0))
        assert "".join(piece for _, piece in alone) == together[index]


def test_write_text__empty_stop_string():
    with pytest.raises(InputError, match="stop string is empty"):
        list(generate_text(model(), ByteTokenizer(), ["a"], 3, stop=[""]))
