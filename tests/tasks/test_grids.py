import itertools

import numpy as np
import pytest

from nextconcept.tasks.grids import adjacency, distances, neighbours, open_passages, shortest_ways


def drawn(width: int, height: int, loops: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of a grid, and which are open in drawn mazes."""
    pairs = neighbours(width, height)
    weights = np.random.default_rng(0).random((count, len(pairs)))
    return pairs, open_passages(weights, pairs, loops)


def joined_to(first: int, passages: list[list[int]]) -> set[int]:
    found, new = set(), {first}
    while new:
        found |= new
        new = {cell for pair in passages for cell in pair if set(pair) & new} - found
    return found


def test_neighbours__are_all_pairs_side_by_side():
    pairs = {tuple(pair) for pair in neighbours(4, 3).tolist()}
    places = [(x, y) for y in range(3) for x in range(4)]
    expected = {
        (a, b)
        for a, b in itertools.combinations(range(12), 2)
        if abs(places[a][0] - places[b][0]) + abs(places[a][1] - places[b][1]) == 1
    }
    assert pairs == expected


@pytest.mark.parametrize("loops", [0, 2, 6])
def test_open_passages__join_all_cells(loops: int):
    pairs, opened = drawn(4, 3, loops, 30)
    for row in opened:
        passages = pairs[row].tolist()
        assert len(passages) == 12 - 1 + loops
        assert joined_to(0, passages) == set(range(12))
    assert len({tuple(row) for row in opened.tolist()}) > (0 if loops == 6 else 20)


def test_open_passages__without_loops_every_maze_of_a_small_grid_occurs():
    _, opened = drawn(3, 2, 0, 1000)
    assert len({tuple(row) for row in opened.tolist()}) == 15  # spanning trees of a grid of 3 times 2


@pytest.mark.parametrize("loops", [0, 3])
def test_ways__are_the_shortest(loops: int):
    pairs, opened = drawn(4, 3, loops, 30)
    passages = np.stack([pairs[row] for row in opened])
    joined = adjacency(passages, 12)
    rng = np.random.default_rng(1)
    start, goal = rng.integers(12, size=(2, 30))
    left = distances(joined, goal)
    ways = shortest_ways(joined, start, left, rng.random((30, 12)), 12)
    for row in range(30):
        table = np.full((12, 12), 99)
        np.fill_diagonal(table, 0)
        for a, b in passages[row]:
            table[a, b] = table[b, a] = 1
        for middle in range(12):  # Floyd & Warshall
            table = np.minimum(table, table[:, middle, None] + table[middle])
        assert left[row].tolist() == table[goal[row]].tolist()
        way = [cell for cell in ways[row].tolist() if cell >= 0]
        assert (way[0], way[-1], len(way)) == (start[row], goal[row], table[start[row], goal[row]] + 1)
        assert all(table[pair] == 1 for pair in itertools.pairwise(way))
        assert (ways[row, len(way) :] == -1).all()


def test_distances__where_no_way_leads():
    joined = adjacency(np.array([[[0, 1], [2, 3]]]), 4)
    assert distances(joined, np.array([1])).tolist() == [[1, 0, 4, 4]]
