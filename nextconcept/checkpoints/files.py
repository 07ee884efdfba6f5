"""Runs on disk: find a checkpoint, check it, load model and tokenizer from it."""

from pathlib import Path
from typing import Any

import torch

from nextconcept.checkpoints.hub import (
    check_vocabulary,
    check_weights,
    download_pretrained,
    is_repository_name,
    load_pretrained,
    read_pretrained_config,
    read_pretrained_task,
    read_pretrained_vocabulary,
)
from nextconcept.checkpoints.model_card import RECORD
from nextconcept.checkpoints.packaged import find_export, packaged_models
from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.core.suggestions import closest
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.data.tokenizers import tokenizer_from_json
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.hub_model import check_encoder
from nextconcept.nn.model import NextConceptModel

__all__ = [
    "COMPUTE",
    "KEY",
    "OBJECTIVE",
    "TASK",
    "find_checkpoint",
    "find_exported",
    "load_run",
    "read_checkpoint",
    "read_config",
    "read_record",
    "read_task",
    "read_vocabulary",
]

COMPUTE = "nextconcept_compute"
"""Key of a Lightning checkpoint: the compute spent so far, by
:class:`~nextconcept.training.callbacks.ComputeBudget`."""

KEY = "nextconcept"
"""Key of a Lightning checkpoint: configuration and tokenizer, by
:class:`~nextconcept.ConceptModule`, and a record, by
:class:`~nextconcept.training.callbacks.StoreModelMetadata`."""

OBJECTIVE = "objective"
"""Entry under :data:`KEY`: the objective of the training, if that was not next-token prediction."""

TASK = "task"
"""Entry under :data:`KEY`: class and settings of the planning task, if the data were one."""


def find_checkpoint(path: str | Path, names: tuple[str, ...] = ("best.ckpt", "last.ckpt")) -> Path:
    """Find the checkpoint that ``path`` refers to.

    Args:
        path: a ``.ckpt`` file, the folder of a run, or a folder of runs (the one that wrote a
            checkpoint last counts).
        names: file names of checkpoints in a run, the preferred one first: evaluation prefers the
            best checkpoint, resuming the last.

    Returns:
        The path of the file.

    Raises:
        InputError: if there is none.
    """
    if find_export(path) is not None:
        raise InputError(
            f"{path} is an exported model already, which holds no state of its training: give a .ckpt file or the "
            "folder of a run here; to train from an export, use --model.init_from."
        )
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        shipped = closest(str(path), packaged_models(), cutoff=0.8)
        hint = f"did you mean {shipped}, which is packaged?" if shipped else "give a .ckpt file or the folder of a run."
        raise InputError(f"there is no checkpoint or run at {path}: {hint}")
    folders = [path, path / "checkpoints", *path.glob("*/checkpoints")]
    found = [folder / name for folder in folders for name in names if (folder / name).is_file()]
    if found:
        run = max(found, key=lambda candidate: candidate.stat().st_mtime).parent
        return next(run / name for name in names if (run / name) in found)
    raise InputError(f"{path} holds no {' or '.join(names)}: give a .ckpt file or the folder of a run.")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a Lightning checkpoint of this project with ``weights_only``, which runs no code.

    Args:
        path: the ``.ckpt`` file.

    Returns:
        The content of the file; tensors are mapped from the disk.

    Raises:
        InputError: if the file is not such a checkpoint.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a damaged file can make the unpickler raise anything
        checkpoint = None
    if isinstance(checkpoint, dict) and "state_dict" in checkpoint and KEY not in checkpoint:
        raise InputError(
            f"{path} is not a checkpoint of nextconcept, for it has weights but says nothing of their model: give one "
            "of a ConceptModule."
        )
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise InputError(
            f"{path} is not a checkpoint of nextconcept: give the .ckpt file of a run made with nextconcept fit, or "
            "the folder of an export."
        )
    if not _well_formed(checkpoint):
        raise InputError(f"{path} is damaged: what it says of the model can't be read.")
    return checkpoint


def _well_formed(checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint has the types that this package writes."""
    stored, weights, compute = checkpoint[KEY], checkpoint["state_dict"], checkpoint.get(COMPUTE, {})
    groups = [stored, weights, compute, checkpoint.get("loops", {}), checkpoint.get("hyper_parameters", {})]
    if not all(isinstance(part, dict) for part in groups) or (compute == {} and COMPUTE in checkpoint):
        return False
    if not _whole_loops(checkpoint.get("loops", {})):
        return False
    states = [checkpoint.get(name, []) for name in ("optimizer_states", "lr_schedulers")]
    if not all(isinstance(some, list) and all(isinstance(one, dict) for one in some) for some in states):
        return False
    if "optimizer_states" in checkpoint and not {"global_step", "loops", "lr_schedulers"} <= checkpoint.keys():
        return False
    objective, record = stored.get(OBJECTIVE, {}), stored.get(RECORD, {})
    if not isinstance(objective, dict) or not isinstance(record, dict):
        return False
    named = all(isinstance(name, str) for name in weights) and isinstance(objective.get("name", ""), str)
    measured, spent = record.get("measured", {}), [compute.get(name, 0) for name in ("flops", "tokens")]
    steps = [checkpoint.get("global_step", 0), checkpoint.get("nextconcept_seed", 0)]
    if not all(isinstance(number, int) for number in steps):
        return False
    numbers = [*spent, *(measured.values() if isinstance(measured, dict) else [None])]
    return named and all(isinstance(number, int | float) for number in numbers)


def _whole_loops(loops: dict[str, Any]) -> bool:
    """Whether the state of the fit loop says how many epochs are done, and where its data stand."""
    fit_loop = loops.get("fit_loop")
    if fit_loop is None:
        return True
    try:
        epochs = fit_loop["epoch_progress"]["current"]["completed"]
        loaders = fit_loop["state_dict"].get("combined_loader") or []
        return isinstance(epochs, int) and all(isinstance(loader, dict) for loader in loaders)
    except (TypeError, KeyError, AttributeError):
        return False


def read_record(path: str | Path) -> dict[str, Any]:
    """Read what a model card reports of a run.

    Args:
        path: a checkpoint, the folder of a run, or a folder of runs (the newest counts).

    Returns:
        ``data`` (the settings of the data), ``measured`` (metrics of the last validation, with
        their ``step`` and ``batches``), ``version``, and ``spent`` (what the training took).

    Raises:
        InputError: if there is no checkpoint at ``path``.
    """
    checkpoint = read_checkpoint(find_checkpoint(path))
    spent = {"optimizer steps": checkpoint["global_step"]} if "global_step" in checkpoint else {}
    for name, key in (("tokens seen", "tokens"), ("training FLOPs", "flops")):
        if key in checkpoint.get(COMPUTE, {}):
            spent[name] = f"{checkpoint[COMPUTE][key]:.3g}"
    record: dict[str, Any] = checkpoint[KEY].get(RECORD, {})
    if "version" in record:
        spent["nextconcept"] = record["version"]
    return record | {"spent": spent}


def read_task(path: str | Path) -> dict[str, Any] | None:
    """Read the class and settings of the task that a model was trained on.

    Args:
        path: as for :func:`load_run`.

    Returns:
        Plain values, as they were stored; None if nothing is said of a task.

    Raises:
        InputError: if there is no model at ``path``, or what is stored is no record of a task.
    """
    if (export := find_exported(path)) is not None:
        return read_pretrained_task(export)
    file = find_checkpoint(path)
    task = read_checkpoint(file)[KEY].get(TASK)
    if task is not None and not isinstance(task, dict):
        raise InputError(f"{file} is damaged: its record of a task can't be read.")
    return task


def find_exported(path: str | Path) -> Path | None:
    """Return the exported folder at ``path``, downloaded if need be; None for a run.

    Args:
        path: as for :func:`load_run`.
    """
    return find_export(download_pretrained(str(path)) if is_repository_name(path) else path)


def read_config(path: str | Path, encoder: type[ConceptEncoder] = ConceptEncoder) -> ModelConfig:
    """Read the configuration of a trained model.

    Args:
        path: as for :func:`load_run`.
        encoder: class of the concept encoder, if the model was trained with one of your own.

    Raises:
        InputError: if there is no model at ``path``, it is damaged, or has another encoder.
    """
    if (export := find_exported(path)) is not None:
        return read_pretrained_config(export, encoder)
    file = find_checkpoint(path)
    config = _stored_config(read_checkpoint(file)[KEY], file)
    check_encoder(config, encoder, file)
    return config


def _stored_config(stored: dict[str, Any], file: Path) -> ModelConfig:
    try:
        return ModelConfig.from_dict(stored["config"])
    except InputError as error:
        raise InputError(f"{file} can't be used: {error}") from None
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{file} is damaged: its configuration can't be read.") from None


def read_vocabulary(path: str | Path) -> tuple[Tokenizer, int] | None:
    """Read the tokenizer of a trained model, and the number of token ids that the model knows.

    Args:
        path: as for :func:`load_run`.

    Returns:
        Tokenizer and number, or None if the model was trained on data without a tokenizer.

    Raises:
        InputError: if there is no model at ``path``, or it is damaged.
    """
    if (export := find_exported(path)) is not None:
        return read_pretrained_vocabulary(export)
    file = find_checkpoint(path)
    stored = read_checkpoint(file)[KEY]
    if "tokenizer" not in stored:
        return None
    tokenizer, config = tokenizer_from_json(stored["tokenizer"]), _stored_config(stored, file)
    check_vocabulary(tokenizer, config.vocab_size, file)
    return tokenizer, config.vocab_size


def load_run(path: str | Path, encoder: type[ConceptEncoder] = ConceptEncoder) -> tuple[NextConceptModel, Tokenizer]:
    """Load a trained model and its tokenizer.

    Args:
        path: a checkpoint, the folder of a run, a folder of runs (the newest counts), an exported
            folder, the name of a packaged model (``star-graph``), or the name OWNER/NAME of a
            repository on the Hugging Face Hub that holds an export. What exists under that name in
            the working directory wins over a packaged model.
        encoder: class of the concept encoder, if the model was trained with one of your own.

    Returns:
        The model, in eval mode and on the CPU, and the tokenizer.

    Raises:
        InputError: if there is no model at ``path``, another version made it, it has another
            encoder, does not write without the objective it was trained with, does not know all
            tokens of its tokenizer, or its weights are not finite.
    """
    if (export := find_exported(path)) is not None:
        return load_pretrained(export, encoder)
    file = find_checkpoint(path)
    checkpoint = read_checkpoint(file)
    if "tokenizer" not in checkpoint[KEY] and "config" in checkpoint[KEY]:
        raise InputError(
            f"{file} has no tokenizer, because its run had no ConceptDataModule, or one whose tokenizer can't be "
            "stored: load its module with ConceptModule.load_from_checkpoint, and write with "
            "nextconcept.Writer(module.model, tokenizer)."
        )
    objective = checkpoint[KEY].get(OBJECTIVE, {})
    if not objective.get("writes_alone", True):
        raise InputError(
            f"the model in {file} was trained with {objective.get('name', 'an objective')} and does not write one "
            "token after another: measure it with nextconcept validate or test."
        )
    try:
        stored = checkpoint[KEY]
        config = _stored_config(stored, file)
        check_encoder(config, encoder, file)
        model = NextConceptModel(config, encoder)
        tokenizer = tokenizer_from_json(stored["tokenizer"])
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{file} is damaged: its configuration can't be read.") from None
    prefix = "model."
    weights = {
        name[len(prefix) :]: value for name, value in checkpoint["state_dict"].items() if name.startswith(prefix)
    }
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise InputError(
            f"the weights in {file} do not fit its configuration: it was made by another version."
        ) from None
    check_weights(model, file)
    check_vocabulary(tokenizer, model.config.vocab_size, file)
    return model.eval(), tokenizer
