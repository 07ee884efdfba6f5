"""Exported models: a folder of safetensors, configuration, tokenizer and card; the Hub."""

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from nextconcept.checkpoints.model_card import model_card
from nextconcept.checkpoints.stored_model import StoredModel
from nextconcept.core.errors import InputError
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.model import NextConceptModel

__all__ = ["Export", "download_pretrained", "is_export", "is_repository_name", "save_pretrained"]

WEIGHTS, CONFIG, TOKENIZER, CARD = "model.safetensors", "config.json", "tokenizer.json", "README.md"
"""The files of an export."""

TASK_FILE = "task.json"
"""The file of an export with class and settings of its planning task, if it was trained on one."""


def is_export(path: str | Path) -> bool:
    """Return whether ``path`` is a folder that :func:`save_pretrained` wrote."""
    return (Path(path) / WEIGHTS).is_file()


def is_repository_name(path: str | Path) -> bool:
    """Return whether ``path`` has the form OWNER/NAME of a repository, and nothing lies there."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) is not None and not Path(path).exists()


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
            :meth:`.StoredModel.record` returns.
        task: class and settings of the planning task that the model was trained on, as
            :meth:`.StoredModel.task` returns them.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model_card(model.config, model.num_parameters, record or {}).save(folder / CARD)
    model.save_pretrained(folder)  # the Hub mixin keeps the card that is already there
    (folder / TOKENIZER).write_text(tokenizer.to_json(), encoding="utf-8")
    if task is not None:
        (folder / TASK_FILE).write_text(json.dumps(task, indent=2), encoding="utf-8")


class Export(StoredModel):
    """A model in a folder that :func:`save_pretrained` wrote."""

    def task(self) -> dict[str, Any] | None:
        """Read class and settings of the task; see :meth:`.StoredModel.task`."""
        file = self.path / TASK_FILE
        try:
            task = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        except (OSError, ValueError, RecursionError):
            task = []
        if task is not None and not isinstance(task, dict):
            raise InputError(f"{file} can't be read: export the model again, or remove the file.")
        return task

    def _model(self, encoder: type[ConceptEncoder]) -> NextConceptModel:
        # The Hub mixin prints where our output belongs.
        with self._own_errors(), contextlib.redirect_stdout(io.StringIO()):
            return NextConceptModel.from_pretrained(self.path, encoder=encoder)

    def _stored_config(self) -> Any:
        config = json.loads((self.path / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"its {CONFIG} is no mapping of settings")
        return config

    def _stored_tokenizer(self) -> str:
        return (self.path / TOKENIZER).read_text(encoding="utf-8")

    def _unreadable(self, error: Exception) -> InputError:
        if isinstance(error, FileNotFoundError) and (self.path / CONFIG).is_file():
            return InputError(
                f"{self.path} has a model without {TOKENIZER}, as save_pretrained and push_to_hub write it: load it "
                "with NextConceptModel.from_pretrained, or write the folder with nextconcept export."
            )
        reason, *_ = str(error).split("\n")
        return InputError(f"{self.path} is not an exported model: {reason}.")


def download_pretrained(repository: str) -> Path:
    """Download an exported model from the Hugging Face Hub, unless the local cache holds it.

    Args:
        repository: OWNER/NAME.

    Returns:
        The folder in the local cache, of an :class:`Export`.

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
