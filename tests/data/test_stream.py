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


def windows(stories: str, rank: int = 0, ranks: int = 1, held_out: int = 0) -> StreamedWindows:
    stream = open_hub(stories, "text", None, "train", streaming=True)
    return StreamedWindows(stream, "text", ByteTokenizer(), 8, rank, ranks, held_out)


def documents(found: list) -> list[str]:
    """The whole documents in batches of one part, in order."""
    whole = b"".join(bytes(row[:-1].tolist()) for batch in found for row in batch.tokens)
    return [text for text in whole.decode().split("\0") if len(text) == 8]


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


FORK = pytest.mark.filterwarnings("ignore:.*use of fork.*", "ignore:.*fork.*:DeprecationWarning")


@FORK
def test_loader__workers_share_the_part_of_a_rank(stories: str):
    loader = StreamLoader(windows(stories), 9, num_workers=2, multiprocessing_context="fork")
    found = list(itertools.islice(loader, 8))
    parts = [documents(found[worker::2]) for worker in range(2)]
    assert not set(parts[0]) & set(parts[1])
    assert len({*parts[0], *parts[1]}) == sum(LENGTHS)


@FORK
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_loader__goes_on_where_it_was_with_workers(stories: str, stop: int):
    options = {"num_workers": 2, "multiprocessing_context": "fork"}
    whole = texts(itertools.islice(StreamLoader(windows(stories), 2, **options), 20))
    loader = StreamLoader(windows(stories), 2, **options)
    begun = texts(itertools.islice(loader, stop))
    state = loader.state_dict()
    again = StreamLoader(windows(stories), 2, **options)
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert begun + texts(itertools.islice(again, 20 - stop)) == whole
    # Neither does another epoch begin anew.
    assert begun + texts(itertools.islice(loader, 20 - stop)) == whole
    with pytest.raises(InputError, match="saved with 2 workers per process"):
        StreamLoader(windows(stories), 2).load_state_dict(state)


@pytest.mark.parametrize("held_out", [1, 3, 10, 11])
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_windows__held_out_documents_are_taken_away_before_the_stream_is_divided(
    stories: str, ranks: int, held_out: int
):
    order = [text for shard, length in enumerate(LENGTHS) for text in map("abc"[shard].__add__, "0123456789"[:length])]
    if ranks > sum(LENGTHS) - held_out:
        return
    parts = []
    for rank in range(ranks):
        loader = StreamLoader(windows(stories, rank, ranks, held_out), 1)
        parts.append({text[0] + text[-1] for text in documents(itertools.islice(loader, 60))})
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert set.union(*parts) == set(order[held_out:])


@FORK
@pytest.mark.parametrize("held_out", [3, 10])
def test_loader__held_out_documents_are_not_trained_on_by_workers(stories: str, held_out: int):
    loader = StreamLoader(windows(stories, 0, 1, held_out), 9, num_workers=2, multiprocessing_context="fork")
    found = list(itertools.islice(loader, 8))
    seen = {*documents(found[::2]), *documents(found[1::2])}
    assert len(seen) == sum(LENGTHS) - held_out


def test_windows__shards_are_divided_if_all_workers_get_equally_many(stories: str):
    """After the first shard there are two shards: each process reads one."""
    found = []
    for rank in range(2):
        loader = StreamLoader(windows(stories, rank, 2, held_out=1), 1)
        found.append({text[0] for text in documents(itertools.islice(loader, 30))})
    assert found == [{"b"}, {"c"}]


@FORK
def test_loader__the_error_of_a_worker_is_one_sentence(stories: str):
    loader = StreamLoader(windows(stories, held_out=14), 2, num_workers=2, multiprocessing_context="fork")
    with pytest.raises(InputError, match=r"^the stream without its 14 held-out documents, divided in 2, holds no"):
        next(iter(loader))


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


def test_loader__goes_on_after_the_last_window_of_its_part(stories: str):
    """The rest of the pass fills no window, and the part begins again."""
    loader = StreamLoader(windows(stories), 1)
    whole = texts(itertools.islice(loader, 17))
    again = StreamLoader(windows(stories), 1)
    list(itertools.islice(again, 15))  # 14 documents of nine bytes
    last = StreamLoader(windows(stories), 1)
    last.load_state_dict(again.state_dict())
    assert texts(itertools.islice(last, 2)) == whole[15:]


def test_loader__an_epoch_later_it_goes_on_too(stories: str):
    loader, whole = StreamLoader(windows(stories), 1), texts(itertools.islice(windows(stories), 9))
    assert texts(itertools.islice(iter(loader), 4)) + texts(itertools.islice(iter(loader), 5)) == whole


def test_loader__another_number_of_processes(stories: str):
    loader = StreamLoader(windows(stories), 2)
    with pytest.raises(InputError, match="saved with 2 processes"):
        loader.load_state_dict({"ranks": [{}, {}]})


def test_windows__too_little_text(tmp_path: Path):
    stream = datasets.Dataset.from_dict({"text": ["ab"]}).to_iterable_dataset()
    with pytest.raises(InputError, match="no window of 9 tokens"):
        next(iter(StreamedWindows(stream, "text", ByteTokenizer(), 8)))
