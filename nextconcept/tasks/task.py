"""The interface of a planning task: lines of a prompt and an answer.

Shapes: B lines, P tokens of a prompt, A of an answer, T context length.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.data.tokenizers import SymbolTokenizer

if TYPE_CHECKING:  # commands that take a task draw no picture before they need one
    from matplotlib.figure import Figure

__all__ = ["Layout", "Task", "pad"]


@dataclass(frozen=True)
class Layout:
    """Where the parts of a line lie in a window.

    Attributes:
        prompt: position of the first token of the prompt; padding lies before.
        answer: position of the first token of the answer.
        context_length: T, a multiple of the tokens under a top-level chunk.
    """

    prompt: int
    answer: int
    context_length: int


class Task(ABC):
    """A task whose lines are a prompt and an answer, of which only the answer is learnt.

    A task of your own sets the three attributes and defines two methods:

    .. code-block:: python

        class Reverse(Task):
            prompt_length, answer_length = 7, 6
            tokenizer = SymbolTokenizer([*"abcdef", "="], separator="=")

            def num_lines(self, split):
                return None if split == "train" else 100

            def draw(self, split, seed, indices):
                key = {"train": 3 * seed, "val": 1, "test": 2}[split]
                letters = [np.random.default_rng([key, i]).integers(6, size=6) for i in indices]
                prompts = [[*line, 6] for line in letters]
                return np.array(prompts), np.array([line[::-1] for line in letters])

    Attributes:
        prompt_length: P, tokens of the longest prompt, its separator included.
        answer_length: A, tokens of the longest answer.
        tokenizer: tokens of the task; ``tokenizer.end_of_text`` pads prompts and answers.
        single_answers: whether each prompt has one right answer. If not, interventions on the plan
            are measured by writing, which takes more passes.
        name: what model cards and errors call the task; default: the name of its class.
    """

    prompt_length: int
    answer_length: int
    tokenizer: SymbolTokenizer
    single_answers: bool = True
    name: str = ""

    @abstractmethod
    def num_lines(self, split: str) -> int | None:
        """Return the number of lines of ``train``, ``val`` or ``test``.

        None, for lines without end, is allowed for ``train`` alone.
        """

    @abstractmethod
    def draw(self, split: str, seed: int, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return lines of a split, each a function of split, seed and index alone.

        Args:
            split: ``train``, ``val`` or ``test``; the last two should ignore the seed.
            seed: seed of the training, 0 or more.
            indices: numbers of the lines, below :meth:`num_lines`.

        Returns:
            Prompts (B, P), padded in front, and answers (B, A), padded at the end: int64 token
            ids; see :func:`pad`.
        """

    def layout(self, hierarchy: Hierarchy) -> Layout:
        """Return where a line lies in a window.

        Padding in front brings the answer to the beginning of a top-level chunk, unless rules that
        read the text cut chunks.
        """
        span = 1 if any(rule.of_text for rule in hierarchy.rules) else hierarchy.top_span
        front = -self.prompt_length % span
        answer = front + self.prompt_length
        return Layout(front, answer, -(-(answer + self.answer_length) // span) * span)

    def judge(self, prompts: Tensor, answers: Tensor, truths: Tensor) -> dict[str, Tensor]:
        """Judge written answers.

        Args:
            prompts: (B, P) token ids.
            answers: (B, A) token ids that a model wrote.
            truths: (B, A) token ids of the answers that the task gives.

        Returns:
            Verdicts by name, each (B,) bool. ``exact``, which every task has: the answer is right
            up to its end of text.
        """
        ended = (truths == self.tokenizer.end_of_text).long().cumsum(1) > 1
        return {"exact": ((answers == truths) | ended).all(1)}

    def draw_answer(self, prompt: np.ndarray | Tensor, answer: np.ndarray | Tensor) -> "Figure":
        """Draw an answer, right or wrong, in the picture of its prompt.

        Args:
            prompt: (P,) token ids.
            answer: (A,) token ids.

        Raises:
            InputError: if the task has no pictures, as by default.
        """
        raise InputError(f"the task {type(self).__name__} has no pictures: define draw_answer.")

    def describe(self) -> dict[str, Any]:
        """Return plain values for a model card: ``dataset``, and what a dataclass is set to."""
        settings: dict[str, Any] = asdict(self) if is_dataclass(self) else {}
        return {"dataset": self.name or type(self).__name__} | {
            name: value for name, value in settings.items() if value is not None
        }

    def settings(self) -> dict[str, Any] | None:
        """Return arguments that make a task with the same tokens and pictures.

        By default the fields of a dataclass, and none for a class without arguments. Files and
        numbers of lines are left out: pictures need none, and files may be gone.

        Returns:
            Plain values by name; None if the task can't be made again from plain values.
        """
        if not is_dataclass(self):
            return {} if type(self).__init__ is object.__init__ else None
        names = (one.name for one in fields(self) if one.init and not one.name.endswith(("_file", "_lines")))
        values = {name: getattr(self, name) for name in names}
        return values if all(isinstance(value, bool | int | float | str | None) for value in values.values()) else None


def pad(rows: Sequence[Sequence[int] | np.ndarray], length: int, value: int, front: bool = False) -> np.ndarray:
    """Stack rows of unequal length.

    Args:
        rows: B rows of token ids.
        length: tokens in a row of the result, at least the length of the longest row.
        value: token that fills rows.
        front: whether to pad in front, as prompts are, rather than at the end, as answers are.

    Returns:
        (B, length) int64.
    """
    result = np.full((len(rows), length), value, dtype=np.int64)
    for index, row in enumerate(rows):
        start = length - len(row) if front else 0
        result[index, start : start + len(row)] = row
    return result
