"""Plans as HTML: one file without scripts, and without anything from elsewhere."""

from collections.abc import Sequence
from html import escape
from string import Template

from nextconcept.inference.plan_steps import AnchorPlan, LevelPlans, PlanStep, visible
from nextconcept.inference.plan_style import STEPS, STYLE

__all__ = ["plan_fragment", "plan_page"]

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
</head>
<body>
<main>
<h1 style="font-family:system-ui,sans-serif;font-size:1.5em">$title</h1>
$content
</main>
</body>
</html>
""")


def plan_page(
    levels: Sequence[LevelPlans], steps: Sequence[PlanStep], prompt: str, written: str, title: str = "Plans"
) -> str:
    """Return a whole page; see :func:`plan_fragment` for the other arguments.

    Args:
        levels: the plans at all anchors.
        steps: the plan at the end of the prompt.
        prompt: the text that was continued.
        written: the continuation.
        title: of the page.
    """
    return PAGE.substitute(title=escape(title), content=plan_fragment(levels, steps, prompt, written))


def plan_fragment(
    levels: Sequence[LevelPlans], steps: Sequence[PlanStep] = (), prompt: str = "", written: str = ""
) -> str:
    """Return a part of a page that shows what a model plans over a text, level by level.

    All texts are escaped, and no script or address is part of the page.

    Args:
        levels: the plans at all anchors of the text, the highest level first.
        steps: the plan at the end of the prompt, if there is one.
        prompt: the text that was continued.
        written: the continuation.
    """
    parts = [f"<style>{STYLE}</style>"]
    if prompt or written:
        parts.append(f'<p class="text">{_words(prompt, shown=False)}{_words(written, "new", shown=False)}</p>')
    for plans in levels:
        here = [step for step in steps if step.level == plans.level]
        parts.append(_level(plans, here))
    return f'<div class="nc">{"".join(parts)}</div>'


def _level(plans: LevelPlans, steps: list[PlanStep]) -> str:
    faded = ' class="faded"' if plans.barely_read else ""
    parts = [f"<section{faded}><h2>Level {plans.level}</h2>"]
    if plans.barely_read:
        parts.append(
            '<p class="note" role="note">The plan is barely read: the gates through which the level below reads it '
            f"have a mean size of {plans.gate:.3f}.</p>"
        )
    if steps:
        parts.append(_after_prompt(steps))
    parts.append(_every_anchor(plans.anchors, steps[0].start if steps else None))
    return "".join([*parts, "</section>"])


def _after_prompt(steps: list[PlanStep]) -> str:
    rows = [_heads(["step", "planned", "written", "cosine", ""])]
    for step in steps:
        notes = ["edited"] * step.edited
        if step.differs:
            notes.append('<span class="mark">≠ differs</span>')
        if step.in_prompt:
            notes.append(f"the prompt ends after {_words(step.in_prompt)}")
        others = f' title="or {escape(", ".join(map(visible, step.alternatives)))}"' if step.alternatives else ""
        cells = [
            f'<th scope="row">+{step.step}</th>',
            f'<td class="s{_degree(step.match)}{" differs" * step.differs}"{others}>{_words(step.planned)}</td>',
            f"<td>{'not yet' if step.written is None else _words(step.written)}</td>",
            f"<td>{'' if step.cosine is None else f'{step.cosine:.2f}'}</td>",
            f"<td>{', '.join(notes)}</td>",
        ]
        rows.append(f'<tr data-level="{step.level}" data-step="{step.step}">{"".join(cells)}</tr>')
    parted = next((step.step for step in steps if step.differs), None)
    end = "Plan and text agree." if parted is None else f"Plan and text part at step +{parted}."
    return (
        f"<h3>The plan at the end of the prompt</h3><p>{_key('s', 'the plan is sure')} {end}</p>"
        f'<table class="steps">{"".join(rows)}</table>'
    )


def _every_anchor(anchors: list[AnchorPlan], prompt_end: int | None) -> str:
    horizon = max(len(anchor.steps) for anchor in anchors)
    heads = ["position", "text", *(f"+{step}" for step in range(horizon))]
    rows = [_heads(heads)]
    for anchor in anchors:
        if anchor.start == prompt_end:
            rows.append(f'<tr class="end"><th colspan="{2 + horizon}">the prompt ends here</th></tr>')
        cells = [f'<th scope="row">{max(0, anchor.start)}</th>', f"<td>{_words(anchor.chunk) or 'next'}</td>"]
        rows.append(f"<tr>{''.join([*cells, *map(_cell, anchor.steps)])}</tr>")
    return (
        "<h3>Every plan over the text</h3>"
        f"<p>Each row is the plan that is made just before its text. {_key('r', 'planned right')} "
        '<span class="key differs">planned ≠ written</span> '
        '<span class="key open">not yet written</span></p>'
        f'<table class="anchors">{"".join(rows)}</table>'
    )


def _cell(step: PlanStep) -> str:
    """Return the cell of a planned concept: dark where it was planned right."""
    if step.written is None or step.cosine is None:
        return f'<td class="open">{_words(step.planned)}</td>'
    but = f'<span class="but">≠ {_words(step.written)}</span>' if step.differs else ""
    return f'<td class="r{_degree(step.cosine)}{" differs" * step.differs}">{_words(step.planned)}{but}</td>'


def _heads(cells: list[str]) -> str:
    return "<tr>" + "".join(f'<th scope="col">{cell}</th>' for cell in cells) + "</tr>"


def _key(name: str, meaning: str) -> str:
    return f'<span class="key {name}{STEPS}">dark = {meaning}</span>'


def _degree(cosine: float) -> int:
    return round(STEPS * min(1.0, max(0.0, cosine)))


def _words(text: str, more: str = "", shown: bool = True) -> str:
    """Return a text as an element of its own direction, with blanks made visible if ``shown``."""
    if not text:
        return ""
    return f'<bdi class="w {more}">{escape(visible(text) if shown else text)}</bdi>'
