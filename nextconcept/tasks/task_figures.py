"""Pictures of lines of tasks."""

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["maze_figure", "star_figure"]

WAY, FRAME = "tab:red", "black"


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of one picture without axes, in which both directions have one scale."""
    figure = Figure(figsize=(width, height), layout="tight")
    axes = figure.subplots()
    axes.set_aspect("equal")
    axes.set_axis_off()
    return figure, axes


def maze_figure(width: int, height: int, passages: np.ndarray, way: list[int], start: int, goal: int) -> Figure:
    """Draw a maze, its start as a disc and its goal as a square, and a way.

    Args:
        width: cells in a row.
        height: rows.
        passages: (K, 2) cells, numbered row by row from below, that are joined.
        way: cells.
        start: cell.
        goal: cell.
    """
    figure, axes = _axes(0.6 * width, 0.6 * height)
    opened = {frozenset(pair) for pair in passages.tolist()}
    for cell in range(width * height):
        y, x = divmod(cell, width)
        # The right and the upper side of each cell; beyond the last ones is the frame.
        if x + 1 == width or frozenset((cell, cell + 1)) not in opened:
            axes.plot([x + 1, x + 1], [y, y + 1], color=FRAME)
        if y + 1 == height or frozenset((cell, cell + width)) not in opened:
            axes.plot([x, x + 1], [y + 1, y + 1], color=FRAME)
    axes.plot([0, 0, width], [height, 0, 0], color=FRAME)
    rows, columns = np.divmod(np.array(way, dtype=np.int64), width)
    axes.plot(columns + 0.5, rows + 0.5, color=WAY, linewidth=3)
    for cell, marker in ((start, "o"), (goal, "s")):
        y, x = divmod(cell, width)
        axes.plot([x + 0.5], [y + 0.5], marker, color=WAY, markersize=9)
    return figure


def star_figure(arms: list[list[int]], way: list[int], goal: int) -> Figure:
    """Draw a star graph with its labels, its goal as a square, and a way.

    Args:
        arms: per arm, its nodes from the centre on.
        way: nodes; those that are not in the graph are left out, and so are jumps between nodes
            that no edge joins.
        goal: node.
    """
    angles = 2 * np.pi * np.arange(len(arms)) / len(arms)
    directions = np.stack((np.cos(angles), np.sin(angles)), 1)
    tips = directions * np.array([[len(arm) - 1] for arm in arms])
    # Two arms lie on a line, and are no taller than their nodes.
    low, high = np.minimum(tips.min(0), 0) - 0.6, np.maximum(tips.max(0), 0) + 0.6
    figure, axes = _axes(*(0.6 * (high - low)))
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    places: dict[int, np.ndarray] = {}
    for index, arm in enumerate(arms):
        points = np.arange(len(arm))[:, None] * directions[index]
        axes.plot(*points.T, color=FRAME, zorder=1)
        places |= dict(zip(arm, points, strict=True))
    edges = {pair for arm in arms for pair in pairwise(arm)}
    for pair in pairwise(way):
        if pair in edges or pair[::-1] in edges:
            axes.plot(*np.stack([places[node] for node in pair]).T, color=WAY, linewidth=3, zorder=2)
    for node, point in places.items():
        shape = "square" if node == goal else "circle"
        box = {"boxstyle": shape, "facecolor": "white", "edgecolor": WAY if node in way else FRAME}
        axes.text(point[0], point[1], str(node), ha="center", va="center", bbox=box, zorder=3)
    return figure
