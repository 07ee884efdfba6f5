"""Pictures of plans, for TensorBoard and notebooks.

Shapes: T tokens, A anchors, H horizon.
"""

from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from torch import Tensor

from nextconcept.data.tokenizers import Tokenizer
from nextconcept.inference.plan_attention import PlanAttentionRecorder
from nextconcept.inference.plan_page import plan_fragment
from nextconcept.inference.plan_steps import LevelPlans, visible
from nextconcept.inference.plans import compare_plan, plans_at_end
from nextconcept.inference.read_back import decode_chunk
from nextconcept.inference.text_plans import gate_size, text_plans
from nextconcept.nn.model import ModelOutput, NextConceptModel, horizon_targets

__all__ = ["PlanPicture", "look_at_plan"]

STRIP = 16
"""Columns per strip: with more, TensorBoard's small cards make the labels unreadable."""


@dataclass
class PlanPicture:
    """What a model plans over a window.

    Attributes:
        agreement: for each level, a heat map of the cosine of planned and realised concepts, over
            anchors and steps of the horizon.
        attention: a heat map of the attention of tokens to the plan of level 1, or None if tokens
            do not read the plan by attention.
        table: planned and written concepts at one anchor, as Markdown; empty if the composition is
            not additive, so that concepts can't be decoded.
        levels: the plans at all anchors in words, the highest level first; empty as the table is. A
            notebook shows them.
    """

    agreement: dict[int, Figure]
    attention: Figure | None
    table: str
    levels: list[LevelPlans] = field(default_factory=list, repr=False)

    def _repr_html_(self) -> str | None:
        """Show the plans in words as HTML, if concepts can be decoded."""
        return plan_fragment(self.levels) if self.levels else None


def look_at_plan(model: NextConceptModel, tokenizer: Tokenizer, tokens: Tensor) -> PlanPicture:
    """Draw what a model plans over a window.

    Args:
        model: in eval mode.
        tokenizer: the model's tokenizer.
        tokens: (T,) int64; pictures of 40 to 80 tokens are readable.
    """
    with torch.no_grad(), PlanAttentionRecorder(model) as recorder:
        output = model.forward(tokens[None])  # forward, because a compiled call would skip the hooks
    agreement = {level: _agreement(model, tokenizer, tokens, output, level) for level in output.plans}
    attention, weights = None, recorder.mean(0)
    if weights is not None:
        texts = [decode_chunk(tokenizer, token, ordered=True) for token in tokens[:, None]]
        attention = _attention(model, weights[0, output.offset :], texts, output)
    levels = text_plans(model, tokenizer, tokens) if model.config.encoder.additive else []
    return PlanPicture(agreement, attention, _table(model, tokenizer, tokens), levels)


def _label(text: str) -> str:
    """Turn a text into a label: no mathematics, and escapes for characters that the font lacks."""
    known = _characters()
    shown = "".join(char if ord(char) in known else f"\\u{ord(char):04x}" for char in visible(text))
    return shown.replace("$", r"\$")


@cache
def _characters() -> frozenset[int]:
    """Return the code points that the font of the labels has."""
    return frozenset(get_font(findfont(FontProperties(family="monospace"))).get_charmap())


def _heat_map(values: Tensor, columns: list[str], title: str, horizontal: str, bar: str) -> Figure:
    """Draw (H, n) values between 0 and 1, in several strips if there are many columns."""
    steps, count = values.shape
    strips = -(-count // STRIP)
    shown = min(count, STRIP)
    height = 0.26 * steps + 0.6 + 0.1 * max(map(len, columns))  # inches for cells, margins and vertical labels
    figure = Figure(figsize=(max(4.6, 0.26 * shown + 1.2), strips * height + 0.6), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for strip, axes in enumerate(figure.subplots(strips, squeeze=False)[:, 0]):
        part = values[:, strip * STRIP : (strip + 1) * STRIP].float().cpu()
        part = F.pad(part, (0, shown - part.shape[1]), value=float("nan"))
        axes.patch.set(hatch="////", edgecolor="0.8", facecolor="white")  # visible where there is no value
        image = axes.imshow(part.numpy(), cmap="gray_r", vmin=0.0, vmax=1.0, aspect="auto")
        labels = columns[strip * STRIP : (strip + 1) * STRIP]
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=9, family="monospace")
        axes.set_yticks(range(steps), [f"+{step}" for step in range(steps)], fontsize=9)
        axes.set_ylabel("chunks ahead")
    axes.set_xlabel(horizontal)
    figure.colorbar(image, ax=figure.axes, label=bar, pad=0.01)
    return figure


def _agreement(
    model: NextConceptModel, tokenizer: Tokenizer, tokens: Tensor, output: ModelOutput, level: int
) -> Figure:
    plan, concepts = output.plans[level], output.concepts[level]
    if output.chunks is None:
        span = model.config.hierarchy.span(level)
        starts = [index * span - output.offset for index in range(plan.shape[1] + 1)]
    else:
        cut = output.chunks[level]
        count = int(cut.counts[0])
        plan, concepts = plan[:, : count + 1], concepts[:, :count]
        starts = [*cut.start[0, : count + 1].tolist(), len(tokens)]
    targets, known = horizon_targets(concepts, plan.shape[2])
    cosine = F.cosine_similarity(plan[0], targets[0], dim=-1).masked_fill(~known, float("nan")).T
    parts = [tokens[max(0, start) : max(0, end)] for start, end in pairwise(starts)]
    chunks = [_label(decode_chunk(tokenizer, part, ordered=True)) or "(next)" for part in parts]
    return _heat_map(
        cosine,
        chunks,
        f"level {level}: cosine of planned and realised concepts\n(hatched: beyond the window)",
        "anchor (the plan is made just before this chunk)",
        "cosine",
    )


def _attention(model: NextConceptModel, weights: Tensor, texts: list[str], output: ModelOutput) -> Figure:
    if output.chunks is None:
        first = [(index + output.offset + 1) % model.config.chunk_size == 0 for index in range(len(texts))]
    else:
        first = (output.chunks[1].place[0, 1:] == 0).tolist()
    columns = [("| " if new else "") + _label(text) for new, text in zip(first, texts, strict=True)]
    return _heat_map(
        weights.T,
        columns,
        f"attention of tokens to the plan\n(mean over blocks and heads; mean gate {gate_size(model, 1):.3f})",
        "token that is read (|: a new plan begins)",
        "attention weight",
    )


def _table(model: NextConceptModel, tokenizer: Tokenizer, tokens: Tensor) -> str:
    if not model.config.encoder.additive:
        return ""
    top = model.config.hierarchy.alignment
    known = max(top, len(tokens) // 2 // top * top)
    plans = plans_at_end(model, tokens[:known])
    before = visible(decode_chunk(tokenizer, tokens[max(0, known - 24) : known], ordered=True))
    lines = [f"after `{before}`", "", "| level | chunks ahead | planned | written | cosine |", "|---|---|---|---|---|"]
    for step in compare_plan(model, tokenizer, tokens, known, plans, alternatives=0):
        written = "" if step.written is None else f"`{visible(step.written)}`"
        cosine = "" if step.cosine is None else f"{step.cosine:.2f}"
        lines.append(f"| {step.level} | +{step.step} | `{visible(step.planned)}` | {written} | {cosine} |")
    return "\n".join(lines)
