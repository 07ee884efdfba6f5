"""The LightningModule, which joins model, loss, optimizer and curves."""

import copy
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from nextconcept.checkpoints.files import KEY
from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.data.datamodule import data_of
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.data.tokenizers import tokenizer_from_json
from nextconcept.data.windows import ConceptBatch
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.model_output import ModelOutput
from nextconcept.nn.plan_choice import PlanSource, check_choice
from nextconcept.training.batches import (
    as_concept_batch,
    check_batch,
    check_data,
    check_ends,
    check_tokenizer,
    count_bytes,
    stored_tokenizer,
)
from nextconcept.training.clipping import ClippedModule
from nextconcept.training.evaluator import Evaluator, bytes_per_token
from nextconcept.training.lightning_compat import (
    attached_trainer,
    cut_csv_curves,
    keep_csv_curves,
    restore_loaders,
    shows_step,
)
from nextconcept.training.losses import LossConfig, Losses, compute_losses
from nextconcept.training.objectives import Objective, check_names, token_losses
from nextconcept.training.optim import (
    OptimizerConfig,
    apply_settings,
    check_groups,
    make_optimizer,
    make_schedule,
    number_by_position,
)
from nextconcept.training.seeded_module import SeededModule
from nextconcept.training.sharded_module import ShardedModule
from nextconcept.training.stored_classes import allow_stored_classes
from nextconcept.training.stored_module import StoredModule
from nextconcept.training.warm_start import WarmStart, load_warm_start

__all__ = ["ConceptModule"]

allow_stored_classes()


class ConceptModule(ClippedModule, ShardedModule, StoredModule, SeededModule):
    """Trains a model with ``CE(tokens) + sum_l w_l mean_j gamma^j D(plan, concepts)``.

    A batch is a :class:`~nextconcept.data.windows.ConceptBatch` or a plain (B, T + 1) int64 tensor,
    all of whose tokens are learnt, so that any ``DataLoader`` of such tensors will do:
    ``Trainer().fit(ConceptModule(config), DataLoader(windows, batch_size=16))``.

    Metric names are listed in :mod:`nextconcept.training.metrics`.

    Args:
        config: the architecture.
        loss: terms and weights of the loss.
        optimizer: the optimizer and its schedule.
        train_plan: the plan that training reads; anything but ``predicted`` is for controls, and
            ``oracle`` leaks.
        compile: whether to compile the model with torch.compile.
        init_from: weights to begin with: a folder made by ``nextconcept grow`` or ``export``, a
            run, or a checkpoint. A grown folder also brings the optimizer's moments, the step and
            the position in the data. The parameters of an objective are not taken over.
        encoder: class of the concept encoder, for one of your own; on the command line its full
            name.
        objective: makes what is learnt instead of the next token from the model; on the command
            line the full name of a class and its settings; see
            :class:`~nextconcept.training.objectives.Objective`.

    Attributes:
        tokenizer: tokenizer that the model was trained with, or None. It comes with a checkpoint,
            with ``init_from``, or from the data module of the first fit, and later data modules are
            read with it.

    Raises:
        InputError: if a setting is of the wrong type, or the loss does not fit the model; when a
            run begins, if data and model do not fit each other; at a batch, if it is malformed or
            holds unknown token ids.
    """

    def __init__(
        self,
        config: ModelConfig = ModelConfig(),
        loss: LossConfig = LossConfig(),
        optimizer: OptimizerConfig = OptimizerConfig(),
        train_plan: PlanSource = "predicted",
        compile: bool = False,
        init_from: str | None = None,
        encoder: type[ConceptEncoder] = ConceptEncoder,
        objective: Callable[[NextConceptModel], Objective] | None = None,
    ) -> None:
        super().__init__()
        for name, value, kind in (("loss", loss, LossConfig), ("optimizer", optimizer, OptimizerConfig)):
            if not isinstance(value, kind):
                raise InputError(f"{name} must be of the class {kind.__name__}, not {value!r}.")
        if not (objective is None or callable(objective)):
            raise InputError(f"objective must be a class or function that makes one of a model, not {objective!r}.")
        # Encoder and objective are left out: a checkpoint holds plain values, and its user names
        # the code to import.
        self.save_hyperparameters(ignore=["encoder", "objective"])
        # Copies, or a setting that is changed later would change other modules too.
        self.loss, self.optimizer_config, self.train_plan = copy.deepcopy(loss), copy.deepcopy(optimizer), train_plan
        self.init_from = init_from
        self.first_step = 0  # at which this size of the model began
        self._warm_started = False
        self.model = NextConceptModel(config, encoder)
        self.config = self.model.config
        self.loss.check(self.model)
        check_choice(train_plan, self.config.hierarchy)
        if (prior := self.model.encoder.token_prior) is not None:
            prior.requires_grad_("decode" in loss.terms)
        if self.model.draft_head is not None:
            self.model.draft_head.requires_grad_("draft" in loss.terms)
        # Made after the model, so that a seed draws the same model for every objective.
        self.objective = (objective or Objective)(self.model)
        check_names(self.objective)
        if compile:
            self.model.compile()
            if self.objective.names:
                self.objective.compile()
        self.evaluator = Evaluator(self.config, self.loss, self.objective.names)
        self._level_factors: dict[int, float] = {}
        self._named_losses: dict[str, Tensor] = {}
        # Not a buffer, which DDP would synchronise at every pass: evaluation has uneven batches.
        self._byte_counts: Tensor | None = None
        self.tokenizer: Tokenizer | None = None
        self._kept_curves: list[CSVLogger] = []

    def set_level_factors(self, factors: dict[int, float]) -> None:
        """Scale the concept loss of levels; no level reads the plan of a level whose factor is 0.

        Args:
            factors: per concept level, a factor on its loss weight; levels that are missing keep
                theirs.
        """
        self._level_factors |= factors
        for level, factor in factors.items():
            self.model.set_gate_scale(level, float(factor > 0))

    def level_factors(self) -> dict[int, float]:
        """Return the factors on the loss weights of concept levels; missing levels have 1."""
        return dict(self._level_factors)

    def named_losses(self) -> dict[str, Tensor]:
        """Return the losses of the latest training step by the names that messages use."""
        return dict(self._named_losses)

    def forward(self, tokens: Tensor) -> ModelOutput:
        """Run the model on (B, T) token ids."""
        output: ModelOutput = self.model(tokens)
        return output

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, which advances with every optimizer step."""
        optimizer = make_optimizer(self.optimizer_config, self.model, self.objective)
        steps = self.trainer.estimated_stepping_batches - self.first_step
        schedule = make_schedule(self.optimizer_config, optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_callbacks(self) -> list[L.Callback]:
        """Have the data read with the model's tokenizer; Lightning has no earlier hook than this.

        Returns:
            What ends the draws of a batch.

        Raises:
            InputError: if the data can't be read with it.
        """
        if self.start is not None and not self._warm_started:
            self.tokenizer = self.start.tokenizer
        if (data := data_of(attached_trainer(self))) is not None and self.tokenizer is not None:
            data.use_tokenizer(self.tokenizer)
        return super().configure_callbacks()

    def prepare_data(self) -> None:
        """Check data and model, and keep old curves: this hook runs before the loggers begin.

        Raises:
            InputError: if data and model do not fit each other.
        """
        self._check_data()
        self._kept_curves = keep_csv_curves(self.trainer)

    def _check_data(self) -> None:
        if (data := data_of(attached_trainer(self))) is not None:
            check_data(data, self.config)

    def setup(self, stage: str) -> None:
        """Load the weights of ``init_from``, and take the bytes of each token from the tokenizer.

        Raises:
            InputError: if data and model do not fit each other, if the model of ``init_from`` has
                another shape or another tokenizer, or if its training has made all the steps
                already that the trainer allows.
        """
        self._check_data()  # Lightning calls prepare_data on one process
        trainer, data = self.trainer, data_of(attached_trainer(self))
        if stage == "fit" and trainer.world_size > 1 and trainer.limit_val_batches and data is not None:
            data.val_dataloader()  # too few windows for the processes are refused now, not epochs later
        if self.start is not None and not self._warm_started:
            self._warm_started = True
            self._begin_with(self.start)
        tokenizer = data.tokenizer if data is not None else self.tokenizer
        if tokenizer is not None:
            check_tokenizer(tokenizer, self.tokenizer, self.config)
            self._byte_counts = count_bytes(tokenizer, self.config.vocab_size)
            if self.model.chunker is not None:
                self.model.chunker.read_as(tokenizer.token_bytes())
            if stage == "fit":
                self.tokenizer = tokenizer
                stored_tokenizer(tokenizer)  # which warns now, not when hours of training are to be loaded

    @cached_property
    def start(self) -> WarmStart | None:
        """The model that ``init_from`` names."""
        return load_warm_start(self.init_from, type(self.model.encoder)) if self.init_from else None

    def _begin_with(self, start: WarmStart) -> None:
        """Take the weights and the step count of a trained model."""
        if start.training is not None:
            self.first_step = start.training.step
            if self.trainer.state.fn == "fit" and self.trainer.ckpt_path is None:
                start.check_limits(self.trainer.max_steps, self.trainer.max_epochs)
        start.load_into(self.model)

    def on_fit_start(self) -> None:
        """Continue the training that a grown model comes from, unless this run is resumed.

        Raises:
            InputError: if the model has a chunking rule that was never made.
        """
        super().on_fit_start()
        if self.model.chunker is not None:
            self.model.chunker.check_tables()
        if self.trainer.ckpt_path is None:
            self._cut_curves(0)
        training = self.start.training if self.start else None
        if training is not None and self.trainer.ckpt_path is None:
            self.trainer.fit_loop.load_state_dict(training.loops)
            training.restore_optimizer(self.trainer.optimizers[0], self.model)

    def on_train_start(self) -> None:
        """Go on at the checkpoint's place in the data, with this run's optimizer settings."""
        restore_loaders(self.trainer)
        if (schedule := self._schedule) is not None:
            apply_settings(self.optimizer_config, self.model, self.trainer.optimizers[0], schedule, self.objective)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the first step of this size of the model, and number moments by position."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["nextconcept_first_step"] = self.first_step
        if self._own_optimizer:
            states = checkpoint.get("optimizer_states", [])
            number_by_position(states, self.optimizer_config, self.model, self.objective)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the first step of this size of the model, and read the data with its tokenizer.

        Raises:
            InputError: if the data can't be read with it, or another optimizer, objective or
                encoder is to continue.
        """
        super().on_load_checkpoint(checkpoint)
        self.first_step = checkpoint.get("nextconcept_first_step", 0)  # the schedule counts from it
        trainer = attached_trainer(self)
        if trainer is None:  # by load_from_checkpoint, with weights that have gone on from these
            self.init_from = None
        if trainer is not None and trainer.state.fn == "fit" and self._own_optimizer:
            check_groups(checkpoint.get("optimizer_states", []), self.optimizer_config, self.model)
        if self._kept_curves and self.trainer.state.fn == "fit":
            self._cut_curves(int(checkpoint["global_step"]))
        stored = checkpoint.get(KEY, {}).get("tokenizer")
        if stored is None:
            return
        tokenizer, data = tokenizer_from_json(stored), data_of(trainer)
        if data is not None:
            data.use_tokenizer(tokenizer)
            check_tokenizer(data.tokenizer, tokenizer, self.config)
        # The data may pad prompts to another length.
        self.tokenizer = tokenizer if data is None else data.tokenizer
        self._byte_counts = count_bytes(self.tokenizer, self.config.vocab_size)

    def _cut_curves(self, step: int) -> None:
        """Drop what loggers that add to old files hold of ``step`` and of later steps."""
        for logger in self._kept_curves:
            cut_csv_curves(logger, step)
        self._kept_curves = []

    def _checked(self, batch: Any, batch_idx: int) -> ConceptBatch:
        converted = as_concept_batch(batch)
        # To look at ids on a GPU takes a wait, so the first ones stand for all.
        check_batch(converted, self.config, ids=batch_idx == 0 or converted.tokens.device.type == "cpu")
        if batch_idx == 0 and self.config.levels > 1:  # rules read the text, which takes longer than the ids
            check_ends(converted, self.model.chunker)
        return converted

    def training_step(self, batch: ConceptBatch | Tensor, batch_idx: int) -> Tensor:
        """Compute the loss of a batch and log its parts under ``train/``."""
        batch = self._checked(batch, batch_idx)
        tokens, mask, _ = batch
        output = self.model(self.objective.inputs(tokens, mask), self.train_plan, self._draw_offset())
        losses = compute_losses(self.loss, self.model, output, tokens, mask, self._level_factors, self.objective)
        self._named_losses = losses.named()
        self._log_losses(losses, batch)
        return losses.total

    def _log_losses(self, losses: Losses, batch: ConceptBatch) -> None:
        """Log the parts of the loss on the steps that loggers show.

        Logging a value takes Lightning as long as a small layer takes a batch. The first step is
        logged too, so that a callback that monitors a value finds it.
        """
        shown = shows_step(self.trainer)
        if not (shown or self.trainer.fit_loop.total_batch_idx == 0):
            return
        values = {"train/loss": losses.total, "train/loss/tokens": losses.tokens}
        for level, loss in losses.concepts.items():
            values[f"train/loss/concepts_l{level}"] = loss.total
        values |= {f"train/loss/{name}": term for name, term in losses.terms.items()}
        if self._byte_counts is not None and shown:
            bits = losses.tokens / math.log(2) / bytes_per_token(batch, self._byte_counts)
            values["train/bits_per_byte"] = bits
        means = torch.stack([value.detach() for value in values.values()])
        if self.trainer.world_size > 1:  # one exchange, so that the curves are those of the whole batch
            means = self.trainer.strategy.reduce(means, reduce_op="mean")
        logged: dict[str, Any] = dict(zip(values, means.unbind(), strict=True))
        if shown and (schedule := self._schedule) is not None:
            logged["train/learning_rate"] = self.optimizer_config.lr * schedule.lr_lambdas[0](schedule.last_epoch)
        self.log_dict(logged, batch_size=batch.tokens.shape[0])

    @property
    def _own_optimizer(self) -> bool:
        """Whether no subclass configures optimizers of its own."""
        return type(self).configure_optimizers is ConceptModule.configure_optimizers

    @property
    def _schedule(self) -> LambdaLR | None:
        """Our schedule, unless a subclass or weight averaging has put another in its place."""
        schedule = self.lr_schedulers()
        return schedule if self._own_optimizer and isinstance(schedule, LambdaLR) else None

    def _draw_offset(self) -> int | None:
        """Draw the offset of the chunks: training has to see all, if chunks end with the text."""
        if self.config.encoder.chunk_alignment == "start":
            return None
        return int(torch.randint(self.config.hierarchy.top_span, ()))

    def validation_step(self, batch: ConceptBatch | Tensor, batch_idx: int) -> None:
        """Add the losses of a batch of the validation split; fewer plan sources inside a fit."""
        brief = self.trainer.state.fn == "fit"
        self.evaluator.update(self.model, self._checked(batch, batch_idx), self._byte_counts, brief, self.objective)

    def test_step(self, batch: ConceptBatch | Tensor, batch_idx: int) -> None:
        """Add the losses of a batch of the test split under all plan sources."""
        self.evaluator.update(self.model, self._checked(batch, batch_idx), self._byte_counts, objective=self.objective)

    def on_validation_epoch_start(self) -> None:
        """Begin anew: an evaluation before may have been broken off."""
        self.evaluator.reset()

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Log the metrics under ``val/``."""
        self.log_dict({f"val/{name}": value for name, value in self.evaluator.finish().items()})

    def on_test_epoch_end(self) -> None:
        """Log the metrics under ``test/``."""
        self.log_dict({f"test/{name}": value for name, value in self.evaluator.finish().items()})

    def predict_step(self, batch: ConceptBatch | Tensor, batch_idx: int) -> dict[str, Tensor]:
        """Compute the surprisal of a batch.

        Returns:
            ``tokens`` (B, T) int64 and ``nats`` (B, T), their cross-entropies, NaN at padding.
        """
        batch = self._checked(batch, batch_idx)
        targets, mask = batch.tokens[:, 1:], batch.mask[:, 1:]
        nats = token_losses(self.model(self.objective.inputs(batch.tokens, batch.mask)).logits, targets)
        return {"tokens": targets, "nats": nats.masked_fill(~mask, float("nan"))}
