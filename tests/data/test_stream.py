"""Streams, from local files in place of the network."""

import itertools
from pathlib import Path

import datasets
import pytest

from nextconcept import InputError
from nextconcept.data.corpus import open_hub
from nextconcept.data.stream import StreamedWindows, StreamLoader
from nextconcept.data.tokenizers import ByteTokenizer

LENGTHS = (1, 9, 4)
"""Documents in each shard."""


@pytest.fixture
def stories(tmp_path: Path) -> str:
    """Three shards of unequal size; document n of shard s is eight letters, s and n."""
    folder = tmp_path / "stories"
    folder.mkdir()
    for shard, length in enumerate(LENGTHS):
        texts = ["abc"[shard] * 4 + "0123456789"[number] * 4 for number in range(length)]
        datasets.Dataset.from_dict({"text": texts}).to_parquet(folder / f"train-{shard}.parquet")
    return str(folder)


def windows(stories: str, rank: int = 0, ranks: int = 1) -> StreamedWindows:
    stream = open_hub(stories, "text", None, "train", streaming=True)
    return StreamedWindows(stream, "text", ByteTokenizer(), 8, rank, ranks)


def texts(found: list) -> list[str]:
    """What windows of nine bytes say; they overlap by one."""
    return [bytes(row.tolist()).decode() for batch in found for row in batch.tokens]


def test_windows__follow_one_another_and_overlap_by_one(stories: str):
    found = texts(itertools.islice(windows(stories), 20))
    assert found[0] == "aaaa0000\0"
    assert all(first[-1] == second[0] for first, second in itertools.pairwise(found))
    whole = "".join(text[:-1] for text in found)
    assert whole.startswith("aaaa0000\0bbbb0000\0bbbb1111\0")
    assert whole.count("aaaa0000") == 2  # it began again


@pytest.mark.parametrize("ranks", [2, 3])
def test_windows__ranks_share_the_stream_and_none_ends(stories: str, ranks: int):
    """Unequal parts: each rank goes on for as long as it is asked."""
    parts = []
    for rank in range(ranks):
        found = texts(itertools.islice(windows(stories, rank, ranks), 40))
        parts.append("".join(text[:-1] for text in found).split("\0"))
    whole = [{text for text in part if len(text) == 8} for part in parts]
    assert sum(map(len, whole)) == len(set.union(*whole)) == sum(LENGTHS)


@pytest.mark.filterwarnings("ignore:.*use of fork.*", "ignore:.*fork.*:DeprecationWarning")
def test_loader__workers_share_the_part_of_a_rank(stories: str):
    loader = StreamLoader(windows(stories), 2, num_workers=2, multiprocessing_context="fork")
    said = "".join(texts(itertools.islice(loader, 30)))
    assert {"aaaa", "bbbb", "cccc"} <= {said[i : i + 4] for i in range(len(said))}
    assert loader.state_dict() == {"ranks": [None]}


@pytest.mark.parametrize("stop", [1, 5, 13])
def test_loader__goes_on_where_it_was(stories: str, stop: int):
    loader = StreamLoader(windows(stories), 2)
    iterator = iter(loader)
    for _ in range(stop):
        next(iterator)
    state = loader.state_dict()
    rest = texts(itertools.islice(iterator, 12))
    again = StreamLoader(windows(stories), 2)
    again.load_state_dict(state)
    assert texts(itertools.islice(again, 12)) == rest
    assert loader.length == len(loader) == 1000


def test_loader__an_epoch_later_it_goes_on_too(stories: str):
    loader, whole = StreamLoader(windows(stories), 1), texts(itertools.islice(windows(stories), 9))
    assert texts(itertools.islice(iter(loader), 4)) + texts(itertools.islice(iter(loader), 5)) == whole


def test_loader__another_number_of_processes(stories: str):
    loader = StreamLoader(windows(stories), 2)
    with pytest.raises(InputError, match="saved with 2 processes"):
        loader.load_state_dict({"ranks": [None, None]})


def test_windows__too_little_text(tmp_path: Path):
    stream = datasets.Dataset.from_dict({"text": ["ab"]}).to_iterable_dataset()
    with pytest.raises(InputError, match="no window of 9 tokens"):
        next(iter(StreamedWindows(stream, "text", ByteTokenizer(), 8)))
