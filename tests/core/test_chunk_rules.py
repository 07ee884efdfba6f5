import random
import re

import numpy as np
import pytest

from nextconcept import InputError
from nextconcept.core.chunk_rules import RULES, ChunkRule, ends_behind

TEXT = "Wait... what? 'No.' It's 3.14!\n\nA café, \x00two  lines\nand (one.) more\n \n\n\nthe end"


def chunks_of(rule: ChunkRule, text: str) -> list[str]:
    """Cut a text byte by byte."""
    state, parts = 0, [b""]
    for byte in text.encode():
        parts[-1] += bytes([byte])
        if rule.ends[state, byte]:
            parts.append(b"")
        state = rule.next[state, byte]
    return [part.decode() for part in parts if part]


@pytest.mark.parametrize(
    ("name", "chunks"),
    [
        ("words", ["Wait.", ".. what?", " 'No.", "' It'", "s ", "3.", "14!", "\n\nA ", "café,", " \x00two ", " lines\n",
                   "and ", "(one.", ") more\n", " \n\n\nthe ", "end"]),
        ("lines", [line + "\n" for line in TEXT.split("\n")[:-1]] + ["the end"]),
        ("sentences", ["Wait... ", "what? ", "'No.' ", "It's 3.14!\n", "\nA café, \x00two  lines\nand (one.) ",
                       "more\n \n", "\n\nthe end"]),
        ("paragraphs", ["Wait... what? 'No.' It's 3.14!\n\n", "A café, \x00two  lines\nand (one.) more\n \n",
                        "\n\nthe end"]),
    ],
)  # fmt: skip
def test_rules__cut_a_text(name: str, chunks: list[str]):
    assert chunks_of(RULES[name](), TEXT) == chunks


@pytest.mark.parametrize("characters", ["|", "|\n", "é", "é|ß☃", "aé😀"])
def test_ends_behind__cuts_behind_any_of_the_characters(characters: str):
    letters = random.Random(0).choices("ab|\néß☃😀è", k=200)
    text = "".join(letters)
    expected = [part for part in re.split(f"(?<=[{re.escape(characters)}])", text) if part]
    assert chunks_of(ends_behind(characters), text) == expected


def test_ends_behind__needs_a_character():
    with pytest.raises(InputError, match="which is no character"):
        ends_behind("|\ud800")
    with pytest.raises(InputError, match="at least one character"):
        ends_behind("")


@pytest.mark.parametrize("name", RULES)
def test_on_tokens__ends_where_any_byte_of_a_token_does(name: str):
    rule, draw = RULES[name](), random.Random(1)
    vocabulary = [bytes(draw.choices(b"ab.! \n'", k=draw.randint(0, 4))) for _ in range(50)]
    following, ends = rule.on_tokens(vocabulary)
    ids = np.array(draw.choices(range(50), k=300))
    by_token, by_byte, token_state, state = [], [], 0, 0
    for token in ids:
        by_token.append(bool(ends[token_state, token]))
        token_state = following[token_state, token]
        ended = False
        for byte in vocabulary[token]:
            ended |= bool(rule.ends[state, byte])
            state = rule.next[state, byte]
        by_byte.append(ended)
    assert by_token == by_byte
    assert any(by_token)
