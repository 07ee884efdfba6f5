"""Rules that say where a chunk of text ends.

A rule reads the text byte by byte with a finite automaton, so whether a chunk ends after a byte is
a function of the bytes up to it. :meth:`ChunkRule.on_tokens` lifts the automaton to the tokens of
any vocabulary.

Shapes: S states, V vocabulary.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nextconcept.core.errors import InputError

__all__ = ["RULES", "ChunkRule", "ends_behind"]

BLANKS, NEWLINE = b" \t\r", ord("\n")


@dataclass(frozen=True)
class ChunkRule:
    """A finite automaton over bytes that starts in state 0.

    Attributes:
        next: (S, 256) int64, the state after a byte; other integers and lists are converted.
        ends: (S, 256) bool, whether a chunk ends after a byte; lists are converted.

    Raises:
        InputError: if a table has another shape or type, or names a state that there is not.
    """

    next: np.ndarray
    ends: np.ndarray

    def __post_init__(self) -> None:
        following, ends = _table(self.next), _table(self.ends)
        fits = following.shape == ends.shape == (len(ends), 256) and len(ends) > 0
        if not fits or following.dtype.kind not in "iu" or ends.dtype != bool:
            raise InputError(
                "a chunking rule needs two tables (S, 256), integers for the states and truth values for the ends, not "
                f"{following.shape} of {following.dtype} and {ends.shape} of {ends.dtype}."
            )
        if following.min() < 0 or following.max() >= len(ends):
            raise InputError(
                f"a chunking rule needs two tables (S, 256), the first with states 0 to {len(ends) - 1} and not "
                f"{following.min()} to {following.max()}."
            )
        object.__setattr__(self, "next", following.astype(np.int64))
        object.__setattr__(self, "ends", ends)

    def on_tokens(self, texts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Lift the rule to tokens.

        Args:
            texts: per token id, its bytes; special tokens have none.

        Returns:
            (S, V) int64 states after each token, and (S, V) bool, whether a chunk ends after it:
            if it does after any byte of the token.
        """
        states = np.repeat(np.arange(len(self.next))[:, None], len(texts), axis=1)
        ends = np.zeros_like(states, dtype=bool)
        for token, text in enumerate(texts):
            for byte in text:
                ends[:, token] |= self.ends[states[:, token], byte]
                states[:, token] = self.next[states[:, token], byte]
        return states, ends


def _table(values: object) -> np.ndarray:
    """Return a table with one dimension or more; rows of unequal lengths are objects."""
    try:
        return np.atleast_1d(np.asarray(values))
    except ValueError:
        return np.atleast_1d(np.array(None))


def _blank(states: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((states, 256), dtype=np.int64), np.zeros((states, 256), dtype=bool)


def _words() -> ChunkRule:
    """End after the first byte that is not alphanumeric and follows one that is.

    Bytes from 128 on, of which UTF-8 makes all other characters, count as alphanumeric.
    """
    following, ends = _blank(2)
    inside = np.array([chr(byte) in string.ascii_letters + string.digits or byte >= 128 for byte in range(256)])
    following[:, inside] = 1
    ends[1, ~inside] = True
    return ChunkRule(following, ends)


def _lines() -> ChunkRule:
    return ends_behind("\n")


def _paragraphs() -> ChunkRule:
    """End after an empty line; further empty lines belong to the next paragraph."""
    following, ends = _blank(3)  # inside a line; at the start of a line; after an empty line
    following[:, NEWLINE] = [1, 2, 2]
    for byte in BLANKS:
        following[:, byte] = [0, 1, 2]
    ends[1, NEWLINE] = True
    return ChunkRule(following, ends)


def _sentences() -> ChunkRule:
    """End after the white space that follows a full stop, or after an empty line.

    Quotes and brackets may stand between the two. Further white space belongs to the next sentence.
    """
    following, ends = _blank(4)  # only white space so far; inside; after a full stop; new line
    following[:] = 1
    for byte in b".!?":
        following[:, byte] = 2
    for byte in b"\"')]}":
        following[2, byte] = 2
    for byte in BLANKS:
        following[:, byte] = [0, 1, 0, 3]
    following[:, NEWLINE] = [0, 3, 0, 0]
    ends[2, [*BLANKS, NEWLINE]] = True
    ends[3, NEWLINE] = True
    return ChunkRule(following, ends)


RULES = {"words": _words, "lines": _lines, "sentences": _sentences, "paragraphs": _paragraphs}
"""The rules by name."""


def ends_behind(characters: str) -> ChunkRule:
    """Return the rule that ends a chunk after any of the given characters.

    Raises:
        InputError: if there is none, or one that UTF-8 can't encode.
    """
    if not characters:
        raise InputError("a chunking rule 'ends' needs at least one character.")
    try:
        words = [character.encode() for character in characters]
    except UnicodeEncodeError as error:
        raise InputError(f"a chunking rule can't end chunks after {error.object!r}, which is no character.") from None
    # Aho-Corasick: states are the beginnings of words. No UTF-8 character ends inside another one,
    # so that a beginning that does not go on falls back to the first state.
    states = {b"": 0}
    for word in words:
        for length in range(1, len(word)):
            states.setdefault(word[:length], len(states))
    following, ends = _blank(len(states))
    for beginning, state in states.items():
        for byte in range(256):
            read = beginning + bytes([byte])
            following[state, byte] = states.get(read, states.get(bytes([byte]), 0))
            ends[state, byte] = read in words or bytes([byte]) in words
    return ChunkRule(following, ends)
