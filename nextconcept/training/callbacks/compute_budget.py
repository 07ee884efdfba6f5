"""Training to a budget of compute instead of a number of steps."""

import math
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.loggers import TensorBoardLogger

from nextconcept.checkpoints.files import COMPUTE
from nextconcept.core.errors import InputError
from nextconcept.training.access import data_of, module_of
from nextconcept.training.batches import as_concept_batch
from nextconcept.training.lightning_compat import shows_step
from nextconcept.training.losses import training_flops_per_token
from nextconcept.training.optim import optimizer_flops

__all__ = ["ComputeBudget"]


class ComputeBudget(L.Callback):
    """Sets the number of steps so that a run spends a given amount, and counts what it spends.

    Logged once, at the first step: ``model/parameters``, ``model/flops_per_token`` (forward pass
    with attention), ``model/optimizer_flops_per_step`` (the products of Muon, which no budget
    counts) and, with data of a :class:`~nextconcept.ConceptDataModule`, ``model/flops_per_step``
    (training: forward pass, losses and backward pass); with the steps that loggers show,
    ``train/flops`` and ``train/tokens_seen``. The tokens of each batch are counted, whatever its
    size; a grown model's run also counts what its smaller forms have spent. A budget takes the
    place of ``max_steps``. With ``accumulate_grad_batches``, the last step of an epoch may have
    fewer batches than the steps that the budget was divided into; the run then spends less. On the
    command line: ``--budget.flops 2e15`` or ``--budget.tokens 1e8``.

    Args:
        flops: floating-point operations of the whole training.
        tokens: tokens of the whole training.

    Raises:
        InputError: if both are given or one is not positive; when training starts, if the budget is
            spent already, if the data is not of a :class:`~nextconcept.ConceptDataModule`, or if a
            callback changes how many batches a step has.
    """

    def __init__(self, flops: float | None = None, tokens: float | None = None) -> None:
        if flops is not None and tokens is not None:
            raise InputError("give the budget in flops or in tokens, not in both.")
        budget = tokens if flops is None else flops
        if budget is not None and not 0 < budget < math.inf:
            raise InputError(f"the budget must be positive and finite, not {budget}.")
        self.flops, self.tokens = flops, tokens
        self._before = {"flops": 0.0, "tokens": 0.0}
        self._seen = 0  # tokens since then
        self.flops_per_token = 0.0
        self._tokens_per_step: int | None = None
        self._costs = dict[str, float]()
        self._planned = dict[str, Any]()  # the budget, what a step takes of it, and the last step

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Count the costs, and set the number of steps before the schedule asks for it."""
        if stage != "fit":
            return
        module, data = module_of(pl_module), data_of(trainer)
        model, time = module.model, module.config.window_length
        self._seen, self._before = 0, {"flops": 0.0, "tokens": 0.0}
        self.flops_per_token = training_flops_per_token(module.loss, model, time, module.objective)
        self._costs = {
            "model/parameters": float(model.num_parameters),
            "model/flops_per_token": model.flops_per_token(time),
            "model/optimizer_flops_per_step": optimizer_flops(module.optimizer_config, model, module.objective),
        }
        self._tokens_per_step = None
        if data is not None:
            self._tokens_per_step = data.batch_size * time * trainer.accumulate_grad_batches * trainer.world_size
            self._costs["model/flops_per_step"] = self.flops_per_token * self._tokens_per_step
        first_step = 0
        if module.start is not None and module.start.training is not None:
            training = module.start.training
            first_step, self._before = training.step, {"flops": training.flops, "tokens": training.tokens}
        self._limit_steps(trainer, first_step)

    def _limit_steps(self, trainer: L.Trainer, step: int) -> None:
        """Set the number of steps to ``step``, those made, plus those that are still allowed."""
        costs = {"flops": self.flops_per_token, "tokens": 1.0}
        for kind, budget in (("flops", self.flops), ("tokens", self.tokens)):
            if budget is None:
                continue
            if self._tokens_per_step is None:
                raise InputError(
                    "a budget needs data whose batch size is known before training: give a ConceptDataModule, or "
                    "max_steps instead of the budget."
                )
            spent = self.spent()[kind]
            if spent >= budget and not self._seen:
                raise InputError(
                    f"the budget of {budget:g} {kind} is spent: the model to go on from has taken {spent:g}."
                )
            if any(
                isinstance(callback, GradientAccumulationScheduler) for callback in getattr(trainer, "callbacks", [])
            ):
                raise InputError(
                    "a budget needs steps of one size: set trainer.accumulate_grad_batches in place of "
                    "GradientAccumulationScheduler, or max_steps instead of the budget."
                )
            per_step = costs[kind] * self._tokens_per_step
            # Rounding of the sums must not add a step.
            last = step + max(0, math.ceil((budget - spent) / per_step - 1e-6))
            self._planned = {kind: budget, "per_step": per_step, "last": last}
            trainer.fit_loop.epoch_loop.max_steps = last

    def spent(self) -> dict[str, float]:
        """Return the ``flops`` and ``tokens`` that the training has spent so far."""
        flops = self._before["flops"] + self.flops_per_token * self._seen
        return {"flops": flops, "tokens": self._before["tokens"] + self._seen}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the costs, unless the run is resumed and has logged them.

        In TensorBoard they are a text: a chart of one point shows nothing.
        """
        for logger in trainer.loggers if trainer.ckpt_path is None and trainer.is_global_zero else ():
            step = module_of(pl_module).first_step
            if isinstance(logger, TensorBoardLogger):
                lines = ["| | |", "|---|---|", *(f"| {name} | {value:.4g} |" for name, value in self._costs.items())]
                logger.experiment.add_text("model", "\n".join(lines), step)
            else:
                logger.log_metrics(self._costs, step=step)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count the tokens of the batch on all processes, and log what was spent."""
        self._seen += as_concept_batch(batch).tokens[:, 1:].numel() * trainer.world_size
        if shows_step(trainer):
            spent = self.spent()
            pl_module.log_dict({"train/flops": spent["flops"], "train/tokens_seen": spent["tokens"]})

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store what was spent, if there was a fit."""
        if not self._costs:
            return
        costs = {"costs": dict(self._costs), "first_step": module_of(pl_module).first_step}
        checkpoint[COMPUTE] = {"before": dict(self._before), **self.spent(), **costs, "planned": dict(self._planned)}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Continue counting from what the checkpoint says was spent."""
        if trainer.state.fn == "fit" and COMPUTE in checkpoint:
            stored = checkpoint[COMPUTE]
            self._before = {name: float(stored["before"][name]) for name in ("flops", "tokens")}
            self._seen = round(stored["tokens"] - self._before["tokens"])
            planned = stored.get("planned", {})
            known = isinstance(planned, dict) and isinstance(planned.get("last"), int)
            if known and planned == self._planned | {"last": planned["last"]}:
                self._planned = planned  # as many steps as if the run had not been interrupted
                trainer.fit_loop.epoch_loop.max_steps = planned["last"]
            else:
                self._limit_steps(trainer, int(checkpoint["global_step"]))
