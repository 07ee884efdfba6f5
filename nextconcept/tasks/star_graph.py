"""The star graph: a task that takes planning.

After Bachmann & Nagarajan (2024), "The pitfalls of next-token prediction". A graph G(d, l) has d
arms of l nodes that share the first. A prompt gives the edges in random order, the start (the
centre) and the goal (the end of one arm); the answer is the path from start to goal. All but one of
its nodes follow from the node before; the second, the *first branch*, takes looking ahead. A line
reads
``a,b|c,d|...|e,f/start,goal=n1,...,nl``.

Shapes: B lines, E = d (l - 1) edges, P = 3 E + 3 tokens of a prompt, A = l of an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.data.tokenizers import SymbolTokenizer
from nextconcept.tasks.draws import random_rows
from nextconcept.tasks.files import read_lines
from nextconcept.tasks.task import Task
from nextconcept.tasks.task_figures import star_figure

__all__ = ["StarGraph"]


@dataclass(eq=False)
class StarGraph(Task):
    """The task G(d, l), with lines drawn at random or read from files.

    Args:
        arms: d.
        path_length: l, nodes on the path, start and goal included.
        nodes: N, labels to draw from.
        train_lines: number of different training lines, repeated in every epoch; None draws lines
            without end, or reads all of ``train_file``.
        test_lines: number of lines for validation, and as many for the test; with files at most.
        train_file: file of training lines, read instead of drawn.
        val_file: file of validation lines.
        test_file: file of test lines; without ``val_file`` its first half serves validation and its
            second half the test.

    Raises:
        InputError: if the graph has more nodes than there are labels, a number is out of range, or
            a line of a file is no line of this graph.
    """

    arms: int = 2
    path_length: int = 5
    nodes: int = 20
    train_lines: int | None = None
    test_lines: int = 1000
    train_file: str | None = None
    val_file: str | None = None
    test_file: str | None = None
    name = "star graph"

    def __post_init__(self) -> None:
        if (
            self.arms < 1
            or self.path_length < 2
            or self.test_lines < 1
            or (self.train_lines is not None and self.train_lines < 1)
        ):
            raise InputError(
                f"star graph: arms {self.arms}, train_lines {self.train_lines} and test_lines {self.test_lines} must "
                f"be 1 or more, and path_length {self.path_length} must be 2 or more."
            )
        if 1 + self.edges > self.nodes:
            raise InputError(
                f"star graph: {self.arms} arms of {self.path_length} nodes need {1 + self.edges} labels, but there are "
                f"{self.nodes} nodes."
            )
        self.prompt_length, self.answer_length = 3 * self.edges + 3, self.path_length
        # Nodes have the ids 0 to N - 1.
        self.tokenizer = SymbolTokenizer([*map(str, range(self.nodes)), "|", "=", "/"], joiner=",", separator="=")
        self._lines = self._read_files()

    @property
    def edges(self) -> int:
        """Number of edges, E."""
        return self.arms * (self.path_length - 1)

    def num_lines(self, split: str) -> int | None:
        """Return the number of lines of a split; None for training lines that are drawn."""
        if split in self._lines:
            return len(self._lines[split])
        return self.train_lines if split == "train" else self.test_lines

    def draw(self, split: str, seed: int, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return prompts (B, P) and answers (B, A), each line a function of seed and index alone.

        Held-out lines are the same for every seed, and are drawn with other random numbers than
        training lines; in tiny graphs, of which there are few, they may coincide.
        """
        lines = self._lines[split][indices] if split in self._lines else self._draw(split, seed, indices)
        return lines[:, : self.prompt_length], lines[:, self.prompt_length :]

    def _draw(self, split: str, seed: int, indices: Sequence[int]) -> np.ndarray:
        """Draw (B, P + A) lines."""
        arms, length, edges, nodes = self.arms, self.path_length, self.edges, self.nodes
        numbers = random_rows(split, seed, indices, nodes + edges)
        labels = numbers[:, :nodes].argsort(1)
        start, ends = labels[:, :1], labels[:, 1 : 1 + edges].reshape(-1, arms, length - 1)
        sources = np.concatenate((np.repeat(start[:, None], arms, 1), ends[:, :, :-1]), 2).reshape(-1, edges)
        order = numbers[:, nodes:].argsort(1)
        pairs = [np.take_along_axis(part, order, 1) for part in (sources, ends.reshape(-1, edges))]
        separators = np.full_like(sources, nodes)
        separators[:, -1] = nodes + 2
        question = np.stack((*pairs, separators), 2).reshape(len(labels), -1)
        # The goal is on the first arm: labels and edges are in random order anyway.
        path = np.concatenate((start, ends[:, 0]), 1)
        equals = np.full_like(start, nodes + 1)
        return np.concatenate((question, start, path[:, -1:], equals, path), 1)

    def judge(self, prompts: Tensor, answers: Tensor, truths: Tensor) -> dict[str, Tensor]:
        """Judge paths: ``exact``, and ``first_branch`` where the second node is right."""
        return super().judge(prompts, answers, truths) | {"first_branch": answers[:, 1] == truths[:, 1]}

    def draw_answer(self, prompt: np.ndarray | Tensor, answer: np.ndarray | Tensor) -> Figure:
        """Draw the graph of a prompt (P,) and the path of an answer (A,)."""
        line = np.asarray(prompt).tolist()
        after = _after(list(zip(line[0 : 3 * self.edges : 3], line[1 : 3 * self.edges : 3], strict=True)))
        arms = [_arm(line[3 * self.edges], node, after, self.path_length) for node in after[line[3 * self.edges]]]
        return star_figure(arms, np.asarray(answer).tolist(), line[3 * self.edges + 1])

    def _read_files(self) -> dict[str, np.ndarray]:
        """Read the splits that files give: (lines, P + A) token ids each."""
        lines = {
            split: self._read(path)
            for split, path in (("train", self.train_file), ("val", self.val_file), ("test", self.test_file))
            if path is not None
        }
        if "test" in lines and "val" not in lines:
            half = len(lines["test"]) // 2
            if half == 0:
                raise InputError(f"{self.test_file} has one line: validation and test need two, or a val_file.")
            lines["val"], lines["test"] = lines["test"][:half], lines["test"][half:]
        limits = {"train": self.train_lines, "val": self.test_lines, "test": self.test_lines}
        return {split: found[: limits[split]] for split, found in lines.items()}

    def _read(self, path: str) -> np.ndarray:
        """Read the lines of a file, (lines, P + A) token ids.

        Raises:
            InputError: if the file is missing or a line is no line of this graph.
        """
        lines = []
        for place, text in read_lines(path):
            try:
                line = self.tokenizer.encode(text)
            except InputError as error:
                raise InputError(f"{place}: {error}") from None
            if reason := self._fault(line.tolist()):
                raise InputError(f"{place}: {reason}.")
            lines.append(line)
        return np.stack(lines)

    def _fault(self, line: list[int]) -> str | None:
        """Say what keeps token ids from being a line of this graph, None if nothing does."""
        name, length = f"G({self.arms}, {self.path_length})", self.prompt_length + self.path_length
        if len(line) != length:
            return f"{len(line)} tokens, but a line of {name} has {length}"
        bar, equals, slash = self.nodes, self.nodes + 1, self.nodes + 2
        signs = [bar] * (self.edges - 1) + [slash]
        form = [sign for end in signs for sign in (None, None, end)] + [None, None, equals] + [None] * self.path_length
        if any(
            token != sign if sign is not None else token >= self.nodes for token, sign in zip(line, form, strict=True)
        ):
            return f"the line is not of the form a,b|...|c,d/start,goal=path with {self.edges} edges"
        edges = list(zip(line[0 : 3 * self.edges : 3], line[1 : 3 * self.edges : 3], strict=True))
        start, goal, path = line[3 * self.edges], line[3 * self.edges + 1], line[self.prompt_length :]
        before = {end: source for source, end in edges}
        after = _after(edges)
        arms = [_arm(start, node, after, self.path_length) for node in after.get(start, [])]
        if len(before) < self.edges or start in before or [len(arm) for arm in arms] != [self.path_length] * self.arms:
            return f"the edges are not {self.arms} arms of {self.path_length} nodes from the start {start}"
        if goal not in (arm[-1] for arm in arms):
            return f"the goal {goal} is not the end of an arm"
        if (path[0], path[-1]) != (start, goal) or any(edge not in edges for edge in pairwise(path)):
            return f"the path does not lead along edges from the start {start} to the goal {goal}"
        return None


def _after(edges: list[tuple[int, int]]) -> dict[int, list[int]]:
    """Return the nodes that edges lead to from each node."""
    after: dict[int, list[int]] = {}
    for source, end in edges:
        after.setdefault(source, []).append(end)
    return after


def _arm(start: int, node: int, after: dict[int, list[int]], longest: int) -> list[int]:
    """Follow an arm from its first two nodes to its end, a fork, or beyond the longest."""
    arm = [start, node]
    while len(after.get(arm[-1], [])) == 1 and len(arm) <= longest:
        arm += after[arm[-1]]
    return arm
