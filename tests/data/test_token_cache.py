import errno
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from nextconcept.core.errors import InputError
from nextconcept.data.corpus import Corpus
from nextconcept.data.text import TextDataModule
from nextconcept.data.token_cache import SPLITS, SplitConfig, TokenCache, encode_corpus, split_documents


def corpus_of(texts: list[str], fingerprint: str = "f") -> Corpus:
    return Corpus("test", fingerprint, lambda: iter(texts), len(texts))


DOCUMENTS = [f"document {i} " * (i % 7 + 1) for i in range(100)]


@pytest.mark.parametrize(
    "config", [SplitConfig("document", 0.1, 0.2), SplitConfig("contiguous", 0.1, 0.2)], ids=lambda c: c.by
)
def test_split_documents__every_character_once_and_in_the_right_share(config: SplitConfig):
    pieces = list(split_documents(corpus_of(DOCUMENTS), config))
    assert pieces == list(split_documents(corpus_of(DOCUMENTS), config))

    def size(text: str) -> int:
        return 1 if config.by == "document" else len(text)

    total = sum(map(size, DOCUMENTS))
    shares = {name: sum(size(text) for split, text, _ in pieces if split == name) / total for name in SPLITS}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["val"] == pytest.approx(0.1, abs=0.011)
    assert shares["test"] == pytest.approx(0.2, abs=0.011)
    assert sum(ends for *_, ends in pieces) == len(DOCUMENTS)
    if config.by == "contiguous":
        assert "".join(text for _, text, _ in pieces) == "".join(DOCUMENTS)
    else:
        assert [text for _, text, _ in pieces] == DOCUMENTS


def test_split_documents__contiguous_takes_the_last_tenth_of_one_document():
    pieces = list(split_documents(corpus_of(["0123456789"]), SplitConfig("contiguous", 0.1, 0.0)))
    assert pieces == [("train", "012345678", False), ("val", "9", True)]


def test_split_config__bad_values():
    with pytest.raises(InputError, match="split.by can't be 'contigous': choose from document, contiguous"):
        SplitConfig(by="contigous")
    with pytest.raises(InputError, match="unknown settings split.bye: did you mean by"):
        TextDataModule("shakespeare", split={"bye": 1})


def test_split_documents__a_stream_has_no_fraction():
    with pytest.raises(InputError, match="split it by document"):
        list(split_documents(Corpus("s", "f", lambda: iter(DOCUMENTS), None), SplitConfig("contiguous")))


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_encode_corpus__holds_the_text_and_ends_documents(tokenizer: str, tmp_path: Path):
    config = SplitConfig("document", 0.1, 0.1)
    encoded = encode_corpus(corpus_of(DOCUMENTS), config, tokenizer, 300, tmp_path)
    for split in SPLITS:
        texts = [text for name, text, _ in split_documents(corpus_of(DOCUMENTS), config) if name == split]
        tokens = encoded.tokens(split)
        assert isinstance(tokens, np.memmap)
        assert (tokens == encoded.tokenizer.end_of_text).sum() == len(texts)
        assert encoded.tokenizer.decode(tokens) == "".join(texts)


def test_encode_corpus__encodes_once_per_content(tmp_path: Path):
    texts = list(DOCUMENTS)
    first = encode_corpus(corpus_of(texts), SplitConfig(), "bytes", 0, tmp_path)
    texts[:] = ["this is not read"]
    assert encode_corpus(corpus_of(texts), SplitConfig(), "bytes", 0, tmp_path).folder == first.folder
    others = [
        encode_corpus(corpus_of(texts * 9, "other"), SplitConfig(), "bytes", 0, tmp_path),
        encode_corpus(corpus_of(DOCUMENTS), SplitConfig(val=0.2), "bytes", 0, tmp_path),
        encode_corpus(corpus_of(DOCUMENTS), SplitConfig(), "bpe", 300, tmp_path),
    ]
    assert len({first.folder, *(other.folder for other in others)}) == 4


def test_encode_corpus__a_failure_leaves_nothing(tmp_path: Path):
    def broken():
        yield DOCUMENTS[0]
        raise RuntimeError("the line went dead")

    with pytest.raises(RuntimeError):
        encode_corpus(Corpus("test", "f", broken, 2), SplitConfig(), "bytes", 0, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def _encode_slowly(cache: Path) -> None:
    def slow():
        for text in DOCUMENTS:
            time.sleep(0.05)
            yield text

    encode_corpus(Corpus("test", "f", slow, len(DOCUMENTS)), SplitConfig(), "bytes", 0, cache)


@pytest.mark.slow
def test_encode_corpus__a_killed_process_leaves_no_entry_and_the_next_one_makes_it(tmp_path: Path):
    process = multiprocessing.get_context("spawn").Process(target=_encode_slowly, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("*.partial")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert [path for path in tmp_path.iterdir() if path.is_dir() and path.suffix != ".partial"] == []
    encoded = encode_corpus(corpus_of(DOCUMENTS), SplitConfig(), "bytes", 0, tmp_path)
    assert (encoded.tokens("train") == 0).sum() > 80
    assert not list(tmp_path.glob("*.partial"))


def test_encode_corpus__nothing_to_train_on(tmp_path: Path):
    with pytest.raises(InputError, match="leaves no text to train on"):
        encode_corpus(corpus_of([""]), SplitConfig(), "bytes", 0, tmp_path)


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0), (0.6, 0.5), (float("nan"), 0)])
def test_split_config__out_of_range(val: float, test: float):
    with pytest.raises(InputError, match="split fractions"):
        SplitConfig(val=val, test=test)


def test_encode_corpus__an_entry_needs_no_lock(tmp_path: Path):
    """The cache may be read-only once it holds the entry."""
    first = encode_corpus(corpus_of(DOCUMENTS), SplitConfig(), "bytes", 0, tmp_path)
    (lock,) = tmp_path.glob("*.lock")
    lock.unlink()
    lock.mkdir()  # nobody can lock this
    assert encode_corpus(corpus_of(DOCUMENTS), SplitConfig(), "bytes", 0, tmp_path).folder == first.folder


def test_encode_corpus__a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/cache can't be written: Not a directory;.*NEXTCONCEPT_CACHE"):
        encode_corpus(corpus_of(DOCUMENTS), SplitConfig(), "bytes", 0, tmp_path / "file" / "cache")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.rename", full)
    with pytest.raises(InputError, match="can't be written: No space left"):
        encode_corpus(corpus_of(DOCUMENTS), SplitConfig(), "bytes", 0, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.suffix not in ("", ".lock")] == []


def test_encode_corpus__a_text_that_cannot_be_read_is_not_blamed_on_the_cache(tmp_path: Path):
    def unreadable():
        raise PermissionError(errno.EACCES, "Permission denied", "corpus.txt")
        yield

    with pytest.raises(PermissionError):
        encode_corpus(Corpus("test", "f", unreadable, 2), SplitConfig(), "bytes", 0, tmp_path)


@pytest.mark.parametrize("damage", ["cut", "missing", "no tokenizer", "empty", "nothing known"])
def test_encode_corpus__a_damaged_entry_is_made_anew(damage: str, tmp_path: Path):
    def encode() -> TokenCache:
        return encode_corpus(corpus_of(DOCUMENTS), SplitConfig(), "bytes", 256, tmp_path)

    whole = np.array(encode().tokens("train"))
    folder = encode().folder
    if damage == "cut":
        os.truncate(folder / "train.bin", 300)
    elif damage == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    else:
        name = {"missing": "val.bin", "no tokenizer": "tokenizer.json", "nothing known": "made_by.json"}[damage]
        (folder / name).unlink()
    assert np.array_equal(encode().tokens("train"), whole)
    assert len(encode().tokens("val"))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".lock"]


def test_encode_corpus__a_stream_is_not_cut_by_fraction_although_the_cache_holds_it(tmp_path: Path):
    split = SplitConfig("contiguous")
    encode_corpus(corpus_of(DOCUMENTS), split, "bytes", 256, tmp_path)
    with pytest.raises(InputError, match="split it by document"):
        encode_corpus(Corpus("test", "f", lambda: iter(DOCUMENTS), None), split, "bytes", 256, tmp_path)


def test_encode_corpus__a_whole_text_may_be_measured(tmp_path: Path):
    encoded = encode_corpus(corpus_of(["a text"]), SplitConfig(val=0, test=1), "bytes", 256, tmp_path)
    assert not len(encoded.tokens("train"))
    assert bytes(encoded.tokens("test")) == b"a text\0"
    with pytest.raises(InputError, match="leaves no text to train on"):
        encode_corpus(corpus_of([""]), SplitConfig(val=0, test=1), "bytes", 256, tmp_path / "empty")
