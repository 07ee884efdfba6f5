"""Tokens: bytes, byte-pair encoding trained on the corpus, or the symbols of a task."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer as HFTokenizer

from nextconcept.core.errors import InputError
from nextconcept.data.subword_bytes import subword_bytes
from nextconcept.data.tokenizer_base import DECODED_BEFORE, Tokenizer

__all__ = [
    "BPETokenizer",
    "ByteTokenizer",
    "SymbolTokenizer",
    "WordTokenizer",
    "tokenizer_from_json",
]

END_OF_TEXT = "<|endoftext|>"

ENDS_OF_TEXT = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>")
"""Tokens that end a text, in the tokenizers of others; the first that there is counts."""


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8; byte 0, which no text contains, ends a document."""

    vocab_size = 256
    end_of_text = 0

    def encode(self, text: str) -> np.ndarray:
        """Return the token ids of ``text``, a 1-D integer array.

        Raises:
            InputError: if the text holds a NUL character, whose byte ends a document.
        """
        if "\0" in text:
            raise InputError(
                f"the text has a NUL character (after {text.index(chr(0))} others), which would end a document among "
                "bytes: remove it."
            )
        return np.frombuffer(text.encode(), dtype=np.uint8)

    def token_bytes(self) -> list[bytes]:
        """Return the bytes of text of each id, none for the end of a document."""
        return [b"", *(bytes([byte]) for byte in range(1, self.vocab_size))]

    def to_json(self) -> str:
        """Return a description from which :func:`tokenizer_from_json` builds the tokenizer."""
        return json.dumps({"type": "bytes"})


class BPETokenizer(Tokenizer):
    """Subwords by the library ``tokenizers``, such as byte-level BPE (Radford et al., 2019).

    Args:
        tokenizer: trained tokenizer with a token for the end of a text (``ENDS_OF_TEXT``).

    Attributes:
        library: the tokenizer of the library.

    Raises:
        InputError: if the tokenizer has no token for the end of a text.
    """

    def __init__(self, tokenizer: HFTokenizer) -> None:
        ids = (tokenizer.token_to_id(token) for token in ENDS_OF_TEXT)
        end_of_text = next((token for token in ids if token is not None), None)
        if end_of_text is None:
            raise InputError(
                f"the tokenizer has no token for the end of a text ({', '.join(ENDS_OF_TEXT)}): add one to it."
            )
        # Text that spells the special token is text, not the end of a document.
        tokenizer.encode_special_tokens = True
        self.library = tokenizer
        self.vocab_size = 1 + max(tokenizer.get_vocab().values())  # ids may have gaps
        self.end_of_text = end_of_text

    def __reduce__(self) -> tuple[type["BPETokenizer"], tuple[HFTokenizer]]:
        """Pickle by way of the constructor: the library loses ``encode_special_tokens``."""
        return type(self), (self.library,)

    def encode(self, text: str) -> np.ndarray:
        """Return the token ids of ``text``, a 1-D integer array."""
        return np.asarray(self.library.encode(text, add_special_tokens=False).ids, dtype=np.uint32)

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """Return the token ids of each of several texts, which are encoded on all cores."""
        encodings = self.library.encode_batch_fast(texts, add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype=np.uint32) for encoding in encodings]

    def token_bytes(self) -> list[bytes]:
        """Return the bytes of text of each id, none for the end of a document."""
        return subword_bytes(self.library)

    def to_json(self) -> str:
        """Return a description from which :func:`tokenizer_from_json` builds the tokenizer."""
        return self.library.to_str()


LONGEST_PROMPT = 1_000_000
"""Most tokens to which prompts of a task are padded; a damaged file may ask for any number."""


class SymbolTokenizer(Tokenizer):
    """A token for each of a few symbols, as planning tasks use them.

    The last id ends a text and fills windows.

    Args:
        symbols: the symbols, in the order of their ids; the longest that fits is taken.
        joiner: text between two neighbouring symbols that end and begin with a letter or digit; the
            joiner is no token.
        separator: symbol that ends a prompt, if prompts are padded to one length.
        prompt_length: length to which prompts are padded in front; None pads none.

    Raises:
        InputError: if there is no symbol, one occurs twice, the separator is none of them, the
            joiner is no text, or the length of prompts is out of range.
    """

    kind = "symbols"

    def __init__(
        self,
        symbols: list[str],
        joiner: str = "",
        separator: str | None = None,
        prompt_length: int | None = None,
    ) -> None:
        texts = isinstance(symbols, list) and all(isinstance(one, str) for one in symbols)
        if not texts or not symbols or "" in symbols or len(set(symbols)) < len(symbols):
            raise InputError(f"symbols must be different, not empty, and at least one, not {symbols}.")
        if separator is not None and separator not in symbols:
            raise InputError(f"the separator {separator!r} must be one of the symbols.")
        if not isinstance(joiner, str):
            raise InputError(f"the joiner of symbols must be a text, not {joiner!r}.")
        if prompt_length is not None and (type(prompt_length) is not int or not 0 <= prompt_length <= LONGEST_PROMPT):
            raise InputError(f"prompts have a length of 0 to {LONGEST_PROMPT:,} tokens, not {prompt_length!r}.")
        self.symbols, self.joiner = list(symbols), joiner
        self.separator, self.prompt_length = separator, prompt_length
        self.vocab_size, self.end_of_text = len(symbols) + 1, len(symbols)
        self._ids = {symbol: token for token, symbol in enumerate(symbols)}
        longest_first = sorted(symbols, key=len, reverse=True)
        # Where there is a joiner, "12" is not "1" and "2".
        whole = r"(?![^\W_])" if joiner else ""
        self._pattern = re.compile("|".join(re.escape(one) + whole * one[-1].isalnum() for one in longest_first))

    def same_tokens(self, other: Tokenizer) -> bool:
        """Return whether both tokenizers give the same ids to the same text, padding apart."""
        if not isinstance(other, SymbolTokenizer):
            return False
        return self.with_prompt_length(0).to_json() == other.with_prompt_length(0).to_json()

    def with_prompt_length(self, length: int) -> "SymbolTokenizer":
        """Return a copy that pads prompts in front to ``length`` tokens."""
        return type(self)(self.symbols, self.joiner, self.separator, length)

    def encode(self, text: str) -> np.ndarray:
        """Return the token ids of ``text``; joiner and white space between symbols are skipped.

        Raises:
            InputError: if the text holds anything but symbols.
        """
        ids, position = [], 0
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
                run = re.compile(r"\w+").match(text, position) if self.joiner else None
                raise self._unknown(run.group() if run else text[position])
        return np.array(ids, dtype=np.int64)

    def encode_prompt(self, text: str) -> np.ndarray:
        """Return the token ids of a typed prompt, with padding before the question.

        The question ends with the first separator; after it the prompt may begin an answer.

        Raises:
            InputError: if the prompt is empty, holds anything but symbols or, where prompts are
                padded, has no separator.
        """
        ids = self.encode_input(text)
        if self.prompt_length is None:
            return ids
        question = len(ids)
        if self.separator is not None:
            (ends,) = np.nonzero(ids == self._ids[self.separator])
            if not len(ends):
                raise InputError(
                    f"the prompt has no {self.separator!r}, which ends each question of this task: add one at its end."
                )
            question = int(ends[0]) + 1
        padding = np.full(max(0, self.prompt_length - question), self.end_of_text, dtype=np.int64)
        return np.concatenate((padding, ids))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; the end of text is left out."""
        text = ""
        for token in ids:
            symbol = self.symbols[int(token)] if token < self.end_of_text else ""
            text += self.joiner * (text[-1:].isalnum() and symbol[:1].isalnum()) + symbol
        return text

    def stream(self, before: Sequence[int] = ()) -> Callable[[int], str]:
        """Return a function from one id after another to the text that each id adds.

        Args:
            before: ids of the text that is continued, of which the last decide on a joiner.
        """
        ids = list(before[-DECODED_BEFORE:])

        def step(token: int) -> str:
            """Return the text that a token adds to those before it."""
            known = self.decode(ids)
            ids.append(token)
            text = self.decode(ids)[len(known) :]
            del ids[:-DECODED_BEFORE]
            return text

        return step

    def token_bytes(self) -> list[bytes]:
        """Return the bytes of each symbol, without joiners, and none for the end of a document."""
        return [*(symbol.encode() for symbol in self.symbols), b""]

    def to_json(self) -> str:
        """Return a description from which :func:`tokenizer_from_json` builds the tokenizer."""
        return json.dumps(
            {
                "type": self.kind,
                "symbols": self.symbols,
                "joiner": self.joiner,
                "separator": self.separator,
                "prompt_length": self.prompt_length,
            }
        )

    def _unknown(self, text: str) -> InputError:
        shown = ", ".join(self.symbols[:30]) + (", ..." if len(self.symbols) > 30 else "")
        return InputError(f"{text!r} is none of the tokens, which are {shown}.")


class WordTokenizer(SymbolTokenizer):
    """A token for each of a few words, which white space or the separator divides.

    Args:
        symbols: words in the order of their ids, the separator among them.
        joiner: text between two words that are decoded.
        separator: symbol that ends a prompt; it needs no white space around it.
        prompt_length: length to which prompts are padded in front; None pads none.

    Raises:
        InputError: if there is no word, one occurs twice, or the separator is none of them.
    """

    kind = "words"

    def encode(self, text: str) -> np.ndarray:
        """Return the token ids of the words of ``text``.

        Raises:
            InputError: if a word is unknown.
        """
        parts = [text] if self.separator is None else text.split(self.separator)
        words = parts[0].split()
        for part in parts[1:]:
            words += [str(self.separator), *part.split()]
        unknown = next((word for word in words if word not in self._ids), None)
        if unknown is not None:
            raise self._unknown(unknown)
        return np.array([self._ids[word] for word in words], dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; the end of text is left out."""
        text, before = "", self.separator
        for token in ids:
            if token < self.end_of_text:
                word = self.symbols[int(token)]
                text += self.joiner * bool(text and self.separator not in (before, word)) + word
                before = word
        return text


def tokenizer_from_json(text: str) -> Tokenizer:
    """Build a tokenizer from the description that :meth:`Tokenizer.to_json` gave.

    Raises:
        InputError: if ``text`` describes no tokenizer.
    """
    try:
        description: Any = json.loads(text)
        kind = description.get("type")
        if kind == "bytes":
            return ByteTokenizer()
        for cls in (SymbolTokenizer, WordTokenizer):
            if kind == cls.kind:
                return cls(*(description[name] for name in ("symbols", "joiner", "separator", "prompt_length")))
        return BPETokenizer(HFTokenizer.from_str(text))
    except InputError:
        raise
    except Exception as error:  # the Rust library raises bare Exception
        raise InputError(f"this is not a tokenizer of nextconcept: {error}.") from None
