"""Checkpoints that need nothing else to be used."""

from pathlib import Path
from typing import Any

import lightning as L

from nextconcept import __version__
from nextconcept.checkpoints.files import KEY
from nextconcept.checkpoints.model_card import RECORD
from nextconcept.training.callbacks.parts import data_of, module_of

__all__ = ["StoreModelMetadata"]


class StoreModelMetadata(L.Callback):
    """Stores configuration, tokenizer and what a model card tells in each checkpoint, and the tokenizer as ``tokenizer.json`` beside the
    run.

    :func:`nextconcept.checkpoints.files.load_run` reads them back.
    """

    def __init__(self) -> None:
        self._validated: dict[str, Any] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the tokenizer beside the run."""
        folder = trainer.log_dir  # a collective call: every process has to make it
        if folder is not None and trainer.is_global_zero and trainer.loggers:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / "tokenizer.json").write_text(data_of(trainer).tokenizer.to_json(), encoding="utf-8")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember what was measured."""
        if not trainer.sanity_checking:
            metrics = {
                name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")
            }
            batches = (
                trainer.num_val_batches if isinstance(trainer.num_val_batches, list) else [trainer.num_val_batches]
            )
            self._validated = {"step": trainer.global_step, "batches": sum(batches), "measured": metrics}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add them."""
        data = data_of(trainer)
        checkpoint[KEY] = {
            "config": module_of(pl_module).config.to_dict(),
            "tokenizer": data.tokenizer.to_json(),
            RECORD: {"data": data.describe(), "version": __version__, **self._validated},
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Recall what was measured last."""
        record = checkpoint.get(KEY, {}).get(RECORD, {})
        self._validated = {name: record[name] for name in ("step", "batches", "measured") if name in record}
