"""Exported models: a folder of safetensors, configuration, tokenizer and card; the Hub."""

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError

from nextconcept.checkpoints.model_card import model_card
from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.data.tokenizers import tokenizer_from_json
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.hub_model import check_encoder
from nextconcept.nn.model import NextConceptModel

__all__ = [
    "check_vocabulary",
    "check_weights",
    "download_pretrained",
    "is_export",
    "is_repository_name",
    "load_pretrained",
    "read_pretrained_config",
    "read_pretrained_task",
    "read_pretrained_vocabulary",
    "save_pretrained",
]

WEIGHTS, CONFIG, TOKENIZER, CARD = "model.safetensors", "config.json", "tokenizer.json", "README.md"
"""The files of an export."""

TASK_FILE = "task.json"
"""The file of an export with class and settings of its planning task, if it was trained on one."""

UNREADABLE = (OSError, SafetensorError, RuntimeError, TypeError, ValueError, KeyError, AttributeError, OverflowError)
"""What reading the files of an export raises if they are missing, broken or of other content."""


def is_export(path: str | Path) -> bool:
    """Return whether ``path`` is a folder that :func:`save_pretrained` wrote."""
    return (Path(path) / WEIGHTS).is_file()


def is_repository_name(path: str | Path) -> bool:
    """Return whether ``path`` has the form OWNER/NAME of a repository, and nothing lies there."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) is not None and not Path(path).exists()


def check_weights(model: NextConceptModel, source: str | Path) -> None:
    """Check that every weight is a finite number.

    Raises:
        InputError: if one is not, as after a training that diverged.
    """
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise InputError(
                f"the weights in {source} are not finite ({name} holds NaN or infinity): its training diverged; "
                "take an earlier checkpoint, or train again with a lower learning rate."
            )


def save_pretrained(
    model: NextConceptModel,
    tokenizer: Tokenizer,
    folder: str | Path,
    record: dict[str, Any] | None = None,
    task: dict[str, Any] | None = None,
) -> None:
    """Write a model as safetensors, with its configuration, its tokenizer and a card.

    Args:
        model: the model.
        tokenizer: the model's tokenizer.
        folder: the folder to write; it is created if there is none.
        record: what the card reports of data, training and metrics, in the form that
            :func:`~nextconcept.checkpoints.files.read_record` returns.
        task: class and settings of the planning task that the model was trained on, as
            :func:`~nextconcept.checkpoints.files.read_task` returns them.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model_card(model.config, model.num_parameters, record or {}).save(folder / CARD)
    model.save_pretrained(folder)  # the Hub mixin keeps the card that is already there
    (folder / TOKENIZER).write_text(tokenizer.to_json(), encoding="utf-8")
    if task is not None:
        (folder / TASK_FILE).write_text(json.dumps(task, indent=2), encoding="utf-8")


def load_pretrained(
    folder: str | Path, encoder: type[ConceptEncoder] = ConceptEncoder
) -> tuple[NextConceptModel, Tokenizer]:
    """Load a model and its tokenizer from a folder that :func:`save_pretrained` wrote.

    Args:
        folder: the exported folder.
        encoder: class of the concept encoder, if the model was trained with one of your own.

    Returns:
        The model, in eval mode and on the CPU, and the tokenizer.

    Raises:
        InputError: if a file is missing or broken, or the model has another encoder.
    """
    folder = Path(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the Hub mixin prints where our output belongs
            model = NextConceptModel.from_pretrained(folder, encoder=encoder)
        check_weights(model, folder)
        tokenizer = tokenizer_from_json((folder / TOKENIZER).read_text(encoding="utf-8"))
        check_vocabulary(tokenizer, model.config.vocab_size, folder)
        return model.eval(), tokenizer
    except InputError as error:
        message = str(error)
        raise InputError(message if str(folder) in message else f"{folder} can't be used: {message}") from None
    except UNREADABLE as error:
        raise _no_export(folder, error) from None


def read_pretrained_config(folder: str | Path, encoder: type[ConceptEncoder] = ConceptEncoder) -> ModelConfig:
    """Read the configuration of an exported model.

    Args:
        folder: the exported folder.
        encoder: class of the concept encoder, if the model was trained with one of your own.

    Raises:
        InputError: if the file is missing or broken, or the model has another encoder.
    """
    try:
        config = ModelConfig.from_dict(json.loads(Path(folder, CONFIG).read_text(encoding="utf-8")))
    except InputError as error:
        raise InputError(f"{folder} can't be used: {error}") from None
    except UNREADABLE as error:
        raise _no_export(folder, error) from None
    check_encoder(config, encoder, folder)
    return config


def read_pretrained_vocabulary(folder: str | Path) -> tuple[Tokenizer, int]:
    """Read the tokenizer of an exported model, and the number of token ids that the model knows.

    Raises:
        InputError: if a file is missing or broken.
    """
    config = read_pretrained_config(folder)
    try:
        tokenizer = tokenizer_from_json(Path(folder, TOKENIZER).read_text(encoding="utf-8"))
        check_vocabulary(tokenizer, config.vocab_size, folder)
        return tokenizer, config.vocab_size
    except InputError:
        raise
    except UNREADABLE as error:
        raise _no_export(folder, error) from None


def _no_export(folder: str | Path, error: Exception) -> InputError:
    """Return our own error for one that reading a folder has raised."""
    if isinstance(error, FileNotFoundError) and Path(folder, CONFIG).is_file() and not Path(folder, TOKENIZER).exists():
        return InputError(
            f"{folder} has a model without {TOKENIZER}, as save_pretrained and push_to_hub write it: load it with "
            "NextConceptModel.from_pretrained, or write the folder with nextconcept export."
        )
    reason, *_ = str(error).split("\n")
    return InputError(f"{folder} is not an exported model: {reason}.")


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int, source: str | Path) -> None:
    """Check that a model knows all tokens of the tokenizer that is stored with it.

    Raises:
        InputError: if it does not.
    """
    if tokenizer.vocab_size > vocab_size:
        raise InputError(
            f"the tokenizer in {source} has {tokenizer.vocab_size} tokens, but the model knows {vocab_size}: use the "
            "tokenizer that the model was trained with."
        )


def read_pretrained_task(folder: str | Path) -> dict[str, Any] | None:
    """Read the class and settings of the task of an exported model, None if it has none.

    Raises:
        InputError: if the file is broken.
    """
    file = Path(folder, TASK_FILE)
    try:
        task = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    except (OSError, ValueError, RecursionError):
        task = []
    if task is not None and not isinstance(task, dict):
        raise InputError(f"{file} can't be read: export the model again, or remove the file.")
    return task


def download_pretrained(repository: str) -> Path:
    """Download an exported model from the Hugging Face Hub, unless the local cache holds it.

    Args:
        repository: OWNER/NAME.

    Returns:
        The folder in the local cache, for :func:`load_pretrained`.

    Raises:
        InputError: if the Hub can't be reached, or has no such repository or no exported model
            there.
    """
    try:
        folder = Path(snapshot_download(repository, allow_patterns=[WEIGHTS, CONFIG, TOKENIZER, TASK_FILE]))
    except Exception as error:  # the client raises errors of several libraries
        raise InputError(
            f"there is no checkpoint or run at {repository}, nor can a model of that name be loaded from the Hugging "
            f"Face Hub ({type(error).__name__}): give a .ckpt file, the folder of a run or export, or OWNER/NAME of "
            "a repository."
        ) from None
    if not is_export(folder):
        raise InputError(f"the repository {repository} on the Hugging Face Hub holds no model.safetensors.")
    return folder
