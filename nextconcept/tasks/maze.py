"""Mazes: the shortest way from start to goal.

Next-token models fail on mazes that models trained to predict several steps at once solve (Nolte
et al., 2024, "Transformers can navigate mazes with multi-step prediction", arXiv:2412.05117). A
prompt gives the passages between neighbouring cells in random order, each in a random direction,
then start and goal; the answer is a shortest way. Cells are named as on a chessboard. A line reads
``a1,b1|b2,b1|...|a2,a1/a1,b2=a1,b1,b2``.

Which way to turn at a fork takes looking ahead: all branches but one are dead ends, and the goal
shows only at the end of the right one. Start is never a dead end, so that the first move is a fork.

Shapes: B lines, N cells, K passages, P = 3 K + 3 tokens of a prompt, A of an answer.
"""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.data.tokenizers import SymbolTokenizer
from nextconcept.tasks.draws import DrawnTask, splits_of
from nextconcept.tasks.grids import adjacency, distances, neighbours, open_passages, shortest_ways
from nextconcept.tasks.task_figures import maze_figure

__all__ = ["Maze"]

MOST_CELLS = 1000
"""Cells of the largest grid; mazes are drawn with a matrix of cells by cells for each."""


@dataclass(eq=False)
class Maze(DrawnTask):
    """Mazes on a grid, drawn at random.

    Without loops there is one way between any two cells (a *perfect* maze). With loops there may be
    several shortest ways; a line has a random one, and each is judged right. Validation and test
    have mazes that no training line has, whatever start and goal.

    With chunks of three tokens each passage is a chunk, and so are three cells of the way.

    Args:
        width: cells in a row, at most 26.
        height: rows.
        loops: passages beyond those that join all cells.
        min_way: cells of the shortest way, start and goal included, at least.
        max_way: cells at most, A.
        train_lines: number of different training lines, repeated in every epoch; None draws lines
            without end.
        test_lines: number of lines for validation, and as many for the test.
        held_out: share of all mazes for validation, and as many for the test.

    Raises:
        InputError: if a number is out of range, or no maze has such a way.
    """

    width: int = 4
    height: int = 4
    loops: int = 0
    min_way: int = 4
    max_way: int = 9
    name = "maze"
    # Of a perfect maze there is one shortest way, but many ways that reach the goal.
    single_answers = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.width <= 26 or self.height < 2:
            raise InputError(f"maze: width {self.width} must be 2 to 26, and height {self.height} 2 or more.")
        if self.cells > MOST_CELLS:
            raise InputError(
                f"maze: {self.width} times {self.height} cells are more than {MOST_CELLS}: give a smaller height."
            )
        if not 0 <= self.loops <= (self.width - 1) * (self.height - 1):
            raise InputError(
                f"maze: loops {self.loops} must be 0 to {(self.width - 1) * (self.height - 1)} in a grid of "
                f"{self.width} times {self.height} cells."
            )
        if not 2 <= self.min_way <= self.max_way <= self.cells:
            raise InputError(
                f"maze: min_way {self.min_way} must be 2 or more, and max_way {self.max_way} from there to "
                f"{self.cells}, the number of cells."
            )
        self.prompt_length, self.answer_length = 3 * self.passages + 3, self.max_way
        # Cells have the ids 0 to N - 1, row by row.
        names = [f"{chr(ord('a') + x)}{y + 1}" for y in range(self.height) for x in range(self.width)]
        self.tokenizer = SymbolTokenizer([*names, "|", "=", "/"], joiner=",", separator="=")
        self._pairs = neighbours(self.width, self.height)
        for split in ("train", "val", "test"):
            self.draw(split, 0, [0])

    @property
    def cells(self) -> int:
        """Number of cells, N."""
        return self.width * self.height

    @property
    def passages(self) -> int:
        """Number of passages, K."""
        return self.cells - 1 + self.loops

    @property
    def randomness(self) -> int:
        """The random numbers that a line takes."""
        return 3 * len(self._pairs) + 2 * self.cells

    def judge(self, prompts: Tensor, answers: Tensor, truths: Tensor) -> dict[str, Tensor]:
        """Judge ways, whichever shortest way the task gives.

        Returns:
            ``exact``: a shortest way from start to goal along passages, and nothing after it;
            ``first_move``: the second cell is a step nearer to the goal; ``reached``: a way from
            start to goal, however long, and nothing after it.
        """
        passages, start, goal = self._read(prompts.cpu().numpy())
        written = answers.cpu().numpy()
        joined = adjacency(passages, self.cells)
        left, rows = distances(joined, goal), np.arange(len(written))
        is_cell = written < self.cells
        cells = np.where(is_cell, written, 0)
        step = joined[rows[:, None], cells[:, :-1], cells[:, 1:]] & is_cell[:, :-1] & is_cell[:, 1:]
        begun, at_goal = written[:, 0] == start, written == goal[:, None]
        # Steps to the goal, the first time that it is written, and what follows.
        steps = at_goal.argmax(1)
        walked = (step | (np.arange(step.shape[1]) >= steps[:, None])).all(1)
        behind = np.concatenate((written[:, 1:], np.full((len(written), 1), self.tokenizer.end_of_text)), 1)
        ended = behind[rows, steps] == self.tokenizer.end_of_text
        reached = begun & at_goal.any(1) & walked & ended
        first = begun & step[:, 0] & (left[rows, cells[:, 1]] == left[rows, start] - 1)
        verdicts = {"exact": reached & (steps == left[rows, start]), "first_move": first, "reached": reached}
        return {name: torch.from_numpy(verdict).to(answers.device) for name, verdict in verdicts.items()}

    def draw_answer(self, prompt: np.ndarray | Tensor, answer: np.ndarray | Tensor) -> Figure:
        """Draw the maze of a prompt (P,) and the way of an answer (A,)."""
        passages, start, goal = self._read(np.asarray(prompt)[None])
        way = [cell for cell in np.asarray(answer).tolist() if cell < self.cells]
        return maze_figure(self.width, self.height, passages[0], way, int(start[0]), int(goal[0]))

    def _read(self, prompts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return passages (B, K, 2), start (B,) and goal (B,) of prompts (B, P)."""
        passages = prompts[:, :-3].reshape(len(prompts), self.passages, 3)[..., :2]
        return passages, prompts[:, -3], prompts[:, -2]

    def make_lines(self, drawn: np.ndarray, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return lines (R, P + A) of random numbers, and which of them fit the split."""
        weights, drawn = np.split(drawn, [len(self._pairs)], axis=1)
        opened = open_passages(weights, self._pairs, self.loops)
        wanted = splits_of(np.packbits(opened, axis=1), self.held_out) == split
        lines = np.zeros((len(drawn), self.prompt_length + self.answer_length), dtype=np.int64)
        (rows,) = wanted.nonzero()
        if len(rows):
            lines[rows], wanted[rows] = self._walks(opened[rows], drawn[rows])
        return lines, wanted

    def _walks(self, opened: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return lines (R, P + A) of mazes (R, W), and which have a way of the right length."""
        walls, rows = len(self._pairs), np.arange(len(drawn))[:, None]
        order, turns, starts, goals = np.split(drawn, [walls, 2 * walls, 2 * walls + self.cells], axis=1)
        shuffled = np.where(opened, order, np.inf).argsort(1)[:, : self.passages]
        passages = self._pairs[shuffled]
        passages = np.where(turns[rows, shuffled][..., None] < 0.5, passages[..., ::-1], passages)
        joined = adjacency(passages, self.cells)
        start = np.where(joined.sum(2) > 1, starts, -1).argmax(1)
        steps = distances(joined, start)
        fits = (steps >= self.min_way - 1) & (steps < self.max_way)
        goal = np.where(fits, goals, -1).argmax(1)
        way = shortest_ways(joined, start, distances(joined, goal), starts, self.max_way)
        way[way < 0] = self.tokenizer.end_of_text
        signs = np.full((*passages.shape[:2], 1), self.cells)
        signs[:, -1] = self.cells + 2
        question = np.concatenate((passages, signs), 2).reshape(len(drawn), -1)
        ends = np.stack((start, goal, np.full(len(drawn), self.cells + 1)), 1)
        return np.concatenate((question, ends, way), 1), np.asarray(fits.any(1))
