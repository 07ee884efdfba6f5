"""The training loss: token cross-entropy plus concept losses.

Shapes: B batch, T tokens, A anchors, H horizon, D width of a level, V vocabulary.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.core.settings import check_types
from nextconcept.nn.concept_encoder import READ_BACK_SCALE
from nextconcept.nn.flops import counted_products, without_data
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.model_output import ModelOutput, horizon_targets
from nextconcept.nn.transformer import Transformer
from nextconcept.training.loss_terms import TERMS, LossInputs, cosine_similarity, find_term, name_of_term, try_term
from nextconcept.training.objectives import Objective, check_terms, token_loss

__all__ = [
    "ConceptLoss",
    "LossConfig",
    "LossInputs",
    "Losses",
    "compute_losses",
    "training_flops_per_token",
]


@dataclass
class LossConfig:
    """Weights of the loss ``CE + sum_l w_l mean_j gamma^j D(p^l[m, j], sg(k^l_(m+j)))``.

    The mean is over the steps j of the horizon at which the batch has concepts to be learnt. With
    ``levels: 1`` there are no concepts, and these settings have no effect.

    Args:
        terms: the parts of D and their weights, any of

            - ``cosine``: 1 - cos; ``mse``, ``mae``, ``smooth_l1``: per feature;
            - ``info_nce``: the right concept among all concepts of its window, by cosine (van den
              Oord et al., 2018);
            - ``energy``: the energy score of plans drawn with noise (Gneiting & Raftery, 2007), a
              proper scoring rule; needs the model's ``noise_width``;
            - ``decode``: cross-entropy of the tokens read back from the predicted concept; needs an
              additive composition;
            - ``draft``: cross-entropy of the tokens that the draft head reads from the plan of
              level 1; it trains the head alone. Needs the model's ``planner.draft_width``;
            - ``package.module.function``: your own function from
              :class:`~nextconcept.training.losses.LossInputs` to (B, A, H) distances; in Python
              also the function itself, if it can be imported by its full name.
        level_weight: w, for all concept levels or a list, level 1 first.
        discount: gamma, per step of the horizon; above 1 the far steps weigh most, which helps
            plans that are found from their end.
        horizon: steps of a plan that the concept loss counts, from the first on; None for all.
        temperature: of ``info_nce``.
        decode_scale: tau, the inverse temperature of ``decode``.
        decode_share: share of the anchors, or of the tokens where rules cut chunks, that ``decode``
            and ``draft`` score in a training step. They are drawn anew in each, and weigh more
            accordingly.

    Raises:
        InputError: if a term is unknown or a number is out of range.
    """

    terms: dict[str, float] = field(default_factory=lambda: {"cosine": 1.0})
    level_weight: float | list[float] = 0.3
    discount: float = 1.0
    horizon: int | None = None
    temperature: float = 0.1
    decode_scale: float = READ_BACK_SCALE
    decode_share: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.terms, dict):
            raise InputError(f"the terms of the loss must map names to weights, not be {type(self.terms).__name__}.")
        self.terms = {name_of_term(term): weight for term, weight in self.terms.items()}
        check_types(self, "loss.")
        for name, weight in self.terms.items():
            find_term(name)
            if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise InputError(f"the weight of concept loss {name!r} must be 0 or more, not {weight!r}.")
        weights = self.level_weight if isinstance(self.level_weight, list) else [self.level_weight]
        if not all(0 <= weight < math.inf for weight in weights):
            raise InputError(f"level_weight must be 0 or more, not {self.level_weight}.")
        if not 0 < self.discount < math.inf:
            raise InputError(f"discount must be above 0, not {self.discount}.")
        if self.horizon is not None and self.horizon < 1:
            raise InputError(f"horizon of the loss must be 1 or more, not {self.horizon}.")
        if not (0 < self.temperature < math.inf and 0 < self.decode_scale < math.inf):
            raise InputError(f"temperature {self.temperature} and decode_scale {self.decode_scale} must be positive.")
        if not 0 < self.decode_share <= 1:
            raise InputError(f"decode_share must be above 0 and at most 1, not {self.decode_share}.")

    def check(self, model: NextConceptModel) -> None:
        """Check that a model offers what the terms need.

        Raises:
            InputError: if it does not, or if ``level_weight`` is a list that is too short. Values
                for levels that the model lacks do nothing, so that an experiment can be run with
                fewer levels.
        """
        config = model.config
        for level in config.hierarchy.concept_levels:
            self.weight(level)
            for name in self.terms.keys() - TERMS.keys():
                try_term(name, model, level)
        if config.levels == 1:
            return  # no concepts, no terms
        if "energy" in self.terms and not config.planner.noise_width:
            raise InputError(
                "concept loss 'energy' compares plans drawn with noise: set the model's noise_width above 0."
            )
        if "draft" in self.terms and model.draft_head is None:
            raise InputError("concept loss 'draft' trains a draft head: set the model's planner.draft_width above 0.")
        if "decode" in self.terms and not config.encoder.additive:
            raise InputError(
                f"concept loss 'decode' needs a composition that is a sum or mean, not {config.encoder.composition!r}."
            )

    def weight(self, level: int) -> float:
        """Return w of a concept level.

        Raises:
            InputError: if ``level_weight`` is a list that ends below ``level``.
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
        distances: (H',) its parts ``gamma^j D`` at the steps that the loss counts.
        steps: per term, (H,) its mean at each horizon step, undiscounted.
        counts: (H,) number of concepts in each mean.
        plan: (B, A, H, D) predicted concepts, in training those of the steps that the loss counts.
        targets: (B, A, H, D) realised concepts.
        valid: (B, A, H) bool, False where a concept is not to be learnt.
    """

    total: Tensor
    distances: Tensor
    steps: dict[str, Tensor]
    counts: Tensor
    plan: Tensor
    targets: Tensor
    valid: Tensor

    @property
    def similarity(self) -> Tensor:
        """(H,) mean cosine of prediction and target at each horizon step."""
        cosine = cosine_similarity(self.plan, self.targets)
        return (cosine * self.valid).sum((0, 1)) / self.counts.clamp(min=1)


@dataclass
class Losses:
    """All parts of the loss.

    Attributes:
        total: scalar, the training loss.
        tokens: scalar, mean cross-entropy in nats per token.
        concepts: per concept level, its concept loss.
        terms: the terms of an objective, whose sum replaces ``tokens`` in ``total``.
    """

    total: Tensor
    tokens: Tensor
    concepts: dict[int, ConceptLoss]
    terms: dict[str, Tensor] = field(default_factory=dict)

    def named(self) -> dict[str, Tensor]:
        """Return the detached parts by the names that messages use."""
        named = {f"concept loss of level {level}": loss.total.detach() for level, loss in self.concepts.items()}
        terms = {f"term {name} of the objective": term.detach() for name, term in self.terms.items()}
        return {"cross-entropy of tokens": self.tokens.detach(), **terms, **named}


def compute_losses(
    config: LossConfig,
    model: NextConceptModel,
    output: ModelOutput,
    tokens: Tensor,
    mask: Tensor,
    level_factors: dict[int, float] | None = None,
    objective: Objective | None = None,
) -> Losses:
    """Compute the loss of a batch.

    Args:
        config: terms and weights.
        model: the model, which reads predicted concepts back into tokens.
        output: the model's output for ``tokens[:, :-1]``, or for the inputs of the objective.
        tokens: (B, T + 1) int64.
        mask: (B, T + 1) bool, False for tokens that are not to be learnt. A planned concept counts
            if all tokens from the anchor to the end of the concept do.
        level_factors: per concept level, a factor on w, as a curriculum sets it.
        objective: what is learnt instead of the next token, or None.

    Raises:
        InputError: if the terms of the objective are not those that it declares.
    """
    terms: dict[str, Tensor] = {} if objective is None else objective(model, output, tokens, mask)
    if objective is not None:
        check_terms(objective, terms)
    with torch.set_grad_enabled(torch.is_grad_enabled() and not terms):  # beside terms it is shown alone
        total = tokens_loss = token_loss(output.logits, tokens, mask)
    if terms:
        total = torch.stack([term.float() for term in terms.values()]).sum()
    # A chunk that holds padding in front of the tokens is not learnt.
    inputs, known = (F.pad(part[:, :-1], (output.offset, 0)) for part in (tokens, mask))
    concepts = {}
    for level in output.plans:
        concepts[level] = _concept_loss(config, model, output, level, inputs, known)
        total = total + config.weight(level) * (level_factors or {}).get(level, 1.0) * concepts[level].total
    return Losses(total, tokens_loss, concepts, terms)


def _concept_loss(
    config: LossConfig, model: NextConceptModel, output: ModelOutput, level: int, tokens: Tensor, mask: Tensor
) -> ConceptLoss:
    whole = output.plans[level].float()
    plan = whole[:, :, : config.horizon] if model.training else whole  # evaluation shows all steps
    horizon = plan.shape[2]
    targets, known = horizon_targets(output.concepts[level].detach().float(), horizon, output.counts(level))
    if output.chunks is None:
        span, count = model.config.hierarchy.span(level), targets.shape[1] - 1
        learnt = mask[:, : count * span].unflatten(1, (count, span)).all(2)
    else:
        learnt = mask
        for lower in range(1, level + 1):
            learnt = output.chunks[lower].all(learnt)
    # A plan counts up to the first concept that is not learnt: inside a prompt it says nothing
    # about the answer.
    valid = (horizon_targets(learnt[..., None].float(), horizon)[0][..., 0] * known).cumprod(2)
    counts = valid.sum((0, 1))

    def mean(values: Tensor) -> Tensor:
        """Return the means (H,) of (B, A, H) values over concepts that are learnt."""
        return (values * valid).sum((0, 1)) / counts.clamp(min=1)

    settings = config.temperature, config.decode_scale, config.decode_share
    inputs = LossInputs(model, output, level, tokens, plan, targets, valid, *settings)
    steps = {name: mean(find_term(name)(inputs)) for name in config.terms}
    discounts = config.discount ** torch.arange(horizon, device=plan.device)
    # Empty sums keep every parameter of the level in the graph, as DDP demands.
    distances, noise = (whole.sum() * 0).expand(horizon), model.predictor(level).head.noise
    if noise is not None:
        distances = distances + noise.weight.sum() * 0
    for name, weight in config.terms.items():
        distances = distances + weight * discounts * steps[name]
    distances = distances[: config.horizon]
    total = distances.sum() / (counts[: config.horizon] > 0).sum().clamp(min=1)
    return ConceptLoss(total, distances.detach(), steps, counts, plan.detach(), targets, valid.bool())


def training_flops_per_token(
    config: LossConfig, model: NextConceptModel, time: int, objective: Objective | None = None
) -> float:
    """Count the floating-point operations of a training step on ``time`` tokens, per token.

    Forward pass, losses and backward pass are counted, on shapes without data; what an objective
    computes is included, what checkpointing computes again is not. The expensive concept loss is
    ``decode``, which scores the whole vocabulary at every position of every planned chunk, or of a
    share of them. With ``chunk_alignment: end``, where each step draws how much padding a window
    begins with, it is the mean over four lengths of padding.
    """
    ghost = without_data(model).train()  # a part is computed in training alone
    for stack in ghost.modules():
        if isinstance(stack, Transformer):
            stack.gradient_checkpointing = False
    own = None if objective is None else without_data(objective)
    tokens = torch.zeros(1, time + 1, dtype=torch.long, device="meta")
    offsets: list[int | None] = [None]
    if model.config.encoder.chunk_alignment == "end":
        offsets = [(2 * part + 1) * model.config.hierarchy.top_span // 8 for part in range(4)]
    with counted_products() as counter:
        for offset in offsets:
            output = ghost(tokens[:, :-1], offset=offset)
            losses = compute_losses(config, ghost, output, tokens, torch.ones_like(tokens, dtype=torch.bool), None, own)
            losses.total.backward()
    return counter.get_total_flops() / time / len(offsets)
