"""Stopping a run before numbers that are not finite spoil its weights."""

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from nextconcept.core.errors import TrainingError
from nextconcept.data.windows import WindowLoader
from nextconcept.training.access import module_of

__all__ = ["FiniteGradients"]


class FiniteGradients(L.Callback):
    """Stops a run whose gradient is not finite, and reports step, terms of the loss, and windows.

    The check comes before the optimizer's step, so that weights and checkpoints stay good, and
    after gradients were averaged, so that all processes stop together. With ``16-mixed`` precision,
    whose scaling expects overflows of the gradient, only the loss counts.
    """

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Check the norm of the gradient.

        Raises:
            TrainingError: if the norm is not finite.
        """
        module, scaled = module_of(pl_module), trainer.precision == "16-mixed"
        if not scaled and module.gradient_norm().isfinite():
            return
        wrong = [name for name, value in module.named_losses().items() if not value.isfinite()]
        # Each process has losses of its own, but all have to take part in the norm and to stop.
        if scaled and not trainer.strategy.reduce_boolean_decision(bool(wrong), all=False):
            return
        if scaled and module.gradient_norm().isfinite():
            return
        callbacks = [one for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint)]
        saved = [callback.best_model_path for callback in callbacks if callback.best_model_path]
        named = f"{' and '.join(wrong)} {'are' if len(wrong) > 1 else 'is'}" if wrong else "the gradient is"
        raise TrainingError(
            f"training stopped at step {trainer.global_step}, on windows {self._windows(trainer)}: {named} not finite; "
            "the weights are those before this step, and "
            + (f"the last good checkpoint is {saved[-1]}." if saved else "no checkpoint was saved yet.")
        )

    def _windows(self, trainer: L.Trainer) -> str:
        if not isinstance(trainer.train_dataloader, WindowLoader):
            return "unknown"
        last, of_a_step = trainer.fit_loop.batch_idx, trainer.accumulate_grad_batches
        first, *_, end = (trainer.train_dataloader.windows_of_batch(at) for at in (last // of_a_step * of_a_step, last))
        return f"{first.start} to {end.stop - 1}"
