"""Training to a budget of compute rather than of steps."""

import math
from typing import Any

import lightning as L

from nextconcept.checkpoints.files import COMPUTE
from nextconcept.core.errors import InputError
from nextconcept.training.callbacks.parts import data_of, module_of
from nextconcept.training.losses import loss_flops_per_token

__all__ = ["ComputeBudget"]


class ComputeBudget(L.Callback):
    """Sets the number of steps so that a run spends a given amount, and logs what was spent.

    Logged once, at the first step: ``model/parameters``, ``model/flops_per_token`` (forward, attention included) and
    ``model/flops_per_step`` (training: three times the forward pass, and the concept losses); with every step, ``train/flops`` and
    ``train/tokens_seen``. A grown model's run counts what its smaller forms have spent. On the command line: ``--budget.flops 2e15`` or
    ``--budget.tokens 1e8``.

    Args:
        flops: floating-point operations of the whole training.
        tokens: tokens of the whole training.

    Raises:
        InputError: if both are given, one is not positive, or (when training starts) if it is spent already.
    """

    def __init__(self, flops: float | None = None, tokens: float | None = None) -> None:
        if flops is not None and tokens is not None:
            raise InputError("give the budget in flops or in tokens, not in both.")
        budget = tokens if flops is None else flops
        if budget is not None and budget <= 0:
            raise InputError(f"the budget must be positive, not {budget}.")
        self.flops, self.tokens = flops, tokens
        self._first_step, self._before = 0, {"flops": 0.0, "tokens": 0.0}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Count, and set the number of steps before the schedule asks for it."""
        if stage != "fit":
            return
        data, module = data_of(trainer), module_of(pl_module)
        model = module.model
        tokens = data.batch_size * data.context_length * trainer.accumulate_grad_batches * trainer.world_size
        per_token = model.flops_per_token(data.context_length)
        per_token_trained = 3 * per_token + loss_flops_per_token(module.loss, model, data.context_length)
        self._per_step = {"flops": per_token_trained * tokens, "tokens": float(tokens)}
        self._costs = {
            "model/parameters": float(sum(parameter.numel() for parameter in model.parameters())),
            "model/flops_per_token": per_token,
            "model/flops_per_step": self._per_step["flops"],
        }
        if module.start is not None and module.start.training is not None:
            training = module.start.training
            self._first_step, self._before = training.step, {"flops": training.flops, "tokens": training.tokens}
        self._limit(trainer)

    def _limit(self, trainer: L.Trainer) -> None:
        for kind, budget in (("flops", self.flops), ("tokens", self.tokens)):
            if budget is not None:
                rest = budget - self._before[kind]
                if rest <= 0:
                    raise InputError(
                        f"the budget of {budget:g} {kind} is spent: the model to go on from has taken {self._before[kind]:g}."
                    )
                trainer.fit_loop.epoch_loop.max_steps = self._first_step + math.ceil(rest / self._per_step[kind])

    def spent(self, step: int) -> dict[str, float]:
        """Flops and tokens of the training up to an optimizer step."""
        return {kind: self._before[kind] + (step - self._first_step) * cost for kind, cost in self._per_step.items()}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the costs, unless the run is resumed and has done so."""
        for logger in trainer.loggers if trainer.ckpt_path is None else ():
            logger.log_metrics(self._costs, step=self._first_step)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Log what was spent."""
        spent = self.spent(trainer.global_step)
        pl_module.log_dict({"train/flops": spent["flops"], "train/tokens_seen": spent["tokens"]})

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what was spent."""
        before = {"step": self._first_step, **self._before}
        checkpoint[COMPUTE] = {"before": before, **self.spent(trainer.global_step)}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        if trainer.state.fn == "fit" and COMPUTE in checkpoint:
            self._before = dict(checkpoint[COMPUTE]["before"])
            self._first_step = int(self._before.pop("step"))
            self._limit(trainer)
