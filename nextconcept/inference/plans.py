"""What a plan says, what was written instead, and how to change it.

Shapes: T tokens, H horizon, D width of a level, S tokens under a concept.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.data.tokenizers import Tokenizer
from nextconcept.inference.generate import PlanEdit, visible_from
from nextconcept.nn.matching import match
from nextconcept.nn.model import NextConceptModel

__all__ = ["PlanStep", "compare_plan", "decode_chunk", "first_visible", "parse_edit", "plans_at_end"]


@dataclass
class PlanStep:
    """A planned concept beside the one that was written.

    Attributes:
        level: 1 or more.
        step: of the horizon, from 0.
        start: position of the first token that it is about.
        planned: the tokens whose composition is nearest to the plan.
        match: cosine of that composition to the plan.
        alternatives: the next nearest.
        written: the tokens that came, or None if the text ends before.
        cosine: of plan and realised concept.
        edited: whether a user replaced it.
    """

    level: int
    step: int
    start: int
    planned: str
    match: float
    alternatives: list[str] = field(default_factory=list)
    written: str | None = None
    cosine: float | None = None
    edited: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def decode_chunk(tokenizer: Tokenizer, tokens: Tensor, ordered: bool) -> str:
    """Text of (S,) token ids; in braces and alphabetical if their order is not known."""
    if ordered:
        return tokenizer.decode(tokens.tolist())
    return "{" + " ".join(sorted(tokenizer.decode([token]) for token in tokens.tolist())) + "}"


def first_visible(model: NextConceptModel, length: int) -> int:
    """The first token that generation sees of a prompt of ``length`` tokens."""
    config = model.config
    padding = -length % config.hierarchy.top_span if config.encoder.chunk_alignment == "end" else 0
    return max(0, int(visible_from(torch.tensor(length + padding), config.window_length, config.hierarchy)) - padding)


def plans_at_end(model: NextConceptModel, tokens: Tensor) -> dict[int, Tensor]:
    """The plan of each level that the model makes after (T,) tokens: ``{level: (H, D)}``."""
    with torch.no_grad():
        return {level: plan[0, -1] for level, plan in model(tokens[None]).plans.items()}


@torch.no_grad()
def compare_plan(
    model: NextConceptModel,
    tokenizer: Tokenizer,
    tokens: Tensor,
    known: int,
    plans: dict[int, Tensor],
    edits: list[PlanEdit] | None = None,
    alternatives: int = 2,
) -> list[PlanStep]:
    """Say what plans decode_chunk, and hold it against the text.

    Args:
        model: in eval mode, with an additive composition.
        tokenizer: the model's own.
        tokens: (T,) the text, with what followed the plan.
        known: tokens that were known when the plan was made.
        plans: per level, (H, D), made at the last anchor of the known tokens.
        edits: which of them were replaced.
        alternatives: further matches to give.

    Returns:
        The steps of each level, the highest level first.

    Raises:
        InputError: if the composition is not additive, so that a concept can't be read back.
    """
    config, encoder = model.config, model.encoder
    if not config.encoder.additive:
        raise InputError(
            f"a plan can be put into words if the composition is a sum or mean, not {config.encoder.composition!r}."
        )
    edited = {(edit.level, edit.step): edit.concept for edit in edits or []}
    padding = -known % config.hierarchy.top_span if config.encoder.chunk_alignment == "end" else 0
    result = []
    for level in sorted(plans, reverse=True):
        plan, span = encoder.composition(level).norm(plans[level]).clone(), config.hierarchy.span(level)
        for step in range(len(plan)):
            plan[step] = edited.get((level, step), plan[step])
        found = match(encoder, plan, level, top_k=8, beam=8)
        first = (known + padding) // span * span - padding
        for step in range(len(plan)):
            start = first + step * span
            texts = [
                decode_chunk(tokenizer, ids, config.encoder.position_binding)
                for ids in found.tokens[step][: alternatives + 1]
            ]
            said = PlanStep(level, step, start, texts[0], float(found.cosine[step, 0]), texts[1:])
            chunk = tokens[max(0, start) : start + span]
            if len(chunk) == span:
                said.written = decode_chunk(tokenizer, chunk, config.encoder.position_binding)
                said.cosine = float(F.cosine_similarity(model.compose(chunk, level), plan[step], dim=-1))
            said.edited = (level, step) in edited
            result.append(said)
    return result


def parse_edit(model: NextConceptModel, tokenizer: Tokenizer, text: str) -> PlanEdit:
    """Read ``LEVEL:STEP=TEXT``: plan the concept that TEXT composes to.

    Raises:
        InputError: if ``text`` has another form, or TEXT is not exactly one concept long.
    """
    place, equals, words = text.partition("=")
    level, colon, step = place.partition(":")
    if not equals or not colon or not level.strip().isdigit() or not step.strip().isdigit():
        raise InputError(f"the edit {text!r} is not of the form LEVEL:STEP=TEXT, as in 1:0=king.")
    number = int(level)
    if number not in model.config.hierarchy.concept_levels:
        raise InputError(
            f"the edit {text!r} names level {number}, but plans have levels 1 to {model.config.levels - 1}."
        )
    tokens, span = tokenizer.encode_input(words), model.config.hierarchy.span(number)
    if len(tokens) != span:
        raise InputError(f"the edit {text!r} has {len(tokens)} tokens, but a concept of level {number} has {span}.")
    with torch.no_grad():
        concept = model.compose(torch.from_numpy(tokens.astype("int64")), number)
    return PlanEdit(number, int(step), concept)
