"""The checkpoint to go on from."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

__all__ = ["LastCheckpoint"]


class LastCheckpoint(ModelCheckpoint):
    """Keeps ``last.ckpt``: written at each validation, every so many steps if asked for, at the last step, and on SIGTERM.

    ``ModelCheckpoint(save_last=True)`` would follow the best checkpoint instead, and skip the steps that did not improve on it.

    Args:
        every_n_train_steps: also save after each multiple of this many optimizer steps; 0: at validations only.
    """

    def __init__(self, every_n_train_steps: int = 0) -> None:
        super().__init__(filename="last", enable_version_counter=False, save_on_train_epoch_end=False)
        self.every_n_steps = every_n_train_steps

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is due, once per optimizer step."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        step = trainer.global_step
        due = step == trainer.max_steps or (self.every_n_steps > 0 and step % self.every_n_steps == 0)
        # Saving is collective, and the signal may not have reached every process yet.
        due |= trainer.strategy.reduce_boolean_decision(trainer.received_sigterm, all=False)
        if due and step != self._last_global_step_saved and not trainer.sanity_checking:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
