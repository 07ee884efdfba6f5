r"""Trained models in EleutherAI's evaluation harness, which ``nextconcept[eval]`` installs.

The command

.. code-block:: console

    python -m nextconcept.evaluation.harness --model nextconcept \
        --model_args ckpt_path=exported --tasks lambada_openai

is the harness's own command line with the models of this package registered. In Python, use
``lm_eval.simple_evaluate(model=ConceptLM("exported"), ...)``.

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
"""A request, the ids of its context, and the ids of its continuation."""


@register_model("nextconcept")
class ConceptLM(TemplateLM):  # type: ignore[misc]
    """Scores and continues texts for the harness.

    Args:
        ckpt_path: an exported model, a checkpoint, the folder of a run, or a folder of runs (the
            newest counts).
        batch_size: requests per batch.
        device: device of the model; default: the CPU, as where there is no such GPU.
        max_new_tokens: tokens to write where a task gives no number.

    Raises:
        InputError: if there is no model, or an option is out of range.
    """

    def __init__(
        self, ckpt_path: str, batch_size: int | str = 8, device: str | None = None, max_new_tokens: int = 256, **_: Any
    ) -> None:
        super().__init__()
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise InputError(f"batch_size must be a number from 1, not {batch_size}.")
        self.model, self.text_tokenizer = load_run(ckpt_path)
        # The harness's command line asks for a GPU by default.
        absent = str(device).startswith("cuda") and not torch.cuda.is_available()
        self.model.to("cpu" if device is None or absent else device)
        self.batch_size, self.max_new_tokens = int(batch_size), int(max_new_tokens)
        self.max_length = self.model.config.window_length

    @property
    def eot_token_id(self) -> int:
        """The id that ends a document; it also stands before the first token of a text."""
        return self.text_tokenizer.end_of_text

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return the token ids of a text, without special tokens."""
        ids: list[int] = self.text_tokenizer.encode(string).tolist()
        return ids

    @torch.no_grad()
    def _loglikelihood_tokens(self, requests: list[Scored], **_: Any) -> list[tuple[float, bool]]:
        pairs = [self._truncate(context, continuation) for _, context, continuation in requests]
        # Chunks align with the end of the context, as in generation.
        offsets = [self.model.config.padding(len(context)) for context, _ in pairs]
        # Rows of similar length share a batch, so that there is little padding.
        order = sorted(range(len(pairs)), key=lambda index: (offsets[index], -sum(map(len, pairs[index]))))
        scores: dict[int, tuple[float, bool]] = {}
        for offset, group in itertools.groupby(order, key=lambda index: offsets[index]):
            for indices in _batches(list(group), self.batch_size):
                scores |= zip(indices, self._score([pairs[index] for index in indices], offset), strict=True)
        return [scores[index] for index in range(len(pairs))]

    def _truncate(self, context: list[int], continuation: list[int]) -> tuple[list[int], list[int]]:
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
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.model.device)
        # By the causality law, padding at the end changes no earlier logit.
        logits = self.model(ids[:, :-1], offset=offset).logits.float().log_softmax(-1)  # (B, T - 1, V)
        scores, best = logits.gather(2, ids[:, 1:, None]).squeeze(2), logits.argmax(-1) == ids[:, 1:]
        spans = [slice(len(context) - 1, len(context) + len(continuation) - 1) for context, continuation in pairs]
        return [(float(scores[row, span].sum()), bool(best[row, span].all())) for row, span in enumerate(spans)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of whole texts, in windows of the model's context.

        Each token counts once.
        """
        totals = []
        for (text,) in (request.args for request in requests):
            windows = get_rolling_token_windows(self.tok_encode(text), self.eot_token_id, self.max_length, 1)
            pairs: list[Scored] = [(None, *make_disjoint_window(window)) for window in windows]
            totals.append(sum(score for score, _ in self._loglikelihood_tokens(pairs)))
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continue texts, greedily unless a task asks for sampling.

        An empty text begins with the token that ends a document, as for log-likelihoods.
        """
        texts = []
        for options, group in itertools.groupby((request.args for request in requests), key=lambda args: args[1]):
            until = options.get("until") or []
            stops = [stop for stop in ([until] if isinstance(until, str) else until) if stop]
            temperature = options.get("temperature")
            sampling = Sampling(
                temperature=(1.0 if temperature is None else float(temperature)) if options.get("do_sample") else 0.0,
                top_k=options.get("top_k") or None,  # in the harness 0 means that there is no limit
                top_p=options.get("top_p") or None,
            )
            length = self.max_new_tokens if options.get("max_gen_toks") is None else int(options["max_gen_toks"])
            for contexts in _batches([context for context, _ in group], self.batch_size):
                texts += self._continue(contexts, length, sampling, stops)
        return texts

    def _continue(self, contexts: list[str], length: int, sampling: Sampling, stops: list[str]) -> list[str]:
        prompts = [self.tok_encode(context) or [self.eot_token_id] for context in contexts]
        texts = [""] * len(contexts)
        for row, piece in generate_text(self.model, self.text_tokenizer, prompts, length, sampling, stop=stops):
            texts[row] += piece
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
