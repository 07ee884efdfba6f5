"""Command ``nextconcept generate``: a continued text."""

import sys
from typing import Literal

from nextconcept.cli.parsers import run_function
from nextconcept.cli.prompts import read_prompt
from nextconcept.core.errors import InputError
from nextconcept.inference.draft_acceptance import DraftFigures
from nextconcept.inference.sampling import Sampling
from nextconcept.inference.text import generate_text, load
from nextconcept.nn.concept_encoder import ConceptEncoder

__all__ = ["generate", "run"]

MOST_SAMPLES = 100_000
"""Continuations of a call, all of which are held in memory at once."""


def run(arguments: list[str]) -> None:
    """Run the command."""
    run_function(generate, arguments)


def generate(
    ckpt_path: str,
    prompt: str | None = None,
    prompt_file: str | None = None,
    max_new_tokens: int = 300,
    num_samples: int = 1,
    stream: bool = False,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    stop: list[str] | None = None,
    seed: int = 0,
    draft: Literal["plan", "text"] | None = None,
    verbose: bool = False,
    encoder: type[ConceptEncoder] = ConceptEncoder,
) -> None:
    """Continue a prompt and print prompt and continuation.

    Args:
        ckpt_path: a checkpoint, the folder of a run, a folder of runs (the newest counts), an
            exported model, star-graph, which is packaged, or OWNER/NAME of an export on the Hugging
            Face Hub.
        prompt: the text to continue.
        prompt_file: a file with the text to continue; - reads standard input.
        max_new_tokens: tokens to write; a text also ends at the end of its document.
        num_samples: continuations to write, in one batch.
        stream: print the text while it is written.
        temperature: below 1, likely tokens become likelier; 0 always takes the likeliest token.
        top_k: sample from the k likeliest tokens.
        top_p: sample from the likeliest tokens that together reach probability p.
        min_p: sample from tokens that are at least this many times as likely as the likeliest.
        stop: a string that ends a continuation; may be given several times.
        seed: of the sampling.
        draft: plan checks the tokens that the plan says come next in one pass, and text those that
            followed earlier in the text; what is written is the same, and written faster if they
            are often right.
        verbose: print at the end, to standard error, how many tokens a pass has written.
        encoder: full name of the concept encoder's class, if the model was trained with one of
            your own.

    Raises:
        InputError: if the checkpoint, the prompt or an option can't be used.
    """
    if not 1 <= num_samples <= MOST_SAMPLES:
        raise InputError(f"num_samples must be from 1 to {MOST_SAMPLES:,}, written in one batch, not {num_samples}.")
    sampling = Sampling(temperature, top_k, top_p, min_p)
    text = read_prompt(prompt, prompt_file)
    writer = load(ckpt_path, encoder)
    figures = DraftFigures()
    prompts = [text] * num_samples
    pieces = generate_text(
        writer.model,
        writer.tokenizer,
        prompts,
        max_new_tokens,
        sampling,
        seed,
        stop,
        draft=draft,
        figures=figures,
    )
    samples = list(prompts)
    streamed = False  # samples are printed one after another, so only the first can be watched
    for row, piece in pieces:
        if stream and row == 0:
            print(piece if streamed else _title(row, num_samples) + text + piece, end="", flush=True)
            streamed = True
        samples[row] += piece
    for row, sample in enumerate(samples):
        print("" if streamed and row == 0 else _title(row, num_samples) + sample)
    if verbose:
        print(figures, file=sys.stderr)


def _title(row: int, count: int) -> str:
    return f"--- sample {row + 1} of {count}\n" if count > 1 else ""
