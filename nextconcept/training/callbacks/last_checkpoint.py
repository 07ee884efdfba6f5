"""The checkpoint to go on from."""

import signal
import threading
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from nextconcept.checkpoints.atomic import AtomicCheckpointIO

__all__ = ["LastCheckpoint"]


class LastCheckpoint(ModelCheckpoint):
    """Keeps ``last.ckpt``: written at each validation, every so many steps if asked for, at the last step, and on SIGTERM.

    SIGTERM stops training behind the step, or the validation, that it finds going on, once that is saved: on every process behind the same
    one, whichever got the signal. The first process then exits with code 143, as shells report the signal. (Lightning's own handler, whose
    place this takes while training lasts, talks to the other processes from inside the signal, and they wait for each other for ever; its
    issue 20806.)

    ``ModelCheckpoint(save_last=True)`` would follow the best checkpoint instead, and skip the steps that did not improve on it.

    Args:
        every_n_train_steps: also save after each multiple of this many optimizer steps; 0: at validations only.
    """

    def __init__(self, every_n_train_steps: int = 0) -> None:
        super().__init__(filename="last", enable_version_counter=False, save_on_train_epoch_end=False)
        self.every_n_steps = every_n_train_steps
        self._signalled = self._stopping = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the signals of a training before this one."""
        super().on_fit_start(trainer, pl_module)
        self._signalled = self._stopping = False

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen for SIGTERM: by now Lightning has set its handler."""
        self._listen(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The same."""
        super().on_train_start(trainer, pl_module)
        self._listen(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is due, once per optimizer step."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        step, loop = trainer.global_step, trainer.fit_loop.epoch_loop
        due = step == trainer.max_steps or (self.every_n_steps > 0 and step % self.every_n_steps == 0)
        # Where validation follows, it saves: a run that went on from here would not make up for it.
        fetcher = trainer.fit_loop._data_fetcher
        validated = fetcher is not None and loop._should_check_val_fx(fetcher)
        due = due and not validated
        if not validated and not loop._should_accumulate():
            due |= self._stops(trainer)
        if due and step != self._last_global_step_saved and not trainer.sanity_checking:
            writer = trainer.strategy.checkpoint_io
            if isinstance(writer, AtomicCheckpointIO):
                writer.deferred = True  # until this step is in the curves, which Lightning writes after this hook
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Let the checkpoint of the step before count; and stop, if it was the last one."""
        self._commit(trainer)
        if self._stopping:
            # Not 0, so that nobody takes the run for finished; but Lightning kills the whole run where a process that it started fails.
            raise SIGTERMException(128 + signal.SIGTERM if trainer.is_global_zero else 0)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The same."""
        self._commit(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, behind what validation has logged."""
        _flush(trainer)
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking:
            self._stops(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The same as for a batch."""
        super().on_train_end(trainer, pl_module)
        self._commit(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """The same."""
        super().on_exception(trainer, pl_module, exception)
        self._commit(trainer)

    def _listen(self, trainer: L.Trainer) -> None:
        def note(*_: Any) -> None:
            if not self._signalled and trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(signal.SIGTERM)  # the processes that this one has started
            self._signalled = True

        if threading.current_thread() is threading.main_thread():  # no other may
            signal.signal(signal.SIGTERM, note)

    def _stops(self, trainer: L.Trainer) -> bool:
        """Whether any process was signalled; a collective call."""
        self._stopping = trainer.strategy.reduce_boolean_decision(self._signalled, all=False)
        return self._stopping

    def _commit(self, trainer: L.Trainer) -> None:
        writer = trainer.strategy.checkpoint_io
        if isinstance(writer, AtomicCheckpointIO) and writer.deferred:
            _flush(trainer)
            writer.commit()
            writer.deferred = False


def _flush(trainer: L.Trainer) -> None:
    for logger in trainer.loggers:
        logger.save()
