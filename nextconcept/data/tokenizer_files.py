"""Tokenizers that somebody else trained: a ``tokenizer.json``, or one on the Hugging Face Hub."""

from pathlib import Path

from huggingface_hub import hf_hub_download
from tokenizers import Tokenizer as HFTokenizer

from nextconcept.core.errors import InputError
from nextconcept.data.tokenizers import BPETokenizer

__all__ = ["load_tokenizer"]

FILE = "tokenizer.json"

PROBES = (" The cat, sat: (x + 1) * 27\r\n\n\tnaïve Café 中文 🙂 ﬁ ½ …  two  spaces\n", "no space in front")
"""Texts that a tokenizer has to give back unchanged."""


def load_tokenizer(name: str) -> BPETokenizer:
    """Load a trained tokenizer of the library ``tokenizers``.

    Args:
        name: a ``tokenizer.json``, a folder that holds one, or the name of a repository on the
            Hugging Face Hub, which is downloaded unless the local cache holds it.

    Raises:
        InputError: if there is none, the file is broken, the tokenizer has no token for the end of
            a text, or it does not give text back unchanged.
    """
    path = _find(name)
    try:
        library = HFTokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises bare Exception
        raise InputError(f"{path} is not a tokenizer of the library tokenizers: {error}.") from None
    library.no_padding()
    library.no_truncation()
    if getattr(library.model, "dropout", None):
        library.model.dropout = None  # the same text has the same tokens
    try:
        tokenizer = BPETokenizer(library)
        texts = tokenizer.token_bytes()
    except InputError as error:
        raise InputError(f"{name} can't be used: {error}") from None
    if texts[tokenizer.end_of_text]:
        raise InputError(
            f"{name} can't be used: its end of a text, id {tokenizer.end_of_text}, is no special token, so that a text "
            "could spell it; mark it as special."
        )
    # A space in front of a text would stand in front of each piece of a corpus; an added token may
    # swallow the spaces around it, or be written for a text that spells it.
    added = (f"a {token.content} b" for token in library.get_added_tokens_decoder().values())
    for probe in (*PROBES, *added):
        if (again := tokenizer.decode(tokenizer.encode(probe))) != probe:
            raise InputError(
                f"the tokenizer {name} does not give text back unchanged: {probe!r} becomes {again!r}; choose one that "
                "works on bytes, or bytes, or bpe."
            )
    return tokenizer


def _find(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        path /= FILE
    if path.is_file():
        return path
    if path.suffix == ".json" or Path(name).is_dir():
        raise InputError(f"there is no file {path}: give a {FILE}, a folder that holds one, bytes, or bpe.")
    try:
        return Path(hf_hub_download(name, FILE))
    except Exception as error:  # the client raises errors of several libraries
        raise InputError(
            f"there is no tokenizer at {name}, nor can one of that name be loaded from the Hugging Face Hub "
            f"({type(error).__name__}): give bytes, bpe, a {FILE}, or OWNER/NAME of a repository that holds one."
        ) from None
