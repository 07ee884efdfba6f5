"""What the command line does with a trained model."""

import sys
from json import dumps
from pathlib import Path
from typing import Literal

from nextconcept.checkpoints.files import find_checkpoint, load_run, read_checkpoint, read_record
from nextconcept.checkpoints.hub import save_pretrained
from nextconcept.core.errors import InputError
from nextconcept.inference.sampling import Sampling
from nextconcept.inference.text import Writer, generate_text
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.growth import grow as grow_model
from nextconcept.training.warm_start import TrainingState

__all__ = ["export", "generate", "grow", "plan"]


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
    stop: str | list[str] | None = None,
    seed: int = 0,
    encoder: type[ConceptEncoder] = ConceptEncoder,
) -> None:
    """Continue a prompt and print both.

    Args:
        ckpt_path: a checkpoint, the folder of a run, a folder of runs (the newest counts), or an exported model.
        prompt: the text to continue.
        prompt_file: a file with the text to continue; - reads standard input.
        max_new_tokens: tokens to write; a text also ends with its document.
        num_samples: continuations to write, in one batch.
        stream: print the text while it is written.
        temperature: below 1 the model keeps to what is likely; 0 always takes the likeliest token.
        top_k: sample from the k likeliest tokens.
        top_p: sample from the likeliest tokens that together reach probability p.
        min_p: sample from tokens that are at least this times as likely as the likeliest.
        stop: one or more strings at which a continuation ends.
        seed: of the sampling.
        encoder: full name of the concept encoder's class, if the model was trained with one of your own.

    Raises:
        InputError: if checkpoint, prompt or options can't be used.
    """
    if num_samples < 1:
        raise InputError(f"num_samples must be 1 or more, not {num_samples}.")
    sampling = Sampling(temperature, top_k, top_p, min_p)
    text = _prompt(prompt, prompt_file)
    model, tokenizer = load_run(ckpt_path, encoder)
    stops = [stop] if isinstance(stop, str) else stop
    pieces = generate_text(model, tokenizer, [text] * num_samples, max_new_tokens, sampling, seed, stops)
    samples = [text] * num_samples
    shown = 0  # samples are printed one after another; the first can be watched
    printed = 0
    for row, piece in pieces:
        if stream and row == shown and not printed:
            print(_title(row, num_samples) + samples[row], end="", flush=True)
            printed = 1
        samples[row] += piece
        if stream and row == shown:
            print(piece, end="", flush=True)
    for row, sample in enumerate(samples):
        print("" if printed and row == shown else _title(row, num_samples) + sample)


def _title(row: int, count: int) -> str:
    return f"--- sample {row + 1} of {count}\n" if count > 1 else ""


def _prompt(prompt: str | None, prompt_file: str | None) -> str:
    if (prompt is None) == (prompt_file is None):
        raise InputError("give the text to continue with either --prompt or --prompt_file (- for standard input).")
    if prompt is not None:
        return prompt
    try:
        content = sys.stdin.buffer.read() if prompt_file == "-" else Path(str(prompt_file)).read_bytes()
        return content.decode()
    except OSError as error:
        raise InputError(f"the prompt file {prompt_file} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"the prompt in {prompt_file} is not valid UTF-8 near byte {error.start}: convert it to UTF-8."
        ) from None


def plan(
    ckpt_path: str,
    prompt: str | None = None,
    prompt_file: str | None = None,
    edit: str | list[str] | None = None,
    max_new_tokens: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    json: bool = False,
    encoder: type[ConceptEncoder] = ConceptEncoder,
) -> None:
    """Print what the model plans after a prompt, and what it then writes.

    Args:
        ckpt_path: a checkpoint, the folder of a run, a folder of runs (the newest counts), or an exported model.
        prompt: the text to continue.
        prompt_file: a file with the text to continue; - reads standard input.
        edit: LEVEL:STEP=TEXT, one or a list: plan what TEXT composes to in that place, and go on from there.
        max_new_tokens: tokens to write; by default as many as the longest plan is about.
        temperature: of the sampling; 0 takes the likeliest token.
        seed: of the sampling.
        json: print one JSON object instead of tables.
        encoder: full name of the concept encoder's class, if the model was trained with one of your own.

    Raises:
        InputError: if checkpoint, prompt, edits or options can't be used.
    """
    text = _prompt(prompt, prompt_file)
    model, tokenizer = load_run(ckpt_path, encoder)
    if model.config.levels == 1:
        raise InputError(f"the model in {ckpt_path} has tokens alone, and no plan: train one with more levels.")
    report = Writer(model, tokenizer).plan(text, edit, max_new_tokens, temperature, seed)
    print(dumps(report.to_dict(), indent=1) if json else report)


def export(ckpt_path: str, output: str, encoder: type[ConceptEncoder] = ConceptEncoder) -> None:
    """Write a trained model as safetensors, with its configuration, its tokenizer and a card of data, training and metrics.

    Args:
        ckpt_path: a checkpoint, the folder of a run, or a folder of runs (the newest counts).
        output: a new folder.
        encoder: full name of the concept encoder's class, if the model was trained with one of your own.

    Raises:
        InputError: if there is no checkpoint, or ``output`` exists.
    """
    folder = _new_folder(output)
    model, tokenizer = load_run(ckpt_path, encoder)
    save_pretrained(model, tokenizer, folder, read_record(ckpt_path))
    print(f"wrote model.safetensors, config.json, tokenizer.json and README.md, a model card, to {output}")


def grow(
    source: str,
    output: str,
    init: Literal["copy", "random", "zeros"] = "copy",
    levels: int = 1,
    encoder: type[ConceptEncoder] = ConceptEncoder,
) -> None:
    """Add levels on top of a trained model, to go on training with ``nextconcept fit --model.init_from OUTPUT``.

    Args:
        source: a checkpoint, the folder of a run (its last checkpoint), a folder of runs (the newest), or an exported model.
        output: a new folder: what ``export`` writes, and of a checkpoint also the optimizer's moments and progress.
        init: what stands in the new blocks of the matrices.
        levels: how many to add.
        encoder: full name of the concept encoder's class, if the model was trained with one of your own.

    Raises:
        InputError: if there is no checkpoint, ``output`` exists, or an option is out of range.
    """
    folder = _new_folder(output)
    exported = (Path(source) / "model.safetensors").is_file()
    path = Path(source) if exported else find_checkpoint(source, ("last.ckpt", "best.ckpt"))
    model, tokenizer = load_run(path, encoder)
    bigger = grow_model(model, init, levels)
    record = {} if exported else read_record(path)
    save_pretrained(bigger, tokenizer, folder, record | {"measured": {}})
    if not exported:
        TrainingState.of(read_checkpoint(path), model).grown(bigger).save(folder)
    sizes = [f"{sum(parameter.numel() for parameter in one.parameters()) / 1e6:.2f} M" for one in (model, bigger)]
    print(
        f"grew {model.config.levels} levels of widths {model.config.widths} ({sizes[0]} parameters) to "
        f"{bigger.config.levels} of {bigger.config.widths} ({sizes[1]}); wrote {output}"
    )


def _new_folder(output: str) -> Path:
    if Path(output).exists():
        raise InputError(f"{output} exists: give a new folder with --output.")
    return Path(output)
