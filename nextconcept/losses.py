"""Token cross-entropy plus concept regression.

Shapes: B batch, T tokens, A anchors, H horizon, D width of a level, V vocabulary, S = c^level tokens under a concept.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.errors import InputError
from nextconcept.nn.model import ModelOutput, NextConceptModel, future

__all__ = ["DISTANCES", "ConceptTerms", "LossConfig", "Losses", "compute_losses", "token_losses"]


def _cosine(plan: Tensor, target: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(plan, target, dim=-1)


def _mse(plan: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(plan, target, reduction="none").mean(-1)


def _mae(plan: Tensor, target: Tensor) -> Tensor:
    return F.l1_loss(plan, target, reduction="none").mean(-1)


def _smooth_l1(plan: Tensor, target: Tensor) -> Tensor:
    return F.smooth_l1_loss(plan, target, reduction="none").mean(-1)


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": _cosine,
    "mse": _mse,
    "mae": _mae,
    "smooth_l1": _smooth_l1,
}
"""Regression losses: (..., D) prediction and target to (...) distance."""


@dataclass
class LossConfig:
    """Weights of the loss ``CE + sum_l w_l mean_j gamma^j D(p^l[m, j], sg(k^l_(m+j)))``.

    Args:
        terms: the parts of D and their weights: ``cosine``, ``mse``, ``mae``, ``smooth_l1``, and ``decode``, the cross-entropy of the
            tokens read back out of a predicted concept.
        level_weight: w, for all concept levels or a list, level 1 first.
        discount: gamma, per step of the horizon.
        decode_scale: tau, the inverse temperature of the read-back.

    Raises:
        InputError: if a term is unknown or a number is out of range.
    """

    terms: dict[str, float] = field(default_factory=lambda: {"cosine": 1.0})
    level_weight: float | list[float] = 0.3
    discount: float = 1.0
    decode_scale: float = 16.0

    def __post_init__(self) -> None:
        known = [*DISTANCES, "decode"]
        for name, weight in self.terms.items():
            if name not in known:
                raise InputError(f"unknown concept loss {name!r}: choose from {', '.join(known)}.")
            if weight < 0:
                raise InputError(f"the weight of concept loss {name!r} must be 0 or more, not {weight}.")
        if not 0 < self.discount <= 1:
            raise InputError(f"discount must be above 0 and at most 1, not {self.discount}.")

    def weight(self, level: int) -> float:
        """W of a concept level.

        Raises:
            InputError: if a list was given that ends below ``level``.
        """
        if not isinstance(self.level_weight, list):
            return self.level_weight
        if level > len(self.level_weight):
            raise InputError(f"level_weight {self.level_weight} has no value for concept level {level}.")
        return self.level_weight[level - 1]


@dataclass
class ConceptTerms:
    """The concept loss of one level.

    Attributes:
        total: scalar, ``mean_j gamma^j D``, without w.
        steps: per term, (H,) its mean at each horizon step, undiscounted.
        similarity: (H,) mean cosine of prediction and target at each horizon step.
        counts: (H,) concepts that each mean is over.
    """

    total: Tensor
    steps: dict[str, Tensor]
    similarity: Tensor
    counts: Tensor


@dataclass
class Losses:
    """All parts of the loss, each of them a scalar or a :class:`ConceptTerms` per level."""

    total: Tensor
    tokens: Tensor
    concepts: dict[int, ConceptTerms]


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each token in nats: (B, T, V) logits and (B, T) ids to (B, T)."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none").view_as(targets)


def compute_losses(
    config: LossConfig, model: NextConceptModel, output: ModelOutput, tokens: Tensor, mask: Tensor
) -> Losses:
    """The loss of a batch.

    Args:
        config: what to weigh how.
        model: reads predicted concepts back into tokens.
        output: what ``model`` made of ``tokens[:, :-1]``.
        tokens: (B, T + 1) int64.
        mask: (B, T + 1) bool; False for tokens that are not to be learnt. A concept counts if all of its tokens do.
    """
    learnt = mask[:, 1:]
    total = tokens_loss = (token_losses(output.logits, tokens[:, 1:]) * learnt).sum() / learnt.sum().clamp(min=1)
    concepts = {}
    for level in output.plans:
        concepts[level] = _concept_terms(config, model, output, level, tokens[:, :-1], mask[:, :-1])
        total = total + config.weight(level) * concepts[level].total
    return Losses(total, tokens_loss, concepts)


def _concept_terms(
    config: LossConfig, model: NextConceptModel, output: ModelOutput, level: int, tokens: Tensor, mask: Tensor
) -> ConceptTerms:
    plan, horizon = output.plans[level].float(), output.plans[level].shape[2]
    targets, known = future(output.concepts[level].detach().float(), horizon)
    span, count = model.config.hierarchy.span(level), targets.shape[1] - 1
    learnt = mask[:, : count * span].unflatten(1, (count, span)).all(2)
    valid = future(learnt[..., None].float(), horizon)[0][..., 0] * known
    counts = valid.sum((0, 1))

    def mean(values: Tensor) -> Tensor:
        return (values * valid).sum((0, 1)) / counts.clamp(min=1)

    steps = {}
    for name in config.terms:
        distance = _decode(config, model, plan, level, tokens) if name == "decode" else DISTANCES[name](plan, targets)
        steps[name] = mean(distance)
    discounts = config.discount ** torch.arange(horizon, device=plan.device)
    weighted = sum((weight * (discounts * steps[name]).mean() for name, weight in config.terms.items()), plan.sum() * 0)
    similarity = steps["cosine"].neg() + 1 if "cosine" in steps else mean(F.cosine_similarity(plan, targets, dim=-1))
    return ConceptTerms(weighted, steps, similarity.detach(), counts)


def _decode(config: LossConfig, model: NextConceptModel, plan: Tensor, level: int, tokens: Tensor) -> Tensor:
    """Cross-entropy of the tokens under each planned concept, read back by unbinding: (B, A, H, D) to (B, A, H)."""
    span, count = model.config.hierarchy.span(level), plan.shape[1] - 1
    logits = config.decode_scale * model.encoder.read_back(plan, level)
    chunks = tokens[:, : count * span].unflatten(1, (count, span)).float()
    truth = future(chunks, plan.shape[2])[0].long()
    losses = F.cross_entropy(logits.flatten(0, -2), truth.flatten(), reduction="none")
    return losses.unflatten(0, truth.shape).mean(-1)
