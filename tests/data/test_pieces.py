"""Documents in pieces: the same text, the same tokens, in memory that does not grow."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nextconcept.data.bpe_training import train_bpe
from nextconcept.data.packaged_corpora import text_corpus
from nextconcept.data.pieces import BATCH, batches, cut

ALPHABET = ["a", "b", "ab", "'s", "é", "語", "1", "23", ".", "!!", " ", "  ", "\n", "\n\n", "\t", "\u00a0"]


def any_text(seed: int, length: int = 400) -> str:
    return "".join(random.Random(seed).choices(ALPHABET, k=length))


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_cut__keeps_text_order_and_ends(size: int):
    documents = [(("train", "val")[seed % 2], any_text(seed), True) for seed in range(6)] + [("val", "", True)]
    pieces = list(cut(documents, size))
    assert all(len(text) <= size for _, text, _ in pieces)
    whole, text = [], ""
    for split, piece, ends in pieces:
        text += piece
        if ends:
            whole.append((split, text, True))
            text = ""
    assert whole == documents
    assert not text


def test_cut__does_not_depend_on_the_blocks_that_a_document_comes_in():
    text = any_text(0)
    blocks = [("train", text[start : start + 9], start + 9 >= len(text)) for start in range(0, len(text), 9)]
    assert list(cut(blocks, 50)) == list(cut([("train", text, True)], 50))


def test_batches__empty_documents_fill_one_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nextconcept.data.pieces.BATCH", 4)
    assert [len(batch) for batch in batches([("train", "", True)] * 9)] == [4, 4, 1]


def test_cut__a_document_on_the_border_of_two_splits():
    assert list(cut([("train", "one t", False), ("val", "wo", True)], 50)) == [
        ("train", "one t", False),
        ("val", "wo", True),
    ]


def test_encode_batch__of_the_pieces_of_a_text__are_the_tokens_of_the_text():
    texts = [any_text(seed) for seed in range(20)]
    tokenizer = train_bpe(texts, 400)
    for text in texts:
        pieces = [piece for _, piece, _ in cut([("train", text, True)], 60)]
        assert len(pieces) > 5
        together = tokenizer.encode_batch(pieces)
        assert np.array_equal(np.concatenate(together), tokenizer.encode(text))
        for piece, ids in zip(pieces, together, strict=True):
            assert np.array_equal(ids, tokenizer.encode(piece))


def test_batches__hold_every_piece_once_in_order():
    pieces = [("train", "x" * (BATCH // 3), False) for _ in range(10)] + [("val", "", True)] * 10
    grouped = list(batches(pieces))
    assert [piece for batch in grouped for piece in batch] == pieces
    assert all(sum(len(text) for _, text, _ in batch) < 2 * BATCH for batch in grouped)


def test_files__in_blocks_hold_the_same_documents(tmp_path: Path):
    line = "caf\u00e9 au lait \u8a9e\r\n"
    (tmp_path / "long.txt").write_bytes(b"\xef\xbb\xbf" + (line * 160_000).encode())
    (tmp_path / "short.txt").write_text("short")
    corpus = text_corpus(str(tmp_path))
    blocks, documents, text = list(corpus.blocks()), [], ""
    for block, ends in blocks:
        text += block
        if ends:
            documents.append(text)
            text = ""
    assert len(blocks) > 3
    assert not text
    assert documents == list(corpus.read())


ENCODE = """
import resource, sys
from pathlib import Path
from nextconcept.data.packaged_corpora import text_corpus
from nextconcept.data.token_cache import SplitConfig, encode_corpus
folder, kind = Path(sys.argv[1]), sys.argv[2]
for name in ("small", "large"):
    encode_corpus(text_corpus(str(folder / f"{name}.txt")), SplitConfig("contiguous"), kind, 300, folder / "cache")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("tokenizer", ["bytes", pytest.param("bpe", marks=pytest.mark.slow)])
def test_encoding__takes_no_more_memory_for_a_larger_corpus(tokenizer: str, tmp_path: Path):
    line = "to be or not to be, that is the question: \u00e9\n"
    megabytes = {"small": 3, "large": 43 if tokenizer == "bytes" else 9}
    for name, size in megabytes.items():
        (tmp_path / f"{name}.txt").write_text(line * (size * 1_000_000 // len(line)))
    done = subprocess.run(
        [sys.executable, "-c", ENCODE, str(tmp_path), tokenizer], check=True, capture_output=True, text=True
    )
    small, large = (int(peak) / 1024 for peak in done.stdout.split())
    assert large - small < (megabytes["large"] - megabytes["small"]) / 2
