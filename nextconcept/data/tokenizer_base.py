"""What every tokenizer offers."""

import codecs
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np

from nextconcept.core.errors import InputError

__all__ = ["DECODED_BEFORE", "Tokenizer"]

DECODED_BEFORE = 64
"""Tokens of a text that decide how its continuation is decoded: whether a space or a joiner comes
first, and which bytes belong to one character."""


class Tokenizer(ABC):
    """Text to token ids and back.

    Attributes:
        vocab_size: number of ids.
        end_of_text: id that ends a document.
    """

    vocab_size: int
    end_of_text: int

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Return the token ids of ``text``, a 1-D integer array."""

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """Return the token ids of each of several texts."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids, without ends of documents and ids that are no tokens.

        An incomplete UTF-8 sequence becomes U+FFFD.
        """
        return b"".join(map(self._bytes, ids)).decode(errors="replace")

    @abstractmethod
    def token_bytes(self) -> list[bytes]:
        """Return the bytes of text of each id, none for the end of a document."""

    def byte_counts(self) -> np.ndarray:
        """Return (vocab_size,) int64: bytes of text of each id, 0 for the end of a document."""
        return np.array([len(text) for text in self.token_bytes()], dtype=np.int64)

    @abstractmethod
    def to_json(self) -> str:
        """Return a description from which :func:`tokenizer_from_json` builds the tokenizer."""

    def same_tokens(self, other: "Tokenizer") -> bool:
        """Return whether both tokenizers give the same ids to the same text."""
        return self.to_json() == other.to_json()

    def decode_behind(self, before: Sequence[int], ids: Iterable[int]) -> str:
        """Return the text that token ids add to the text of earlier ones.

        Args:
            before: the earlier ids, of which the last few decide how the text goes on.
            ids: token ids.
        """
        begun = list(before[-DECODED_BEFORE:])
        return self.decode([*begun, *ids])[len(self.decode(begun)) :]

    def stream(self, before: Sequence[int] = ()) -> Callable[[int], str]:
        """Return a function from one id after another to the text that each id completes.

        The text is empty while a character is incomplete.

        Args:
            before: ids of the text that is continued.
        """
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        for token in before[-DECODED_BEFORE:]:
            utf8.decode(self._bytes(token))
        return lambda token: utf8.decode(self._bytes(token))

    def encode_input(self, text: str, name: str = "prompt") -> np.ndarray:
        """Return the token ids of text that a person typed, at least one.

        Args:
            text: what was typed.
            name: what an error calls it.

        Raises:
            InputError: if the text is empty, can't be written in UTF-8 or can't be encoded.
        """
        if not text:
            raise InputError(f"the {name} is empty: give at least one character.")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(f"the {name} is not valid UTF-8: retype it or convert it to UTF-8.") from None
        ids = self.encode(text)
        if not len(ids):
            raise InputError(f"the {name} has no token of this model: give at least one.")
        return ids

    def encode_prompt(self, text: str) -> np.ndarray:
        """Return the token ids of a typed prompt, padded as the model saw prompts in training.

        Raises:
            InputError: if the prompt is empty, can't be written in UTF-8 or can't be encoded.
        """
        return self.encode_input(text)

    @cached_property
    def _texts(self) -> list[bytes]:
        return self.token_bytes()

    def _bytes(self, token: int) -> bytes:
        """Return the bytes of an id, none where there is no such token: a model may know more."""
        return self._texts[token] if 0 <= token < len(self._texts) else b""
