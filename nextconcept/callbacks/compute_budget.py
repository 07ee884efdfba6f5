"""Training to a budget of compute rather than of steps."""

import math

import lightning as L

from nextconcept.errors import InputError

__all__ = ["ComputeBudget"]


class ComputeBudget(L.Callback):
    """Sets the number of steps so that a run spends a given amount, and logs what the model costs.

    Logged once, at step 0: ``model/parameters``, ``model/flops_per_token`` (forward, attention included) and ``model/flops_per_step``
    (training: three times the forward pass). On the command line: ``--budget.flops 2e15`` or ``--budget.tokens 1e8``.

    Args:
        flops: floating-point operations of the whole training.
        tokens: tokens of the whole training.

    Raises:
        InputError: if both are given, or one is not positive.
    """

    def __init__(self, flops: float | None = None, tokens: float | None = None) -> None:
        if flops is not None and tokens is not None:
            raise InputError("give the budget in flops or in tokens, not in both.")
        budget = tokens if flops is None else flops
        if budget is not None and budget <= 0:
            raise InputError(f"the budget must be positive, not {budget}.")
        self.flops, self.tokens = flops, tokens

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Count, and set the number of steps before the schedule asks for it."""
        if stage != "fit":
            return
        data, model = trainer.datamodule, pl_module.model
        tokens = data.batch_size * data.context * trainer.accumulate_grad_batches * trainer.world_size
        per_token = model.flops_per_token(data.context)
        self._costs = {
            "model/parameters": float(sum(parameter.numel() for parameter in model.parameters())),
            "model/flops_per_token": per_token,
            "model/flops_per_step": 3 * per_token * tokens,
        }
        spent, per_step = (self.flops, 3 * per_token * tokens) if self.flops is not None else (self.tokens, tokens)
        if spent is not None:
            trainer.fit_loop.epoch_loop.max_steps = max(1, math.ceil(spent / per_step))

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the costs."""
        for logger in trainer.loggers:
            logger.log_metrics(self._costs, step=0)
