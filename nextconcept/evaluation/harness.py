"""Exported models in EleutherAI's evaluation harness, an optional extra: ``pip install 'nextconcept[eval]'``.

    python -m nextconcept.evaluation.harness --model nextconcept --model_args ckpt_path=exported --tasks lambada_openai

is the harness's own command line with these models registered; in Python, ``lm_eval.simple_evaluate(model=ConceptLM("exported"), ...)``.

Shapes: B requests, T tokens, V vocabulary.
"""

import itertools
import logging
import sys
from collections.abc import Iterator
from typing import Any

import torch
from lm_eval.__main__ import cli_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from nextconcept.checkpoints.files import load_run
from nextconcept.core.errors import InputError
from nextconcept.inference.sampling import Sampling
from nextconcept.inference.text import generate_text

__all__ = ["ConceptLM", "main"]

Scored = tuple[Any, list[int], list[int]]
"""What was asked, ids of the context, ids of the continuation."""


@register_model("nextconcept")
class ConceptLM(TemplateLM):  # type: ignore[misc]
    """Scores and writes for the harness.

    Args:
        ckpt_path: an exported model, a checkpoint, the folder of a run, or a folder of runs (the newest counts).
        batch_size: requests that are scored or continued together.
        device: where the model runs; the CPU if there is no such GPU.
        max_new_tokens: tokens to write where a task does not say.

    Raises:
        InputError: if there is no model, or an option is out of range.
    """

    def __init__(
        self, ckpt_path: str, batch_size: int | str = 8, device: str | None = None, max_new_tokens: int = 256, **_: Any
    ) -> None:
        super().__init__()
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise InputError(f"batch_size must be a number from 1, not {batch_size}.")
        self.model, self.reader = load_run(ckpt_path)
        # The harness's command line asks for a GPU unless told otherwise.
        absent = str(device).startswith("cuda") and not torch.cuda.is_available()
        self.model.to("cpu" if device is None or absent else device)
        self.batch_size, self.max_new_tokens = int(batch_size), int(max_new_tokens)
        self.max_length = self.model.config.window_length

    @property
    def eot_token_id(self) -> int:
        """The id that ends a document, which also stands before the first token of a text."""
        return self.reader.end_of_text

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids of a text; none is special."""
        ids: list[int] = self.reader.encode(string).tolist()
        return ids

    @torch.no_grad()
    def _loglikelihood_tokens(self, requests: list[Scored], **_: Any) -> list[tuple[float, bool]]:
        pairs = [self._fitted(context, continuation) for _, context, continuation in requests]
        offsets = [self._offset(len(context)) for context, _ in pairs]
        # Long rows together, so that little is padded.
        order = sorted(range(len(pairs)), key=lambda index: (offsets[index], -sum(map(len, pairs[index]))))
        scores: dict[int, tuple[float, bool]] = {}
        for offset, group in itertools.groupby(order, key=lambda index: offsets[index]):
            for indices in _batches(list(group), self.batch_size):
                scores |= zip(indices, self._score([pairs[index] for index in indices], offset), strict=True)
        return [scores[index] for index in range(len(pairs))]

    def _offset(self, length: int) -> int:
        """Padding in front: with a grid that ends with the text, it ends with the context, as where text is written."""
        return (
            -length % self.model.config.hierarchy.top_span if self.model.config.encoder.chunk_alignment == "end" else 0
        )

    def _fitted(self, context: list[int], continuation: list[int]) -> tuple[list[int], list[int]]:
        room = self.max_length + 1 - len(continuation)
        if room < 1:
            raise InputError(
                f"a continuation of {len(continuation)} tokens is longer than the model's context of {self.max_length}."
            )
        if len(context) > room:
            logging.getLogger(__name__).warning(
                "a context of %d tokens lost its beginning: the model reads %d.", len(context), self.max_length
            )
        return context[-room:], continuation

    def _score(self, pairs: list[tuple[list[int], list[int]]], offset: int) -> list[tuple[float, bool]]:
        rows = [torch.tensor([*context, *continuation]) for context, continuation in pairs]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(next(self.model.parameters()).device)
        # Padding behind a row changes nothing before it, by the causality law.
        logits = self.model(ids[:, :-1], offset=offset).logits.float().log_softmax(-1)  # (B, T - 1, V)
        said, best = logits.gather(2, ids[:, 1:, None]).squeeze(2), logits.argmax(-1) == ids[:, 1:]
        spans = [slice(len(context) - 1, len(context) + len(continuation) - 1) for context, continuation in pairs]
        return [(float(said[row, span].sum()), bool(best[row, span].all())) for row, span in enumerate(spans)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, each cut into windows of the model's context; every token counts once."""
        totals = []
        for (text,) in (request.args for request in requests):
            windows = get_rolling_token_windows(self.tok_encode(text), self.eot_token_id, self.max_length, 1)
            pairs: list[Scored] = [(None, *make_disjoint_window(window)) for window in windows]
            totals.append(sum(score for score, _ in self._loglikelihood_tokens(pairs)))
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continuations, greedy unless a task asks for sampling."""
        texts = []
        for options, group in itertools.groupby((request.args for request in requests), key=lambda args: args[1]):
            until = options.get("until", [])
            stops = [stop for stop in ([until] if isinstance(until, str) else until) if stop]
            heat = float(options.get("temperature", 1.0)) if options.get("do_sample") else 0.0
            sampling = Sampling(heat, options.get("top_k") or None, options.get("top_p"))
            length = int(options.get("max_gen_toks", self.max_new_tokens))
            for prompts in _batches([context for context, _ in group], self.batch_size):
                written = [""] * len(prompts)
                for row, piece in generate_text(self.model, self.reader, prompts, length, sampling, stop=stops):
                    written[row] += piece
                texts += written
        return texts


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def main() -> None:
    """Run the harness's command line."""
    try:
        cli_evaluate()
    except InputError as error:
        print(f"nextconcept: error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
