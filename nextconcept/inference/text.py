"""Prompts -> text: load a trained model, let it write, and read its plan.

.. code-block:: python

    writer = nextconcept.load("exported")
    print(writer.write("ROMEO:"))
    print(writer.plan("ROMEO:"))
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from nextconcept.checkpoints.files import load_run
from nextconcept.core.errors import InputError
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.inference.draft_acceptance import DraftFigures
from nextconcept.inference.generate import generate_tokens
from nextconcept.inference.plan_edits import PlanEdit
from nextconcept.inference.plans import PlanReport, report_plan
from nextconcept.inference.sampling import Sampling, make_generator
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.eval_mode import eval_mode
from nextconcept.nn.model import NextConceptModel

__all__ = ["TextStream", "Writer", "generate_text", "load"]

Prompt = TypeVar("Prompt", str, list[str])


@dataclass(eq=False)
class Writer:
    """A trained model with its tokenizer: text in, text and plans out.

    Attributes:
        model: the model.
        tokenizer: the model's tokenizer.
    """

    model: NextConceptModel
    tokenizer: Tokenizer

    def __repr__(self) -> str:
        """Say what was loaded, in a line."""
        config, parameters = self.model.config, self.model.num_parameters
        return f"Writer({config.levels} levels of widths {config.widths}, {parameters / 1e6:.2f} M parameters)"

    def write(
        self,
        prompt: Prompt,
        max_new_tokens: int = 300,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int = 0,
        draft: str | None = None,
    ) -> Prompt:
        """Continue a prompt, or several in one batch.

        Args:
            prompt: the text to continue, or a list of texts; one that is repeated is continued in
                as many ways.
            max_new_tokens: tokens to write at most; a text also ends with its document.
            temperature: divides the logits; 0 takes the most likely token.
            top_k: sample from the k most likely tokens.
            top_p: sample from the most likely tokens whose probabilities reach p together.
            min_p: sample from tokens whose probability is at least this share of the likeliest
                one's.
            stop: one or more strings at which a continuation ends; they are not part of the text.
            seed: seed of the sampling.
            draft: ``plan`` checks the tokens that the plan says come next in one pass, and ``text``
                those that followed earlier in the text; what is written is the same, and written
                faster if they are often right.

        Returns:
            The prompt and its continuation; for a list of prompts, a list.

        Raises:
            InputError: if a prompt or an option can't be used.
        """
        texts = list(prompt) if isinstance(prompt, list | tuple) else [prompt]
        _check_texts(texts)
        sampling = Sampling(temperature, top_k, top_p, min_p)
        stops = _as_list(stop)
        pieces = generate_text(self.model, self.tokenizer, texts, max_new_tokens, sampling, seed, stops, draft=draft)
        for row, piece in pieces:
            texts[row] += piece
        return texts[0] if isinstance(prompt, str) else texts

    def stream(
        self,
        prompt: str,
        max_new_tokens: int = 300,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int = 0,
        draft: str | None = None,
    ) -> Iterator[str]:
        """Continue a prompt, and yield the continuation piece by piece.

        The arguments are those of :meth:`write`.

        Raises:
            InputError: if the prompt or an option can't be used.
        """
        _check_texts([prompt])
        sampling = Sampling(temperature, top_k, top_p, min_p)
        pieces = generate_text(
            self.model, self.tokenizer, [prompt], max_new_tokens, sampling, seed, _as_list(stop), draft=draft
        )
        return (piece for _, piece in pieces)

    def plan(
        self,
        prompt: str,
        edits: str | PlanEdit | Sequence[str | PlanEdit] | None = None,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> PlanReport:
        """Report what the model plans at the end of a prompt, and what it then writes.

        Args:
            prompt: the text to continue.
            edits: planned concepts to replace: ``LEVEL:STEP=TEXT``, such as ``1:0=king``, a
                :class:`~nextconcept.inference.plan_edits.PlanEdit`, or a list of these. A TEXT
                shorter than the concept is filled up with the last tokens of the planned concept.
            max_new_tokens: tokens to write; default: as many as the longest plan covers.
            temperature: divides the logits; 0 takes the most likely token.
            seed: seed of the sampling.

        Returns:
            A report; ``print(report)`` shows its tables.

        Raises:
            InputError: if the model has no plan or can't decode it, or prompt, edits or options
                can't be used.
        """
        _check_texts([prompt])
        if isinstance(edits, str) or not isinstance(edits, Sequence | None):
            edits = [edits]
        return report_plan(self.model, self.tokenizer, prompt, edits or [], max_new_tokens, temperature, seed)

    @torch.no_grad()
    def compose(self, text: str, level: int = 1) -> Tensor:
        """Compose a text into a concept.

        Args:
            text: as many tokens as a concept of ``level`` has; any number where rules cut chunks.
            level: level of the concept, 1 or more.

        Returns:
            (D,) the concept, of the width of ``level``.

        Raises:
            InputError: if there is no such level, or the text has another number of tokens.
        """
        hierarchy = self.model.config.hierarchy
        hierarchy.check_level(level)
        span = hierarchy.span(level)
        _check_texts([text])
        ids = self.tokenizer.encode_input(text, "text")  # no prompt, which tasks pad and take for a question
        tokens = torch.from_numpy(ids.astype("int64")).to(self.model.device)
        if self.model.chunker is None and len(tokens) != span:
            raise InputError(f"the text {text!r} has {len(tokens)} tokens, but a concept of level {level} has {span}.")
        return self.model.compose(tokens, level)


def load(path: str | Path, encoder: type[ConceptEncoder] = ConceptEncoder) -> Writer:
    """Load a trained model with its tokenizer.

    Args:
        path: a checkpoint, the folder of a run, a folder of runs (the newest counts), an exported
            folder, the name of a packaged model (``star-graph``), or the name OWNER/NAME of a
            repository on the Hugging Face Hub that holds an export. What exists under that name in
            the working directory wins over a packaged model.
        encoder: class of the concept encoder, if the model was trained with one of your own.

    Returns:
        A writer, whose model is in eval mode and on the CPU.

    Raises:
        InputError: if there is no model at ``path``, or it can't be used.
    """
    return Writer(*load_run(path, encoder))


def _check_texts(texts: Sequence[object]) -> None:
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"a prompt must be a text, or for write() a list of texts, not {type(text).__name__}.")


def _as_list(stop: str | Sequence[str] | None) -> list[str]:
    strings = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(strings, Sequence) or not all(isinstance(one, str) for one in strings):
        raise InputError(f"stop must be a text or a list of texts, not {stop!r}.")
    return list(strings)


def _pad(prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Turn B rows of token ids into padded (B, T) ids and the (B,) lengths of the rows."""
    if not prompts:
        raise InputError("the list of prompts is empty: give at least one.")
    rows = [torch.tensor(prompt, dtype=torch.int64) for prompt in prompts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


class TextStream:
    """Decodes the tokens of a continuation as they come.

    The text ends at a stop string or at the end of a document.

    Args:
        tokenizer: the model's tokenizer.
        stop: strings at which the text ends.
        prompt: token ids of the text that is continued.

    Attributes:
        done: whether the text has ended.
    """

    def __init__(self, tokenizer: Tokenizer, stop: list[str], prompt: Sequence[int] = ()) -> None:
        self.done = False
        self._decode = tokenizer.stream(prompt)
        self._end_of_text, self._stop = tokenizer.end_of_text, stop
        self._held = ""

    def add(self, token: int) -> str:
        """Add a token, and return the text that is now certain to belong to the continuation."""
        if token == self._end_of_text:
            return self.end()
        self._held += self._decode(token)
        ends = [at for at in map(self._held.find, self._stop) if at >= 0]
        if ends:
            self._held = self._held[: min(ends)]
            return self.end()
        return self._release(self._undecided())

    def end(self) -> str:
        """End the text, and return the rest of it.

        Bytes of a character that was not completed are left out.
        """
        self.done = True
        return self._release(0)

    def _undecided(self) -> int:
        """Count the last characters that may become part of a stop string."""
        lengths = [n for stop in self._stop for n in range(1, len(stop)) if self._held.endswith(stop[:n])]
        return max(lengths, default=0)

    def _release(self, keep: int) -> str:
        cut = len(self._held) - keep
        piece, self._held = self._held[:cut], self._held[cut:]
        return piece


def generate_text(
    model: NextConceptModel,
    tokenizer: Tokenizer,
    prompts: list[str] | list[list[int]],
    max_new_tokens: int,
    sampling: Sampling = Sampling(),
    seed: int = 0,
    stop: list[str] | None = None,
    draft: str | None = None,
    figures: DraftFigures | None = None,
) -> Iterator[tuple[int, str]]:
    """Continue several prompts in one batch, whatever their lengths.

    Args:
        model: the model; in eval mode while it writes.
        tokenizer: the model's tokenizer.
        prompts: texts to continue, or their token ids.
        max_new_tokens: tokens to write at most for each prompt; a text also ends with its document.
        sampling: how tokens are drawn.
        seed: seed of the sampling.
        stop: strings at which a continuation ends; they are not part of the text.
        draft: see :meth:`Writer.write`.
        figures: receives how many tokens passes have written.

    Yields:
        ``(row, piece)``: the next piece of the continuation of prompt ``row``.

    Raises:
        InputError: if prompts or options can't be used.
    """
    ids = [prompt if isinstance(prompt, list) else tokenizer.encode_prompt(prompt).tolist() for prompt in prompts]
    if "" in (stop or []):
        raise InputError("a stop string is empty: give at least one character with --stop.")
    tokens, lengths = _pad(ids)
    generator = make_generator(seed, model.device)
    rows = [TextStream(tokenizer, stop or [], prompt) for prompt in ids]
    with eval_mode(model):
        writing = generate_tokens(
            model,
            tokens.to(model.device),
            max_new_tokens,
            sampling,
            generator,
            lengths=lengths,
            draft=draft,
            figures=figures,
        )
        for drawn in writing:
            for index, token in enumerate(drawn.tolist()):
                piece = "" if rows[index].done else rows[index].add(token)
                if piece:
                    yield index, piece
            if all(row.done for row in rows):
                return
    for index, row in enumerate(rows):
        if not row.done and (piece := row.end()):
            yield index, piece
