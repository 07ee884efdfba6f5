import numpy as np
import pytest

from nextconcept.core.errors import InputError
from nextconcept.tasks import Countdown, Maze
from nextconcept.tasks.draws import DrawnTask, draw_lines, random_rows, splits_of


def test_random_rows__of_a_split_that_there_is_not():
    with pytest.raises(InputError, match="there is no split 'validation': choose train, val, test"):
        random_rows("validation", 0, [0], 1)


def sums_above(limit: float) -> object:
    """Lines of three digits whose random numbers have a sum above a limit."""

    def propose(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (10 * drawn).astype(np.int64), drawn.sum(1) > limit

    return propose


@pytest.mark.parametrize("limit", [0.0, 1.5, 2.7])
def test_draw_lines__a_line_is_a_function_of_split_seed_and_index(limit: float):
    propose = sums_above(limit)
    together = draw_lines("train", 3, range(40), 3, propose)
    alone = [draw_lines("train", 3, [index], 3, propose)[0] for index in (7, 39, 0)]
    assert np.array_equal(together[[7, 39, 0]], np.stack(alone))
    assert not np.array_equal(together, draw_lines("train", 4, range(40), 3, propose))
    held_out = [draw_lines(split, 3, range(40), 3, propose) for split in ("val", "test")]
    assert not np.array_equal(*held_out)
    for split, lines in zip(("val", "test"), held_out, strict=True):
        assert np.array_equal(lines, draw_lines(split, 8, range(40), 3, propose))


def test_random_rows__no_training_seed_draws_held_out_lines():
    held_out = {number for split in ("val", "test") for number in random_rows(split, 0, range(3), 2).flat}
    assert len(held_out) == 12
    for seed in range(5):
        assert not held_out & {*random_rows("train", seed, range(3), 2).flat}


def test_draw_lines__nothing_fits():
    with pytest.raises(InputError, match="no line of the val split was found in 10,000 attempts"):
        draw_lines("val", 0, [0, 1], 3, sums_above(3.0))


def test_splits__shares_are_as_asked_and_equal_problems_are_together():
    problems = np.stack(np.meshgrid(np.arange(50), np.arange(50), np.arange(8)), -1).reshape(-1, 3)
    splits = splits_of(problems, 0.1)
    shares = {split: (splits == split).mean() for split in ("train", "val", "test")}
    assert shares == pytest.approx({"train": 0.8, "val": 0.1, "test": 0.1}, abs=0.01)
    assert np.array_equal(splits[::7], splits_of(problems[::7], 0.1))
    assert (splits_of(problems, 0.02) == "test").mean() == pytest.approx(0.02, abs=0.005)
    # Neighbours are in different splits, whatever number they differ in.
    for column in range(3):
        for value in range(8):
            held_out = (splits[problems[:, column] == value] == "val").mean()
            assert 0.05 < held_out < 0.15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_lines": 0}, "train_lines 0"),
        ({"test_lines": 0}, "test_lines 0"),
        ({"held_out": 0.5}, "held_out 0.5"),
    ],
)
@pytest.mark.parametrize("task", [Countdown, Maze])
def test_drawn_task__out_of_range(task: type[DrawnTask], options: dict, message: str):
    with pytest.raises(InputError, match=f"{task.name}: .*{message}"):
        task(**options)
