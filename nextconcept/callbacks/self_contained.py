"""Checkpoints that need nothing else to be used."""

from pathlib import Path
from typing import Any

import lightning as L

from nextconcept.callbacks.parts import data_of, module_of
from nextconcept.checkpoint import KEY

__all__ = ["SelfContained"]


class SelfContained(L.Callback):
    """Stores configuration and tokenizer in each checkpoint, and the tokenizer as ``tokenizer.json`` beside the run.

    :func:`nextconcept.checkpoint.load_run` reads them back.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the tokenizer beside the run."""
        folder = trainer.log_dir  # a collective call: every process has to make it
        if folder is not None and trainer.is_global_zero and trainer.loggers:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / "tokenizer.json").write_text(data_of(trainer).tokenizer.to_json(), encoding="utf-8")

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add configuration and tokenizer."""
        checkpoint[KEY] = {
            "config": module_of(pl_module).config.to_dict(),
            "tokenizer": data_of(trainer).tokenizer.to_json(),
        }
