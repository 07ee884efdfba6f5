"""The checkpoint to resume from."""

import os
import signal
import threading
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from nextconcept.checkpoints.atomic import AtomicCheckpointIO
from nextconcept.core.errors import InputError
from nextconcept.training.lightning_compat import accumulates, may_save, save, stops_early, validates_next

__all__ = ["LastCheckpoint"]


class LastCheckpoint(ModelCheckpoint):
    """Writes ``last.ckpt`` at validations, every so many steps, at the end, on SIGTERM and Ctrl-C.

    A checkpoint holds no gradients. While gradients accumulate, saving waits for the next optimizer
    step, so that a resumed run equals an uninterrupted one; only a training that ends in between is
    saved at once.

    On SIGTERM or SIGINT (Ctrl-C): finish the current step or validation, save, exit with code 143
    or 130. All processes stop at the same step, whichever got the signal. A second SIGINT raises
    ``KeyboardInterrupt`` at once, without saving; where SIGINT is ignored or has a handler of the
    host program's own, it stays so. (Lightning's handler of SIGTERM, which this one replaces during
    training, communicates with other processes from inside the signal handler and may deadlock;
    Lightning issue 20806.)

    ``ModelCheckpoint(save_last=True)`` would follow the best checkpoint instead, and skip
    validations that did not improve on it.

    Args:
        every_n_train_steps: also save after each multiple of this many optimizer steps; 0: do not.

    Raises:
        InputError: if that is negative.
    """

    def __init__(self, every_n_train_steps: int = 0) -> None:
        if every_n_train_steps < 0:
            raise InputError(f"last.every_n_train_steps must be 0 or more, not {every_n_train_steps}.")
        super().__init__(filename="last", enable_version_counter=False, save_on_train_epoch_end=False)
        self.every_n_steps = every_n_train_steps
        self._signal = self._interrupts = 0
        self._stopping = self._postponed = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the signals of an earlier fit."""
        super().on_fit_start(trainer, pl_module)
        self._signal = self._interrupts = 0
        self._stopping = self._postponed = False

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Install the signal handler, after Lightning has installed its own."""
        self._listen(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Install the signal handler, for runs without a sanity check."""
        super().on_train_start(trainer, pl_module)
        self._listen(trainer)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Commit the checkpoint of the step before, and stop if a process was signalled.

        Raises:
            SIGTERMException: to end training.
        """
        self._commit(trainer)
        if self._stopping:
            # The code is not 0, so that the run does not pass for finished. Processes that
            # Lightning started exit with 0, because Lightning kills the whole run where one of them
            # fails.
            raise SIGTERMException(128 + (self._signal or signal.SIGTERM) if trainer.is_global_zero else 0)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if a checkpoint is due, once per optimizer step."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if validates_next(trainer):
            return  # Validation saves: a run resumed from a checkpoint made here would skip that validation.
        due = self._ends(trainer)
        if not accumulates(trainer):
            step = trainer.global_step
            due |= self._postponed or step == trainer.max_steps
            due |= self.every_n_steps > 0 and step % self.every_n_steps == 0
            due |= self._stops(trainer)
        if due and may_save(self, trainer):
            writer = trainer.strategy.checkpoint_io
            if isinstance(writer, AtomicCheckpointIO):
                writer.deferred = True  # until Lightning, after this hook, has logged the step
            self._postponed = False
            save(self, trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Commit the checkpoint of the step before."""
        self._commit(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save after what validation has logged."""
        _flush(trainer)
        if accumulates(trainer) and not self._ends(trainer):
            self._postponed = True
            return
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking:
            self._stops(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save what training has changed since the last checkpoint."""
        super().on_train_end(trainer, pl_module)
        self._commit(trainer)
        if may_save(self, trainer):
            _flush(trainer)
            save(self, trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Commit the checkpoint of the last complete step."""
        super().on_exception(trainer, pl_module, exception)
        self._commit(trainer)

    def _listen(self, trainer: L.Trainer) -> None:
        def note(signum: int, *_: Any) -> None:
            """Note the signal; a second interrupt stops at once."""
            self._interrupts += signum == signal.SIGINT
            if self._interrupts > 1:
                raise KeyboardInterrupt
            if not self._signal and trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(signal.SIGTERM)  # the processes that this one has started
            self._signal = self._signal or signum
            if signum == signal.SIGINT and trainer.is_global_zero:
                # A handler may run in the midst of a print, which Python's buffers don't allow.
                os.write(2, b"\nnextconcept: finishing this step, then saving; Ctrl-C again stops at once.\n")

        if threading.current_thread() is threading.main_thread():  # the only one that may set handlers
            signal.signal(signal.SIGTERM, note)
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, note)

    @staticmethod
    def _ends(trainer: L.Trainer) -> bool:
        """Whether training ends after this batch for another reason than its number of steps."""
        bounded = trainer.max_epochs is not None and trainer.max_epochs >= 0
        last_epoch = bounded and trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
        return stops_early(trainer) or (last_epoch and trainer.is_last_batch)

    def _stops(self, trainer: L.Trainer) -> bool:
        """Whether any process was signalled; a collective call."""
        self._stopping = trainer.strategy.reduce_boolean_decision(bool(self._signal), all=False)
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
