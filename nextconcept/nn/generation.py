"""Writing token by token.

Shapes: B batch, T tokens, V vocabulary, D width of a level, H horizon.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from nextconcept.errors import InputError
from nextconcept.hierarchy import Hierarchy
from nextconcept.nn.concept_encoder import PADDING
from nextconcept.nn.decoding import CachedDecoder, PlainDecoder

if TYPE_CHECKING:
    from nextconcept.nn.model import NextConceptModel

__all__ = ["PlanEdit", "Sampling", "check_prompt", "sample", "visible_from", "write"]


@dataclass
class Sampling:
    """How tokens are drawn.

    Args:
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: keep the k likeliest tokens.
        top_p: keep the smallest set of likeliest tokens whose probability reaches p (Holtzman et al., 2020).
        min_p: keep tokens at least this times as likely as the likeliest (Nguyen et al., 2024).

    Raises:
        InputError: if a number is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature must be 0 or more, not {self.temperature}.")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k must be 1 or more, not {self.top_k}.")
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"{name} must be above 0 and at most 1, not {value}.")


@dataclass
class PlanEdit:
    """A planned concept that is replaced until it has been written.

    Attributes:
        level: of the plan, 1 or more.
        step: of the plan that is made at the end of the prompt, from 0.
        concept: (D,) what to plan instead, or (B, D), one for each row; see :meth:`~nextconcept.NextConceptModel.compose`.
    """

    level: int
    step: int
    concept: Tensor


def check_prompt(tokens: Tensor, vocab_size: int, lengths: Tensor | None = None) -> Tensor:
    """Check a prompt, and return the length of each of its rows.

    Raises:
        InputError: unless ``tokens`` is (B, T) int64, T >= 1, of ids below ``vocab_size``, and ``lengths`` (B,) int64 from 1
            to T.
    """
    if tokens.dim() != 2 or tokens.shape[0] < 1 or tokens.shape[1] < 1:
        raise InputError(f"a prompt needs shape (batch, time) and at least one token, not {tuple(tokens.shape)}.")
    if tokens.dtype != torch.int64:
        raise InputError(f"a prompt holds int64 token ids, not {tokens.dtype}.")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= vocab_size:
        raise InputError(
            f"token id {low if low < 0 else high} of the prompt is outside the vocabulary of {vocab_size} tokens."
        )
    if lengths is None:
        return torch.full((len(tokens),), tokens.shape[1])
    lengths = lengths.cpu()
    if lengths.shape != (len(tokens),) or lengths.min() < 1 or lengths.max() > tokens.shape[1]:
        raise InputError(f"lengths must be one number from 1 to {tokens.shape[1]} per row, not {lengths.tolist()}.")
    return lengths


def sample(logits: Tensor, options: Sampling, generator: Generator | None) -> Tensor:
    """Draw one token per row: (B, V) logits to (B,) ids."""
    if options.temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / options.temperature
    if options.top_k is not None and options.top_k < logits.shape[-1]:
        floor = logits.topk(options.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < floor, -torch.inf)
    if options.top_p is not None:
        ordered, index = logits.sort(descending=True)
        probabilities = ordered.softmax(-1)
        beyond = probabilities.cumsum(-1) - probabilities >= options.top_p
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(1, index, beyond), -torch.inf)
    probabilities = logits.softmax(-1)
    if options.min_p is not None:
        floor = options.min_p * probabilities.amax(-1, keepdim=True)
        probabilities = probabilities.masked_fill(probabilities < floor, 0)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(1)


def visible_from(lengths: Tensor, context: int, hierarchy: Hierarchy) -> Tensor:
    """The first token that a model sees of texts of given lengths.

    A text that outgrows the context loses whole top-level chunks, so that the grid stays where it was, and half of the
    context at once, so that a cache has to be filled anew only once per half context.
    """
    span = hierarchy.top_span
    hop = max(span, context // 2 // span * span)
    excess = (lengths - context).clamp(min=0)
    return (excess + hop - 1) // hop * hop


class _Edits:
    """Applies edits to the plans of the anchors from the end of the prompt on."""

    def __init__(self, edits: list[PlanEdit], lengths: Tensor, hierarchy: Hierarchy) -> None:
        self.edits, self.lengths, self.hierarchy = edits, lengths, hierarchy

    def __call__(self, level: int, plan: Tensor, anchors: Tensor, rows: Tensor) -> Tensor:
        since = (self.lengths[rows] // self.hierarchy.span(level))[:, None]
        for edit in self.edits:
            if edit.level == level:
                steps = (since + edit.step - anchors)[..., None] == torch.arange(plan.shape[2])
                here = (steps & (anchors >= since)[..., None]).to(plan.device)
                concept = edit.concept if edit.concept.dim() == 1 else edit.concept[rows.to(plan.device)][:, None, None]
                plan = torch.where(here[..., None], concept.to(plan.dtype), plan)
        return plan


@torch.no_grad()
def write(
    model: "NextConceptModel",
    tokens: Tensor,
    max_new_tokens: int,
    sampling: Sampling,
    generator: Generator | None = None,
    use_cache: bool = True,
    lengths: Tensor | None = None,
    edits: list[PlanEdit] | None = None,
) -> Iterator[Tensor]:
    """Continue prompts, and yield the (B,) next tokens one after another; :meth:`~nextconcept.NextConceptModel.generate` is
    the same in one piece, and describes the arguments.

    Raises:
        InputError: if prompts or options can't be used.
    """
    config, hierarchy = model.config, model.config.hierarchy
    lengths = check_prompt(tokens, config.vocab_size, lengths)
    if max_new_tokens < 0:
        raise InputError(f"max_new_tokens must be 0 or more, not {max_new_tokens}.")
    for edit in edits or []:
        _check_edit(edit, model, len(tokens))
    offsets = -lengths % hierarchy.top_span if config.grid == "end" else torch.zeros_like(lengths)
    size = int(offsets.max()) + tokens.shape[1] + max_new_tokens
    ids = torch.where(torch.arange(size) < offsets[:, None], PADDING, 0).to(tokens.device)
    index = (offsets[:, None] + torch.arange(tokens.shape[1])).to(ids.device)
    ids.scatter_(1, index, tokens)
    lengths = lengths + offsets
    hook = _Edits(edits, lengths, hierarchy) if edits else None
    size = min(config.context_length, int(lengths.max()) + max_new_tokens)
    decoder = CachedDecoder(model, len(ids), size, hook) if use_cache else PlainDecoder(model, hook)
    for _ in range(max_new_tokens):
        logits = decoder(ids, visible_from(lengths, config.context_length, hierarchy), lengths)
        drawn = sample(logits, sampling, generator)
        ids.scatter_(1, lengths[:, None].to(ids.device), drawn[:, None])
        lengths = lengths + 1
        yield drawn


def _check_edit(edit: PlanEdit, model: "NextConceptModel", rows: int) -> None:
    levels = model.config.hierarchy.concept_levels
    if edit.level not in levels:
        known = ", ".join(map(str, levels)) or "no level, for it has tokens alone"
        raise InputError(f"there is no plan of level {edit.level}: this model plans at {known}.")
    horizon, width = model.config.horizon_of(edit.level), model.config.widths[edit.level]
    if not 0 <= edit.step < horizon:
        raise InputError(f"the plan of level {edit.level} has steps 0 to {horizon - 1}, not {edit.step}.")
    if edit.concept.shape not in ((width,), (rows, width)):
        raise InputError(
            f"a concept of level {edit.level} has shape ({width},), or ({rows}, {width}) for {rows} rows, not "
            f"{tuple(edit.concept.shape)}: make one with compose()."
        )
