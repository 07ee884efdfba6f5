"""Plans in words: what a model plans, what it wrote instead, and how to change the plan.

Shapes: T tokens, H horizon, D width of a level, S tokens of a concept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.inference.draft_acceptance import DraftFigures
from nextconcept.inference.generate import generate
from nextconcept.inference.generators import PlanHook
from nextconcept.inference.locations import visible_from
from nextconcept.inference.plan_edits import PlanEdit, check_edits, edit_plans, parse_edit
from nextconcept.inference.plan_page import plan_fragment
from nextconcept.inference.plan_readings import token_texts
from nextconcept.inference.plan_steps import LevelPlans, PlanStep, WrittenToken, quoted
from nextconcept.inference.read_back import check_readable, decode_chunk, decode_tokens, read_concepts
from nextconcept.inference.sampling import make_generator
from nextconcept.inference.text_plans import text_plans
from nextconcept.nn.eval_mode import eval_mode
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.plan_choice import PlanChoice

__all__ = ["PlanReport", "compare_plan", "first_visible", "plans_at_end", "report_plan"]


@dataclass
class PlanReport:
    """What a model planned at the end of a prompt, and what it then wrote.

    ``print(report)`` shows a table per level, and a notebook the page of
    :mod:`~nextconcept.inference.plan_page`.

    Attributes:
        prompt: the text that was continued.
        written: the continuation.
        steps: the planned concepts of each level, the highest level first.
        levels: the plans at all anchors of the text that the model saw, the highest level first.
        tokens: those of the continuation; none if they do not make up its text.
    """

    prompt: str
    written: str
    steps: list[PlanStep]
    levels: list[LevelPlans] = field(default_factory=list)
    tokens: list[WrittenToken] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: ``prompt``, ``written``, and ``plan``, a list of steps."""
        return {"prompt": self.prompt, "written": self.written, "plan": [step.to_dict() for step in self.steps]}

    def __str__(self) -> str:
        """Format the tables."""
        parts = [f"prompt   {quoted(self.prompt)}\nwritten  {quoted(self.written)}"]
        for level in dict.fromkeys(step.level for step in self.steps):
            parts.append(_table(level, [step for step in self.steps if step.level == level]))
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        """Show the plans as HTML."""
        return plan_fragment(self.levels, self.steps, self.prompt, self.written, self.tokens)


def _table(level: int, steps: list[PlanStep]) -> str:
    cells = [("step", "planned", "written", "cosine", "")]
    for step in steps:
        cosine = "-" if step.cosine is None else f"{step.cosine:.2f}"
        marks = ["edited"] * step.edited + ["differs"] * step.differs
        if step.in_prompt:
            marks.append(f"prompt ends after {quoted(step.in_prompt)}")
        cells.append((str(step.step), quoted(step.planned), quoted(step.written), cosine, ", ".join(marks)))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    parted = next((step.step for step in steps if step.differs), None)
    if all(step.written is None for step in steps):
        end = "nothing is written yet"
    else:
        end = "plan and text agree" if parted is None else f"plan and text part at step {parted}"
    return "\n".join([f"level {level}", *lines, end])


def first_visible(model: NextConceptModel, length: int) -> int:
    """Return the position of the first token that the model sees of ``length`` tokens."""
    config, padding = model.config, model.config.padding(length)
    return max(0, int(visible_from(torch.tensor(length + padding), config.window_length, config.hierarchy)) - padding)


def plans_at_end(model: NextConceptModel, tokens: Tensor, edits: Sequence[PlanEdit] = ()) -> dict[int, Tensor]:
    """Return the plan that a model makes after a text.

    Args:
        model: in eval mode.
        tokens: (T,) int64 token ids, at most a context.
        edits: planned concepts that are replaced before lower levels read them.

    Returns:
        The plan of each level, (H, D), as predicted.
    """
    choice: PlanChoice = edit_plans(edits, model, tokens, len(tokens)) if edits else "predicted"
    with torch.no_grad():
        output = model.forward(tokens[None], choice)  # a compiled call would be compiled for every length
    newest = {level: -1 if output.chunks is None else output.chunks[level].counts[0] for level in output.plans}
    return {level: plan[0, newest[level]] for level, plan in output.plans.items()}


@torch.no_grad()
def compare_plan(
    model: NextConceptModel,
    tokenizer: Tokenizer,
    tokens: Tensor,
    known: int,
    plans: dict[int, Tensor],
    edits: Sequence[PlanEdit] = (),
    alternatives: int = 2,
) -> list[PlanStep]:
    """Put plans into words, and compare them with what was written.

    Args:
        model: in eval mode, with an additive composition.
        tokenizer: the model's tokenizer.
        tokens: (T,) int64, the text with what was written after the plan.
        known: number of tokens that were known when the plan was made.
        plans: the plan of each level, (H, D), made at the last anchor of the known tokens.
        edits: the planned concepts that were replaced.
        alternatives: number of further matches of each planned concept.

    Returns:
        The steps of each level, the highest level first.

    Raises:
        InputError: if the composition is not additive, so that a concept can't be decoded.
    """
    check_readable(model)
    config, encoder = model.config, model.encoder
    edited = {(edit.level, edit.step): edit for edit in edits}
    ordered = config.encoder.position_binding
    steps = []
    for level in sorted(plans, reverse=True):
        plan = encoder.composition(level).norm(plans[level]).clone()
        for index in range(len(plan)):
            if (level, index) in edited:
                plan[index] = edited[level, index].concept
        readings, bounds = (
            read_concepts(model, plan, level, alternatives),
            _bounds(model, tokens, known, level, len(plan)),
        )
        for index, ((start, end), found) in enumerate(zip(bounds, readings, strict=True)):
            texts = [decode_chunk(tokenizer, one.tokens, ordered) for one in found]
            step = PlanStep(level, index, start, texts[0], found[0].cosine, texts[1:])
            if (level, index) in edited and (ids := edited[level, index].tokens) is not None:
                step.planned, step.match = decode_chunk(tokenizer, ids, ordered), 1.0
            if end is not None:
                chunk = tokens[start:end]
                step.written = decode_chunk(tokenizer, chunk, ordered)
                step.cosine = float(F.cosine_similarity(model.compose(chunk, level), plan[index], dim=-1))
            step.edited = (level, index) in edited
            if start < known:
                step.in_prompt = decode_tokens(tokenizer, tokens[max(0, start) : known].tolist())
            steps.append(step)
    return steps


def _bounds(
    model: NextConceptModel, tokens: Tensor, known: int, level: int, horizon: int
) -> list[tuple[int, int | None]]:
    """Return where each planned chunk lies in the text: its first token, and the one after it.

    The one after it is None where the chunk is not complete. A chunk that begins in the padding in
    front has a negative first token.
    """
    if model.chunker is None:
        padding, span = model.config.padding(known), model.config.hierarchy.span(level)
        first = (known + padding) // span * span - padding
        starts = range(first, first + horizon * span, span)
        return [(start, start + span if 0 <= start <= len(tokens) - span else None) for start in starts]
    chunks = model.chunker(tokens[None])[level]
    before = int((chunks.start[0, 1 : int(chunks.counts[0]) + 1] <= known).sum())
    starts = chunks.start[0, : int(chunks.counts[0]) + 1].tolist()[before : before + horizon + 1]
    pairs: list[tuple[int, int | None]] = list(pairwise(starts))
    # What has not begun yet begins after the text.
    return [*pairs, *[(starts[-1], None)], *[(len(tokens), None)] * horizon][:horizon]


def _usual_tokens(model: NextConceptModel, level: int) -> int:
    """Return the tokens that a plan covers; where rules cut chunks, twice the mean."""
    hierarchy, horizon = model.config.hierarchy, model.config.horizon_of(level)
    if not hierarchy.rules:
        return horizon * hierarchy.span(level)
    mean = math.prod(rule.mean_length for rule in hierarchy.rules[:level])
    return math.ceil(2 * horizon * mean)


def report_plan(
    model: NextConceptModel,
    tokenizer: Tokenizer,
    prompt: str,
    edits: Sequence[str | PlanEdit] = (),
    max_new_tokens: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    hook: PlanHook | None = None,
    draft: str | None = None,
) -> PlanReport:
    """Continue a prompt, and report what the model planned at its end and what it wrote.

    Args:
        model: a model with concepts, whose composition is additive.
        tokenizer: the model's tokenizer.
        prompt: the text to continue.
        edits: planned concepts to replace, each a
            :class:`~nextconcept.inference.plan_edits.PlanEdit` or ``LEVEL:STEP=TEXT``, such as
            ``1:0=king``.
        max_new_tokens: tokens to write; default: as many as the longest plan covers.
        temperature: divides the logits; 0 takes the most likely token.
        seed: seed of the sampling.
        hook: changes plans before they are read; not with edits. The report is of the plans before
            that change.
        draft: ``plan`` or ``text`` writes with drafts, and says which tokens were drafted; the
            text is the same.

    Raises:
        InputError: if the model has no plan, or prompt, edits or options can't be used.
    """
    config = model.config
    check_readable(model)
    tokens = torch.from_numpy(tokenizer.encode_prompt(prompt).astype("int64")).to(model.device)
    start, known = first_visible(model, len(tokens)), len(tokens)
    if max_new_tokens is None:
        max_new_tokens = max(_usual_tokens(model, level) for level in config.hierarchy.concept_levels)
    with eval_mode(model):
        plans = plans_at_end(model, tokens[start:])
        changes = [edit if isinstance(edit, PlanEdit) else parse_edit(model, tokenizer, edit, plans) for edit in edits]
        changes = check_edits(changes, model, rows=1)
        if changes:  # of lower levels, which read them
            plans = plans_at_end(model, tokens[start:], changes)
        generator = make_generator(seed, model.device)
        figures = DraftFigures()
        text = generate(
            model,
            tokens[None],
            max_new_tokens,
            temperature,
            generator=generator,
            edits=changes,
            hook=hook,
            draft=draft,
            figures=figures,
        )[0]
        steps = compare_plan(model, tokenizer, text[start:], known - start, plans, changes)
        # What the model sees before the beginning of the text moves out of its context.
        seen = text[start : start + config.window_length - config.padding(known - start)]
        levels = text_plans(model, tokenizer, seen, known - start, changes, attention=True)
    for step in steps:
        step.start += start
    for anchor in (anchor for level in levels for anchor in level.anchors):
        anchor.move(start)
    given, ids = text[:known].tolist(), text[known:].tolist()
    written = tokenizer.decode_behind(given, ids)
    texts = token_texts(tokenizer, ids, written, end="", before=given)
    drafted = zip(texts, figures.was_drafted, strict=True) if texts else ()
    tokens_written = [WrittenToken(known + place, one, bool(was)) for place, (one, was) in enumerate(drafted)]
    return PlanReport(prompt, written, steps, levels, tokens_written)
