"""A progress bar that counts tokens."""

import time
from typing import Any

import lightning as L

from nextconcept.training.batches import as_concept_batch
from nextconcept.training.lightning_compat import TokenProgressBar, shows_step
from nextconcept.training.module import ConceptModule

__all__ = ["ConceptProgressBar"]


class ConceptProgressBar(TokenProgressBar):
    """Lightning's rich progress bar, with the loss in nats per token and tokens per second.

    The rate is that of all processes together, with the time in which they wait for data and
    without validation; it is also logged, as ``train/tokens_per_second``. On a GPU the loss is that
    of the last step that loggers show, because reading it has to wait for the step.
    """

    def __init__(self) -> None:
        super().__init__(leave=True)
        self._rate = 0.0
        self._started = 0.0
        self._loss: float | None = None

    @property
    def total_train_batches(self) -> int | float:
        """Batches of this epoch, with those before a resumption."""
        trainer, done = self.trainer, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if trainer.max_steps < 0:
            return trainer.num_training_batches
        remaining = (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
        return min(trainer.num_training_batches, done + remaining)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._started = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock anew."""
        super().on_validation_end(trainer, pl_module)
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the moving average of the rate."""
        tokens = as_concept_batch(batch).tokens[:, 1:].numel() * trainer.world_size
        now = time.perf_counter()
        rate, self._started = tokens / max(now - self._started, 1e-9), now
        self._rate = rate if self._rate == 0 else 0.9 * self._rate + 0.1 * rate
        # Not by log(), which takes Lightning longer than all else that this method does.
        shown = shows_step(trainer)
        if isinstance(pl_module, ConceptModule) and (shown or self._loss is None or pl_module.device.type == "cpu"):
            loss = pl_module.named_losses().get("cross-entropy of tokens")
            self._loss = None if loss is None else float(loss)
        if shown:
            pl_module.log("train/tokens_per_second", self._rate)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Return loss and rate."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if self._loss is not None:
            metrics["loss"] = self._loss
        return metrics | {"tokens/s": f"{self._rate:,.0f}"}
