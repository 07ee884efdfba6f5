"""Lines drawn at random until they fit, with splits that share no problem.

Shapes: B lines, R of them still wanted, K whole numbers that say which problem a line poses.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nextconcept.core.errors import InputError
from nextconcept.tasks.task import Task

__all__ = ["DrawnTask", "draw_lines", "random_rows", "splits_of"]

ATTEMPTS = 10_000
"""Attempts after which a task is thought to have no line."""


def random_rows(split: str, seed: int, indices: Sequence[int], count: int, skip: int = 0) -> np.ndarray:
    """Draw random numbers from 0 to below 1, each row a function of split, seed and index alone.

    No training seed draws the numbers of held-out lines, which are the same for every seed.

    Args:
        split: ``train``, ``val`` or ``test``.
        seed: seed of the training, 0 or more.
        indices: numbers of the B lines.
        count: numbers of a line.
        skip: numbers of each line that come before these.

    Returns:
        (B, count).

    Raises:
        InputError: if there is no such split.
    """
    keys = {"train": 3 * seed, "val": 1, "test": 2}
    if split not in keys:
        raise InputError(f"there is no split {split!r}: choose {', '.join(keys)}.")
    source = np.random.Philox(key=keys[split])
    # Each index has its own part of the counter, so that lines do not overlap. To move one source
    # there is a fifth of the work of making a new one.
    generator, state = np.random.Generator(source), source.state
    numbers = np.empty((len(indices), skip + count))
    for row, index in enumerate(indices):
        state["state"]["counter"] = np.array([0, index, 0, 0], dtype=np.uint64)
        source.state = state
        generator.random(out=numbers[row])
    return numbers[:, skip:]


def draw_lines(
    split: str,
    seed: int,
    indices: Sequence[int],
    count: int,
    propose: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """Draw lines, each a function of split, seed and index alone, as :func:`random_rows`.

    Args:
        split: ``train``, ``val`` or ``test``.
        seed: seed of the training, 0 or more.
        indices: numbers of the B lines.
        count: random numbers that a line takes.
        propose: function from random numbers (R, count), from 0 to below 1, to lines (R, T), int64,
            and which of them are wanted, (R,) bool. The others are drawn anew.

    Returns:
        (B, T) int64.

    Raises:
        InputError: if a line is refused ten thousand times.
    """
    waiting, tried = np.arange(len(indices)), 0
    lines = np.empty((len(indices), 0), dtype=np.int64)
    while tried < ATTEMPTS:
        # The fewer lines are left and the rarer lines fit, the more attempts at once: the lines are
        # the same, found in fewer calls.
        attempts = min(64, max(2 * len(indices) // len(waiting), tried))
        rows = [indices[row] for row in waiting.tolist()]
        drawn = random_rows(split, seed, rows, attempts * count, tried * count).reshape(-1, count)
        found, wanted = (part.reshape(len(waiting), attempts, *part.shape[1:]) for part in propose(drawn))
        if not tried:
            lines = np.zeros((len(indices), found.shape[2]), dtype=np.int64)
        done, first = wanted.any(1), wanted.argmax(1)
        lines[waiting[done]] = found[done, first[done]]
        waiting, tried = waiting[~done], tried + attempts
        if not len(waiting):
            return lines
    raise InputError(f"no line of the {split} split was found in {ATTEMPTS:,} attempts: choose wider settings.")


def splits_of(problems: np.ndarray, held_out: float) -> np.ndarray:
    """Return the split that each problem belongs to, so that no problem is in two.

    Args:
        problems: (B, K) whole numbers, the same for lines that pose the same problem.
        held_out: share of all problems for validation, and as many for the test.

    Returns:
        (B,) of ``train``, ``val`` and ``test``.
    """
    mixed = np.zeros(len(problems), dtype=np.uint64)
    for column in problems.T.astype(np.uint64):
        # The finaliser of SplitMix64 (Steele et al., 2014), once per number.
        mixed = mixed + column + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    place = mixed / 2.0**64
    return np.select([place < held_out, place < 2 * held_out], ["val", "test"], "train")


@dataclass(eq=False, kw_only=True)
class DrawnTask(Task):
    """A task whose lines are drawn at random until they fit, with splits that share no problem.

    Attributes:
        train_lines: number of different training lines, repeated in every epoch; None draws lines
            without end.
        test_lines: number of lines for validation, and as many for the test.
        held_out: share of all problems for validation, and as many for the test.

    Raises:
        InputError: if one of them is out of range.
    """

    train_lines: int | None = None
    test_lines: int = 1000
    held_out: float = 0.1

    def __post_init__(self) -> None:
        if self.test_lines < 1 or (self.train_lines is not None and self.train_lines < 1):
            raise InputError(
                f"{self.name}: train_lines {self.train_lines} and test_lines {self.test_lines} must be 1 or more."
            )
        if not 0 < self.held_out < 0.5:
            raise InputError(f"{self.name}: held_out {self.held_out} must be above 0 and below 0.5.")

    @property
    @abstractmethod
    def randomness(self) -> int:
        """The random numbers that a line takes, R."""

    @abstractmethod
    def make_lines(self, drawn: np.ndarray, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return lines (B, P + A) of random numbers (B, R), and which of them fit the split."""

    def num_lines(self, split: str) -> int | None:
        """Return the number of lines of a split; None for training lines without end."""
        return self.train_lines if split == "train" else self.test_lines

    def draw(self, split: str, seed: int, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return prompts (B, P) and answers (B, A), each a function of seed and index alone."""
        lines = draw_lines(split, seed, indices, self.randomness, lambda drawn: self.make_lines(drawn, split))
        return lines[:, : self.prompt_length], lines[:, self.prompt_length :]
