import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from nextconcept import InputError
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.tasks.star_graph import (
    StarGraph,
    StarGraphWindows,
    draw_lines,
    read_lines,
    star_graph_tokenizer,
    write_lines,
)

GRAPH = StarGraph(arms=3, path_length=4, nodes=15)


@pytest.mark.parametrize("graph", [GRAPH, StarGraph(2, 5, 9), StarGraph(7, 7, 100)], ids=str)
def test_draw_lines__are_star_graphs_with_their_path(graph: StarGraph):
    tokenizer = star_graph_tokenizer(graph.nodes)
    for line in draw_lines(graph, 3, range(20)).tolist():
        question, answer = tokenizer.decode(line).split("=")
        drawn, ends = question.split("/")
        edges = [tuple(edge.split(",")) for edge in drawn.split("|")]
        start, goal = ends.split(",")
        path = answer.split(",")
        assert len(edges) == len(set(edges)) == graph.edges
        assert len({node for edge in edges for node in edge}) == graph.edges + 1
        assert sum(source == start for source, _ in edges) == graph.arms
        assert (path[0], path[-1], len(path)) == (start, goal, graph.path_length)
        assert set(itertools.pairwise(path)) <= set(edges)


def test_draw_lines__the_right_arm_stands_anywhere():
    lines = draw_lines(StarGraph(2, 3, 9), 0, range(400))
    first = (lines[:, 0:12:3] == lines[:, 16:17]).argmax(1)  # the first edge that leaves the second node of the path
    assert set(np.unique(first)) == {0, 1, 2, 3}


def test_draw_lines__a_line_is_a_function_of_seed_and_index():
    several = draw_lines(GRAPH, 5, [4, 9, 2])
    assert np.array_equal(several[1:2], draw_lines(GRAPH, 5, [9]))
    assert not np.array_equal(several, draw_lines(GRAPH, 6, [4, 9, 2]))


@pytest.mark.parametrize(("levels", "chunk"), [(1, 3), (2, 3), (3, 3), (2, 4), (3, 2)])
def test_windows__the_answer_begins_with_a_chunk_of_every_level(levels: int, chunk: int):
    hierarchy = Hierarchy(levels, chunk)
    tokens, mask = StarGraphWindows(GRAPH, hierarchy, 0, 50)[7]
    front, context = GRAPH.layout(hierarchy)
    hierarchy.check_context(context)
    answer = front + GRAPH.question
    assert answer % hierarchy.top_span == 0
    assert tokens.shape == mask.shape == (1, context + 1)
    line = draw_lines(GRAPH, 0, [7])[0]
    assert tokens[0, front : front + len(line)].tolist() == line.tolist()
    assert mask[0].nonzero().flatten().tolist() == list(range(answer, context))
    assert (tokens[0, :front] == GRAPH.nodes + 3).all()


def test_windows__with_chunks_of_three_an_edge_is_a_chunk():
    tokens, _ = StarGraphWindows(GRAPH, Hierarchy(2, 3), 0, 50)[0]
    chunks = tokens[0, : 3 * GRAPH.edges].view(-1, 3)
    assert (chunks[:-1, 2] == GRAPH.nodes).all()
    assert chunks[-1, 2] == GRAPH.nodes + 2


def test_windows__finite_lines_repeat():
    windows = StarGraphWindows(GRAPH, Hierarchy(2, 3), 0, 5, epoch=20)
    assert len(windows) == 20
    assert torch.equal(windows[3].tokens, windows[8].tokens)


def test_files__round_trip(tmp_path: Path):
    lines, path = draw_lines(GRAPH, 1, range(6)), tmp_path / "lines.txt"
    write_lines(path, lines, GRAPH.nodes)
    assert path.read_text().count("\n") == 6
    assert np.array_equal(read_lines(str(path), GRAPH), lines)
    windows = StarGraphWindows(GRAPH, Hierarchy(2, 3), 0, None, file=str(path))
    assert len(windows) == 6
    assert windows[7].tokens[0, : lines.shape[1]].tolist() == lines[1].tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("1,2|3,4/1,4=1\n", "line 1: 10 tokens, but a line of G\\(3, 4\\) has 34"),
        ("1,99|3,4/1,4=1\n", "line 1: '99' is no token of a star graph"),
        ("x\n", "'x' is no token"),
    ],
)
def test_read_lines__bad_file(text: str, message: str, tmp_path: Path):
    path = tmp_path / "lines.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_lines(str(path), GRAPH)


def test_read_lines__no_file():
    with pytest.raises(InputError, match="can't be read"):
        read_lines("missing.txt", GRAPH)


def test_tokenizer__round_trip_whole_and_in_pieces():
    text, tokenizer = "1,12|3,4/1,4=1,12,4", star_graph_tokenizer(15)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    step = tokenizer.stream()
    assert "".join(map(step, ids.tolist())) == text


def test_star_graph__too_many_nodes():
    with pytest.raises(InputError, match="need 10 labels, but there are 9"):
        StarGraph(3, 4, 9)


def test_datamodule__needs_the_right_context():
    with pytest.raises(InputError, match="needs context 36, not 33"):
        ConceptDataModule(context=33, levels=2, chunk_size=3, star_graph=GRAPH)


def test_datamodule__train_val_and_test_have_lines_of_their_own():
    data = ConceptDataModule(context=36, levels=2, chunk_size=3, star_graph=GRAPH, batch_size=50, seed=0)
    data.prepare_data()
    data.setup()
    loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    lines = [{tuple(line) for line in next(iter(loader)).tokens.tolist()} for loader in loaders]
    assert [len(part) for part in lines] == [50, 50, 50]
    assert not lines[0] & lines[1]
    assert not lines[1] & lines[2]
    assert data.vocab_size == 19
