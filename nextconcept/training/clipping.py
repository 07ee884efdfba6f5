"""Gradients that are measured once per step, for the curve, for clipping, and to stop at NaN."""

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor

from nextconcept.training.lightning_compat import attached_trainer, shows_step
from nextconcept.training.sharding import gradient_norm

__all__ = ["ClippedModule"]


class ClippedModule(L.LightningModule):
    """A LightningModule that computes the norm of its gradient at most once per step."""

    def __init__(self) -> None:
        super().__init__()
        self._measured: tuple[int, Tensor] | None = None

    def gradient_norm(self) -> Tensor:
        """Return the norm of the gradient before it is clipped, computed once in each batch.

        In a fit it is that of what the optimizers train.
        """
        if attached_trainer(self) is None:
            return gradient_norm(self.parameters())
        batch = self.trainer.fit_loop.total_batch_idx
        if self._measured is None or self._measured[0] != batch:
            trained = [one for optimizer in self.trainer.optimizers for one in _parameters(optimizer)]
            self._measured = batch, gradient_norm(trained)
        return self._measured[1]

    def on_before_zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
        """Forget the norm, which the batch of this number in another fit would take for its own."""
        self._measured = None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the norm of the gradient."""
        if shows_step(self.trainer):
            self.log("train/gradient_norm", self.gradient_norm())

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient; its norm is not computed again if one optimizer trains all of it."""
        whole = isinstance(self.trainer.strategy, (SingleDeviceStrategy, DDPStrategy))
        whole &= len(self.trainer.optimizers) == 1
        if gradient_clip_val and gradient_clip_algorithm in (None, "norm") and whole:
            torch.nn.utils.clip_grads_with_norm_(_parameters(optimizer), gradient_clip_val, self.gradient_norm())
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
