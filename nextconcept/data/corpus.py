"""Documents of a corpus, from wherever they come.

Every function here yields documents in one fixed order and a fingerprint that changes with their
content.
"""

import codecs
import glob
import hashlib
import os
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Union

from nextconcept.core.errors import InputError

if TYPE_CHECKING:  # loaded where a dataset is opened: it takes as long as torch
    import datasets

__all__ = [
    "Corpus",
    "check_document",
    "files_corpus",
    "hub_corpus",
    "open_hub",
]

_DATA_FILES = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
"""Loader of the library ``datasets`` for each kind of data file."""

_TEXT_FILES = (".txt", ".text")
"""Endings of the files that are read in a folder of text."""

_BLOCK = 1 << 20
"""Characters of a file that are read at once."""

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Corpus:
    """Documents that can be read more than once.

    Attributes:
        name: name that the user gave.
        fingerprint: hexadecimal digest of the content, or of what identifies it on the Hub.
        read: function that yields the documents, always in the same order.
        count: number of documents, or None if they are streamed.
        empty_files: number of files that were left out because they are empty.
        read_blocks: function that yields the same documents in blocks, each with whether a document
            ends with it, so that memory does not grow with a document; None to read them whole.
    """

    name: str
    fingerprint: str
    read: Callable[[], Iterator[str]]
    count: int | None
    empty_files: int = 0
    read_blocks: Callable[[], Iterator[tuple[str, bool]]] | None = None

    def blocks(self) -> Iterator[tuple[str, bool]]:
        """Yield the documents in blocks, each with whether a document ends with it."""
        return ((text, True) for text in self.read()) if self.read_blocks is None else self.read_blocks()


def files_corpus(name: str) -> Corpus:
    """Open local text files, one document each, ordered by name; line ends become a newline.

    A byte order mark is no part of a document, and empty files are left out.

    Args:
        name: an existing file; a folder, whose ``.txt`` and ``.text`` files are read, also in
            folders within; or a pattern. What exists is never taken for a pattern.

    Raises:
        InputError: if there is no such file, all are empty, or a file is unreadable, not UTF-8 or
            not text.
    """
    folder = Path(name).is_dir()
    paths = _text_files(name) if folder else _matching_files(name)
    # A pattern that matches nothing is judged by its own ending.
    data_file = next((path for path in paths or [name] if _loader(path) is not None and not folder), None)
    if data_file is not None:
        raise InputError(
            f"{data_file} is a data file, not plain text: read its column with --data HubDataModule --data.name "
            f"{name} --data.column text."
        )
    if not paths and folder:
        raise InputError(
            f"the folder {name} holds no .txt file: name other text files by a pattern such as '{name}/**/*.md'; a "
            f"folder of JSON, CSV or Parquet files is read with --data HubDataModule --data.name {name}."
        )
    if not paths:
        raise InputError(
            f"no file matches dataset {name!r}: give shakespeare, tunes or python, an existing path or a pattern such "
            f"as 'path/*.txt'; a Hugging Face dataset is read with --data HubDataModule --data.name {name}."
        )
    digests = {path: _checked_digest(path) for path in paths}
    documents = [path for path in paths if digests[path] is not None]
    if not documents:
        raise InputError(
            f"{paths[0]} is empty: give it text, or name another file."
            if len(paths) == 1
            else f"all {len(paths)} files of {name} are empty: give them text, or name other files."
        )
    content = b"".join(digest for digest in digests.values() if digest is not None)
    fingerprint = hashlib.blake2b(content, digest_size=16).hexdigest()

    def read() -> Iterator[str]:
        """Yield the documents, a file each."""
        # Not by the library datasets, whose cache takes a file for unchanged by its time stamp.
        return (Path(path).read_text(encoding="utf-8-sig") for path in documents)

    def blocks() -> Iterator[tuple[str, bool]]:
        """Yield the documents in pieces, each with whether it ends its document."""
        return (block for path in documents for block in _blocks(path))

    return Corpus(name, fingerprint, read, len(documents), len(paths) - len(documents), blocks)


def _blocks(path: str) -> Iterator[tuple[str, bool]]:
    """Yield the text of a file in blocks, each with whether it is the last."""
    with open(path, encoding="utf-8-sig") as file:
        block = file.read(_BLOCK)
        while following := file.read(_BLOCK):
            yield block, False
            block = following
        yield block, True


def _matching_files(name: str) -> list[str]:
    """Return an existing file, or the files that match a pattern, ordered by name."""
    path = Path(name)
    if path.is_file():
        return [name]
    # The part of the path that exists is literal, whatever characters it has.
    root = next((parent for parent in path.parents if parent.is_dir()), Path())
    pattern = str(path.relative_to(root))
    found = (root / match for match in glob.glob(pattern, root_dir=root, recursive=True))
    return sorted(str(match) for match in found if match.is_file())


def _files_within(folder: str) -> list[Path]:
    """Return the paths, relative to a folder, of its files, in order and without hidden ones."""
    paths = (path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file())
    return sorted(path for path in paths if not any(part.startswith(".") for part in path.parts))


def _text_files(folder: str) -> list[str]:
    return [str(Path(folder, path)) for path in _files_within(folder) if path.suffix.lower() in _TEXT_FILES]


PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf")
"""How files begin that gzip, bzip2, xz, zip, zstd and 7z have made."""


def _checked_digest(path: str) -> bytes | None:
    """Return the digest of a file's bytes, None if it is empty; check that they are UTF-8 text."""
    digest, decoder, position = hashlib.blake2b(digest_size=16), codecs.getincrementaldecoder("utf-8")(), 0
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                if position == 0 and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise InputError(f"{path} is UTF-16, not UTF-8: convert it with iconv -f utf-16 -t utf-8.")
                if position == 0 and block.startswith(PACKED):
                    raise InputError(f"{path} is compressed, and no text: unpack it first.")
                if b"\0" in block:
                    raise InputError(
                        f"{path} has a NUL byte, byte {position + block.index(0)}, so that it is no UTF-8 text: if "
                        "it is UTF-16, convert it with iconv -f utf-16le -t utf-8; otherwise remove the NUL bytes."
                    )
                decoder.decode(block)
                digest.update(block)
                position += len(block)
            decoder.decode(b"", final=True)
            empty = position <= len(_BOM) and _only_bom(path)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not valid UTF-8 near byte {position + error.start}: convert it, for instance with "
            "iconv -f latin1 -t utf-8."
        ) from None
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from None
    return None if empty else digest.digest()


def _only_bom(path: str) -> bool:
    return Path(path).read_bytes().removeprefix(_BOM) == b""


def check_document(text: object, place: str) -> str:
    """Return the document that a row of a dataset holds.

    Args:
        text: value of the row's column.
        place: the column, for error messages.

    Raises:
        InputError: if the value is not text, or holds a NUL character.
    """
    if not isinstance(text, str):
        raise InputError(f"{place} holds {type(text).__name__}, not text.")
    if "\0" in text:
        raise InputError(
            f"{place} has a document with a NUL character, {text[:40]!r}..., which is no text: remove the character."
        )
    return text


def _loader(name: str) -> str | None:
    """Return the loader of ``datasets`` for data files, None for any other name."""
    suffixes = [suffix for suffix in Path(name).suffixes if suffix not in (".gz", ".zst", ".xz", ".bz2")]
    return _DATA_FILES.get(suffixes[-1].lower()) if suffixes else None


def open_hub(
    name: str, column: str, subset: str | None, hub_split: str, streaming: bool, content: str | None = None
) -> Union["datasets.Dataset", "datasets.IterableDataset"]:
    """Open a Hugging Face dataset, or local data files, mapped or streamed.

    Args:
        name: name of a dataset on the Hub, a local folder, or a path or pattern of data files; what
            exists is never taken for a pattern.
        column: column that holds the text.
        subset: configuration of the dataset.
        hub_split: split to read; data files have the split ``train`` alone.
        streaming: read documents one by one instead of downloading them first.
        content: digest of the local files, if it is known: reading them takes a while.

    Raises:
        InputError: if there is no such dataset, or it has no such column.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    loader, paths = _loader(name), _local_files(name)
    options = {} if streaming or not paths else {"cache_dir": _content_cache(content or _content(paths))}
    if Path(name).is_dir() and glob.escape(full := os.path.abspath(name)) != full:
        raise InputError(
            f"the path of the folder {full} has one of the characters *?[, which the library datasets takes for a "
            f"pattern: rename it, or name its files, for instance {name}/*.parquet."
        )
    _refuse_text_folder(name, not any(_loader(path) for path in paths))
    try:
        if loader is None or Path(name).is_dir():
            loaded = datasets.load_dataset(name, subset, split=hub_split, streaming=streaming, **options)
            _refuse_text_folder(name, loaded.info.builder_name == "text")
        else:
            if not paths:
                raise InputError(
                    f"no file matches {name!r}: give an existing path or a pattern such as 'path/*.jsonl'."
                )
            files = [glob.escape(os.path.abspath(path)) for path in paths]
            loaded = datasets.load_dataset(loader, data_files=files, split=hub_split, streaming=streaming, **options)
        columns = loaded.column_names
    except InputError:
        raise
    except StopIteration:  # of the reader of an empty file
        raise InputError(f"{name} has a data file that is empty: leave it out.") from None
    except (DatasetsError, OSError, ValueError, ImportError) as error:
        # What datasets says of a broken file stands in the cause.
        reason = str(error.__cause__ or error).split("\n")[0].rstrip(".")
        raise InputError(
            f"unknown dataset {name!r} (split {hub_split!r}): it is not a data file, and the Hugging Face Hub did not "
            f"give it: {reason}."
            if loader is None
            else f"{name} can't be read as {loader}: {reason}."
        ) from None
    if columns is not None:
        _check_column(name, column, columns)
    return loaded


def _local_files(name: str) -> list[str]:
    """Return the local files of a folder, of a path, or of a pattern of data files."""
    if Path(name).is_dir():
        return [str(Path(name, path)) for path in _files_within(name)]
    return _matching_files(name) if _loader(name) else []


def _content(paths: list[str]) -> str:
    """Return the digest of the names and the content of files.

    Raises:
        InputError: if one can't be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        try:
            content = hashlib.blake2b()
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    content.update(block)
            # The name of a file can say which split it belongs to.
            digest.update(Path(path).name.encode() + content.digest())
        except OSError as error:
            raise InputError(f"{path} can't be read: {error.strerror}.") from None
    return digest.hexdigest()


def _content_cache(content: str) -> str:
    """Return a folder for what ``datasets`` makes of files with a digest.

    The library itself takes a file for unchanged by its path and time stamp.
    """
    import datasets

    return str(Path(datasets.config.HF_DATASETS_CACHE, f"content-{content}"))


def _refuse_text_folder(name: str, is_text: bool) -> None:
    """Raise :class:`InputError` for a local folder of text, whose lines would be documents."""
    if is_text and Path(name).is_dir() and _text_files(name):
        raise InputError(f"{name} is a folder of text files: read it with --data TextDataModule --data.dataset {name}.")


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
    paths = _local_files(name)
    content = _content(paths) if paths else None
    loaded = open_hub(name, column, subset, hub_split, streaming, content)
    if max_documents is not None:
        loaded = loaded.take(max_documents)
    if content is None:
        content = _revision(name, loaded) if streaming else loaded._fingerprint
    identity = "\0".join(map(str, (name, subset, hub_split, column, max_documents, content)))
    digest = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()

    def read() -> Iterator[str]:
        """Yield the texts of the rows, one document each."""
        for row in loaded:
            _check_column(name, column, row)  # a stream may tell its columns only now
            yield check_document(row[column], f"column {column!r} of dataset {name!r}")

    return Corpus(name, digest, read, None if streaming else len(loaded))


def _revision(name: str, stream: "datasets.IterableDataset") -> str | None:
    """Return the revision of a streamed dataset on the Hub, None if it can't be told.

    The stream knows it only as a part of the addresses that it reads.
    """
    try:
        found = re.search(rf"hf://datasets/{re.escape(name)}@([0-9a-f]{{40}})".encode(), pickle.dumps(stream))
    except (pickle.PicklingError, AttributeError, TypeError):  # rows made by a function
        return None
    return found.group(1).decode() if found else None
