"""Distances between planned and realised concepts: the terms of the concept loss.

Shapes: B batch, T tokens, A anchors, H horizon, N concepts, D width of a level, V vocabulary.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.nn.chunks import Chunks, chunk_of_tokens
from nextconcept.nn.concept_encoder import PADDING, READ_BACK_SCALE
from nextconcept.nn.draft_head import DraftHead, tokens_before
from nextconcept.nn.eval_mode import eval_mode
from nextconcept.nn.layers import full_precision
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.model_output import ModelOutput, horizon_targets

__all__ = ["TERMS", "LossInputs", "cosine_similarity", "find_term", "name_of_term", "try_term"]


@dataclass
class LossInputs:
    """Arguments of a term, which maps them to (B, A, H) distances.

    Attributes:
        model: the model that made the plan.
        output: the result of its forward pass.
        level: concept level of the plan, 1 or more.
        tokens: (B, T) int64 inputs, with the padding in front that ``output.offset`` counts.
        plan: (B, A, H, D) predicted concepts, in training those of the steps that the loss counts.
        targets: (B, A, H, D) realised concepts, zero beyond the window.
        valid: (B, A, H) 1 for the concepts that are to be learnt, whose distances alone count, and
            0 for those of padding or prompt, or beyond the window.
        temperature: of ``info_nce``.
        decode_scale: inverse temperature of ``decode``.
        decode_share: share of what ``decode`` and ``draft`` score in training.
    """

    model: NextConceptModel
    output: ModelOutput
    level: int
    tokens: Tensor
    plan: Tensor
    targets: Tensor
    valid: Tensor
    temperature: float = 0.1
    decode_scale: float = READ_BACK_SCALE
    decode_share: float = 1.0


Term = Callable[[LossInputs], Tensor]


def cosine_similarity(plan: Tensor, targets: Tensor) -> Tensor:
    """Compute the cosine of (..., D) vectors.

    Unlike ``F.cosine_similarity``, this function makes no normalised copies of its inputs.
    """
    squares = plan.square().sum(-1) * targets.square().sum(-1)
    return (plan * targets).sum(-1) * squares.clamp(min=1e-16).rsqrt()


def _cosine(at: LossInputs) -> Tensor:
    return 1 - cosine_similarity(at.plan, at.targets)


def _mse(at: LossInputs) -> Tensor:
    return F.mse_loss(at.plan, at.targets, reduction="none").mean(-1)


def _mae(at: LossInputs) -> Tensor:
    return F.l1_loss(at.plan, at.targets, reduction="none").mean(-1)


def _smooth_l1(at: LossInputs) -> Tensor:
    return F.smooth_l1_loss(at.plan, at.targets, reduction="none").mean(-1)


def _info_nce(at: LossInputs) -> Tensor:
    with full_precision(at.plan.device):  # half precision can't tell the target from its likes
        return _contrast(at)


def _contrast(at: LossInputs) -> Tensor:
    concepts = F.normalize(at.output.concepts[at.level].detach().float(), dim=-1)
    targets = F.normalize(at.targets.float(), dim=-1)
    plan = F.normalize(at.plan.float(), dim=-1)
    right = (plan * targets).sum(-1, keepdim=True) / at.temperature
    others = torch.einsum("bahd,bnd->bahn", plan, concepts) / at.temperature
    # The target itself and further occurrences of the same chunk are no negatives.
    same = torch.einsum("bahd,bnd->bahn", targets, concepts) > 1 - 1e-4
    counts = at.output.counts(at.level)
    if counts is not None:
        same = same | (torch.arange(concepts.shape[1], device=same.device) >= counts[:, None, None, None])
    return torch.cat((right, others.masked_fill(same, -torch.inf)), -1).logsumexp(-1) - right.squeeze(-1)


def _energy(at: LossInputs) -> Tensor:
    steps = at.output.predictions[at.level].steps
    first, second = at.model.predictor(at.level).sample(steps, 2)[..., : at.plan.shape[2], :].float()
    scale = 1 / math.sqrt(at.plan.shape[-1])

    def distance(a: Tensor, b: Tensor) -> Tensor:
        """Return the Euclidean distance of (..., D), over the square root of D."""
        return (a - b).square().sum(-1).clamp(min=1e-12).sqrt() * scale

    return (distance(first, at.targets) + distance(second, at.targets)) / 2 - distance(first, second) / 2


def _decode(at: LossInputs) -> Tensor:
    return _read_tokens(at, at.plan)


def _draft(at: LossInputs) -> Tensor:
    """Score what the draft head reads of level 1; it takes the plan as it is."""
    if at.level > 1:
        return at.plan.new_zeros(at.plan.shape[:3])
    return _read_tokens(at, at.plan.detach(), at.model.draft_head)


def _read_tokens(at: LossInputs, plan: Tensor, head: DraftHead | None = None) -> Tensor:
    """Score the tokens that are read back from plans, by a head or from the plan alone."""
    if at.output.chunks is not None:
        return _read_chunks(at, plan, head, at.output.chunks)
    span, count = at.model.config.hierarchy.span(at.level), plan.shape[1] - 1
    encoder, scored = at.model.encoder, _Scored(at, plan.shape[0] * plan.shape[1])

    def planned(values: Tensor) -> Tensor:
        """Bring (B, T, ...) ids to the places of the planned chunks, (n, H, span, ...)."""
        chunks = values[:, : count * span].unflatten(1, (count, span)).flatten(2)
        found = scored.of(horizon_targets(chunks, plan.shape[2])[0])
        places: Tensor = found.unflatten(2, (span, *values.shape[2:]))
        return places

    unbound, truth = encoder.unbound(scored.of(plan), at.level), planned(at.tokens)
    before, vocabulary = planned(_before(at)) if head else None, _vocabulary(at, plan)
    losses = _token_losses(at, unbound, truth, vocabulary, head, before).mean(-1)
    if scored.index is None:
        return losses.view(plan.shape[:3])
    every = losses.new_zeros(scored.count, losses.shape[1])
    return every.index_add(0, scored.index, losses * scored.weight).view(plan.shape[:3])


def _before(at: LossInputs) -> Tensor:
    """Return the K tokens before each token, (B, T, K).

    Before the text stands nothing, also where chunks that end with it are filled up in front.
    """
    offset = at.output.offset
    return tokens_before(F.pad(at.tokens[:, offset:], (offset, 0), value=PADDING))


def _read_chunks(at: LossInputs, plan: Tensor, head: DraftHead | None, chunks: dict[int, Chunks]) -> Tensor:
    """Score each token of a chunk in its place, and take the mean over the chunk.

    A head scores the next chunk alone: those after it begin nobody knows where.
    """
    own, horizon, encoder = chunks[at.level], plan.shape[2], at.model.encoder
    slot = chunk_of_tokens(chunks, at.level)
    # At level 1 the places of tokens are those of their composition.
    offset = torch.arange(slot.shape[1], device=slot.device) - own.start.gather(1, slot)
    offset = own.turns(plan)[:, :-1] if at.level == 1 else offset
    sizes = (own.start[:, 1:] - own.start[:, :-1]).clamp(min=1)
    scored, rows = _Scored(at, slot.numel()), torch.arange(len(slot), device=slot.device)[:, None]
    offset, truth = scored.of(offset), scored.of(at.tokens)
    before, vocabulary = scored.of(_before(at)) if head else None, _vocabulary(at, plan)
    # Chunks and anchors of all rows one after the other.
    place = scored.of(rows * (own.most + 1) + slot)
    steps = []
    for step in range(1 if head else horizon):
        anchor = scored.of(rows * plan.shape[1] + (slot - step).clamp(min=0))
        unbound = encoder.unbound_at(plan[:, :, step].flatten(0, 1).index_select(0, anchor), offset)
        losses = _token_losses(at, unbound, truth, vocabulary, head, before) * scored.weight
        sums = losses.new_zeros(len(slot) * (own.most + 1)).index_add(0, place, losses).view(len(slot), -1)
        # Concept m + step is what anchor m plans at this step.
        steps.append(F.pad(sums[:, :-1] / sizes, (0, step + 1))[:, step:])
    return F.pad(torch.stack(steps, 2), (0, horizon - len(steps)))


def _vocabulary(at: LossInputs, plan: Tensor) -> Tensor:
    """Return the unit embeddings that a plan is compared with, (V, D)."""
    return at.model.encoder.vocabulary(plan.shape[-1]).to(plan.dtype)


def _token_losses(
    at: LossInputs,
    unbound: Tensor,
    truth: Tensor,
    vocabulary: Tensor,
    head: DraftHead | None,
    before: Tensor | None,
) -> Tensor:
    """Return the cross-entropies of tokens (...) by unbound concepts (..., D)."""
    if head is not None:
        unbound = head(unbound, before, vocabulary)
    logits = at.model.encoder.read_back_logits(unbound @ vocabulary.T, at.decode_scale, trained=head is None)
    return F.cross_entropy(logits.flatten(0, -2), truth.flatten(), reduction="none").view(truth.shape)


class _Scored:
    """Which tokens are read back: in training a random share, weighted to keep the mean of all.

    Args:
        at: arguments of the term.
        count: number of anchors or tokens in all rows.

    Attributes:
        index: (n,) those that are scored, or None for all.
        weight: ``count / n``.
    """

    def __init__(self, at: LossInputs, count: int) -> None:
        self.count, self.index, self.weight = count, None, 1.0
        if at.model.training and at.decode_share < 1:
            number = max(1, round(at.decode_share * count))
            self.index, self.weight = torch.randperm(count, device=at.plan.device)[:number], count / number

    def of(self, x: Tensor) -> Tensor:
        """Return what is scored of (B, A or T, ...): (n, ...)."""
        flat = x.flatten(0, 1)
        return flat if self.index is None else flat.index_select(0, self.index)


TERMS: dict[str, Term] = {
    "cosine": _cosine,
    "mse": _mse,
    "mae": _mae,
    "smooth_l1": _smooth_l1,
    "info_nce": _info_nce,
    "energy": _energy,
    "decode": _decode,
    "draft": _draft,
}
"""Terms by name."""


def find_term(name: str) -> Term:
    """Return a term by its name in :data:`TERMS` or by the full name of a function.

    Raises:
        InputError: if there is no such function.
    """
    if name in TERMS:
        return TERMS[name]
    module, _, function = name.rpartition(".")
    found = None
    try:
        found = getattr(importlib.import_module(module), function, None) if module else None
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is None or not f"{module}.".startswith(f"{missing}."):
            raise InputError(f"the concept loss {name!r} can't be imported: {error!r}.") from error
    if found is None:
        raise InputError(
            f"unknown concept loss {name!r}: choose from {', '.join(TERMS)}, or give the full name of a function that "
            "can be imported."
        )
    if not callable(found):
        raise InputError(f"the concept loss {name!r} is no function, but {type(found).__name__}.")
    return cast(Term, found)


def name_of_term(term: str | Term) -> str:
    """Return the name of a term that is given by its name or as the function itself.

    Raises:
        InputError: if the function can't be imported by a name, which a checkpoint stores.
    """
    if isinstance(term, str):
        return term
    name = f"{getattr(term, '__module__', None)}.{getattr(term, '__qualname__', None)}"
    try:
        found = find_term(name)
    except InputError:
        found = None
    if found is not term:
        raise InputError(
            f"the concept loss {term!r} can't be imported by a name, which a checkpoint stores: define a function at "
            "the top level of a module, and give the function or its full name."
        )
    return name


MOST_TRIED = 256
"""Tokens on which a term is tried where rules cut chunks, which may be long."""


def try_term(name: str, model: NextConceptModel, level: int) -> None:
    """Call a user's own term once, on what the model makes of a few tokens, if it can run yet.

    Raises:
        InputError: if the term fails or does not return a finite distance per planned concept.
    """
    try:
        inputs = _trial_inputs(model, level)
    except InputError:  # the first batch tries it
        return
    plan = inputs.plan
    try:
        found = find_term(name)(inputs)
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        raise InputError(
            f"the concept loss {name!r} fails on a plan of shape {tuple(plan.shape)}: {error!r}."
        ) from error
    if not isinstance(found, Tensor) or found.shape != plan.shape[:3]:
        result = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            f"the concept loss {name!r} returned {result} for a plan of shape {tuple(plan.shape)}: it must return one "
            f"distance per planned concept, {tuple(plan.shape[:3])}."
        )
    if not found.isfinite().all():
        raise InputError(
            f"the concept loss {name!r} is not finite for a target of zeros, as targets after the end of a window "
            "are: add a small number to what it divides by."
        )


@torch.no_grad()
def _trial_inputs(model: NextConceptModel, level: int) -> LossInputs:
    """Run the model on two short rows of tokens.

    Raises:
        InputError: if it has no values, or a rule whose tables come with the tokenizer of the data.
    """
    device, hierarchy = model.device, model.config.hierarchy
    if device.type == "meta":
        raise InputError("a model on the device meta has no values.")
    length = min(model.config.window_length, MOST_TRIED if hierarchy.rules else 2 * hierarchy.top_span)
    tokens = torch.randint(model.config.vocab_size, (2, length), generator=torch.Generator().manual_seed(0)).to(device)
    with eval_mode(model):
        output = model(tokens)
    plan = output.plans[level].float()
    targets, known = horizon_targets(output.concepts[level].float(), plan.shape[2], output.counts(level))
    return LossInputs(model, output, level, tokens, plan, targets, known.expand(plan.shape[:3]).float())
