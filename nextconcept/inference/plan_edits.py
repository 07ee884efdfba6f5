"""Edits of plans: what replaces a planned concept, and how a person writes it.

Shapes: B batch, T tokens, L size of the buffer, R rows, A anchors, H horizon, D width of a level.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.inference.generators import anchor_numbers, visible_anchors, visible_part
from nextconcept.inference.locations import visible_from
from nextconcept.inference.plan_steps import quoted
from nextconcept.nn.concept_encoder import PADDING
from nextconcept.nn.matching import match
from nextconcept.nn.model import NextConceptModel

__all__ = ["PlanEdit", "PlanEdits", "check_edits", "edit_plans", "parse_edit"]


@dataclass
class PlanEdit:
    """Replaces a planned concept until it has been written.

    Attributes:
        level: level of the plan, 1 or more.
        step: step of the plan that is made at the end of the prompt, from 0.
        concept: (D,) the concept to plan instead, or (B, D), one for each row; see
            :meth:`~nextconcept.NextConceptModel.compose`.
        tokens: (n,) ids that the concept is composed of, if reports are to show them; otherwise
            they show what can be read back from it, which in a narrow model may be something else.
    """

    level: int
    step: int
    concept: Tensor
    tokens: Tensor | None = None


def check_edits(edits: PlanEdit | Sequence[PlanEdit], model: NextConceptModel, rows: int) -> list[PlanEdit]:
    """Check that a model makes the plans that edits change, and bring them to its device.

    Args:
        edits: the edits, or one.
        model: the model.
        rows: texts that are written at once, B.

    Returns:
        The edits; the concept of one text alone has shape (D,).

    Raises:
        InputError: if an edit is none, there is no such level or step, a concept has another shape,
            or two edits change the same step.
    """
    edits = [edits] if isinstance(edits, PlanEdit | str) else edits
    for edit in edits:
        _check_edit(edit, model, rows)
    places = [(edit.level, edit.step) for edit in edits]
    for level, step in places:
        if places.count((level, step)) > 1:
            raise InputError(f"several edits change step {step} of the plan of level {level}: give one.")
    concepts = [edit.concept[0] if rows == 1 and edit.concept.dim() == 2 else edit.concept for edit in edits]
    return [replace(edit, concept=concept.to(model.device)) for edit, concept in zip(edits, concepts, strict=True)]


def _check_edit(edit: PlanEdit, model: NextConceptModel, rows: int) -> None:
    if not isinstance(edit, PlanEdit):
        raise InputError(f"an edit of a plan is a PlanEdit here, not {edit!r}: Writer.plan takes texts too.")
    _check_step(model, edit.level, edit.step)
    width = model.config.widths[edit.level]
    if not isinstance(edit.concept, Tensor) or not edit.concept.isfinite().all():
        raise InputError("the concept of an edit is a tensor of finite numbers: make one with compose().")
    if edit.concept.shape not in ((width,), (rows, width)):
        raise InputError(
            f"a concept of level {edit.level} has shape ({width},), or ({rows}, {width}) for {rows} rows, not "
            f"{tuple(edit.concept.shape)}: make one with compose()."
        )


def _check_step(model: NextConceptModel, level: int, step: int) -> None:
    """Check that a model plans at a level, and this step."""
    model.config.hierarchy.check_level(level)
    horizon = model.config.horizon_of(level)
    if type(step) is not int or not 0 <= step < horizon:
        raise InputError(f"the plan of level {level} has steps 0 to {horizon - 1}, not {step}.")


class PlanEdits:
    """Applies edits to the plans of the anchors from the end of the prompt on.

    Args:
        edits: planned concepts to replace.
        model: the model.
        ids: (B, L) texts, with :data:`~nextconcept.nn.concept_encoder.PADDING` in front.
        lengths: (B,) ids of each prompt, its padding included.
    """

    def __init__(self, edits: list[PlanEdit], model: NextConceptModel, ids: Tensor, lengths: Tensor) -> None:
        starts = visible_from(lengths, model.config.window_length, model.config.hierarchy)
        window, ends = visible_part(ids, starts, lengths), (lengths - starts)[:, None]
        self.edits, self.first = edits, dict[int, Tensor]()
        for level in {edit.level for edit in edits}:
            begun = visible_anchors(model, window, level)
            newest = torch.where(begun <= ends, begun, 0).amax(1, keepdim=True)
            self.first[level] = anchor_numbers(model, ids, starts[:, None] + newest, level)[:, 0]

    def __call__(self, level: int, plan: Tensor, anchors: Tensor, rows: Tensor) -> Tensor:
        """Return the plan with the edits; a :data:`~nextconcept.inference.generators.PlanHook`."""
        if level not in self.first:
            return plan
        since = self.first[level][rows][:, None]
        for edit in self.edits:
            if edit.level == level:
                steps = (since + edit.step - anchors)[..., None] == torch.arange(plan.shape[2])
                here = (steps & (anchors >= since)[..., None]).to(plan.device)
                concept = edit.concept if edit.concept.dim() == 1 else edit.concept[rows.to(plan.device)][:, None, None]
                plan = torch.where(here[..., None], concept.to(plan), plan)
        return plan


def edit_plans(
    edits: Sequence[PlanEdit], model: NextConceptModel, tokens: Tensor, known: int
) -> Callable[[int, Tensor], Tensor]:
    """Return a function that edits the plans of a text that the model reads as a whole.

    Args:
        edits: planned concepts to replace.
        model: the model.
        tokens: (T,) the text, at most a context.
        known: tokens of the prompt, after which edits apply.

    Returns:
        Maps a level and its plans (1, A, H, D) to those that are read.
    """
    offset, rows = model.config.padding(known), torch.zeros(1, dtype=torch.int64)
    ids = torch.nn.functional.pad(tokens[None], (offset, 0), value=PADDING)
    hook = PlanEdits(list(edits), model, ids, torch.tensor([known + offset]))

    def edited(level: int, plan: Tensor) -> Tensor:
        """Return the plans (1, A, H, D) of a level with the edits."""
        return hook(level, plan, anchor_numbers(model, ids, visible_anchors(model, ids, level), level), rows)

    return edited


def parse_edit(
    model: NextConceptModel, tokenizer: Tokenizer, text: str, plans: dict[int, Tensor] | None = None
) -> PlanEdit:
    """Parse ``LEVEL:STEP=TEXT``: plan the concept that TEXT composes to.

    Args:
        model: in eval mode.
        tokenizer: the model's tokenizer.
        text: the edit.
        plans: the current plan of each level, (H, D). If given, a TEXT shorter than the concept is
            filled up with the last tokens of the planned concept.

    Raises:
        InputError: if ``text`` has another form, there is no such plan, or TEXT does not fit into
            one concept.
    """
    if not isinstance(text, str):
        raise InputError(f"an edit of a plan is a text LEVEL:STEP=TEXT or a PlanEdit, not {text!r}.")
    target, equals, words = text.partition("=")
    left, colon, right = target.partition(":")
    if not equals or not colon or not left.strip().isdecimal() or not right.strip().isdecimal():
        raise InputError(f"the edit {text!r} is not of the form LEVEL:STEP=TEXT, as in 1:0=king.")
    level, step = int(left), int(right)
    _check_step(model, level, step)
    if not words:
        raise InputError(f"the edit {text!r} has no text: give what to plan after the equals sign, as in 1:0=king.")
    tokens = torch.from_numpy(tokenizer.encode_input(words, "text of the edit").astype("int64")).to(model.device)
    if model.chunker is not None:
        with torch.no_grad():
            return PlanEdit(level, step, model.compose(tokens, level), tokens)
    span = model.config.hierarchy.span(level)
    if len(tokens) < span and plans is not None and step < len(plans[level]):
        tokens = _fill(model, plans[level][step], level, tokens)
    if len(tokens) != span:
        pieces = " ".join(quoted(tokenizer.decode([token])) for token in tokens.tolist())
        raise InputError(
            f"the edit {text!r} has {len(tokens)} tokens, but a concept of level {level} has {span}: it is cut into "
            f"{pieces}."
        )
    with torch.no_grad():
        return PlanEdit(level, step, model.compose(tokens, level), tokens)


@torch.no_grad()
def _fill(model: NextConceptModel, concept: Tensor, level: int, tokens: Tensor) -> Tensor:
    """Fill ``tokens`` up to a whole concept with the last tokens of a planned concept, (D,)."""
    if not model.config.encoder.reads_places:
        return tokens
    planned = match(model.encoder, model.encoder.composition(level).norm(concept)[None], level, top_k=8, beam=8)
    return torch.cat((tokens, planned.tokens[0, 0, len(tokens) :]))
