"""Token cross-entropy plus concept regression.

Shapes: B batch, T tokens, A anchors, H horizon, N concepts, D width of a level, V vocabulary, S = c^level tokens under a
concept.
"""

import copy
import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nextconcept.core.errors import InputError
from nextconcept.nn.concept_predictor import Prediction
from nextconcept.nn.model import ModelOutput, NextConceptModel, horizon_targets

__all__ = [
    "TERMS",
    "ConceptLoss",
    "LossConfig",
    "Losses",
    "LossInputs",
    "compute_losses",
    "loss_flops_per_token",
    "token_losses",
]


@dataclass
class LossConfig:
    """Weights of the loss ``CE + sum_l w_l mean_j gamma^j D(p^l[m, j], sg(k^l_(m+j)))``.

    Args:
        terms: the parts of D and their weights, any of

            - ``cosine``: 1 - cos; ``mse``, ``mae``, ``smooth_l1``: per feature;
            - ``info_nce``: the right concept among all of its window by cosine (van den Oord et al., 2018);
            - ``energy``: the energy score of plans drawn with noise (Gneiting & Raftery, 2007), a proper scoring rule;
              needs ``noise_width``;
            - ``decode``: cross-entropy of the tokens read back out of the predicted concept; needs an additive composition;
            - ``package.module.function``, one of your own: from :class:`LossInputs` to (B, A, H) distances.
        level_weight: w, for all concept levels or a list, level 1 first.
        discount: gamma, per step of the horizon; above 1 the far steps weigh most, for plans that are found from their end.
        temperature: of ``info_nce``.
        decode_scale: tau, the inverse temperature of ``decode``.

    Raises:
        InputError: if a term is unknown or a number is out of range.
    """

    terms: dict[str, float] = field(default_factory=lambda: {"cosine": 1.0})
    level_weight: float | list[float] = 0.3
    discount: float = 1.0
    temperature: float = 0.1
    decode_scale: float = 16.0

    def __post_init__(self) -> None:
        for name, weight in self.terms.items():
            _term(name)
            if weight < 0:
                raise InputError(f"the weight of concept loss {name!r} must be 0 or more, not {weight}.")
        if self.discount <= 0:
            raise InputError(f"discount must be above 0, not {self.discount}.")
        if self.temperature <= 0 or self.decode_scale <= 0:
            raise InputError(f"temperature {self.temperature} and decode_scale {self.decode_scale} must be positive.")

    def check(self, model: NextConceptModel) -> None:
        """Raise :class:`InputError` unless ``model`` offers what the terms and weights need."""
        config = model.config
        for level in config.hierarchy.concept_levels:
            self.weight(level)
            for name in self.terms.keys() - TERMS.keys():
                _try_out(name, self, model, level)
        if "energy" in self.terms and not config.planner.noise_width:
            raise InputError(
                "concept loss 'energy' compares plans drawn with noise: set the model's noise_width above 0."
            )
        if "decode" in self.terms and not config.encoder.additive:
            raise InputError(
                f"concept loss 'decode' needs a composition that is a sum or mean, not {config.encoder.composition!r}."
            )

    def weight(self, level: int) -> float:
        """Return w of a concept level.

        Raises:
            InputError: if a list was given that ends below ``level``.
        """
        if not isinstance(self.level_weight, list):
            return self.level_weight
        if level > len(self.level_weight):
            raise InputError(f"level_weight {self.level_weight} has no value for concept level {level}.")
        return self.level_weight[level - 1]


@dataclass
class ConceptLoss:
    """The concept loss of one level.

    Attributes:
        total: scalar, ``mean_j gamma^j D``, without w.
        steps: per term, (H,) its mean at each horizon step, undiscounted.
        similarity: (H,) mean cosine of prediction and target at each horizon step.
        counts: (H,) concepts that each mean is over.
        targets: (B, A, H, D) concepts that the plan is about.
        valid: (B, A, H) bool, where they count.
    """

    total: Tensor
    steps: dict[str, Tensor]
    similarity: Tensor
    counts: Tensor
    targets: Tensor
    valid: Tensor


@dataclass
class Losses:
    """All parts of the loss, each of them a scalar or a :class:`ConceptLoss` per level."""

    total: Tensor
    tokens: Tensor
    concepts: dict[int, ConceptLoss]


@dataclass
class LossInputs:
    """What a term may look at; each term maps it to (B, A, H) distances."""

    config: LossConfig
    model: NextConceptModel
    output: ModelOutput
    level: int
    tokens: Tensor
    plan: Tensor
    targets: Tensor


def _similarity(plan: Tensor, targets: Tensor) -> Tensor:
    """Cosine of (..., D) vectors, without the normalised copies that ``F.cosine_similarity`` makes of both."""
    squares = plan.square().sum(-1) * targets.square().sum(-1)
    return (plan * targets).sum(-1) * squares.clamp(min=1e-16).rsqrt()


def _cosine(at: LossInputs) -> Tensor:
    return 1 - _similarity(at.plan, at.targets)


def _mse(at: LossInputs) -> Tensor:
    return F.mse_loss(at.plan, at.targets, reduction="none").mean(-1)


def _mae(at: LossInputs) -> Tensor:
    return F.l1_loss(at.plan, at.targets, reduction="none").mean(-1)


def _smooth_l1(at: LossInputs) -> Tensor:
    return F.smooth_l1_loss(at.plan, at.targets, reduction="none").mean(-1)


def _info_nce(at: LossInputs) -> Tensor:
    concepts = F.normalize(at.output.concepts[at.level].detach().float(), dim=-1)
    targets = F.normalize(at.targets, dim=-1)
    plan = F.normalize(at.plan, dim=-1)
    right = (plan * targets).sum(-1, keepdim=True) / at.config.temperature
    others = torch.einsum("bahd,bnd->bahn", plan, concepts) / at.config.temperature
    # A chunk that occurs twice is no wrong answer, and neither is the target itself.
    same = torch.einsum("bahd,bnd->bahn", targets, concepts) > 1 - 1e-4
    return torch.cat((right, others.masked_fill(same, -torch.inf)), -1).logsumexp(-1) - right.squeeze(-1)


def _energy(at: LossInputs) -> Tensor:
    steps = at.output.predictions[at.level].steps
    first, second = at.model.predictor(at.level).sample(steps, 2).float()
    scale = 1 / math.sqrt(at.plan.shape[-1])

    def apart(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().sum(-1).clamp(min=1e-12).sqrt() * scale

    return (apart(first, at.targets) + apart(second, at.targets)) / 2 - apart(first, second) / 2


def _decode(at: LossInputs) -> Tensor:
    span, count = at.model.config.hierarchy.span(at.level), at.plan.shape[1] - 1
    logits = at.config.decode_scale * at.model.encoder.read_back(at.plan, at.level)
    chunks = at.tokens[:, : count * span].unflatten(1, (count, span)).float()
    truth = horizon_targets(chunks, at.plan.shape[2])[0].long()
    losses = F.cross_entropy(logits.flatten(0, -2), truth.flatten(), reduction="none")
    return losses.view(truth.shape).mean(-1)


TERMS: dict[str, Callable[[LossInputs], Tensor]] = {
    "cosine": _cosine,
    "mse": _mse,
    "mae": _mae,
    "smooth_l1": _smooth_l1,
    "info_nce": _info_nce,
    "energy": _energy,
    "decode": _decode,
}
"""Concept losses by name."""


def _term(name: str) -> Callable[[LossInputs], Tensor]:
    """A concept loss by its name, or by the full name of a function.

    Raises:
        InputError: if there is none.
    """
    if name in TERMS:
        return TERMS[name]
    place, _, function = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(place), function)
    except (ImportError, AttributeError, ValueError):
        raise InputError(
            f"unknown concept loss {name!r}: choose from {', '.join(TERMS)}, or give the full name of a function that can be imported."
        ) from None
    if not callable(found):
        raise InputError(f"the concept loss {name!r} is no function, but {type(found).__name__}.")
    return cast(Callable[[LossInputs], Tensor], found)


def _try_out(name: str, config: LossConfig, model: NextConceptModel, level: int) -> None:
    """Call a term of the user's own once, on a window of two chunks that are no real ones.

    Raises:
        InputError: if it fails, or does not return a distance for each planned concept.
    """
    width, horizon = model.config.widths[level], model.config.horizon_of(level)
    concepts = torch.linspace(-1, 1, 2 * width).view(1, 2, width)
    targets, _ = horizon_targets(concepts, horizon)
    plan, tokens = targets.flip(-1), torch.zeros(1, 2 * model.config.hierarchy.span(level), dtype=torch.long)
    prediction = Prediction(plan, plan[:, :, 0], plan)
    output = ModelOutput(torch.empty(0), {level: plan}, {level: concepts}, {level: prediction}, 0)
    try:
        found = _term(name)(LossInputs(config, model, output, level, tokens, plan, targets))
    except Exception as error:  # it may be anything
        raise InputError(
            f"the concept loss {name!r} fails on a plan of shape {tuple(plan.shape)}: {error!r}."
        ) from error
    if not isinstance(found, Tensor) or found.shape != plan.shape[:3]:
        told = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            f"the concept loss {name!r} returned {told} for a plan of shape {tuple(plan.shape)}: it must return one distance per planned "
            f"concept, {tuple(plan.shape[:3])}."
        )


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each token in nats: (B, T, V) logits and (B, T) ids to (B, T)."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none").view_as(targets)


def compute_losses(
    config: LossConfig,
    model: NextConceptModel,
    output: ModelOutput,
    tokens: Tensor,
    mask: Tensor,
    level_factors: dict[int, float] | None = None,
) -> Losses:
    """Compute the loss of a batch.

    Args:
        config: what to weigh how.
        model: reads predicted concepts back into tokens.
        output: what ``model`` made of ``tokens[:, :-1]``.
        tokens: (B, T + 1) int64.
        mask: (B, T + 1) bool; False for tokens that are not to be learnt. A planned concept counts if all tokens from the
            anchor to its end do.
        level_factors: further factors on w, of a curriculum.
    """
    learnt = mask[:, 1:]
    total = tokens_loss = (token_losses(output.logits, tokens[:, 1:]) * learnt).sum() / learnt.sum().clamp(min=1)
    # Padding in front is part of a chunk that is not learnt.
    inputs, known = (F.pad(part[:, :-1], (output.offset, 0)) for part in (tokens, mask))
    concepts = {}
    for level in output.plans:
        terms = concepts[level] = _concept_terms(config, model, output, level, inputs, known)
        total = total + config.weight(level) * (level_factors or {}).get(level, 1.0) * terms.total
    return Losses(total, tokens_loss, concepts)


def _concept_terms(
    config: LossConfig, model: NextConceptModel, output: ModelOutput, level: int, tokens: Tensor, mask: Tensor
) -> ConceptLoss:
    plan, horizon = output.plans[level].float(), output.plans[level].shape[2]
    targets, known = horizon_targets(output.concepts[level].detach().float(), horizon)
    span, count = model.config.hierarchy.span(level), targets.shape[1] - 1
    learnt = mask[:, : count * span].unflatten(1, (count, span)).all(2)
    # A plan counts as far as all that it is about is to be learnt: one made inside a prompt says nothing about the answer.
    valid = (horizon_targets(learnt[..., None].float(), horizon)[0][..., 0] * known).cumprod(2)
    counts = valid.sum((0, 1))

    def mean(values: Tensor) -> Tensor:
        return (values * valid).sum((0, 1)) / counts.clamp(min=1)

    at = LossInputs(config, model, output, level, tokens, plan, targets)
    steps = {name: mean(_term(name)(at)) for name in config.terms}
    discounts = config.discount ** torch.arange(horizon, device=plan.device)
    # The empty sum keeps every parameter of the level in the graph, as DDP wants.
    weighted = sum((weight * (discounts * steps[name]).mean() for name, weight in config.terms.items()), plan.sum() * 0)
    similarity = 1 - steps["cosine"] if "cosine" in steps else mean(_similarity(plan.detach(), targets))
    return ConceptLoss(weighted, steps, similarity.detach(), counts, targets, valid.bool())


def loss_flops_per_token(config: LossConfig, model: NextConceptModel, time: int) -> float:
    """Floating-point operations of the concept losses of ``time`` tokens, forward and backward, per token.

    They come on top of three times ``model.flops_per_token(time)``; ``decode``, which scores the whole vocabulary at every place of every
    planned chunk, is the dear one. Counted as there, on shapes without data.
    """
    ghost = copy.deepcopy(model).to("meta")
    tokens = torch.zeros(1, time + 1, dtype=torch.long, device="meta")
    output = ghost(tokens[:, :-1])
    plans = {level: plan.detach().requires_grad_() for level, plan in output.plans.items()}
    leaves = ModelOutput(output.logits.detach(), plans, output.concepts, output.predictions, output.offset)
    with FlopCounterMode(display=False) as counter:
        losses = compute_losses(config, ghost, leaves, tokens, torch.ones_like(tokens, dtype=torch.bool))
        if plans:
            losses.total.backward()
    return float(counter.get_total_flops()) / time
