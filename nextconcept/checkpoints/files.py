"""Runs on disk: find a checkpoint, check it, load model and tokenizer out of it."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from nextconcept.checkpoints.model_card import RECORD, model_card
from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.data.tokenizers import Tokenizer, tokenizer_from_json
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.model import NextConceptModel

__all__ = ["find_checkpoint", "load_pretrained", "load_run", "read_checkpoint", "read_record", "save_pretrained"]

COMPUTE = "nextconcept_compute"
"""Where :class:`~nextconcept.training.callbacks.ComputeBudget` keeps what was spent in a Lightning checkpoint."""

KEY = "nextconcept"
"""Where :class:`~nextconcept.training.callbacks.StoreModelMetadata` keeps configuration and tokenizer in a Lightning checkpoint."""


def find_checkpoint(path: str | Path, names: tuple[str, ...] = ("best.ckpt", "last.ckpt")) -> Path:
    """The checkpoint that ``path`` means.

    Args:
        path: a ``.ckpt`` file; a run's folder; or a folder of runs (the newest).
        names: of the checkpoint in a run, the preferred one first.

    Raises:
        InputError: if there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(f"there is no checkpoint or run at {path}: give a .ckpt file or the folder of a run.")
    for name in names:
        found = [*path.glob(name), *path.glob(f"checkpoints/{name}"), *path.glob(f"version_*/checkpoints/{name}")]
        if found:
            return max(found, key=lambda candidate: candidate.stat().st_mtime)
    raise InputError(f"{path} holds no {' or '.join(names)}: give a .ckpt file or the folder of a run.")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a Lightning checkpoint of this project, loaded with ``weights_only``.

    Raises:
        InputError: if the file is not one.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # what a damaged file makes the unpickler stumble over has no end
        checkpoint = None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint or KEY not in checkpoint:
        raise InputError(
            f"{path} is not a checkpoint of nextconcept: give the .ckpt file of a run made with nextconcept fit."
        )
    return checkpoint


def read_record(path: str | Path) -> dict[str, Any]:
    """What a run's checkpoint tells for a card: ``data``, ``measured``, and ``spent`` by the training up to it.

    Raises:
        InputError: if there is no checkpoint at ``path``.
    """
    checkpoint = read_checkpoint(find_checkpoint(path))
    spent = {"optimizer steps": checkpoint["global_step"]}
    for name, key in (("tokens seen", "tokens"), ("training FLOPs", "flops")):
        if key in checkpoint.get(COMPUTE, {}):
            spent[name] = f"{checkpoint[COMPUTE][key]:.3g}"
    record: dict[str, Any] = checkpoint[KEY].get(RECORD, {})
    if "version" in record:
        spent["nextconcept"] = record["version"]
    return record | {"spent": spent}


def load_run(path: str | Path, encoder: type[ConceptEncoder] = ConceptEncoder) -> tuple[NextConceptModel, Tokenizer]:
    """Model (in eval mode, on the CPU) and tokenizer of a run, a checkpoint, or a folder made by ``nextconcept export``.

    Args:
        path: of a run, a checkpoint or an exported folder.
        encoder: class of the concept encoder, if the model was trained with one of your own.

    Raises:
        InputError: if there is none at ``path``, or its encoder is another.
    """
    if (Path(path) / "model.safetensors").is_file():
        return load_pretrained(Path(path), encoder)
    file = find_checkpoint(path)
    checkpoint = read_checkpoint(file)
    try:
        stored = checkpoint[KEY]
        model = NextConceptModel(ModelConfig.from_dict(stored["config"]), encoder)
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
    return model.eval(), tokenizer


def save_pretrained(
    model: NextConceptModel, tokenizer: Tokenizer, folder: Path, record: dict[str, Any] | None = None
) -> None:
    """Write ``model.safetensors``, ``config.json``, ``tokenizer.json`` and a card, ``README.md``, into ``folder``.

    ``record`` is what the card tells of data, training and metrics; see :mod:`nextconcept.checkpoints.model_card`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    model_card(model.config, parameters, record or {}).save(folder / "README.md")
    model.save_pretrained(folder)  # which leaves a card alone that is there
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")


def load_pretrained(folder: Path, encoder: type[ConceptEncoder] = ConceptEncoder) -> tuple[NextConceptModel, Tokenizer]:
    """Read what :func:`save_pretrained` wrote.

    Raises:
        InputError: if a file is missing or broken.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the Hub mixin announces itself where our output belongs
            model = NextConceptModel.from_pretrained(folder, encoder=encoder)
        return model.eval(), tokenizer_from_json((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except InputError as error:
        raise InputError(f"{folder} can't be used: {error}") from None
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"{folder} is not an exported model: {reason}.") from None
