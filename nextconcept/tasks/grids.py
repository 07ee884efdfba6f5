"""Mazes on a grid: which cells are joined, how far they are, and ways through them.

Shapes: R mazes, N cells numbered row by row, W pairs of neighbouring cells.
"""

import numpy as np

__all__ = ["adjacency", "distances", "neighbours", "open_passages", "shortest_ways"]


def neighbours(width: int, height: int) -> np.ndarray:
    """Return the (W, 2) pairs of neighbouring cells of a grid, the smaller number first."""
    cells = np.arange(width * height).reshape(height, width)
    across = np.stack((cells[:, :-1], cells[:, 1:]), -1).reshape(-1, 2)
    down = np.stack((cells[:-1], cells[1:]), -1).reshape(-1, 2)
    return np.concatenate((across, down))


def open_passages(weights: np.ndarray, pairs: np.ndarray, loops: int) -> np.ndarray:
    """Open passages until all cells are joined, the lightest first, and then further ones.

    Args:
        weights: (R, W) random numbers. The passages that join all cells are the minimum spanning
            tree under them (Prim, 1957).
        pairs: (W, 2) neighbouring cells.
        loops: number of further passages, each of which closes a loop.

    Returns:
        (R, W) bool, which passages are open.
    """
    rows, cells = np.arange(len(weights)), pairs.max() + 1
    opened, joined = np.zeros(weights.shape, dtype=bool), np.zeros((len(weights), cells), dtype=bool)
    joined[:, 0] = True
    for _ in range(cells - 1):
        border = joined[:, pairs[:, 0]] != joined[:, pairs[:, 1]]
        lightest = np.where(border, weights, np.inf).argmin(1)
        opened[rows, lightest] = True
        joined[rows[:, None], pairs[lightest]] = True
    further = np.where(opened, np.inf, weights).argsort(1)[:, :loops]
    opened[rows[:, None], further] = True
    return opened


def adjacency(passages: np.ndarray, cells: int) -> np.ndarray:
    """Return (R, N, N) bool: which cells the (R, K, 2) passages join, in both directions."""
    joined = np.zeros((len(passages), cells, cells), dtype=bool)
    rows = np.arange(len(passages))[:, None]
    joined[rows, passages[..., 0], passages[..., 1]] = True
    joined[rows, passages[..., 1], passages[..., 0]] = True
    return joined


def distances(joined: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Return the (R, N) numbers of steps from the cells ``origin`` (R,); N where no way leads."""
    cells, steps = joined.shape[1], joined.astype(np.float32)
    found = np.full(joined.shape[:2], cells)
    reached = np.arange(cells) == origin[:, None]
    for step in range(cells):
        found[reached] = step
        reached = (reached[:, None].astype(np.float32) @ steps)[:, 0] > 0
        reached &= found == cells
        if not reached.any():
            break
    return found


def shortest_ways(
    joined: np.ndarray, start: np.ndarray, left: np.ndarray, order: np.ndarray, length: int
) -> np.ndarray:
    """Return a shortest way to a goal through each maze.

    Args:
        joined: (R, N, N) bool, joined cells.
        start: (R,) cells.
        left: (R, N) distances to the goal.
        order: (R, N) numbers; of several cells that are equally near to the goal, a way takes the
            one with the largest.
        length: cells of a way that are returned.

    Returns:
        (R, length) cells from start to goal, and -1 after the goal.
    """
    rows, cell = np.arange(len(start)), start
    way = np.full((len(start), length), -1)
    way[:, 0] = start
    for step in range(1, length):
        going = left[rows, cell] > 0
        nearer = joined[rows, cell] & (left == left[rows, cell][:, None] - 1)
        cell = np.where(going, np.where(nearer, order, -np.inf).argmax(1), cell)
        way[going, step] = cell[going]
    return way
