"""Countdown: equations that lead from a few numbers to a target.

As in Gandhi et al. (2024), "Stream of Search" (arXiv:2404.03683): each number is used once, each
equation takes two numbers that are left and leaves their result, and the last result is the
target. A line reads ``2,3,4>14:4+3=7,7*2=14``. Arithmetic is local; which numbers to take first is
not: most first equations leave numbers that the target can't be reached from.

Shapes: B lines, n numbers, P = 2 n + 2 tokens of a prompt, A = 6 (n - 1) of an answer.
"""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.data.tokenizers import SymbolTokenizer
from nextconcept.tasks.draws import DrawnTask, splits_of
from nextconcept.tasks.equations import OPERATIONS, first_solution, results, solvable
from nextconcept.tasks.task_figures import countdown_figure

__all__ = ["Countdown"]


@dataclass(eq=False)
class Countdown(DrawnTask):
    """The numbers game, with problems drawn at random.

    Numbers and targets are drawn evenly, and problems without a solution are drawn again. The
    answer of a line is the first solution that a depth-first search over the sorted numbers finds,
    larger number first, so that equal problems have equal answers: a model need not mix several in
    its plan. Whatever solves a problem is judged right. Validation and test have sets of numbers
    and target that no training line has, in any order.

    Each number is a token. With chunks that end after ``,``, ``>`` and ``:``, each number of a
    prompt and each equation is a chunk.

    Args:
        numbers: n, from 2 to 5.
        max_number: the largest number of a prompt.
        min_target: the smallest target.
        max_target: the largest target.
        max_result: the largest number in an equation.
        train_lines: number of different training lines, repeated in every epoch; None draws lines
            without end.
        test_lines: number of lines for validation, and as many for the test.
        held_out: share of all problems for validation, and as many for the test.

    Raises:
        InputError: if a number is out of range, or no problem has a solution.
    """

    numbers: int = 3
    max_number: int = 40
    min_target: int = 10
    max_target: int = 99
    max_result: int = 99
    name = "countdown"
    single_answers = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.numbers <= 5:
            raise InputError(f"countdown: numbers {self.numbers} must be 2 to 5, because all their ways are searched.")
        if self.max_number < 1 or not 0 <= self.min_target <= self.max_target:
            raise InputError(
                f"countdown: max_number {self.max_number} must be 1 or more, and min_target {self.min_target} from 0 "
                f"to max_target {self.max_target}."
            )
        if not max(self.max_number, self.max_target) <= self.max_result <= 99_999:
            raise InputError(
                f"countdown: max_result {self.max_result} must be at least max_number {self.max_number} and "
                f"max_target {self.max_target}, and below 100,000."
            )
        self.prompt_length, self.answer_length = 2 * self.numbers + 2, 6 * (self.numbers - 1)
        # Numbers are their own ids.
        signs = [*OPERATIONS, "=", ",", ">", ":"]
        self.tokenizer = SymbolTokenizer([*map(str, range(self.max_result + 1)), *signs], joiner=" ", separator=":")
        self._signs = {sign: self.max_result + 1 + k for k, sign in enumerate(signs)}
        for split in ("train", "val", "test"):
            self.draw(split, 0, [0])

    @property
    def randomness(self) -> int:
        """The random numbers that a line takes."""
        return self.numbers + 1

    def judge(self, prompts: Tensor, answers: Tensor, truths: Tensor) -> dict[str, Tensor]:
        """Judge equations, whatever solution the task gives.

        Returns:
            ``exact``: each equation is right, each number is used once, and the target is reached;
            ``first_equation``: the first equation is right, and the target can still be reached;
            ``valid``: each equation is right and takes numbers that are left, whatever the target.
        """
        lines = prompts.cpu().numpy()
        left, targets = lines[:, 0 : 2 * self.numbers : 2], lines[:, 2 * self.numbers]
        equations = answers.cpu().numpy().reshape(len(left), self.numbers - 1, 6)
        right, first = np.ones(len(left), dtype=bool), np.zeros(len(left), dtype=bool)
        for place in range(self.numbers - 1):
            last = place == self.numbers - 2
            found, left = self._take(left, equations[:, place], last)
            right &= found
            if place == 0:
                first = right & solvable(left, targets, self.max_result)
        verdicts = {"exact": right & (left[:, 0] == targets), "first_equation": first, "valid": right}
        return {name: torch.from_numpy(verdict).to(answers.device) for name, verdict in verdicts.items()}

    def draw_answer(self, prompt: np.ndarray | Tensor, answer: np.ndarray | Tensor) -> Figure:
        """Draw the numbers of a prompt (P,), the equations of an answer (A,) and the target.

        What is no equation is left out, with everything after it.

        Raises:
            InputError: if the prompt has signs where numbers belong.
        """
        line = np.asarray(prompt).tolist()
        numbers, target = line[0 : 2 * self.numbers : 2], line[2 * self.numbers]
        if max(*numbers, target) > self.max_result:
            raise InputError("countdown: the prompt has signs where numbers belong.")
        written, left, equations = np.asarray(answer), np.array([numbers]), []
        for place in range(min(self.numbers - 1, (len(written) + 1) // 6)):
            part = np.full(6, self.tokenizer.end_of_text)
            part[: len(written[6 * place : 6 * place + 6])] = written[6 * place : 6 * place + 6]
            first, sign, second, equals, result, _ = part.tolist()
            operation = sign - self._signs[OPERATIONS[0]]
            if max(first, second, result) > self.max_result or not 0 <= operation < len(OPERATIONS):
                break
            found, left = self._take(left, part[None], place == self.numbers - 2)
            text = f"{first} {OPERATIONS[operation]} {second} = {result}"
            equations.append((first, second, result, text, bool(found[0])))
            if equals != self._signs["="]:
                break
        return countdown_figure(numbers, equations, target)

    def make_lines(self, drawn: np.ndarray, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return lines (R, P + A) of random numbers (R, n + 1), and which of them fit the split."""
        numbers = 1 + (drawn[:, :-1] * self.max_number).astype(np.int64)
        targets = self.min_target + (drawn[:, -1:] * (self.max_target - self.min_target + 1)).astype(np.int64)
        ordered = -np.sort(-numbers, axis=1)
        wanted = splits_of(np.concatenate((ordered, targets), 1), self.held_out) == split
        lines = np.zeros((len(numbers), self.prompt_length + self.answer_length), dtype=np.int64)
        (rows,) = wanted.nonzero()
        equations, solved = first_solution(ordered[rows], targets[rows, 0], self.max_result)
        wanted[rows] = solved
        lines[:, : self.prompt_length] = self._prompts(numbers, targets)
        lines[rows, self.prompt_length :] = self._answers(equations)
        return lines, wanted

    def _prompts(self, numbers: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return the (R, P) tokens of numbers (R, n) and targets (R, 1)."""
        signs = [self._signs[sign] for sign in "," * (self.numbers - 1) + ">:"]
        values = np.concatenate((numbers, targets), 1)
        return np.stack((values, np.broadcast_to(signs, values.shape)), -1).reshape(len(values), self.prompt_length)

    def _answers(self, equations: np.ndarray) -> np.ndarray:
        """Return the (R, A) tokens of (R, n - 1, 4) equations."""
        tokens = np.empty((*equations.shape[:2], 6), dtype=np.int64)
        tokens[..., [0, 2, 4]] = equations[..., [0, 2, 3]]
        tokens[..., 1] = equations[..., 1] + self._signs[OPERATIONS[0]]
        tokens[..., 3] = self._signs["="]
        tokens[..., 5] = self._signs[","]
        tokens[:, -1, 5] = self.tokenizer.end_of_text
        return tokens.reshape(len(equations), self.answer_length)

    def _take(self, left: np.ndarray, equation: np.ndarray, last: bool) -> tuple[np.ndarray, np.ndarray]:
        """Check an equation (B, 6) of numbers that are left, (B, m).

        Returns:
            (B,) bool, whether it is right; and (B, m - 1) numbers that are left after it, which
            mean nothing where it is wrong.
        """
        first, sign, second, equals, result, end = equation.T
        rows, operation = np.arange(len(left)), sign - self._signs[OPERATIONS[0]]
        right = (equals == self._signs["="]) & (end == (self.tokenizer.end_of_text if last else self._signs[","]))
        right &= (operation >= 0) & (operation < len(OPERATIONS)) & (result <= self.max_result)
        right &= results(first, second, self.max_result)[rows, operation.clip(0, 3)] == result
        for number in (first, second):
            # The number that is taken goes to the end and is cut off.
            place = (left == number[:, None]).argmax(1)
            right &= left[rows, place] == number
            left = left.copy()
            left[rows, place] = left[:, -1]
            left = left[:, :-1]
        return right, np.concatenate((left, result[:, None]), 1)
