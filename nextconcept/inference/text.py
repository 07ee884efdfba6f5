"""Prompts -> text, piece by piece."""

from collections.abc import Iterator

import torch

from nextconcept.core.errors import InputError
from nextconcept.data.tokenizers import Tokenizer
from nextconcept.inference.generate import PlanEdit, generate_tokens
from nextconcept.inference.sampling import Sampling
from nextconcept.nn.model import NextConceptModel

__all__ = ["batch_prompts", "generate_text"]


def batch_prompts(tokenizer: Tokenizer, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) token ids of texts, zeros behind the shorter ones, and their (B,) lengths.

    Raises:
        InputError: if a prompt is empty or can't be written in UTF-8.
    """
    rows = [torch.from_numpy(tokenizer.encode_prompt(prompt).astype("int64")) for prompt in prompts]
    lengths = torch.tensor([len(row) for row in rows])
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths


class _Row:
    """The text of one row: decodes ids as they come, and ends at a stop string or the end of a document."""

    def __init__(self, tokenizer: Tokenizer, stop: list[str]) -> None:
        self.decode = tokenizer.stream()
        self.end_of_text, self.stop, self.done = tokenizer.end_of_text, stop, False
        self.held = ""

    def add(self, token: int) -> str:
        """Return what is certain to belong to the text after one more token."""
        if token == self.end_of_text:
            return self.end()
        self.held += self.decode(token)
        ends = [at for at in map(self.held.find, self.stop) if at >= 0]
        if ends:
            self.held = self.held[: min(ends)]
            return self.end()
        return self._release(self._undecided())

    def end(self) -> str:
        """Return the rest."""
        self.done = True
        return self._release(0)

    def _undecided(self) -> int:
        """Characters at the end that may yet become a stop string."""
        lengths = [n for stop in self.stop for n in range(1, len(stop)) if self.held.endswith(stop[:n])]
        return max(lengths, default=0)

    def _release(self, keep: int) -> str:
        cut = len(self.held) - keep
        piece, self.held = self.held[:cut], self.held[cut:]
        return piece


def generate_text(
    model: NextConceptModel,
    tokenizer: Tokenizer,
    prompts: list[str],
    max_new_tokens: int,
    sampling: Sampling = Sampling(),
    seed: int = 0,
    stop: list[str] | None = None,
    edits: list[PlanEdit] | None = None,
) -> Iterator[tuple[int, str]]:
    """Continue several prompts at once, of any lengths.

    Args:
        model: in eval mode.
        tokenizer: the model's own.
        prompts: texts to continue.
        max_new_tokens: at most so many tokens each; a text also ends with its document.
        sampling: how tokens are drawn.
        seed: of the sampling.
        stop: strings at which a text ends; they are not part of it.
        edits: planned concepts to replace.

    Yields:
        ``(row, piece)``: the next piece of the text of a row. The pieces of a row together are its continuation.

    Raises:
        InputError: if prompts or options can't be used.
    """
    if "" in (stop or []):
        raise InputError("a stop string is empty: give at least one character with --stop.")
    tokens, lengths = batch_prompts(tokenizer, prompts)
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    rows = [_Row(tokenizer, stop or []) for _ in prompts]
    for drawn in generate_tokens(
        model, tokens.to(device), max_new_tokens, sampling, generator, lengths=lengths, edits=edits
    ):
        for index, token in enumerate(drawn.tolist()):
            piece = "" if rows[index].done else rows[index].add(token)
            if piece:
                yield index, piece
        if all(row.done for row in rows):
            return
    yield from ((index, row.end()) for index, row in enumerate(rows) if not row.done)
