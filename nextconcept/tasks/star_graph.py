"""The star graph: a task that takes planning (Bachmann & Nagarajan, 2024, "The pitfalls of next-token prediction").

A graph G(d, l) has d arms of l nodes that share the first, and is given as shuffled edges, a start (the centre) and a goal (the
end of one arm). The path from start to goal is to be written. All but one of its nodes follow from the node before; the second, the
*first branch*, takes looking ahead. A line reads ``a,b|c,d|...|e,f/start,goal=n1,...,nl``.

Shapes: B lines, E = d (l - 1) edges, P = 3 E + 3 tokens of the question, l of the answer, T context.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.data.tokenizers import SymbolTokenizer
from nextconcept.data.windows import ConceptBatch, Windows

__all__ = ["StarGraph", "star_graph_tokenizer", "StarGraphWindows", "draw_lines", "read_lines", "write_lines"]


@dataclass
class StarGraph:
    """The task G(d, l).

    Args:
        arms: d.
        path_length: l, nodes on the path, start and goal included.
        nodes: N, labels to draw from.
        train_lines: different training lines, repeated when they run out; None draws new ones without end.
        test_lines: lines for validation, and as many for the test.
        train_file: read training lines from this file instead.
        test_file: read lines for validation and test from this file instead.

    Raises:
        InputError: if the graph has more nodes than there are labels, or a number is out of range.
    """

    arms: int = 2
    path_length: int = 5
    nodes: int = 20
    train_lines: int | None = None
    test_lines: int = 1000
    train_file: str | None = None
    test_file: str | None = None

    def __post_init__(self) -> None:
        if self.arms < 1 or self.path_length < 2 or self.test_lines < 1 or (self.train_lines or 1) < 1:
            raise InputError(
                f"star graph: arms {self.arms}, train_lines {self.train_lines} and test_lines {self.test_lines} must be 1 or "
                f"more, and path_length {self.path_length} 2 or more."
            )
        if 1 + self.edges > self.nodes:
            raise InputError(
                f"star graph: {self.arms} arms of {self.path_length} nodes need {1 + self.edges} labels, but there are "
                f"{self.nodes} nodes."
            )

    @property
    def edges(self) -> int:
        """Number of edges, E."""
        return self.arms * (self.path_length - 1)

    @property
    def question(self) -> int:
        """Tokens before the answer, P."""
        return 3 * self.edges + 3

    def layout(self, hierarchy: Hierarchy) -> tuple[int, int]:
        """``(front, T)``: padding that brings the answer to the beginning of a top-level chunk, and the context this takes."""
        span = hierarchy.top_span
        front = -self.question % span
        return front, -(-(front + self.question + self.path_length) // span) * span


def star_graph_tokenizer(nodes: int) -> SymbolTokenizer:
    """One token per node and sign: nodes 0 to N - 1, then ``|``, ``=``, ``/`` and the end of text."""
    return SymbolTokenizer([*map(str, range(nodes)), "|", "=", "/"], joiner=",")


def draw_lines(graph: StarGraph, seed: int, indices: Iterable[int]) -> np.ndarray:
    """(B, P + l) token ids of lines, each a function of ``seed`` and its index alone."""
    arms, length, edges, nodes = graph.arms, graph.path_length, graph.edges, graph.nodes
    # Each index has a part of the counter of its own, so that lines do not overlap.
    numbers = np.stack(
        [np.random.Generator(np.random.Philox(key=seed, counter=[0, i, 0, 0])).random(nodes + edges) for i in indices]
    )
    labels = numbers[:, :nodes].argsort(1)
    start, ends = labels[:, :1], labels[:, 1 : 1 + edges].reshape(-1, arms, length - 1)
    sources = np.concatenate((np.repeat(start[:, None], arms, 1), ends[:, :, :-1]), 2).reshape(-1, edges)
    order = numbers[:, nodes:].argsort(1)
    pairs = [np.take_along_axis(part, order, 1) for part in (sources, ends.reshape(-1, edges))]
    separators = np.full_like(sources, nodes)
    separators[:, -1] = nodes + 2
    question = np.stack((*pairs, separators), 2).reshape(len(labels), -1)
    path = np.concatenate((start, ends[:, 0]), 1)  # the first arm: labels and edges are in random order anyway
    equals = np.full_like(start, nodes + 1)
    return np.concatenate((question, start, path[:, -1:], equals, path), 1)


def write_lines(path: Path, lines: np.ndarray, nodes: int) -> None:
    """Write (B, P + l) token ids, one line each."""
    tokenizer = star_graph_tokenizer(nodes)
    path.write_text("".join(tokenizer.decode(line) + "\n" for line in lines.tolist()), encoding="utf-8")


def read_lines(path: str, graph: StarGraph) -> np.ndarray:
    """Token ids (B, P + l) of the lines of a file.

    Raises:
        InputError: if the file is missing or a line is not one of the graph.
    """
    try:
        texts = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the star-graph file {path} can't be read: {error}.") from None
    tokenizer, lines = star_graph_tokenizer(graph.nodes), []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(tokenizer.encode(text))
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
        if len(lines[-1]) != graph.question + graph.path_length:
            raise InputError(
                f"{path}, line {number}: {len(lines[-1])} tokens, but a line of G({graph.arms}, {graph.path_length}) has "
                f"{graph.question + graph.path_length}."
            )
    if not lines:
        raise InputError(f"the star-graph file {path} is empty.")
    return np.stack(lines)


class StarGraphWindows(Windows):
    """Lines as windows whose edges are chunks of three tokens and whose answer begins with a chunk; only the answer is learnt.

    Args:
        graph: the task.
        hierarchy: aligns the answer with top-level chunks.
        seed: of the lines that are drawn.
        count: different lines; None for any number.
        epoch: windows in an epoch.
        file: read lines from here instead of drawing them.
    """

    def __init__(
        self,
        graph: StarGraph,
        hierarchy: Hierarchy,
        seed: int,
        count: int | None,
        epoch: int | None = None,
        file: str | None = None,
    ) -> None:
        self.graph, self.seed = graph, seed
        self.front, self.context = graph.layout(hierarchy)
        self.lines = None if file is None else read_lines(file, graph)
        self.count = count if self.lines is None else len(self.lines)
        self.epoch = epoch or self.count or 0

    def __len__(self) -> int:
        """Windows in an epoch."""
        return self.epoch

    def __getitems__(self, indices: list[int]) -> ConceptBatch:
        """Windows ``indices``, as one batch."""
        chosen = [index % self.count for index in indices] if self.count else indices
        lines = draw_lines(self.graph, self.seed, chosen) if self.lines is None else self.lines[chosen]
        tokens = torch.full((len(lines), self.context + 1), self.graph.nodes + 3)
        tokens[:, self.front : self.front + lines.shape[1]] = torch.from_numpy(lines)
        mask = torch.zeros(tokens.shape, dtype=torch.bool)
        # The end of text that fills the last chunk is learnt with the path: a concept counts if all of it does.
        mask[:, self.front + self.graph.question : self.context] = True
        return ConceptBatch(tokens, mask)
