"""Tokens on disk: a corpus encoded once, split, and memory-mapped.

A cache entry is a folder named by a digest of its inputs: content of the corpus, split and
tokenizer. An entry is written under another name and renamed when complete, so that a killed run
leaves no incomplete entry; one whose files are missing or cut is written anew.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from rich.progress import Progress

from nextconcept.core.errors import InputError
from nextconcept.core.settings import check_types
from nextconcept.data.bpe_training import train_bpe
from nextconcept.data.corpus import Corpus
from nextconcept.data.pieces import Piece, batches, cut
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.data.tokenizers import ByteTokenizer, tokenizer_from_json

__all__ = ["SPLITS", "SplitConfig", "TokenCache", "encode_corpus", "split_documents"]

SPLITS = ("train", "val", "test")
_FORMAT = 4
_MADE_BY = "made_by.json"
"""The file of an entry that says what it was made of, and how long its files are."""


@dataclass(frozen=True)
class SplitConfig:
    """How a corpus is divided into training, validation and test text, without overlap.

    Args:
        by: ``document`` (whole documents are held out, spread evenly over the corpus) or
            ``contiguous`` (the corpus is cut in three, in the order train, val, test).
        val: fraction of documents or characters for validation.
        test: fraction of documents or characters for the test; with 1 a text is measured as a
            whole, and nothing is left to train on.

    Raises:
        InputError: if a value has another type, or the fractions are out of range.
    """

    by: Literal["document", "contiguous"] = "document"
    val: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        check_types(self, "split.")
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test <= 1):  # NaN fails it too
            raise InputError(
                f"split fractions val {self.val} and test {self.test} must be 0 or more and at most 1 in all."
            )

    @property
    def trains(self) -> bool:
        """Whether the fractions leave text to train on."""
        return self.val + self.test < 1


@dataclass(frozen=True)
class TokenCache:
    """An encoded corpus.

    Attributes:
        folder: folder of the cache entry.
        tokenizer: tokenizer of the corpus.
    """

    folder: Path
    tokenizer: Tokenizer

    def tokens(self, split: str) -> np.ndarray:
        """Return the tokens of a split: (count,) unsigned integers, memory-mapped."""
        path = self.folder / f"{split}.bin"
        if path.stat().st_size == 0:
            return np.empty(0, dtype=_dtype(self.tokenizer))
        return np.memmap(path, dtype=_dtype(self.tokenizer), mode="r")


def _dtype(tokenizer: Tokenizer) -> np.dtype:
    """Return the smallest type that holds the token ids."""
    return np.min_scalar_type(tokenizer.vocab_size - 1)


def split_documents(corpus: Corpus, config: SplitConfig) -> Iterator[Piece]:
    """Divide a corpus into pieces of training, validation and test text.

    Yields:
        ``(split, text, ends)``: a piece, its split, and whether a document ends with the piece.

    Raises:
        InputError: if a streamed corpus, whose length is unknown, is to be cut by fraction.
    """
    if config.by == "contiguous":
        _check_length(corpus)
        yield from _contiguous(corpus, config)
        return
    golden = (5**0.5 - 1) / 2
    count = 1
    for text, ends in corpus.blocks():
        # A low-discrepancy sequence holds out the right share of few documents as well as of many.
        point = count * golden % 1
        yield "val" if point < config.val else "test" if point < config.val + config.test else "train", text, ends
        count += ends


def _check_length(corpus: Corpus) -> None:
    if corpus.count is None:
        raise InputError("a streamed dataset has no known length: split it by document (--data.split.by document).")


def _contiguous(corpus: Corpus, config: SplitConfig) -> Iterator[Piece]:
    total, position = sum(len(text) for text, _ in corpus.blocks()), 0
    bounds = (int(total * (1 - config.val - config.test)), int(total * (1 - config.test)), total)
    for text, ends in corpus.blocks():
        start = 0
        for split, bound in zip(SPLITS, bounds, strict=True):
            end = min(len(text), max(start, bound - position))
            if end > start:
                yield split, text[start:end], ends and end == len(text)
            start = end
        position += len(text)


def encode_corpus(
    corpus: Corpus,
    split: SplitConfig,
    tokenizer: str,
    vocab_size: int,
    cache: Path,
    given: Tokenizer | None = None,
) -> TokenCache:
    """Encode a corpus, unless the cache holds it already.

    Args:
        corpus: documents.
        split: division of the corpus.
        tokenizer: ``bytes``; ``bpe`` trained on the training split; or the name of ``given``.
        vocab_size: size of the BPE vocabulary.
        cache: folder of the cache entries.
        given: a trained tokenizer, to be used instead.

    Raises:
        InputError: if the corpus holds no text to train on, a streamed one is to be cut by
            fraction, or the cache can't be written.
    """
    if split.by == "contiguous":
        _check_length(corpus)  # also where the cache holds it, not streamed
    made_by = {"format": _FORMAT, "corpus": corpus.fingerprint, "split": asdict(split), "tokenizer": tokenizer}
    if tokenizer == "bpe":
        made_by["vocab_size"] = vocab_size
    if given is not None:
        if _is_whole(folder := cache / _key(made_by)):
            encoded = _open(folder)
            if encoded.tokenizer.same_tokens(given):  # a model that goes on with its own corpus
                return encoded
        made_by.pop("vocab_size", None)
        made_by["tokenizer"] = "bytes" if isinstance(given, ByteTokenizer) else json.loads(given.to_json())
    key = _key(made_by)
    folder, partial = cache / key, cache / f"{key}.partial"
    if not _is_whole(folder):  # an entry that exists needs no lock, and the cache may be read-only
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / f"{key}.lock"):
                if not _is_whole(folder):
                    shutil.rmtree(partial, ignore_errors=True)  # of a killed run
                    partial.mkdir()
                    try:
                        _write(corpus, split, given or _make_tokenizer(corpus, split, tokenizer, vocab_size), partial)
                        made_by["bytes"] = {file.name: file.stat().st_size for file in partial.iterdir()}
                        (partial / _MADE_BY).write_text(json.dumps(made_by, indent=1))
                        shutil.rmtree(folder, ignore_errors=True)  # damaged
                        os.rename(partial, folder)
                    finally:
                        shutil.rmtree(partial, ignore_errors=True)
        except OSError as error:
            at = Path(error.filename or cache)
            if error.errno is None or not (cache in (at, *at.parents) or at in cache.parents):
                raise  # the corpus can't be read
            raise InputError(
                f"the cache of encoded texts in {cache} can't be written: {error.strerror or error}; make room there, "
                "or name another folder in the environment variable NEXTCONCEPT_CACHE."
            ) from None
    return _open(folder)


def _key(made_by: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(made_by, sort_keys=True).encode(), digest_size=12).hexdigest()


def _is_whole(folder: Path) -> bool:
    """Whether there is an entry whose files are as long as they were written."""
    try:
        sizes: dict[str, int] = json.loads((folder / _MADE_BY).read_text())["bytes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _open(folder: Path) -> TokenCache:
    return TokenCache(folder, tokenizer_from_json((folder / "tokenizer.json").read_text(encoding="utf-8")))


def _make_tokenizer(corpus: Corpus, split: SplitConfig, kind: str, vocab_size: int) -> Tokenizer:
    if kind == "bytes":
        return ByteTokenizer()
    return train_bpe((text for part, text, _ in cut(split_documents(corpus, split)) if part == "train"), vocab_size)


def _write(corpus: Corpus, split: SplitConfig, tokenizer: Tokenizer, folder: Path) -> None:
    counts = dict.fromkeys(SPLITS, 0)
    dtype = _dtype(tokenizer)
    end = np.array([tokenizer.end_of_text], dtype=dtype)
    files = {name: open(folder / f"{name}.bin", "wb") for name in SPLITS}
    try:
        with Progress(transient=True) as progress:
            task = progress.add_task(f"Encoding {corpus.name}", total=corpus.count)
            for batch in batches(cut(split_documents(corpus, split))):
                encoded = tokenizer.encode_batch([text for _, text, _ in batch])
                for (name, _, ends), ids in zip(batch, encoded, strict=True):
                    counts[name] += files[name].write(ids.astype(dtype).tobytes())
                    if ends:
                        files[name].write(end.tobytes())
                progress.advance(task, sum(ends for *_, ends in batch))
    finally:
        for file in files.values():
            file.close()
    if counts["train"] == 0 and (split.trains or not any(counts.values())):
        raise InputError(f"dataset {corpus.name!r} leaves no text to train on: give it more text or hold out less.")
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
