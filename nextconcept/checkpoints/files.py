"""Runs on disk: find a checkpoint, check it, load model and tokenizer from it."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from nextconcept.checkpoints.hub import Export, download_pretrained, is_repository_name
from nextconcept.checkpoints.model_card import RECORD
from nextconcept.checkpoints.packaged import local_export, packaged_models
from nextconcept.checkpoints.stored_model import StoredModel
from nextconcept.core.errors import InputError
from nextconcept.core.suggestions import closest
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.model import NextConceptModel

__all__ = [
    "COMPUTE",
    "KEY",
    "OBJECTIVE",
    "TASK",
    "StoredRun",
    "fetch_export",
    "find_checkpoint",
    "find_model",
    "load_run",
    "read_checkpoint",
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
        path: a ``.ckpt`` file, the folder of a run, or a folder of runs or of such folders (the
            run that wrote a checkpoint last counts).
        names: file names of checkpoints in a run, the preferred one first: evaluation prefers the
            best checkpoint, resuming the last.

    Returns:
        The path of the file.

    Raises:
        InputError: if there is none.
    """
    if local_export(path) is not None:
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
    folders = [path, path / "checkpoints", *path.glob("*/checkpoints"), *path.glob("*/*/checkpoints")]
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
    if not all(isinstance(part, dict) for part in groups):
        return False
    if COMPUTE in checkpoint and not {"flops", "tokens"} <= compute.keys():
        return False
    if not _whole_loops(checkpoint.get("loops", {})):
        return False
    states = [checkpoint.get(name, []) for name in ("optimizer_states", "lr_schedulers")]
    if not all(isinstance(some, list) and all(isinstance(one, dict) for one in some) for some in states):
        return False
    moments = [one.get("state") for one in states[0]]
    if not all(isinstance(some, dict) and all(isinstance(one, dict) for one in some.values()) for some in moments):
        return False
    if "optimizer_states" in checkpoint and not {"global_step", "loops", "lr_schedulers"} <= checkpoint.keys():
        return False
    objective, record = stored.get(OBJECTIVE, {}), stored.get(RECORD, {})
    if not isinstance(objective, dict) or not isinstance(record, dict):
        return False
    named = all(isinstance(name, str) for name in weights) and isinstance(objective.get("name", ""), str)
    measured, spent = record.get("measured", {}), [compute.get(name, 0) for name in ("flops", "tokens")]
    steps = [checkpoint.get(name, 0) for name in ("global_step", "nextconcept_seed", "nextconcept_first_step")]
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


class StoredRun(StoredModel):
    """A run, as one of its checkpoints holds it; the file is read once."""

    @cached_property
    def checkpoint(self) -> dict[str, Any]:
        """Content of the file, as :func:`read_checkpoint` returns it."""
        return read_checkpoint(self.path)

    def task(self) -> dict[str, Any] | None:
        """Return class and settings of the task; see :meth:`.StoredModel.task`."""
        task = self.checkpoint[KEY].get(TASK)
        if task is not None and not isinstance(task, dict):
            raise InputError(f"{self.path} is damaged: its record of a task can't be read.")
        return task

    def record(self) -> dict[str, Any]:
        """Return what a model card reports of the run.

        Returns:
            ``data`` (the settings of the data), ``measured`` (metrics of the last validation, with
            their ``step`` and ``batches``), ``version``, and ``spent`` (what the training took).
        """
        spent = {"optimizer steps": self.checkpoint["global_step"]} if "global_step" in self.checkpoint else {}
        for name, key in (("tokens seen", "tokens"), ("training FLOPs", "flops")):
            if key in self.checkpoint.get(COMPUTE, {}):
                spent[name] = f"{self.checkpoint[COMPUTE][key]:.3g}"
        record: dict[str, Any] = self.checkpoint[KEY].get(RECORD, {})
        if "version" in record:
            spent["nextconcept"] = record["version"]
        return record | {"spent": spent}

    def _model(self, encoder: type[ConceptEncoder]) -> NextConceptModel:
        objective = self.checkpoint[KEY].get(OBJECTIVE, {})
        if not objective.get("writes_alone", True):
            raise InputError(
                f"the model in {self.path} was trained with {objective.get('name', 'an objective')} and does not write "
                "one token after another: measure it with nextconcept validate or test."
            )
        model, prefix, stored = NextConceptModel(self.config(encoder), encoder), "model.", self.checkpoint["state_dict"]
        try:
            model.load_state_dict({key.removeprefix(prefix): stored[key] for key in stored if key.startswith(prefix)})
        except RuntimeError:
            raise InputError(
                f"the weights in {self.path} do not fit its configuration: it was made by another version."
            ) from None
        return model

    def _stored_config(self) -> Any:
        return self.checkpoint[KEY]["config"]

    def _stored_tokenizer(self) -> Any:
        return self.checkpoint[KEY].get("tokenizer")

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"{self.path} is damaged: its configuration can't be read.")


def fetch_export(path: str | Path) -> Export | None:
    """Return the exported model at ``path``, downloaded if need be; None for a run.

    Args:
        path: as for :func:`load_run`.

    Raises:
        InputError: if ``path`` names a repository that can't be downloaded.
    """
    return local_export(download_pretrained(str(path)) if is_repository_name(path) else path)


def find_model(path: str | Path) -> StoredModel:
    """Find a trained model.

    Args:
        path: as for :func:`load_run`.

    Raises:
        InputError: if there is no model at ``path``.
    """
    return fetch_export(path) or StoredRun(find_checkpoint(path))


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
        InputError: if there is no model at ``path``, or :meth:`.StoredModel.load` refuses it.
    """
    return find_model(path).load(encoder)
