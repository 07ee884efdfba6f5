"""Tokenizers out of checkpoints and exports."""

import json
from typing import Any

from tokenizers import Tokenizer as HFTokenizer

from nextconcept.data.star_graph import StarGraphTokenizer
from nextconcept.data.tokenizer import BPETokenizer, ByteTokenizer, Tokenizer
from nextconcept.errors import InputError

__all__ = ["tokenizer_from_json"]


def tokenizer_from_json(text: str) -> Tokenizer:
    """Rebuild a tokenizer from :meth:`Tokenizer.to_json`.

    Raises:
        InputError: if ``text`` does not describe one.
    """
    try:
        description: Any = json.loads(text)
        if description.get("type") == "bytes":
            return ByteTokenizer()
        if description.get("type") == "star_graph":
            return StarGraphTokenizer(description["nodes"])
        return BPETokenizer(HFTokenizer.from_str(text))
    except InputError:
        raise
    except Exception as error:  # the Rust library raises bare Exception
        raise InputError(f"this is not a tokenizer of nextconcept: {error}.") from None
