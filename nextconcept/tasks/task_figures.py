"""Pictures of lines of tasks."""

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["countdown_figure", "maze_figure", "star_figure"]

WAY, FRAME = "tab:red", "black"


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of one picture without axes, in which both directions have one scale."""
    figure = Figure(figsize=(width, height), layout="tight")
    axes = figure.subplots()
    axes.set_aspect("equal")
    axes.set_axis_off()
    return figure, axes


def countdown_figure(numbers: list[int], equations: list[tuple[int, int, int, str, bool]], target: int) -> Figure:
    """Draw equations as a tree: each stands below the numbers that it takes, the last ones lowest.

    Args:
        numbers: of the prompt.
        equations: the two numbers that each takes, its result, its text, and whether it is right. A
            number is taken where it is still left, a result first; one that is not left has no
            edge, and a wrong equation a dashed frame.
        target: a square, red if right equations reach it.
    """
    taken: list[list[int]] = [[] for _ in numbers]  # per node, the nodes that it takes; numbers come first
    left = list(range(len(numbers)))
    values = [*numbers, *(equation[2] for equation in equations)]
    for node, (first, second, *_) in enumerate(equations, len(numbers)):
        found = []
        for number in (first, second):
            one = next((one for one in reversed(left) if values[one] == number), None)
            if one is not None:
                left.remove(one)
                found.append(one)
        taken.append(found)
        left.append(node)
    columns: dict[int, float] = {}

    def stand(node: int) -> None:
        """Place a node above the middle of the nodes that it takes, those first."""
        for one in taken[node]:
            stand(one)
        below = [columns[one] for one in taken[node]]
        columns[node] = sum(below) / len(below) if below else float(sum(not taken[one] for one in columns))

    for node in left:
        stand(node)
    width, bottom = 1 + max(columns.values()), -len(equations) - 1
    figure, axes = _axes(1.1 * max(2.0, width), 0.6 * (1 - bottom))
    axes.set(xlim=(-0.7, max(2.0, width) - 0.3), ylim=(bottom - 0.5, 0.5), aspect="auto")

    def box(text: str, x: float, y: int, right: bool, shape: str, line: str = "-") -> None:
        """Draw a text in a frame, whose colour says whether it is right."""
        frame = {"boxstyle": shape, "facecolor": "white", "edgecolor": WAY if right else FRAME, "linestyle": line}
        axes.text(x, y, text, ha="center", va="center", bbox=frame, zorder=3)

    for node, number in enumerate(numbers):
        box(str(number), columns[node], 0, False, "circle")
    for row, (_, _, _, text, right) in enumerate(equations, 1):
        node = len(numbers) + row - 1
        for one in taken[node]:
            start = -max(0, one - len(numbers) + 1)
            axes.plot([columns[one], columns[node]], [start, -row], color=WAY if right else FRAME, zorder=1)
        box(text, columns[node], -row, right, "round", "-" if right else "--")
    reached = len(left) == 1 and all(equation[4] for equation in equations) and values[-1] == target
    middle = (width - 1) / 2
    if reached:
        axes.plot([columns[left[0]], middle], [bottom + 1, bottom], color=WAY, zorder=1)
    box(str(target), middle, bottom, reached, "square")
    return figure


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
