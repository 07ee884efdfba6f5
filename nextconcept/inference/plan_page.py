"""Plans as HTML: one file without scripts, and without anything from elsewhere."""

from collections.abc import Mapping, Sequence
from html import escape
from string import Template

from nextconcept.inference.plan_hover import (
    anchor_class,
    hover_note,
    hover_rules,
    marked,
    piece_spans,
    share_style,
    token_spans,
)
from nextconcept.inference.plan_steps import (
    CONTROL_CHARACTERS,
    AnchorPlan,
    LevelPlans,
    PlanStep,
    WrittenToken,
    visible,
)
from nextconcept.inference.plan_style import STEPS, STYLE

__all__ = ["anchors_fragment", "plan_fragment", "plan_page", "sources_fragment", "steps_fragment"]

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
    levels: Sequence[LevelPlans],
    steps: Sequence[PlanStep],
    prompt: str,
    written: str,
    title: str = "Plans",
    pictures: str = "",
    tokens: Sequence[WrittenToken] = (),
) -> str:
    """Return a whole page; see :func:`plan_fragment` for the other arguments.

    Args:
        levels: the plans at all anchors.
        steps: the plan at the end of the prompt.
        prompt: the text that was continued.
        written: the continuation.
        title: of the page.
        pictures: of a task, as HTML.
        tokens: those of the continuation.
    """
    content = pictures + plan_fragment(levels, steps, prompt, written, tokens)
    return PAGE.substitute(title=escape(title.translate(CONTROL_CHARACTERS)), content=content)


def plan_fragment(
    levels: Sequence[LevelPlans],
    steps: Sequence[PlanStep] = (),
    prompt: str = "",
    written: str = "",
    tokens: Sequence[WrittenToken] = (),
) -> str:
    """Return a part of a page that shows what a model plans over a text, level by level.

    All texts are escaped, and no script or address is part of the page.

    Args:
        levels: the plans at all anchors of the text, the highest level first.
        steps: the plan at the end of the prompt, if there is one.
        prompt: the text that was continued.
        written: the continuation.
        tokens: those of the continuation, if what they read is to be shown.
    """
    parts = [_text(prompt, written, levels, tokens)] if prompt or written else []
    for plans in levels:
        here = [step for step in steps if step.level == plans.level]
        after = _after_prompt(plans, here) if here else ""
        parts.append(_level(plans, after + _every_anchor(plans, here[0] if here else None)))
    return _fragment(parts, hover_rules(levels, tokens))


def steps_fragment(
    levels: Sequence[LevelPlans],
    steps: Sequence[PlanStep],
    prompt: str,
    written: str,
    tokens: Sequence[WrittenToken] = (),
) -> str:
    """Return the part of :func:`plan_fragment` that shows the plan at the end of the prompt."""
    parts = [
        _level(plans, _after_prompt(plans, [one for one in steps if one.level == plans.level])) for plans in levels
    ]
    return _fragment([_text(prompt, written, levels, tokens), *parts], hover_rules(levels, tokens))


def anchors_fragment(levels: Sequence[LevelPlans], steps: Sequence[PlanStep]) -> str:
    """Return the part of :func:`plan_fragment` that shows the plans at all anchors."""
    firsts = {step.level: step for step in reversed(steps)}
    parts = [_level(plans, _every_anchor(plans, firsts.get(plans.level))) for plans in levels]
    return _fragment(parts, hover_rules(levels))


def sources_fragment(columns: Mapping[str, tuple[Sequence[PlanStep], str]]) -> str:
    """Return a part of a page that shows side by side what was planned and written in several ways.

    Args:
        columns: by title, the plan at the end of the prompt, and what was written. Where a text
            differs from that of the first column, it is marked.
    """
    first = next(iter(columns.values()))[1]
    cells = []
    for name, (steps, written) in columns.items():
        pairs = enumerate(zip(first, written, strict=False))
        same = next((at for at, (one, two) in pairs if one != two), min(len(first), len(written)))
        text = _words(written[:same], shown=False) + _words(written[same:], "other", shown=False)
        rows = [_heads(["step", "planned", "written"])]
        for step in steps:
            planned = f'<td class="s{_degree(step.match)}{" differs" * step.differs}">{_words(step.planned)}</td>'
            there = "not yet" if step.written is None else _words(step.written)
            rows.append(f'<tr><th scope="row">{step.level}: +{step.step}</th>{planned}<td>{there}</td></tr>')
        title = escape(name)
        cells.append(f'<section><h3>{title}</h3><p class="text">{text}</p><table>{"".join(rows)}</table></section>')
    return _fragment(['<div class="sources">', *cells, "</div>"])


def _fragment(parts: Sequence[str], rules: str = "") -> str:
    # HTML can't hold control characters, which a prompt or a model may write.
    content = "".join(parts).translate(CONTROL_CHARACTERS)
    return f'<div class="nc"><style>{STYLE}{rules}</style>{content}</div>'


def _text(prompt: str, written: str, levels: Sequence[LevelPlans], tokens: Sequence[WrittenToken]) -> str:
    new = f'<bdi class="w new">{token_spans(levels, written, tokens)}</bdi>' if written else ""
    drafted, key = sum(one.drafted for one in tokens), ""
    if drafted:
        message = f"{drafted} of {len(tokens)} tokens were drafted and accepted"
        key = f'<p><span class="key drafted">{message}</span></p>'
    return f'<p class="text">{_words(prompt, shown=False)}{new}</p>{key}'


def _level(plans: LevelPlans, content: str) -> str:
    faded = ' class="faded"' if plans.barely_read else ""
    parts = [f"<section{faded}><h2>Level {plans.level}</h2>"]
    if plans.barely_read:
        parts.append(
            '<p class="note" role="note">The plan is barely read: the gates through which the level below reads it '
            f"have a mean size of {plans.gate:.3f}.</p>"
        )
    return "".join([*parts, content, "</section>"])


def _after_prompt(plans: LevelPlans, steps: list[PlanStep]) -> str:
    rows = [_heads(["step", "planned", "written", "cosine", ""])]
    pairs = enumerate(plans.anchors)
    index, anchor = next(((at, one) for at, one in pairs if one.start == steps[0].start), (0, AnchorPlan(0, "", [])))
    for step in steps:
        notes = ["edited"] * step.edited
        if step.differs:
            notes.append('<span class="mark">≠ differs</span>')
        if step.in_prompt:
            notes.append(f"the prompt ends after {_words(step.in_prompt)}")
        others = f' title="or {escape(", ".join(map(visible, step.alternatives)))}"' if step.alternatives else ""
        own = step.step == 0 and step.written == anchor.chunk and bool(anchor.readings)
        text = "not yet" if step.written is None else piece_spans(anchor.readings) if own else _words(step.written)
        look = f"s{_degree(step.match)}{' differs' * step.differs} c"
        cells = [
            f'<th scope="row">+{step.step}</th>',
            f'<td class="{look}"{others}{share_style(anchor, step.step)}>{_words(step.planned)}</td>',
            f"<td>{text}</td>",
            f"<td>{'' if step.cosine is None else f'{step.cosine:.2f}'}</td>",
            f"<td>{', '.join(notes)}</td>",
        ]
        rows.append(f'<tr data-level="{step.level}" data-step="{step.step}">{"".join(cells)}</tr>')
    parted = next((step.step for step in steps if step.differs), None)
    end = "Plan and text agree." if parted is None else f"Plan and text part at step +{parted}."
    return (
        f"<h3>The plan at the end of the prompt</h3><p>{_key('s', 'the plan is sure')} {end}</p>"
        f'<table class="steps {anchor_class(plans.level, index)}">{"".join(rows)}</table>'
    )


def _every_anchor(plans: LevelPlans, first: PlanStep | None) -> str:
    """Return a table of all anchors; the chunk of ``first`` is that in which the prompt ends."""
    anchors = plans.anchors
    horizon = max(len(anchor.steps) for anchor in anchors)
    heads = ["position", "text", *(f"+{step}" for step in range(horizon))]
    rows = [_heads(heads)]
    for index, anchor in enumerate(anchors):
        text = piece_spans(anchor.readings) if anchor.readings else _words(anchor.chunk)
        text = text or "next" * (anchor is anchors[-1])  # nothing of a chunk of padding
        if first is not None and anchor.start == first.start:
            if first.in_prompt:
                text += f'<span class="but">the prompt ends after {_words(first.in_prompt)}</span>'
            else:
                rows.append(f'<tr class="end"><th colspan="{2 + horizon}">the prompt ends here</th></tr>')
        cells = [f'<th scope="row">{max(0, anchor.start)}</th>', f"<td>{text}</td>"]
        shown = [_cell(step, share_style(anchor, step.step)) for step in anchor.steps]
        rows.append(f'<tr class="{anchor_class(plans.level, index)}">{"".join([*cells, *shown])}</tr>')
    return (
        "<h3>Every plan over the text</h3>"
        f"<p>Each row is the plan that is made just before its text. {_key('r', 'planned right')} "
        '<span class="key differs">planned ≠ written</span> '
        f'<span class="key open">not in the text that the model sees</span> {hover_note(plans)}</p>'
        f'<table class="anchors">{"".join(rows)}</table>'
    )


def _cell(step: PlanStep, shares: str) -> str:
    """Return the cell of a planned concept: dark where it was planned right."""
    if step.written is None or step.cosine is None:
        return f'<td class="open c"{shares}>{_words(step.planned)}</td>'
    but = f'<span class="but">≠ {_words(step.written)}</span>' if step.differs else ""
    return f'<td class="r{_degree(step.cosine)}{" differs" * step.differs} c"{shares}>{_words(step.planned)}{but}</td>'


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
    return f'<bdi class="w {more}">{marked(text) if shown else escape(text)}</bdi>'
