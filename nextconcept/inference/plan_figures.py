"""Pictures of plans, for TensorBoard and notebooks.

Shapes: T tokens, A anchors, H horizon.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from nextconcept.core.hierarchy import Hierarchy
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.inference.labels import families, label
from nextconcept.inference.plan_attention import PlanAttentionRecorder
from nextconcept.inference.plan_page import plan_fragment
from nextconcept.inference.plan_steps import BARELY_READ, LevelPlans, visible
from nextconcept.inference.plans import compare_plan, plans_at_end
from nextconcept.inference.read_back import decode_chunk
from nextconcept.inference.text_plans import gate_size, text_plans
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.model_output import ModelOutput, horizon_targets

__all__ = ["PlanPicture", "look_at_plan"]

STRIP = 16
"""Columns per strip: with more, TensorBoard's small cards make the labels unreadable."""

CELL, CHARACTER = 0.26, 0.1
"""Size of a cell, and room for a character of a label, in inches."""

LONGEST_LABEL = 24
"""Most characters of a label."""

NOTHING = "#efe6d8"
"""Colour where no plan reaches, which is neither right nor wrong."""


@dataclass
class PlanPicture:
    """What a model plans over a window.

    Attributes:
        agreement: for each level, a heat map of the cosine of planned and realised concepts: a row
            per plan, made just before the chunk that names it, and a column per chunk of the text.
        attention: a heat map of the attention of tokens to the plan of level 1, a column per token
            and a row per planned chunk, or None if tokens do not read the plan by attention.
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
    weights = recorder.mean(0)
    attention = None
    if weights is not None:
        attention = _attention(model, tokenizer, weights[0, output.offset :], tokens, output)
    levels = text_plans(model, tokenizer, tokens) if model.config.encoder.additive else []
    return PlanPicture(agreement, attention, _table(model, tokenizer, tokens), levels)


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"


def _heat_map(
    cells: Tensor, rows: list[str], columns: list[str], title: str, words: tuple[str, str], bar: str, pale: bool
) -> Figure:
    """Draw (R, C) values from 0 to 1, in strips of columns, each with the rows that have values.

    Args:
        cells: the values, NaN where there is none.
        rows: R labels.
        columns: C labels.
        title: of the figure.
        words: what columns and rows are.
        bar: what dark is.
        pale: whether to fade the cells.
    """
    parts = [cells[:, start : start + STRIP] for start in range(0, cells.shape[1], STRIP)]
    kept = [(~part.isnan()).any(1).nonzero()[:, 0] for part in parts]
    shown = min(cells.shape[1], STRIP)
    heights = [CELL * max(1, len(keep)) for keep in kept]
    width = CELL * shown + CHARACTER * max(map(len, rows)) + 1.4
    margin = CHARACTER * max(map(len, columns)) + 0.35
    figure = Figure(figsize=(max(4.6, width), sum(heights) + len(parts) * margin + 0.9), layout="constrained")
    figure.suptitle(title, fontsize=10)
    all_axes = figure.subplots(len(parts), squeeze=False, height_ratios=heights)[:, 0]
    colours = LinearSegmentedColormap.from_list("plan", ["1.0", "0.75" if pale else "0.0"])
    style = {"fontsize": 9, "family": families([*rows, *columns])}
    for axes, part, keep, start in zip(all_axes, parts, kept, range(0, cells.shape[1], STRIP), strict=True):
        values = part[keep].float().cpu().numpy()
        axes.set_facecolor(NOTHING)
        image = axes.pcolormesh(values, cmap=colours, vmin=0.0, vmax=1.0, edgecolors=NOTHING, linewidth=0.5)
        labels = columns[start : start + STRIP]
        axes.set(xlim=(0, shown), ylim=(max(1, len(keep)), 0))
        axes.set_xticks([index + 0.5 for index in range(len(labels))], labels, rotation=90, **style)
        axes.set_yticks([index + 0.5 for index in range(len(keep))], [rows[index] for index in keep.tolist()], **style)
        axes.tick_params(length=0)
    figure.supxlabel(words[0], fontsize=10)
    figure.supylabel(words[1], fontsize=10)
    figure.colorbar(image, ax=figure.axes, label=bar, pad=0.01)
    return figure


def _chunks(
    model: NextConceptModel, tokenizer: Tokenizer, tokens: Tensor, output: ModelOutput, level: int
) -> tuple[list[int], list[str]]:
    """Return where each complete chunk of a level begins, negative in the padding, and its words.

    A last entry is for what follows them.
    """
    starts = output.starts(level, model.config.hierarchy.span(level))
    parts = [tokens[max(0, start) : max(0, end)] for start, end in pairwise([*starts, len(tokens)])]
    names = [_shorten(label(decode_chunk(tokenizer, part, ordered=True))) for part in parts]
    return starts, [name or ("(padding)" if start < 0 else "(next)") for name, start in zip(names, starts, strict=True)]


def _title(model: NextConceptModel, level: int, text: str) -> tuple[str, bool]:
    """Return the title of a picture of the plans of a level, and whether they are barely read."""
    gate = gate_size(model, level)
    barely = gate < BARELY_READ
    first = f"the plan is barely read (mean gate {gate:.3f})\n" if barely else ""
    return f"{first}{text}" + ("" if barely else f"\n(mean gate {gate:.3f})"), barely


def _agreement(
    model: NextConceptModel, tokenizer: Tokenizer, tokens: Tensor, output: ModelOutput, level: int
) -> Figure:
    starts, names = _chunks(model, tokenizer, tokens, output, level)
    count = len(starts) - 1
    plan, concepts = output.plans[level][0, : count + 1], output.concepts[level][:, :count]
    targets, known = horizon_targets(concepts, plan.shape[1])
    cosine = F.cosine_similarity(plan, targets[0], dim=-1)  # (A, H)
    cells = _banded(cosine.masked_fill(~known, float("nan")), torch.arange(count + 1), count)
    first = next((index for index, start in enumerate(starts[:-1]) if start >= 0), 0)  # after the padding
    title, barely = _title(model, level, f"level {level}: dark = planned right, beige = not planned")
    return _heat_map(
        cells[:, first:] if count else torch.full((1, 1), float("nan")),
        names,
        names[first:count] if count else ["(next)"],
        title,
        ("chunk of the text", "plan made just before"),
        "cosine",
        barely,
    )


def _banded(values: Tensor, first: Tensor, count: int) -> Tensor:
    """Spread (R, H) values over ``count`` columns; row r begins in column ``first[r]``.

    Cells without a value, and values after the last column, are NaN and left out.
    """
    rows, horizon = values.shape
    cells = values.new_full((rows, count + horizon), float("nan"))
    columns = first.to(values.device)[:, None].clamp(max=count) + torch.arange(horizon, device=values.device)
    return cells.scatter(1, columns, values)[:, :count]


def _attention(
    model: NextConceptModel, tokenizer: Tokenizer, weights: Tensor, tokens: Tensor, output: ModelOutput
) -> Figure:
    """Draw (T, H) attention of tokens to the plan, beside what was written where it was planned."""
    if output.chunks is None:
        chunk = model.config.chunk_size
        new = (torch.arange(len(tokens)) + output.offset + 1) % chunk == 0
        anchors = output.offset // chunk + new.cumsum(0)
    else:
        new = output.chunks[1].place[0, 1:].cpu() == 0
        anchors = new.cumsum(0)
    words = [label(decode_chunk(tokenizer, token, ordered=True)) for token in tokens[:, None]]
    _, names = _chunks(model, tokenizer, tokens, output, 1)
    rows = [*names, *(f"(next +{step})" for step in range(1, weights.shape[1] + 1))]
    title, barely = _title(model, 1, "attention of tokens to the plan, mean over blocks and heads: dark = read most")
    return _heat_map(
        _banded(weights, anchors, len(rows)).T,
        rows,
        [("| " if begins else "") + word for begins, word in zip(new.tolist(), words, strict=True)],
        title,
        ("token that is read (|: a new plan begins)", "planned chunk"),
        "mean attention",
        barely,
    )


def _table(model: NextConceptModel, tokenizer: Tokenizer, tokens: Tensor) -> str:
    if not model.config.encoder.additive:
        return ""
    known = _middle(model.config.hierarchy, len(tokens))
    plans = plans_at_end(model, tokens[:known])
    before = visible(decode_chunk(tokenizer, tokens[max(0, known - 24) : known], ordered=True))
    lines = [f"after `{before}`", "", "| level | chunks ahead | planned | written | cosine |", "|---|---|---|---|---|"]
    for step in compare_plan(model, tokenizer, tokens, known, plans, alternatives=0):
        written = "" if step.written is None else f"`{visible(step.written)}`"
        cosine = "" if step.cosine is None else f"{step.cosine:.2f}"
        lines.append(f"| {step.level} | +{step.step} | `{visible(step.planned)}` | {written} | {cosine} |")
    return "\n".join(lines)


def _middle(hierarchy: Hierarchy, length: int) -> int:
    """Return about half of a text: whole chunks, of the highest level that has one there."""
    half = max(1, length // 2)
    if hierarchy.rules:
        return half
    unit = max(span for level in range(hierarchy.levels) if (span := hierarchy.span(level)) <= half)
    return half // unit * unit
