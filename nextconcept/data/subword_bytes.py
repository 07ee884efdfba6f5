"""The bytes of text that each token of a subword tokenizer stands for."""

import json
from typing import Any

from tokenizers import Tokenizer as HFTokenizer

from nextconcept.core.errors import InputError

__all__ = ["subword_bytes"]

SPACE_MARK = "\u2581"
"""How SentencePiece (Kudo & Richardson, 2018) writes a space."""


def subword_bytes(library: HFTokenizer) -> list[bytes]:
    """Return the bytes of each id; special tokens, which no text is encoded into, have none.

    Known are the alphabet of byte-level BPE (Radford et al., 2019), and that of SentencePiece with
    bytes for what it does not know.

    Raises:
        InputError: if the tokenizer writes its tokens in another alphabet.
    """
    description: dict[str, Any] = json.loads(library.to_str())
    kinds = _kinds(description.get("decoder"))
    if "ByteLevel" in kinds:
        spell = _spell_byte_level
    elif {"ByteFallback", "Metaspace"} & kinds:
        spell = _spell_sentence_piece
    else:
        raise InputError(
            f"the bytes of its tokens are not known (it decodes by {', '.join(sorted(kinds)) or 'nothing'}): only "
            "byte-level BPE and SentencePiece with bytes are."
        )
    added = {
        token["id"]: b"" if token["special"] else token["content"].encode() for token in description["added_tokens"]
    }
    vocabulary = library.get_vocab()
    texts = [b""] * (1 + max(vocabulary.values()))
    for token, index in vocabulary.items():
        try:
            texts[index] = added[index] if index in added else spell(token)
        except (KeyError, ValueError):
            raise InputError(f"its token {token!r} is not written in the alphabet of its decoder.") from None
    return texts


def _kinds(decoder: dict[str, Any] | None) -> set[str]:
    """Return the types of a decoder and of those within it."""
    if decoder is None:
        return set()
    parts = decoder.get("decoders", [])
    return {decoder["type"]}.union(*map(_kinds, parts))


def _byte_alphabet() -> dict[str, int]:
    # Each byte is one character: printable ones themselves, the others those from 256 on.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()


def _spell_byte_level(token: str) -> bytes:
    return bytes(_BYTE_OF[character] for character in token)


def _spell_sentence_piece(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace(SPACE_MARK, " ").encode()
