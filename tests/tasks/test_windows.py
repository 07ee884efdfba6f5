import numpy as np
import pytest
import torch

from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.tasks.star_graph import StarGraph
from nextconcept.tasks.windows import TaskWindows
from tests.helpers import Reverse

GRAPH = StarGraph(arms=3, path_length=4, nodes=15)


@pytest.mark.parametrize(("levels", "chunk"), [(1, 3), (2, 3), (3, 3), (2, 4), (3, 2)])
def test_windows__only_the_answer_is_learnt(levels: int, chunk: int):
    hierarchy = Hierarchy(levels, chunk)
    layout = GRAPH.layout(hierarchy)
    tokens, mask, _ = TaskWindows(GRAPH, hierarchy, "train")[7]
    assert tokens.shape == mask.shape == (1, layout.context_length + 1)
    line = np.concatenate(GRAPH.draw("train", 0, [7]), 1)[0]
    assert tokens[0, layout.prompt : layout.prompt + len(line)].tolist() == line.tolist()
    assert mask[0].nonzero().flatten().tolist() == list(range(layout.answer, layout.context_length))
    assert (tokens[0, : layout.prompt] == GRAPH.tokenizer.end_of_text).all()


def test_windows__lines_without_end_are_a_function_of_seed_and_index():
    windows = TaskWindows(Reverse(), Hierarchy(2, 2), "train", seed=3, epoch_length=20)
    assert len(windows) == 20
    both = windows.__getitems__([5, 1 << 40]).tokens
    assert torch.equal(windows[1 << 40].tokens, both[1:])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(TaskWindows(Reverse(), Hierarchy(2, 2), "train", seed=4)[5].tokens, both[:1])


def test_windows__finite_training_lines_are_shuffled_anew_in_each_epoch():
    task = StarGraph(3, 4, 15, train_lines=10)

    def epochs(seed: int) -> list[list[list[int]]]:
        windows = TaskWindows(task, Hierarchy(2, 3), "train", seed)
        assert len(windows) == 10
        return [windows.__getitems__(list(range(start, start + 10))).tokens.tolist() for start in (0, 10)]

    first, second = epochs(0)
    assert first != second
    assert sorted(first) == sorted(second)
    assert len({tuple(line) for line in first}) == 10
    assert epochs(0) == [first, second]
    again = TaskWindows(task, Hierarchy(2, 3), "train", 0)
    assert [again[index].tokens[0].tolist() for index in (13, 2, 19)] == [second[3], first[2], second[9]]


def test_windows__the_seed_shuffles_finite_training_lines():
    class Fixed(Reverse):
        """The same ten lines for all seeds."""

        def num_lines(self, split: str) -> int | None:
            return 10

        def draw(self, split: str, seed: int, indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
            return super().draw(split, 0, indices)

    one, other = (
        TaskWindows(Fixed(), Hierarchy(2, 2), "train", seed).__getitems__(list(range(10))).tokens.tolist()
        for seed in (0, 1)
    )
    assert one != other
    assert sorted(one) == sorted(other)


def test_windows__held_out_lines_stay_in_order():
    windows = TaskWindows(Reverse(), Hierarchy(2, 2), "val", seed=3)
    assert len(windows) == 30
    assert torch.equal(windows[4].tokens, TaskWindows(Reverse(), Hierarchy(2, 2), "val")[4].tokens)


@pytest.mark.parametrize(
    ("count", "message"), [(0, "has no line for the val split"), (None, "needs a number of lines")]
)
def test_windows__a_split_without_lines(count: int | None, message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Reverse, "num_lines", lambda *_: count)
    with pytest.raises(InputError, match=message):
        TaskWindows(Reverse(), Hierarchy(2, 2), "val")


@pytest.mark.parametrize("answers", [[[1, 2, 3]], [[1, 2, 3, 9]]])
def test_windows__lines_of_another_form(answers: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Reverse, "draw", lambda *_: ([[1, 2, 3, 4, 6]], answers))
    with pytest.raises(InputError, match="Reverse.draw gave .* answers 4, all below 8"):
        TaskWindows(Reverse(), Hierarchy(2, 2), "val")[0]
