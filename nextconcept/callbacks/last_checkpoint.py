"""The checkpoint to go on from."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from nextconcept.atomic_checkpoint import AtomicCheckpointIO

__all__ = ["LastCheckpoint"]


class LastCheckpoint(ModelCheckpoint):
    """Keeps ``last.ckpt``: written at each validation, every so many steps if asked for, at the last step, and on SIGTERM.

    SIGTERM during a validation leaves the checkpoint before, so that the whole of it is made again, and so may SIGTERM between two steps of
    several processes. Of accumulated gradients those of an unfinished step are lost.

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
        step, loop = trainer.global_step, trainer.fit_loop.epoch_loop
        due = step == trainer.max_steps or (self.every_n_steps > 0 and step % self.every_n_steps == 0)
        # Where validation follows, it saves: a run that went on from here would not make up for it.
        fetcher = trainer.fit_loop._data_fetcher
        due = due and not (fetcher is not None and loop._should_check_val_fx(fetcher))
        # Saving is collective, and the signal may not have reached every process yet.
        due |= trainer.strategy.reduce_boolean_decision(trainer.received_sigterm, all=False)
        if due and step != self._last_global_step_saved and not trainer.sanity_checking:
            writer = trainer.strategy.checkpoint_io
            if isinstance(writer, AtomicCheckpointIO):
                writer.deferred = True  # until this step is in the curves, which Lightning writes after this hook
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Let the checkpoint of the step before count."""
        self._commit(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The same."""
        self._commit(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, behind what validation has logged."""
        _flush(trainer)
        super().on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The same as for a batch."""
        super().on_train_end(trainer, pl_module)
        self._commit(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """The same; and save a step that ended without, because SIGTERM came after its turn to save."""
        super().on_exception(trainer, pl_module, exception)
        missed = isinstance(exception, SIGTERMException) and trainer.global_step != self._last_global_step_saved
        # Several processes need not have stopped at the same step; and a validation that is cut short has to be made again.
        if missed and trainer.world_size == 1 and trainer.training:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
        self._commit(trainer)

    def _commit(self, trainer: L.Trainer) -> None:
        writer = trainer.strategy.checkpoint_io
        if isinstance(writer, AtomicCheckpointIO) and writer.deferred:
            _flush(trainer)
            writer.commit()
            writer.deferred = False


def _flush(trainer: L.Trainer) -> None:
    for logger in trainer.loggers:
        logger.save()
