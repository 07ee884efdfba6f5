"""Concept levels that are trained one after another."""

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from nextconcept.core.errors import InputError
from nextconcept.training.access import module_of
from nextconcept.training.sharding import full_tensor

__all__ = ["LevelCurriculum"]


class LevelCurriculum(L.Callback):
    """Delays the loss and the gates of concept levels.

    Before step ``start[l]`` level l has no concept loss, and no level reads its plan. Weights that
    it alone uses stay as they are; of matrices that levels share, its part loses what weight decay
    takes. From then on its loss weight rises linearly over ``ramp`` steps, and the gates that read
    its plan take effect. For instance, level 1 at once and level 2 after 1,000 steps:

    .. code-block:: yaml

        trainer:
          callbacks+:
            - class_path: nextconcept.training.callbacks.LevelCurriculum
              init_args: {start: [0, 1000], ramp: 200}

    Args:
        start: optimizer step at which each concept level begins, level 1 first.
        ramp: optimizer steps until the loss has its full weight.

    Raises:
        InputError: if a number is negative or, when training starts, if the model has another
            number of concept levels, or no gates.
    """

    def __init__(self, start: list[int], ramp: int = 0) -> None:
        if not (isinstance(start, list) and all(type(step) is int and step >= 0 for step in [*start, ramp])):
            raise InputError(
                f"a curriculum takes a list of steps and a ramp, whole numbers of 0 or more, not start {start!r} and "
                f"ramp {ramp!r}."
            )
        self.start, self.ramp = start, ramp
        self._unused = list[tuple[nn.Parameter, Tensor]]()  # without a gradient, and their values before the step

    def factor(self, level: int, step: int) -> float:
        """Return the factor on the loss weight of ``level`` at an optimizer step, 0 to 1."""
        since = step - self.start[level - 1]
        return 0.0 if since < 0 else min(1.0, (since + 1) / (self.ramp + 1))

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check that every concept level has a start, and gates that keep it out until then."""
        levels = module_of(pl_module).config.levels - 1
        if len(self.start) != levels:
            raise InputError(f"the curriculum has {len(self.start)} starts for {levels} concept levels: {self.start}.")
        if any(self.start) and not module_of(pl_module).config.reader.gated:
            raise InputError(
                "levels can't begin later in a model with reader.gated: false, whose checkpoints would read plans that "
                "training does not read yet: set it to true, or start all levels at 0."
            )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the factors, which depend on the step alone, so that a resumed run has the same."""
        module = module_of(pl_module)
        levels = module.config.hierarchy.concept_levels
        module.set_level_factors({level: self.factor(level, trainer.global_step) for level in levels})

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Remember weights that no active level uses, which the optimizer would let decay."""
        module = module_of(pl_module)
        if all(module.level_factors().values()):
            return
        trained = [(weight, weight.grad) for weight in module.parameters() if weight.grad is not None]
        used = torch.stack([full_tensor(gradient).any() for _, gradient in trained]).tolist()
        self._unused = [
            (weight, weight.detach().clone()) for (weight, _), use in zip(trained, used, strict=True) if not use
        ]

    @torch.no_grad()
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Bring back the weights that no active level uses."""
        for weight, before in self._unused:
            weight.copy_(before)
        self._unused = []

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give all levels their full weight back; gates that no step has opened are still zero."""
        module = module_of(pl_module)
        module.set_level_factors(dict.fromkeys(module.config.hierarchy.concept_levels, 1.0))

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give all levels their full weight back where a fit is broken off."""
        self.on_train_batch_end(trainer, pl_module)  # or the next fit would get these weights
        self.on_fit_end(trainer, pl_module)
