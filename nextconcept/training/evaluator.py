"""Losses of a model under every plan source, and collapse monitors, accumulated over an evaluation.

Shapes: B batch, T tokens, A anchors, H horizon, D width of a level, V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept.core.config import ModelConfig
from nextconcept.data.windows import ConceptBatch
from nextconcept.nn.layers import normalise
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.model_output import ModelOutput
from nextconcept.nn.plan_choice import PlanChoice
from nextconcept.training.losses import LossConfig, Losses, compute_losses
from nextconcept.training.metrics import EffectiveRank, WeightedMeans
from nextconcept.training.objectives import Objective, token_loss
from nextconcept.training.plan_accuracy import MOST_PLACES, right_by_place, right_lengths

__all__ = ["Evaluator", "bytes_per_token"]

NO_BYTES = 1e-9
"""Bytes per token of a batch without text: none is learnt, or only ends of documents are."""

FIT_SOURCES = ("", "_zero", "_shuffled")
"""Plan sources, by suffix, of validations inside a fit; ``nextconcept validate`` adds the rest."""


def bytes_per_token(batch: ConceptBatch, byte_counts: Tensor) -> Tensor:
    """Compute the mean number of bytes of the tokens that a batch is to learn, above 0.

    Args:
        batch: (B, T + 1) tokens and mask.
        byte_counts: (V,) bytes that each token stands for.
    """
    targets, mask = batch.tokens[:, 1:], batch.mask[:, 1:]
    mean = (byte_counts.to(targets.device)[targets] * mask).sum() / mask.sum().clamp(min=1)
    return mean.clamp(min=NO_BYTES)


class Evaluator(nn.Module):
    """Accumulates what validation and test log; names as in :mod:`nextconcept.training.metrics`.

    Under the source ``shuffled`` each row reads the plan of the row before. A batch of one row
    reads the plan of the last row of the batch before, so that all sources are compared over the
    same rows; if some row has no other, ``shuffled`` is not reported.

    Args:
        config: of the model.
        loss: terms and weights.
        terms: names of the terms of the objective.
    """

    def __init__(self, config: ModelConfig, loss: LossConfig, terms: Sequence[str] = ()) -> None:
        super().__init__()
        self.config, self.loss, self.terms = config, loss, terms
        self.sources = _sources(config.levels)
        self.means = WeightedMeans(self._metric_names())
        self.collapse = nn.ModuleDict(
            {
                f"l{level}_{kind}": EffectiveRank(config.widths[level])
                for level in config.hierarchy.concept_levels
                for kind in ("plan", "target")
            }
        )
        # Inputs of the last row of the batch before, (1, T).
        self._last_row = torch.empty(1, 0, dtype=torch.long)

    def _metric_names(self) -> list[str]:
        names = [f"{name}{suffix}" for suffix in self.sources for name in ("loss/tokens", "bits_per_byte")]
        names += [f"loss/{term}" for term in self.terms]
        for level in self.config.hierarchy.concept_levels:
            names += [_distance(level, step) for step in range(1, self._counted_steps(level) + 1)]
            for term in (*self.loss.terms, "similarity"):
                names += [
                    f"concepts_l{level}/{term}/step_{step}" for step in _shown_steps(self.config.horizon_of(level))
                ]
        if self.reads_lengths:
            names.append("plan_l1/right_length")
        return [*names, *(f"plan_l1/right_at_{place}" for place in range(1, self.places + 1))]

    @property
    def reads_lengths(self) -> bool:
        """Whether plans say where chunks end that a rule cuts."""
        rules = self.config.hierarchy.rules
        return bool(self.places and rules and rules[0].of_text and self.config.encoder.position_binding)

    @property
    def places(self) -> int:
        """Places of a chunk at which plans are read back; 0 if they can't be."""
        if self.config.levels == 1 or not self.config.encoder.additive:
            return 0
        return min(self.config.hierarchy.span(1), MOST_PLACES)

    @torch.compiler.disable  # type: ignore[untyped-decorator] # where a Trainer compiles the whole module
    def update(
        self,
        model: NextConceptModel,
        batch: ConceptBatch,
        byte_counts: Tensor | None = None,
        brief: bool = False,
        objective: Objective | None = None,
    ) -> None:
        """Add a batch.

        Args:
            model: the model to evaluate.
            batch: (B, T + 1) tokens and mask.
            byte_counts: (V,) bytes that each token stands for, if bits per byte are wanted.
            brief: whether to leave out the sources that validations inside a fit leave out.
            objective: what the model learns instead of the next token, or None.
        """
        tokens, mask, _ = batch
        inputs = tokens[:, :-1] if objective is None else objective.inputs(tokens, mask)
        weight = mask[:, 1:].sum()
        ratio = None if byte_counts is None else bytes_per_token(batch, byte_counts)
        values: dict[str, tuple[Tensor, Tensor]] = {}
        predicted: ModelOutput | None = None
        for suffix, source in self.sources.items():
            alone = "shuffled" in suffix and len(tokens) == 1
            if (alone and not self._has_other(inputs)) or (brief and suffix not in FIT_SOURCES):
                continue
            with torch.compiler.set_stance("force_eager"):  # or each choice of plans is compiled on its own
                if alone:
                    logits = model(torch.cat((inputs, self._last_row)), source).logits[:1]
                else:
                    output = model(inputs, source, like=predicted)
                    logits = output.logits
            if predicted is None:  # the first source, of which the others take over what they can
                predicted, losses = output, compute_losses(self.loss, model, output, tokens, mask, None, objective)
                values |= {f"loss/{name}": (term, weight) for name, term in losses.terms.items()}
                values |= _concept_values(losses)
                self._watch_collapse(output, losses)
                if self.places and not brief:
                    values |= self._right_by_place(model, output, batch)
                token_mean = losses.tokens
            else:
                token_mean = token_loss(logits, tokens, mask)
            values[f"loss/tokens{suffix}"] = token_mean, weight
            if ratio is not None:
                values[f"bits_per_byte{suffix}"] = token_mean / math.log(2) / ratio, weight * ratio
        self._last_row = inputs[-1:].clone()
        self.means.update(values)

    def _has_other(self, inputs: Tensor) -> bool:
        """Return whether the batch before had a row whose plan a single row can read."""
        return self._last_row.shape[1] == inputs.shape[1]

    def _right_by_place(
        self, model: NextConceptModel, output: ModelOutput, batch: ConceptBatch
    ) -> dict[str, tuple[Tensor, Tensor]]:
        tokens, known = (F.pad(part[:, :-1], (output.offset, 0)) for part in (batch.tokens, batch.mask))
        shares, counts = right_by_place(model, output, tokens, known, self.places, self.loss.decode_scale)
        values = {f"plan_l1/right_at_{place}": pair for place, pair in enumerate(zip(shares, counts, strict=True), 1)}
        if self.reads_lengths:
            values["plan_l1/right_length"] = right_lengths(model, output, known, self.loss.decode_scale)
        return values

    def _watch_collapse(self, output: ModelOutput, losses: Losses) -> None:
        for level, loss in losses.concepts.items():
            for kind, vectors in (("plan", output.plans[level].float()), ("target", loss.targets)):
                self._monitor(level, kind).update(normalise(vectors[loss.valid], "rms"))

    def _monitor(self, level: int, kind: str) -> EffectiveRank:
        return cast(EffectiveRank, self.collapse[f"l{level}_{kind}"])

    def finish(self) -> dict[str, float]:
        """Return the metrics over all batches and processes since the last call, and reset."""
        means = self.means.compute()
        values = {}
        for name, (mean, weight) in means.items():
            if "_shuffled" not in name or weight == means[name.partition("_shuffled")[0]][1]:
                values[name] = mean
        self._add_losses(values)
        for level in self.config.hierarchy.concept_levels:
            plan, target = (self._monitor(level, kind) for kind in ("plan", "target"))
            (rank_plan, variance_plan), (rank_target, variance_target) = plan.compute(), target.compute()
            values[f"collapse_l{level}/effective_rank_plan"] = rank_plan
            values[f"collapse_l{level}/effective_rank_target"] = rank_target
            values[f"collapse_l{level}/variance_ratio"] = variance_plan / max(variance_target, 1e-12)
        self.reset()
        return values

    def reset(self) -> None:
        """Forget all batches, those of an evaluation that was broken off too."""
        self.means.reset()
        self._last_row = self._last_row[:, :0]
        for monitor in self.collapse.values():
            cast(EffectiveRank, monitor).reset()

    def _counted_steps(self, level: int) -> int:
        """Return the number of horizon steps that the concept loss counts."""
        horizon = self.config.horizon_of(level)
        return min(horizon, self.loss.horizon or horizon)

    def _add_losses(self, values: dict[str, float]) -> None:
        """Compute concept losses and the whole loss from the means of their parts.

        Means over batches would depend on how many windows a batch holds, because a short batch may
        have no concept at the far steps of the horizon.
        """
        total = 0.0
        for level in self.config.hierarchy.concept_levels:
            steps = [_distance(level, step) for step in range(1, self._counted_steps(level) + 1)]
            known = [values.pop(step) for step in steps if step in values]
            if known:
                mean = values[f"loss/concepts_l{level}"] = sum(known) / len(known)
                total += self.loss.weight(level) * mean
        terms = [f"loss/{name}" for name in self.terms] or ["loss/tokens"]
        if all(name in values for name in terms):  # otherwise no token is to be learnt
            values["loss"] = total + sum(values[name] for name in terms)


def _distance(level: int, step: int) -> str:
    """Return the name of the concept loss of one horizon step, from 1."""
    return f"loss/concepts_l{level}/step_{step}"


def _concept_values(losses: Losses) -> dict[str, tuple[Tensor, Tensor]]:
    values = {}
    for level, loss in losses.concepts.items():
        for step, distance in enumerate(loss.distances, 1):
            values[_distance(level, step)] = distance, loss.counts[step - 1]
        for name, steps in (*loss.steps.items(), ("similarity", loss.similarity)):
            for step in _shown_steps(len(steps)):
                values[f"concepts_l{level}/{name}/step_{step}"] = steps[step - 1], loss.counts[step - 1]
    return values


def _shown_steps(horizon: int) -> list[int]:
    """Return the horizon steps that are shown, from 1: all, or powers of two of a long horizon."""
    return [step for step in range(1, horizon + 1) if horizon <= 8 or step & (step - 1) == 0]


def _sources(levels: int) -> dict[str, PlanChoice]:
    """Return plan sources by the suffix of their metrics: for all levels, then for each alone."""
    sources: dict[str, PlanChoice] = {"": "predicted"}
    for name in ("zero", "shuffled", "oracle") if levels > 1 else ():
        sources[f"_{name}"] = name
        if levels > 2:
            sources |= {f"_{name}_l{level}": {level: name} for level in range(1, levels)}
    return sources
