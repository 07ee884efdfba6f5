"""Checkpoints that need no other file to be used."""

from pathlib import Path
from typing import Any

import lightning as L

from nextconcept import __version__
from nextconcept.checkpoints.complete_files import complete
from nextconcept.checkpoints.files import KEY, TASK
from nextconcept.checkpoints.model_card import RECORD
from nextconcept.training.access import data_of

__all__ = ["StoreModelMetadata"]


class StoreModelMetadata(L.Callback):
    """Stores the task and what a model card says in each checkpoint.

    The tokenizer becomes ``tokenizer.json`` beside the run. Configuration, tokenizer and objective
    are stored by the :class:`~nextconcept.ConceptModule` itself.
    """

    def __init__(self) -> None:
        self._validated: dict[str, Any] = {}
        self._tokenizer: str | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the tokenizer beside the run, and forget what an earlier run has measured."""
        if trainer.ckpt_path is None:
            self._validated, self._tokenizer = {}, None
        folder, data = trainer.log_dir, data_of(trainer)  # log_dir is a collective call
        if data is not None and folder is not None and trainer.is_global_zero and trainer.loggers:
            Path(folder).mkdir(parents=True, exist_ok=True)
            with complete(Path(folder) / "tokenizer.json") as partial:
                partial.write_text(data.tokenizer.to_json(), encoding="utf-8")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note what was measured."""
        if not trainer.sanity_checking:
            metrics = {
                name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")
            }
            batches = (
                trainer.num_val_batches if isinstance(trainer.num_val_batches, list) else [trainer.num_val_batches]
            )
            self._validated = {"step": trainer.global_step, "batches": sum(batches), "measured": metrics}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the metadata to the checkpoint."""
        data = data_of(trainer)
        record: dict[str, Any] = {"version": __version__, **self._validated}
        if data is not None:
            described = data.describe()
            # A resumed run reads with the tokenizer that it began with, whatever the data ask for.
            named = {"tokenizer": self._tokenizer} if self._tokenizer and "tokenizer" in described else {}
            record["data"] = described | named
        checkpoint[KEY] = checkpoint.get(KEY, {}) | {RECORD: record}
        if data is not None and (task := data.describe_task()) is not None:
            checkpoint[KEY][TASK] = task

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore what was measured last, and the name of the tokenizer."""
        record = checkpoint.get(KEY, {}).get(RECORD, {})
        self._tokenizer = record.get("data", {}).get("tokenizer")
        self._validated = {name: record[name] for name in ("step", "batches", "measured") if name in record}
