"""The LightningModule: glue between model, loss, optimizer and curves."""

import math
import os
from functools import cached_property
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.optim.lr_scheduler import LRScheduler

from nextconcept.core.config import (
    BlockConfig,
    EncoderConfig,
    MatchingConfig,
    ModelConfig,
    NestedConfig,
    PlannerConfig,
    ReaderConfig,
)
from nextconcept.core.errors import InputError
from nextconcept.data.windows import ConceptBatch
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.layers import normalise
from nextconcept.nn.model import ModelOutput, NextConceptModel, PlanChoice, PlanSource
from nextconcept.training.losses import LossConfig, Losses, compute_losses, token_losses
from nextconcept.training.metrics import EffectiveRank, WeightedMeans
from nextconcept.training.optim import OptimizerConfig, make_optimizer, make_schedule, number_by_place
from nextconcept.training.sharding import gather, gradient_norm, release, shard
from nextconcept.training.warm_start import WarmStart, load_warm_start

__all__ = ["ConceptModule"]

FIT_SOURCES = ("", "_zero", "_shuffled")
"""What validation inside a fit looks at; ``nextconcept validate`` looks at more."""

torch.serialization.add_safe_globals(
    [
        ModelConfig,
        EncoderConfig,
        PlannerConfig,
        MatchingConfig,
        ReaderConfig,
        BlockConfig,
        NestedConfig,
        LossConfig,
        OptimizerConfig,
    ]
)


class ConceptModule(L.LightningModule):
    """Trains a :class:`~nextconcept.NextConceptModel` with ``CE(tokens) + sum_l w_l mean_j gamma^j D(plan, concepts)``.

    Metric names are listed in :mod:`nextconcept.training.metrics`.

    Args:
        config: the architecture.
        loss: what is weighed how.
        optimizer: AdamW and its schedule.
        train_plan: the plan that training reads; anything but ``predicted`` is for controls, and ``oracle`` leaks.
        compile: compile the model with torch.compile.
        init_from: a folder made by ``nextconcept grow`` or ``export``, a run, or a checkpoint, whose weights to begin with; a grown
            folder also brings the optimizer's moments, the number of the step and the position in the data.
        encoder: class of the concept encoder, for one of your own; on the command line its full name.
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
    ) -> None:
        super().__init__()
        # Not the encoder: a checkpoint is to hold plain values, and whoever loads it says what may be imported.
        self.save_hyperparameters(ignore=["encoder"])
        self.loss, self.optimizer_config, self.train_plan = loss, optimizer, train_plan
        self.init_from, self.first_step = init_from, 0
        # Whether the weights of init_from are in place, which later calls of setup must not put back.
        self._begun = False
        self.model = NextConceptModel(config, encoder)
        self.config = self.model.config
        loss.check(self.model)
        if compile:
            self.model.compile()
        self.sources = _sources(config.levels)
        self.means = WeightedMeans(self._metric_names())
        self.collapse = nn.ModuleDict(
            {
                f"l{level}_{kind}": EffectiveRank(config.widths[level])
                for level in self._levels
                for kind in ("plan", "target")
            }
        )
        self.level_factors: dict[int, float] = {}
        self.loss_parts: dict[str, Tensor] = {}
        # Not a buffer: DDP would synchronise it at every forward pass, and evaluation has uneven batches.
        self._byte_counts: Tensor | None = None

    def _metric_names(self) -> list[str]:
        names = ["loss"] + [f"{name}{suffix}" for suffix in self.sources for name in ("loss/tokens", "bits_per_byte")]
        for level in self._levels:
            names.append(f"loss/concepts_l{level}")
            for term in (*self.loss.terms, "similarity"):
                names += [
                    f"concepts_l{level}/{term}/step_{step}" for step in _shown_steps(self.config.horizon_of(level))
                ]
        return names

    @property
    def _levels(self) -> range:
        return self.config.hierarchy.concept_levels

    def configure_model(self) -> None:
        """Share out the parameters, under Lightning's ``ModelParallelStrategy`` (FSDP2).

        Raises:
            InputError: if the strategy is set to what this model can't do.
        """
        mesh = self.device_mesh
        if mesh is None or isinstance(self.model, FSDPModule):
            return
        if mesh["tensor_parallel"].size() > 1:
            raise InputError(
                f"the model can't be split within its matrices: set the strategy's data_parallel_size to {self.trainer.world_size}, the "
                "number of processes, and tensor_parallel_size to 1."
            )
        if self.trainer.validate_loop.inference_mode:
            raise InputError(
                "parameters that are shared out can't be gathered in inference mode: set trainer.inference_mode to false."
            )
        shard(self.model, mesh["data_parallel"])

    def forward(self, tokens: Tensor) -> ModelOutput:
        """Run the model on (B, T) token ids."""
        output: ModelOutput = self.model(tokens)
        return output

    def configure_optimizers(self) -> Any:
        """AdamW, and its schedule stepped with every optimizer step."""
        optimizer = make_optimizer(self.optimizer_config, self.model)
        steps = self.trainer.estimated_stepping_batches - self.first_step
        schedule = make_schedule(self.optimizer_config, optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: ConceptBatch, batch_idx: int) -> Tensor:
        """Loss of a batch, with its parts logged under ``train/``."""
        output = self.model(batch.tokens[:, :-1], self.train_plan, self._draw_offset())
        losses = compute_losses(self.loss, self.model, output, batch.tokens, batch.mask, self.level_factors)
        self.loss_parts = {"cross-entropy of tokens": losses.tokens.detach()} | {
            f"concept loss of level {level}": terms.total.detach() for level, terms in losses.concepts.items()
        }
        values = {"train/loss": losses.total, "train/loss/tokens": losses.tokens}
        for level, terms in losses.concepts.items():
            values[f"train/loss/concepts_l{level}"] = terms.total
        if self._byte_counts is not None:
            values["train/bits_per_byte"] = (
                losses.tokens / math.log(2) / self._bytes_per_token(batch, self._byte_counts)
            )
        means = torch.stack([value.detach() for value in values.values()])
        if self.trainer.world_size > 1:  # one exchange, so that the curves are those of the whole batch
            means = self.trainer.strategy.reduce(means, reduce_op="mean")
        logged: dict[str, Any] = dict(zip(values, means.unbind(), strict=True))
        logged["train/learning_rate"] = cast(LRScheduler, self.lr_schedulers()).get_last_lr()[0]
        self.log_dict(logged, batch_size=batch.tokens.shape[0])
        self.log("loss", losses.tokens.detach(), prog_bar=True, logger=False)
        return losses.total

    def on_train_batch_start(self, batch: ConceptBatch, batch_idx: int) -> None:
        """Make dropout, noise and offsets a function of seed, rank and step, so that a resumed run draws the same."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        torch.manual_seed(hash((seed, self.global_rank, self.trainer.fit_loop.total_batch_idx)))

    def _draw_offset(self) -> int | None:
        """With a grid that ends with the text, training has to see every phase of it."""
        if self.config.encoder.chunk_alignment == "start":
            return None
        return int(torch.randint(self.config.hierarchy.top_span, ()))

    def _bytes_per_token(self, batch: ConceptBatch, byte_counts: Tensor) -> Tensor:
        targets, mask = batch.tokens[:, 1:], batch.mask[:, 1:]
        return (byte_counts.to(targets.device)[targets] * mask).sum() / mask.sum()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the norm of the gradient, before it is clipped."""
        self.log("train/gradient_norm", gradient_norm(self.model))

    @cached_property
    def start(self) -> WarmStart | None:
        """What ``init_from`` names."""
        return load_warm_start(self.init_from, type(self.model.encoder)) if self.init_from else None

    def on_fit_start(self) -> None:
        """Go on with the training of the model that this one was grown from, unless it is this run that is resumed."""
        training = self.start.training if self.start else None
        if training is not None and self.trainer.ckpt_path is None:
            self.trainer.fit_loop.load_state_dict(training.loops)
            training.restore_optimizer(self.trainer.optimizers[0], self.model)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember at which step this size of the model began, for the schedule; number moments in one way for all strategies."""
        checkpoint["nextconcept_first_step"] = self.first_step
        number_by_place(checkpoint["optimizer_states"], self.model)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Recall it."""
        self.first_step = checkpoint.get("nextconcept_first_step", 0)

    def setup(self, stage: str) -> None:
        """Take over weights, and learn from the data how many bytes each token stands for.

        Raises:
            InputError: if the model of ``init_from`` has another shape or another tokenizer.
        """
        tokenizer = getattr(getattr(self.trainer, "datamodule", None), "tokenizer", None)
        if self.start is not None and not self._begun:
            self._begun = True
            self.first_step = self.start.training.step if self.start.training else 0
            try:
                self.model.load_state_dict(self.start.model.state_dict())
            except RuntimeError:
                raise InputError(
                    f"the model in {self.init_from} has another shape: use the configuration that is stored there."
                ) from None
            if tokenizer is not None and tokenizer.to_json() != self.start.tokenizer.to_json():
                raise InputError(
                    f"the model in {self.init_from} reads other tokens than this data: use the data it was trained on."
                )
        if tokenizer is not None:
            counts = torch.ones(self.config.vocab_size, dtype=torch.long)
            known = torch.from_numpy(tokenizer.byte_counts())
            counts[: len(known)] = known
            self._byte_counts = counts

    def on_validation_start(self) -> None:
        """Gather parameters that are shared out, as in all that looks at the model."""
        gather(self.model)

    def on_validation_end(self) -> None:
        """Share them out again, after the callbacks have looked."""
        release(self.model)

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end

    def validation_step(self, batch: ConceptBatch, batch_idx: int) -> None:
        """Losses and interventions on the validation split."""
        self._evaluate(batch)

    def test_step(self, batch: ConceptBatch, batch_idx: int) -> None:
        """Losses and interventions on the test split."""
        self._evaluate(batch)

    def predict_step(self, batch: ConceptBatch, batch_idx: int) -> dict[str, Tensor]:
        """Surprisal: ``tokens`` (B, T) and ``nats`` (B, T), the cross-entropy of each of them, NaN at padding."""
        targets, mask = batch.tokens[:, 1:], batch.mask[:, 1:]
        nats = token_losses(self.model(batch.tokens[:, :-1]).logits, targets)
        return {"tokens": targets, "nats": nats.masked_fill(~mask, float("nan"))}

    def on_validation_epoch_end(self) -> None:
        """Log the means under ``val/``."""
        self._log_means("val")

    def on_test_epoch_end(self) -> None:
        """Log the means under ``test/``."""
        self._log_means("test")

    def _log_means(self, stage: str) -> None:
        self.log_dict({f"{stage}/{name}": mean for name, mean in self.means.compute().items()})
        self.means.reset()
        for level in self._levels:
            plan, target = (self._monitor(level, kind) for kind in ("plan", "target"))
            (rank_plan, variance_plan), (rank_target, variance_target) = plan.compute(), target.compute()
            values = {"effective_rank_plan": rank_plan, "effective_rank_target": rank_target}
            values["variance_ratio"] = variance_plan / max(variance_target, 1e-12)
            self.log_dict({f"{stage}/collapse_l{level}/{name}": value for name, value in values.items()})
            plan.reset()
            target.reset()

    def _monitor(self, level: int, kind: str) -> EffectiveRank:
        return cast(EffectiveRank, self.collapse[f"l{level}_{kind}"])

    def _evaluate(self, batch: ConceptBatch) -> None:
        mask = batch.mask[:, 1:]
        weight = mask.sum()
        values: dict[str, tuple[Tensor, Tensor]] = {}
        for suffix, source in self.sources.items():
            if "shuffled" in suffix and batch.tokens.shape[0] < 2:
                continue  # there is no other row to take a plan from
            if self.trainer.state.fn == "fit" and suffix not in FIT_SOURCES:
                continue
            output = self.model(batch.tokens[:, :-1], source)
            losses = compute_losses(self.loss, self.model, output, batch.tokens, batch.mask)
            values[f"loss/tokens{suffix}"] = losses.tokens, weight
            if self._byte_counts is not None:
                ratio = self._bytes_per_token(batch, self._byte_counts)
                bits = losses.tokens / math.log(2) / ratio.clamp(min=torch.finfo(ratio.dtype).tiny)
                values[f"bits_per_byte{suffix}"] = bits, weight * ratio
            if source == "predicted":
                values["loss"] = losses.total, weight
                values |= self._concept_values(losses)
                self._watch_collapse(output, losses)
        self.means.update(values)

    def _concept_values(self, losses: Losses) -> dict[str, tuple[Tensor, Tensor]]:
        values = {}
        for level, terms in losses.concepts.items():
            values[f"loss/concepts_l{level}"] = terms.total, terms.counts.sum()
            for name, steps in (*terms.steps.items(), ("similarity", terms.similarity)):
                for step in _shown_steps(len(steps)):
                    values[f"concepts_l{level}/{name}/step_{step}"] = steps[step - 1], terms.counts[step - 1]
        return values

    def _watch_collapse(self, output: ModelOutput, losses: Losses) -> None:
        for level, terms in losses.concepts.items():
            for kind, vectors in (("plan", output.plans[level].float()), ("target", terms.targets)):
                self._monitor(level, kind).update(normalise(vectors[terms.valid], "rms"))


def _shown_steps(horizon: int) -> list[int]:
    """Horizon steps, from 1, that get curves of their own: all of a short horizon, powers of two of a long one."""
    return [step for step in range(1, horizon + 1) if horizon <= 8 or step & (step - 1) == 0]


def _sources(levels: int) -> dict[str, PlanChoice]:
    """Plans under which a model is evaluated, by the suffix of their metrics: of all levels, then of each alone."""
    sources: dict[str, PlanChoice] = {"": "predicted"}
    for name in ("zero", "shuffled", "oracle") if levels > 1 else ():
        sources[f"_{name}"] = name
        if levels > 2:
            sources |= {f"_{name}_l{level}": {level: name} for level in range(1, levels)}
    return sources
