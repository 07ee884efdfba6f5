"""A task of your own as a file of lines, each a prompt and its answer.

Shapes: B lines, P tokens of the longest prompt, A of the longest answer.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from nextconcept.core.errors import InputError
from nextconcept.data.tokenizers import SymbolTokenizer, WordTokenizer
from nextconcept.tasks.files import read_lines
from nextconcept.tasks.task import Task, pad

__all__ = ["LinesTask"]


class LinesTask(Task):
    """Lines ``prompt=answer`` of text files, with any separator.

    The first separator of a line ends its prompt. Tokens are those of the training file, and each
    answer ends with the end of text, so that a model learns where to stop. Blank lines, a byte
    order mark, and white space at both ends of a line are ignored.

    Args:
        train_file: UTF-8 file of training lines.
        val_file: file of validation lines; by default lines of ``train_file`` are held out.
        test_file: file of test lines; by default lines of ``train_file`` are held out.
        separator: text between prompt and answer.
        tokens: ``characters``, or ``words``, which white space divides.
        val: share of the prompts of ``train_file`` for validation, if there is no ``val_file``.
        test: share of the prompts of ``train_file`` for the test, if there is no ``test_file``.
        split_seed: seed of the choice of held-out prompts. All lines of a prompt stay together;
            each line counts its own answer as the right one.

    Raises:
        InputError: if a file is missing, empty or not UTF-8; if a line has no separator, no prompt,
            no answer, or a token that the training file lacks; or if nothing is left to train on.
    """

    def __init__(
        self,
        train_file: str,
        val_file: str | None = None,
        test_file: str | None = None,
        separator: str = "=",
        tokens: Literal["characters", "words"] = "characters",
        val: float = 0.1,
        test: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        if not separator:
            raise InputError("the separator of the lines is empty: give the text between prompt and answer.")
        if tokens not in ("characters", "words"):
            raise InputError(f"lines: tokens can't be {tokens!r}: choose characters or words.")
        if val < 0 or test < 0 or val + test >= 1 or split_seed < 0:
            raise InputError(
                f"lines: val {val} and test {test} must be 0 or more and sum below 1, and split_seed "
                f"{split_seed} must be 0 or more."
            )
        self.train_file, self.separator, self.tokens = train_file, separator, tokens
        lines = {"train": self._parse(train_file)}
        text = [part for _, *line in lines["train"] for part in line]
        if tokens == "characters":
            characters = set().union(*text) - {separator}
            self.tokenizer = SymbolTokenizer([*sorted(characters), separator], separator=separator)
        else:
            words = {word for part in text for word in part.replace(separator, " ").split()}
            self.tokenizer = WordTokenizer([*sorted(words), separator], " ", separator)
        shares = {}
        for split, file, share in (("val", val_file, val), ("test", test_file, test)):
            if file is None:
                shares[split] = share
            else:
                lines[split] = self._parse(file)
        lines |= _hold_out(lines["train"], shares, split_seed, self.tokenizer)
        if not lines["train"]:
            raise InputError(
                f"{train_file} has too few prompts to hold some out: give more, or val_file and test_file."
            )
        encoded = {split: [self._encode(*line) for line in part] for split, part in lines.items()}
        everything = [line for part in encoded.values() for line in part]
        self.prompt_length = max(len(prompt) for prompt, _ in everything)
        self.answer_length = max(len(answer) for _, answer in everything)
        self._lines = {split: self._stack(part) for split, part in encoded.items()}

    def num_lines(self, split: str) -> int:
        """Return the number of lines of a split."""
        return len(self._lines[split][0])

    def draw(self, split: str, seed: int, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return prompts (B, P) and answers (B, A) of lines, whatever the seed."""
        prompts, answers = self._lines[split]
        return prompts[indices].astype(np.int64), answers[indices].astype(np.int64)

    def describe(self) -> dict[str, Any]:
        """Return file, separator, kind of tokens and number of lines as plain values."""
        lines = {f"{split} lines": self.num_lines(split) for split in self._lines}
        return {"dataset": self.train_file, "separator": self.separator, "tokens": self.tokens} | lines

    def _parse(self, path: str) -> list[tuple[str, str, str]]:
        """Return (place, prompt, answer) of each line of a file."""
        lines = []
        for place, text in read_lines(path):
            prompt, found, answer = text.partition(self.separator)
            if not found:
                raise InputError(f"{place}: there is no separator {self.separator!r} between prompt and answer.")
            for name, part in (("prompt", prompt), ("answer", answer)):
                if not part.strip():
                    raise InputError(f"{place}: the {name} is empty.")
            lines.append((place, prompt.lstrip(), answer.rstrip()))
        return lines

    def _encode(self, place: str, prompt: str, answer: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the token ids of a prompt with its separator, and of an answer with its end."""
        tokenizer = self.tokenizer
        try:
            ids = tokenizer.encode(prompt + self.separator), tokenizer.encode(answer)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        return ids[0], np.append(ids[1], tokenizer.end_of_text)

    def _stack(self, lines: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """Return padded prompts and answers, in the smallest type that holds the ids."""
        end, dtype = self.tokenizer.end_of_text, np.min_scalar_type(self.tokenizer.end_of_text)
        prompts = pad([prompt for prompt, _ in lines], self.prompt_length, end, front=True)
        answers = pad([answer for _, answer in lines], self.answer_length, end)
        return prompts.astype(dtype), answers.astype(dtype)


def _hold_out(
    lines: list[tuple[str, str, str]], shares: dict[str, float], seed: int, tokenizer: SymbolTokenizer
) -> dict[str, list[tuple[str, str, str]]]:
    """Divide lines into ``train`` and the splits of ``shares``, each with its share of the prompts.

    A share above 0 gets one prompt at least. Prompts that differ in white space between tokens are
    one.
    """
    read = [tuple(tokenizer.encode(prompt).tolist()) for _, prompt, _ in lines]
    prompts = list(dict.fromkeys(read))
    order = np.random.default_rng(seed).permutation(len(prompts)).tolist()
    splits: dict[tuple[int, ...], str] = {}
    for split, share in shares.items():
        count = max(1, round(share * len(prompts))) if share else 0
        splits |= {prompts[index]: split for index in order[:count]}
        order = order[count:]
    parts: dict[str, list[tuple[str, str, str]]] = {split: [] for split in ("train", *shares)}
    for line, prompt in zip(lines, read, strict=True):
        parts[splits.get(prompt, "train")].append(line)
    return parts
