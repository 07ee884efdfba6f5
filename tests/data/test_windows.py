import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from nextconcept.data.windows import ContiguousWindows, TrainingWindows, WindowLoader, Windows

STREAM = np.arange(1000, dtype=np.uint16)


def test_training_windows__window_i_depends_on_seed_and_i_alone():
    windows = TrainingWindows(STREAM, 16, seed=3)
    together = windows.__getitems__([5, 70, 1 << 40])
    for row, index in enumerate([5, 70, 1 << 40]):
        assert torch.equal(windows[index].tokens[0], together.tokens[row])
    assert together.tokens.shape == (3, 17)
    assert together.mask.all()
    assert torch.equal(together.tokens[:, 1:] - together.tokens[:, :-1], torch.ones(3, 16, dtype=torch.long))
    assert not torch.equal(TrainingWindows(STREAM, 16, seed=4).__getitems__([5, 70]).tokens, together.tokens[:2])


def test_training_windows__reach_both_ends():
    starts = TrainingWindows(STREAM[:20], 16, 0).__getitems__(list(range(200))).tokens[:, 0]
    assert set(starts.tolist()) == {0, 1, 2, 3}


def test_training_windows__an_epoch_is_as_long_as_the_stream():
    assert [len(TrainingWindows(STREAM, length, 0)) for length in (10, 16, 999)] == [100, 62, 1]


@pytest.mark.parametrize("length", [2, 16, 17, 18, 33, 100])
def test_contiguous_windows__predict_each_token_once(length: int):
    windows = ContiguousWindows(STREAM[:length], 16)
    batch = windows.__getitems__(list(range(len(windows))))
    assert batch.tokens[:, 1:][batch.mask[:, 1:]].tolist() == list(range(1, length))
    assert batch.mask[:, 1].all()  # no window has nothing to predict


@pytest.mark.parametrize("windows", [TrainingWindows(STREAM, 300, 0), ContiguousWindows(STREAM, 300)], ids=len)
def test_windows__a_loop_over_them_is_an_epoch(windows: Windows):
    seen = list(itertools.islice(windows, 9))
    assert len(seen) == len(windows) < 9
    assert all(torch.equal(window.tokens, windows[index].tokens) for index, window in enumerate(seen))


@pytest.mark.parametrize("index", [-1, 4])
def test_contiguous_windows__have_an_end(index: int):
    with pytest.raises(IndexError, match=f"there is no window {index}: the text has 4, counted from 0"):
        ContiguousWindows(STREAM, 300)[index]


@pytest.mark.parametrize("kind", [TrainingWindows, ContiguousWindows])
def test_windows__a_worker_opens_the_file_instead_of_getting_its_content(kind: type, tmp_path: Path):
    np.arange(100_000, dtype=np.uint16).tofile(tmp_path / "train.bin")
    tokens = np.memmap(tmp_path / "train.bin", dtype=np.uint16, mode="r")
    options = {"context_length": 16} | ({"seed": 1} if kind is TrainingWindows else {})
    for part in (tokens, tokens[50:], np.array(tokens)):
        windows = kind(part, **options)
        pickled = pickle.dumps(windows)
        assert (len(pickled) < 2000) == (part is tokens)
        again = pickle.loads(pickled)
        assert len(again) == len(windows)
        assert torch.equal(again.__getitems__([0, 7]).tokens, windows.__getitems__([0, 7]).tokens)
    offset = np.memmap(tmp_path / "train.bin", dtype=np.uint16, mode="r", offset=20)
    assert pickle.loads(pickle.dumps(kind(offset, **options))).tokens[0] == 10


def draw(ranks: int, batches: int, skip: int = 0) -> list[set[int]]:
    """First tokens of each global batch of 12 windows."""
    per_rank = []
    for rank in range(ranks):
        loader = WindowLoader(TrainingWindows(STREAM, 16, 0), 12 // ranks, ranks, rank)
        loader.load_state_dict({"epoch": 0, "windows": skip * 12})
        per_rank.append([batch.tokens[:, 0].tolist() for batch, _ in zip(loader, range(batches), strict=False)])
    return [sorted(start for part in parts for start in part) for parts in zip(*per_rank, strict=True)]


@pytest.mark.parametrize("ranks", [2, 3])
def test_window_loader__any_number_of_ranks_draws_the_same_windows(ranks: int):
    assert draw(ranks, 4) == draw(1, 4)


def test_window_loader__goes_on_where_its_state_says():
    loader = WindowLoader(TrainingWindows(STREAM, 16, 0), 4)
    whole = [batch.tokens for batch in loader]
    for done, _ in enumerate(loader, 1):
        if done == 6:
            break
    again = WindowLoader(TrainingWindows(STREAM, 16, 0), 4)
    again.load_state_dict(loader.state_dict())
    rest = [batch.tokens for batch in again]
    assert len(rest) == len(whole) - 6
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[6:], strict=True))
    assert draw(2, 3, skip=2) == draw(1, 5)[2:]


@pytest.mark.parametrize(
    ("size", "ranks", "together"), [(1, 1, 1), (2, 1, 1), (1, 2, 3), (5, 1, 2), (3, 2, 1), (6, 2, 1)]
)
@pytest.mark.parametrize("made", [1, 3, 7])
def test_window_loader__goes_on_with_batches_of_another_size(size: int, ranks: int, together: int, made: int):
    """No window is left out or read twice, and all processes get equally many batches."""
    windows = TrainingWindows(STREAM[:333], 16, 0)  # 20 in an epoch
    before = WindowLoader(windows, 3)
    for done, _ in enumerate(before, 1):
        if done == made:
            break
    epoch = made // len(before)
    read = []
    for rank in range(ranks):
        after = WindowLoader(windows, size, ranks, rank)
        after.load_state_dict(before.state_dict())
        after.sampler.set_epoch(epoch)
        first = after.regroup(epoch, together, made, len(after))
        if first is None:
            assert (size * ranks, together) == (3, 1) or (size * ranks == 3 and made % together == 0)
            first = made if epoch == 0 else 0
        assert first % together == 0
        starts = []
        for number in range(epoch, epoch + 3):
            after.sampler.set_epoch(number)
            batches = [batch.tokens[:, 0].tolist() for batch in after]
            assert len(batches) == len(after) - (first if number == epoch else 0)
            starts += batches
        read.append(starts)
    taken = [start for batches in zip(*read, strict=True) for starts in zip(*batches, strict=True) for start in starts]
    expected = windows.__getitems__(list(range(made * 3, made * 3 + len(taken)))).tokens[:, 0]
    assert taken == expected.tolist()


def test_window_loader__epochs_differ():
    loader = WindowLoader(TrainingWindows(STREAM, 16, 0), 4)
    first = torch.cat([batch.tokens for batch in loader])
    loader.sampler.set_epoch(1)
    assert not torch.equal(first, torch.cat([batch.tokens for batch in loader]))


def test_window_loader__an_epoch_that_was_cut_short_is_left_behind():
    """The position counts in its own epoch alone, however many windows that epoch gave."""
    loader = WindowLoader(TrainingWindows(STREAM, 16, 0), 4)
    for done, _ in enumerate(loader, 1):
        if done == 4:
            break
    state = loader.state_dict()
    loader.sampler.set_epoch(1)
    whole = [batch.tokens for batch in loader]
    again = WindowLoader(TrainingWindows(STREAM, 16, 0), 4)
    again.load_state_dict(state)
    again.sampler.set_epoch(1)
    assert all(torch.equal(a.tokens, b) for a, b in zip(again, whole, strict=True))


def test_window_loader__repeats_its_first_epoch():
    loader = WindowLoader(TrainingWindows(STREAM, 16, 0), 4, repeat=True)
    first = [batch.tokens for batch in loader]
    loader.sampler.set_epoch(3)
    assert all(torch.equal(a.tokens, b) for a, b in zip(loader, first, strict=True))
    assert loader.windows_of_batch(1) == range(4, 8)
