import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.tasks.star_graph import StarGraph
from nextconcept.tasks.windows import TaskWindows

GRAPH = StarGraph(arms=3, path_length=4, nodes=15)
LINE = "1,2|1,5|5,6|2,3/1,3=1,2,3"
"""A line of G(2, 3)."""


def lines_of(graph: StarGraph, split: str, count: int, seed: int = 0) -> np.ndarray:
    return np.concatenate(graph.draw(split, seed, range(count)), 1)


def write_lines(path: Path, graph: StarGraph, lines: np.ndarray) -> str:
    path.write_text("".join(graph.tokenizer.decode(line) + "\n" for line in lines.tolist()))
    return str(path)


@pytest.mark.parametrize("graph", [GRAPH, StarGraph(2, 5, 9), StarGraph(7, 7, 100)], ids=str)
def test_draw__lines_are_star_graphs_with_their_path(graph: StarGraph):
    for line in lines_of(graph, "train", 20, seed=1).tolist():
        question, answer = graph.tokenizer.decode(line).split("=")
        drawn, ends = question.split("/")
        edges = [tuple(edge.split(",")) for edge in drawn.split("|")]
        start, goal = ends.split(",")
        path = answer.split(",")
        assert len(edges) == len(set(edges)) == graph.edges
        assert len({node for edge in edges for node in edge}) == graph.edges + 1
        assert sum(source == start for source, _ in edges) == graph.arms
        assert (path[0], path[-1], len(path)) == (start, goal, graph.path_length)
        assert set(itertools.pairwise(path)) <= set(edges)


def test_draw__the_right_arm_stands_anywhere():
    lines = lines_of(StarGraph(2, 3, 9), "train", 400)
    first = (lines[:, 0:12:3] == lines[:, 16:17]).argmax(1)  # the first edge that leaves the second node of the path
    assert set(np.unique(first)) == {0, 1, 2, 3}


def test_draw__a_line_is_a_function_of_split_seed_and_index():
    prompts, answers = GRAPH.draw("train", 5, [4, 9, 2])
    again = GRAPH.draw("train", 5, [9])
    assert np.array_equal(prompts[1:2], again[0])
    assert np.array_equal(answers[1:2], again[1])
    assert not np.array_equal(prompts, GRAPH.draw("train", 6, [4, 9, 2])[0])
    assert np.array_equal(lines_of(GRAPH, "val", 5, seed=1), lines_of(GRAPH, "val", 5, seed=8))
    splits = [lines_of(GRAPH, split, 50) for split in ("train", "val", "test")]
    assert len({tuple(line) for line in np.concatenate(splits).tolist()}) == 150


def test_windows__with_chunks_of_three_an_edge_is_a_chunk():
    tokens, *_ = TaskWindows(GRAPH, Hierarchy(2, 3), "train")[0]
    chunks = tokens[0, : 3 * GRAPH.edges].view(-1, 3)
    assert (chunks[:-1, 2] == GRAPH.nodes).all()
    assert chunks[-1, 2] == GRAPH.nodes + 2


def test_judge__the_first_branch_is_the_second_node():
    truths = torch.tensor([[1, 2, 3]] * 3)
    verdicts = StarGraph(2, 3).judge(truths, torch.tensor([[1, 2, 3], [1, 2, 4], [1, 4, 3]]), truths)
    assert {name: right.tolist() for name, right in verdicts.items()} == {
        "exact": [True, False, False],
        "first_branch": [True, True, False],
    }


def test_files__lines_are_read_once_and_each_split_has_its_own(tmp_path: Path):
    files = {}
    for split in ("train", "val", "test"):
        files[f"{split}_file"] = write_lines(tmp_path / f"{split}.txt", GRAPH, lines_of(GRAPH, split, 6))
    task = StarGraph(3, 4, 15, **files)
    for path in files.values():
        Path(path).unlink()
    for split in ("train", "val", "test"):
        assert task.num_lines(split) == 6
        assert np.array_equal(lines_of(task, split, 6), lines_of(GRAPH, split, 6))


def test_files__validation_and_test_share_no_line_of_a_file(tmp_path: Path):
    path = write_lines(tmp_path / "test.txt", GRAPH, lines_of(GRAPH, "test", 7))
    task = StarGraph(3, 4, 15, test_file=path)
    assert (task.num_lines("val"), task.num_lines("test")) == (3, 4)
    assert task.num_lines("train") is None
    together = np.concatenate((lines_of(task, "val", 3), lines_of(task, "test", 4)))
    assert np.array_equal(together, lines_of(GRAPH, "test", 7))
    one = write_lines(tmp_path / "one.txt", GRAPH, lines_of(GRAPH, "test", 1))
    with pytest.raises(InputError, match="has one line"):
        StarGraph(3, 4, 15, test_file=one)


def test_files__numbers_of_lines_are_limits(tmp_path: Path):
    path = write_lines(tmp_path / "lines.txt", GRAPH, lines_of(GRAPH, "train", 9))
    task = StarGraph(3, 4, 15, train_lines=5, test_lines=3, train_file=path, val_file=path, test_file=path)
    assert [task.num_lines(split) for split in ("train", "val", "test")] == [5, 3, 3]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2|3,4/1,4=1", "line 2: 10 tokens, but a line of G\\(2, 3\\) has 18"),
        (LINE.replace("6", "99"), "line 2: '99' is none of the tokens"),
        (LINE.replace("/", "|"), "line 2: the line is not of the form"),
        (LINE.replace("1,2|", "1,2="), "line 2: the line is not of the form"),
        (LINE.replace("|5,6", "|1,6"), "line 2: the edges are not 2 arms of 3 nodes"),
        (LINE.replace("1,5|5,6", "5,6|6,5"), "line 2: the edges are not 2 arms of 3 nodes"),
        (LINE.replace("5,6", "2,6"), "line 2: the edges are not 2 arms of 3 nodes"),
        (LINE.replace("5,6", "5,1"), "line 2: the edges are not 2 arms of 3 nodes"),
        (LINE.replace("5,6", "2,3"), "line 2: the edges are not 2 arms of 3 nodes"),
        (LINE.replace("/1,3", "/5,3"), "line 2: the edges are not 2 arms .* start 5"),
        (LINE.replace("/1,3", "/1,5"), "line 2: the goal 5 is not the end of an arm"),
        (LINE.replace("/1,3", "/1,6"), "line 2: the path does not lead .* to the goal 6"),
        (LINE.replace("=1,2,3", "=1,5,3"), "line 2: the path does not lead along edges"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_files__a_line_that_is_none(line: str, message: str, split: str, tmp_path: Path):
    path = tmp_path / "lines.txt"
    path.write_text(f"{LINE}\n{line}\n")
    with pytest.raises(InputError, match=f"{path}, {message}"):
        StarGraph(2, 3, **{f"{split}_file": str(path)})


@pytest.mark.parametrize("graph", [GRAPH, StarGraph(1, 2), StarGraph(2, 2), StarGraph(1, 5)], ids=str)
def test_files__every_line_that_is_drawn_is_accepted(graph: StarGraph, tmp_path: Path):
    path = write_lines(tmp_path / "lines.txt", graph, lines_of(graph, "train", 50))
    task = StarGraph(graph.arms, graph.path_length, graph.nodes, train_file=path)
    assert task.num_lines("train") == 50


def test_tokenizer__round_trip_whole_and_in_pieces():
    text, tokenizer = "1,12|3,4/1,4=1,12,4", GRAPH.tokenizer
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    step = tokenizer.stream()
    assert "".join(map(step, ids.tolist())) == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arms": 3, "path_length": 4, "nodes": 9}, "need 10 labels, but there are 9"),
        ({"arms": 0}, "must be 1 or more"),
        ({"path_length": 1}, "path_length 1 must be 2 or more"),
        ({"train_lines": 0}, "train_lines 0"),
        ({"test_lines": 0}, "test_lines 0"),
    ],
)
def test_star_graph__out_of_range(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        StarGraph(**options)


@pytest.mark.parametrize("arms", [2, 3])
def test_draw_answer__shows_arms_and_path(arms: int):
    graph = StarGraph(arms, 4, 15)
    prompts, answers = graph.draw("val", 0, [0])

    def drawn(answer: np.ndarray | torch.Tensor) -> list[tuple[str, str]]:
        """The edges of a path, after a check of the picture of the graph."""
        axes = graph.draw_answer(prompts[0], answer).axes[0]
        names = {tuple(np.round(text.get_position(), 6)): text.get_text() for text in axes.texts}
        assert len(names) == 1 + 3 * arms
        lines = [line.get_xydata() for line in axes.get_lines()]
        assert [len(line) for line in lines[:arms]] == [4] * arms
        # Nothing is cut off.
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        assert all(left + 0.5 < x < right - 0.5 and low + 0.5 < y < high - 0.5 for x, y in names)
        return [tuple(names[tuple(np.round(end, 6) + 0.0)] for end in line) for line in lines[arms:]]

    path = [str(node) for node in answers[0]]
    assert drawn(answers[0]) == list(itertools.pairwise(path))
    ended = torch.from_numpy(answers[0]).where(torch.tensor([True, True, True, False]), graph.tokenizer.end_of_text)
    assert drawn(ended) == list(itertools.pairwise(path[:3]))
    # No edge joins the second node and the last.
    assert drawn(answers[0][[0, 1, 3, 2]]) == [(path[0], path[1]), (path[3], path[2])]
