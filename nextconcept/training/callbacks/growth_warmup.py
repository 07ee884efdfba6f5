"""The first steps of a grown model, in which old and new weights may need different treatment."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.nn.growth import top_left
from nextconcept.training.access import module_of
from nextconcept.training.sharding import full_tensor, shard_like

__all__ = ["GrowthWarmup"]


class GrowthWarmup(L.Callback):
    """Freezes old blocks of a grown model, or warms up its new blocks; ignores other models.

    Old and new weights are blocks of the same matrices, so they can't have learning rates of their
    own in the optimizer. Instead this callback scales the changes that a step has made, block by
    block. On the command line: ``--grown.freeze_steps 100``.

    Args:
        freeze_steps: optimizer steps in which the old blocks do not change.
        warmup_steps: optimizer steps over which changes of the new blocks rise to their full size,
            on top of the warm-up of the learning rate.

    Raises:
        InputError: if a number is negative.
    """

    def __init__(self, freeze_steps: int = 0, warmup_steps: int = 0) -> None:
        if freeze_steps < 0 or warmup_steps < 0:
            raise InputError(f"freeze_steps {freeze_steps} and warmup_steps {warmup_steps} must be 0 or more.")
        self.freeze_steps, self.warmup_steps = freeze_steps, warmup_steps
        # Per old parameter, its shape before it grew.
        self.shapes: dict[str, list[int]] = {}
        self._before: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the shapes of the old blocks."""
        return {"shapes": self.shapes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the shapes of the old blocks."""
        self.shapes = state_dict["shapes"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the shapes of the old blocks from the grown model, unless the run is resumed."""
        if trainer.ckpt_path is None:
            start = module_of(pl_module).start
            self.shapes = {} if start is None or start.training is None else start.training.shapes

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Copy the weights before the step."""
        since = trainer.global_step - module_of(pl_module).first_step
        if self.shapes and since < max(self.freeze_steps, self.warmup_steps):
            self._before = {
                name: full_tensor(weight.detach()).clone()
                for name, weight in module_of(pl_module).model.named_parameters()
            }
            self._factors = float(since >= self.freeze_steps), min(1.0, (since + 1) / (self.warmup_steps + 1))

    @torch.no_grad()
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Scale the changes of the step."""
        if not self._before:
            return
        old, new = self._factors
        for name, weight in module_of(pl_module).model.named_parameters():
            before, after = self._before[name], full_tensor(weight)
            result = torch.lerp(before, after, new)
            if name in self.shapes:
                block = top_left(self.shapes[name])
                result[block] = torch.lerp(before[block], after[block], old)
            weight.copy_(shard_like(result, weight))
        self._before = {}
