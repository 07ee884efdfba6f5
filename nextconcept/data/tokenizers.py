"""Tokens: bytes, or byte-pair encoding trained on the corpus."""

import codecs
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from nextconcept.core.errors import InputError

__all__ = ["BPETokenizer", "ByteTokenizer", "SymbolTokenizer", "Tokenizer", "tokenizer_from_json", "train_bpe"]

END_OF_TEXT = "<|endoftext|>"


class Tokenizer(ABC):
    """Text to token ids and back.

    Attributes:
        vocab_size: number of ids.
        end_of_text: the id that ends a document.
    """

    vocab_size: int
    end_of_text: int

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Token ids of ``text``, a 1-D integer array."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids; an incomplete UTF-8 sequence becomes U+FFFD."""

    @abstractmethod
    def byte_counts(self) -> np.ndarray:
        """(vocab_size,) int64, bytes of text that each id stands for; 0 for the end of a document."""

    @abstractmethod
    def to_json(self) -> str:
        """All that is needed to make the tokenizer again; see :mod:`nextconcept.data.tokenizers`."""

    def stream(self) -> Callable[[int], str]:
        """A function that maps one id after another to the text that it completes, "" while a character is incomplete."""
        ids: list[int] = []

        def step(token: int) -> str:
            before = self.decode(ids)
            ids.append(token)
            return self.decode(ids)[len(before) :]

        return step

    def encode_prompt(self, text: str) -> np.ndarray:
        """Like :meth:`encode`, for text that a person gave.

        Raises:
            InputError: if the prompt is empty or can't be written in UTF-8.
        """
        if not text:
            raise InputError("the prompt is empty: give at least one character with --prompt.")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError("the prompt is not valid UTF-8: retype it or convert it to UTF-8.") from None
        ids = self.encode(text)
        if not len(ids):
            raise InputError("the prompt has no token: give at least one with --prompt.")
        return ids


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8; byte 0, which no text needs, ends a document."""

    vocab_size = 256
    end_of_text = 0

    def encode(self, text: str) -> np.ndarray:
        """See :meth:`Tokenizer.encode`."""
        return np.frombuffer(text.encode(), dtype=np.uint8)

    def decode(self, ids: Iterable[int]) -> str:
        """See :meth:`Tokenizer.decode`."""
        return bytes(token for token in ids if token != self.end_of_text).decode(errors="replace")

    def stream(self) -> Callable[[int], str]:
        """See :meth:`Tokenizer.stream`."""
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        return lambda token: utf8.decode(b"" if token == self.end_of_text else bytes([token]))

    def byte_counts(self) -> np.ndarray:
        """See :meth:`Tokenizer.byte_counts`."""
        counts = np.ones(self.vocab_size, dtype=np.int64)
        counts[self.end_of_text] = 0
        return counts

    def to_json(self) -> str:
        """See :meth:`Tokenizer.to_json`."""
        return json.dumps({"type": "bytes"})


class BPETokenizer(Tokenizer):
    """Byte-level BPE (Sennrich et al., 2016; Radford et al., 2019) by the library ``tokenizers``.

    Args:
        tokenizer: a trained tokenizer with a token for the end of a text.

    Attributes:
        library: the tokenizer.
    """

    def __init__(self, tokenizer: HFTokenizer) -> None:
        end_of_text = tokenizer.token_to_id(END_OF_TEXT)
        if end_of_text is None:
            raise InputError(f"the tokenizer has no token {END_OF_TEXT}: train it with nextconcept.")
        # Text that spells the special token is text, not the end of a document.
        tokenizer.encode_special_tokens = True
        self.library = tokenizer
        self.vocab_size = tokenizer.get_vocab_size()
        self.end_of_text = end_of_text

    def encode(self, text: str) -> np.ndarray:
        """See :meth:`Tokenizer.encode`."""
        return np.asarray(self.library.encode(text).ids, dtype=np.uint32)

    def decode(self, ids: Iterable[int]) -> str:
        """See :meth:`Tokenizer.decode`."""
        return self.library.decode([int(token) for token in ids], skip_special_tokens=True)

    def stream(self) -> Callable[[int], str]:
        """See :meth:`Tokenizer.stream`."""
        decoder = decoders.DecodeStream(skip_special_tokens=True)
        return lambda token: decoder.step(self.library, token) or ""

    def byte_counts(self) -> np.ndarray:
        """See :meth:`Tokenizer.byte_counts`."""
        # The byte-level alphabet writes each byte as one character.
        counts = np.zeros(self.vocab_size, dtype=np.int64)
        for token, index in self.library.get_vocab().items():
            counts[index] = 0 if index == self.end_of_text else len(token)
        return counts

    def to_json(self) -> str:
        """See :meth:`Tokenizer.to_json`."""
        return self.library.to_str()


class SymbolTokenizer(Tokenizer):
    """A token for each of a few symbols, as planning tasks use; the last id ends a text, and pads.

    Args:
        symbols: the symbols, in the order of their ids; the longest that fits is taken.
        joiner: stands between two neighbouring symbols that end and begin with a letter or digit.
            It is not a token.

    Raises:
        InputError: if there is no symbol, or one occurs twice.
    """

    def __init__(self, symbols: list[str], joiner: str = "") -> None:
        if not symbols or "" in symbols or len(set(symbols)) < len(symbols):
            raise InputError(f"symbols must be different, not empty, and at least one, not {symbols}.")
        self.symbols, self.joiner = list(symbols), joiner
        self.vocab_size, self.end_of_text = len(symbols) + 1, len(symbols)
        self._ids = {symbol: token for token, symbol in enumerate(symbols)}
        longest_first = sorted(symbols, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def encode(self, text: str) -> np.ndarray:
        """Return the token ids of ``text``; the joiner and white space between symbols are skipped.

        Raises:
            InputError: if the text holds anything but symbols.
        """
        ids, position, text = [], 0, text.strip()
        while position < len(text):
            found = self._pattern.match(text, position)
            if found is not None:
                ids.append(self._ids[found.group()])
                position = found.end()
            elif self.joiner and text.startswith(self.joiner, position):
                position += len(self.joiner)
            elif text[position].isspace():
                position += 1
            else:
                unknown = re.split(r"[\s" + re.escape(self.joiner) + "]", text[position:])[0]
                shown = ", ".join(self.symbols[:30]) + (", ..." if len(self.symbols) > 30 else "")
                raise InputError(f"{unknown!r} is no token of this task: its tokens are {shown}.")
        return np.array(ids, dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """See :meth:`Tokenizer.decode`."""
        text = ""
        for token in ids:
            symbol = self.symbols[int(token)] if token < self.end_of_text else ""
            text += self.joiner * (text[-1:].isalnum() and symbol[:1].isalnum()) + symbol
        return text

    def byte_counts(self) -> np.ndarray:
        """See :meth:`Tokenizer.byte_counts`; joiners are not counted."""
        return np.array([*(len(symbol.encode()) for symbol in self.symbols), 0])

    def to_json(self) -> str:
        """See :meth:`Tokenizer.to_json`."""
        return json.dumps({"type": "symbols", "symbols": self.symbols, "joiner": self.joiner})


def train_bpe(texts: Iterable[str], vocab_size: int) -> BPETokenizer:
    """Train byte-level BPE.

    Args:
        texts: the training text.
        vocab_size: upper bound of the vocabulary, at least 257: the bytes and the end of text.

    Raises:
        InputError: if ``vocab_size`` is too small.
    """
    if vocab_size < 257:
        raise InputError(f"vocab_size {vocab_size} is too small for BPE: 256 bytes and the end of text need 257.")
    tokenizer = HFTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return BPETokenizer(tokenizer)


def tokenizer_from_json(text: str) -> Tokenizer:
    """Rebuild a tokenizer from :meth:`Tokenizer.to_json`.

    Raises:
        InputError: if ``text`` does not describe one.
    """
    try:
        description: Any = json.loads(text)
        if description.get("type") == "bytes":
            return ByteTokenizer()
        if description.get("type") == "symbols":
            return SymbolTokenizer(description["symbols"], description["joiner"])
        return BPETokenizer(HFTokenizer.from_str(text))
    except InputError:
        raise
    except Exception as error:  # the Rust library raises bare Exception
        raise InputError(f"this is not a tokenizer of nextconcept: {error}.") from None
