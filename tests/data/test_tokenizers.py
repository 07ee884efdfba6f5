import copy
import pickle
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from nextconcept.core.errors import InputError
from nextconcept.data.bpe_training import train_bpe
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.data.tokenizers import (
    ByteTokenizer,
    SymbolTokenizer,
    WordTokenizer,
    tokenizer_from_json,
)

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


@pytest.mark.parametrize(
    ("tokenizer", "text"),
    [
        *((one, "the café — 日本 on") for one in TOKENIZERS.values()),
        (SymbolTokenizer(["1", "12", "=", ","], joiner="+"), "1+12=12+1,12"),
        (WordTokenizer(["go", "on", "="], joiner=" ", separator="="), "go on=on go"),
    ],
)
def test_stream__continues_a_text(tokenizer: Tokenizer, text: str):
    ids = tokenizer.encode(text).tolist()
    for cut in range(len(ids) + 1):
        before, after = ids[:cut], ids[cut:]
        begun = tokenizer.decode(before)
        if "\ufffd" not in begun:
            assert begun + "".join(map(tokenizer.stream(before), after)) == text
            assert begun + tokenizer.decode_behind(before, after) == text


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_stream__of_any_ids_is_their_text(kind: str):
    """But for a character that is incomplete at the end."""
    tokenizer, draw = TOKENIZERS[kind], np.random.default_rng(0)
    for _ in range(300):
        ids = draw.integers(-1, tokenizer.vocab_size + 3, 12).tolist()
        text, written = tokenizer.decode(ids), "".join(map(tokenizer.stream(), ids))
        assert text.startswith(written)
        assert not text[len(written) :].strip("\ufffd")


def test_stream__takes_no_longer_the_longer_the_text():
    class Counting(SymbolTokenizer):
        longest = 0

        def decode(self, ids: Sequence[int]) -> str:
            Counting.longest = max(Counting.longest, len(ids))
            return super().decode(ids)

    step, written = Counting(["a", "b", "="], joiner="+").stream(), "ab=" * 200
    assert "".join(step("ab=".index(symbol)) for symbol in written) == SymbolTokenizer(
        ["a", "b", "="], joiner="+"
    ).decode(["ab=".index(symbol) for symbol in written])
    assert Counting.longest < 100


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


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies__read_the_same_tokens(kind: str, copied: Callable):
    """Workers that are spawned get a pickled tokenizer."""
    again = copied(TOKENIZERS[kind])
    text = TEXT + "<|endoftext|>"
    assert again.same_tokens(TOKENIZERS[kind])
    assert again.encode(text).tolist() == TOKENIZERS[kind].encode(text).tolist()
    assert again.end_of_text not in again.encode(text)


def test_same_tokens():
    bpe, smaller = TOKENIZERS["bpe"], train_bpe([TEXT], 290)
    assert not bpe.same_tokens(smaller)
    assert not bpe.same_tokens(ByteTokenizer())
    assert SYMBOLS.same_tokens(SYMBOLS.with_prompt_length(9))
    assert not SYMBOLS.same_tokens(SymbolTokenizer(["1"]))
    assert not SYMBOLS.same_tokens(WordTokenizer(SYMBOLS.symbols, ",", "="))
    assert not SYMBOLS.same_tokens(bpe)


def test_bytes__nul_is_not_taken_for_the_end_of_a_document():
    with pytest.raises(InputError, match=r"NUL character \(after 2 others\)"):
        ByteTokenizer().encode("ab\0c")
    assert TOKENIZERS["bpe"].decode(TOKENIZERS["bpe"].encode("ab\0c")) == "ab\0c"


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


SYMBOLS = SymbolTokenizer(["1", "12", "x", "|", "="], joiner=",", separator="=")
WORDS = WordTokenizer(["go", "gone", "(", "->"], joiner=" ", separator="->")
END = len(SYMBOLS.symbols)


def test_symbols__the_longest_fits_and_joiners_are_no_tokens():
    assert SYMBOLS.encode("1,12|x=1").tolist() == [0, 1, 3, 2, 4, 0]
    assert SYMBOLS.encode(" 1 12 |x\n").tolist() == [0, 1, 3, 2]
    assert SYMBOLS.decode([0, 1, 3, 2, 4, 0, END]) == "1,12|x=1"
    assert SymbolTokenizer(["a", "ab", " "]).encode("aba ab").tolist() == [1, 0, 2, 1]
    assert SYMBOLS.byte_counts().tolist() == [1, 2, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("text", "unknown"), [("1,3", "3"), ("121", "121"), ("1x", "1x"), ("12|é", "é"), ("x|?", r"\?")]
)
def test_symbols__unknown(text: str, unknown: str):
    with pytest.raises(InputError, match=f"'{unknown}' is none of the tokens, which are 1, 12, x"):
        SYMBOLS.encode(text)


def test_words__white_space_and_the_separator_divide():
    assert WORDS.encode("go  ( ->gone").tolist() == [0, 2, 3, 1]
    assert WORDS.decode([0, 2, 3, 1, 4]) == "go (->gone"
    assert WordTokenizer(["a", "b"], joiner=" ").decode([0, 1, 0]) == "a b a"
    with pytest.raises(InputError, match="'gogo' is none of the tokens"):
        WORDS.encode("go gogo")


@pytest.mark.parametrize("tokenizer", [SYMBOLS, WORDS], ids=["symbols", "words"])
def test_encode_prompt__padding_is_part_of_the_description(tokenizer: SymbolTokenizer):
    question = f"{tokenizer.symbols[0]}{tokenizer.separator}"
    assert tokenizer.encode_prompt(question).tolist() == tokenizer.encode(question).tolist()
    again = tokenizer_from_json(tokenizer.with_prompt_length(4).to_json())
    assert type(again) is type(tokenizer)
    end = [tokenizer.end_of_text]
    assert again.encode_prompt(question).tolist() == end * 2 + tokenizer.encode(question).tolist()
    begun = f"{question}{tokenizer.symbols[0]}"
    assert again.encode_prompt(begun).tolist() == end * 2 + tokenizer.encode(begun).tolist()
    assert again.encode_input(question).tolist() == tokenizer.encode(question).tolist()
    assert again.decode(again.encode_prompt(begun)) == begun
    longer = tokenizer.symbols[0] + tokenizer.separator.join([f" {tokenizer.symbols[0]}" * 4, ""])
    assert again.encode_prompt(longer).tolist() == tokenizer.encode(longer).tolist()
    with pytest.raises(InputError, match=f"the prompt has no '{tokenizer.separator}', which ends each question"):
        again.encode_prompt(tokenizer.symbols[0])


def test_encode_prompt__without_a_separator_the_whole_is_padded():
    assert SymbolTokenizer(["a"], prompt_length=3).encode_prompt("a").tolist() == [1, 1, 0]


@pytest.mark.parametrize("symbols", [[], ["a", "a"], ["a", ""], "ab", ["a", 1]])
def test_symbols__bad(symbols: list[str]):
    with pytest.raises(InputError, match="symbols must be different"):
        SymbolTokenizer(symbols)
    with pytest.raises(InputError, match="separator '=' must be one of the symbols"):
        SymbolTokenizer(["a"], separator="=")
    with pytest.raises(InputError, match="joiner of symbols must be a text, not 5"):
        SymbolTokenizer(["a"], joiner=5)
    for length in ("x", -1, 2.5, True, 10**9):
        with pytest.raises(InputError, match="prompts have a length of 0 to 1,000,000 tokens"):
            SymbolTokenizer(["a"], prompt_length=length)


def test_bytes__ids_of_a_larger_vocabulary_are_no_text():
    tokenizer = ByteTokenizer()
    assert tokenizer.decode([104, 256, 105, 300]) == "hi"
    write = tokenizer.stream()
    assert "".join(map(write, [104, 256, 105, 300])) == "hi"
