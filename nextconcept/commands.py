"""What the command line does with a trained model."""

from pathlib import Path

import torch

from nextconcept.checkpoint import load_run, save_pretrained
from nextconcept.errors import InputError

__all__ = ["export", "generate"]


def generate(
    ckpt_path: str,
    prompt: str,
    max_new_tokens: int = 300,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> None:
    """Continue a prompt and print both.

    Args:
        ckpt_path: a checkpoint, the folder of a run, a folder of runs (the newest counts), or an exported model.
        prompt: the text to continue.
        max_new_tokens: tokens to write.
        temperature: below 1 the model keeps to what is likely; 0 always takes the likeliest token.
        top_k: sample from the k likeliest tokens.
        top_p: sample from the likeliest tokens that together reach probability p.
        seed: of the sampling.

    Raises:
        InputError: if checkpoint, prompt or options can't be used.
    """
    model, tokenizer = load_run(ckpt_path)
    ids = torch.from_numpy(tokenizer.encode_prompt(prompt).astype("int64"))[None]
    generator = torch.Generator().manual_seed(seed)
    written = model.generate(ids, max_new_tokens, temperature, top_k, top_p, generator)
    print(prompt + tokenizer.decode(written[0, ids.shape[1] :].tolist()))


def export(ckpt_path: str, output: str) -> None:
    """Write a trained model as safetensors, with its configuration and tokenizer.

    Args:
        ckpt_path: a checkpoint, the folder of a run, or a folder of runs (the newest counts).
        output: a new folder.

    Raises:
        InputError: if there is no checkpoint, or ``output`` exists.
    """
    folder = Path(output)
    if folder.exists():
        raise InputError(f"{output} exists: give a new folder with --output.")
    model, tokenizer = load_run(ckpt_path)
    save_pretrained(model, tokenizer, folder)
    print(f"wrote model.safetensors, config.json and tokenizer.json to {output}")
