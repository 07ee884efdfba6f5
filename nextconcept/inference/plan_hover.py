"""What a piece of text read of the plan, shown where a pointer rests on it: HTML without scripts.

Each planned concept of a row has a custom property per piece of its chunk, the share of attention
in percent. A rule for the piece under the pointer makes that share the one that is drawn.
"""

from collections.abc import Sequence
from html import escape

from nextconcept.inference.plan_steps import END_MARK, AnchorPlan, LevelPlans, PlanReading, WrittenToken, visible

__all__ = ["anchor_class", "hover_note", "hover_rules", "marked", "piece_spans", "share_style", "token_spans"]

SHOWN = '{--w:var(--a%d);--s:counter(w)"%%";color:#111;background-color:#fff}'
"""Declarations for a planned concept that the piece of this number has read."""


def anchor_class(level: int, index: int) -> str:
    """Return the classes of a row, or a table, that shows the plan of an anchor."""
    return f"m m{level}-{index}"


def share_style(anchor: AnchorPlan, step: int) -> str:
    """Return the attribute of the cell of a planned concept: what each piece reads of it."""
    read = enumerate(anchor.readings)
    shares = [f"--a{number}:{100 * one.weights[step]:.0f}" for number, one in read if one.weights]
    return f' style="{";".join(shares)}"' if shares else ""


def piece_spans(readings: Sequence[PlanReading]) -> str:
    """Return the text of a chunk as an element with one for each piece."""
    pieces = (f'<span class="q{number}">{marked(one.text)}</span>' for number, one in enumerate(readings))
    return f'<bdi class="w ">{"".join(pieces)}</bdi>'


def token_spans(levels: Sequence[LevelPlans], written: str, tokens: Sequence[WrittenToken]) -> str:
    """Return what was written, with an element for each token."""
    if "".join(one.text for one in tokens) != written:
        return escape(written)
    spans = []
    for one in tokens:
        if not one.text:  # there is nothing to point at
            continue
        read = [sentence for plans in levels if (sentence := _sentence(plans, one.position))]
        title = f' title="{escape("; ".join(read))}"' if read else ""
        drafted = " drafted" * one.drafted
        spans.append(f'<span class="p{one.position}{drafted}"{title}>{escape(one.text)}</span>')
    return "".join(spans)


def hover_rules(levels: Sequence[LevelPlans], tokens: Sequence[WrittenToken] = ()) -> str:
    """Return the rules that show what was read.

    Args:
        levels: the plans.
        tokens: tokens that :func:`token_spans` shows.
    """
    most = max((len(anchor.readings) for plans in levels for anchor in plans.anchors), default=0)
    rules = [f".nc .m:has(.q{number}:hover) .c{SHOWN % number}" for number in range(most)]
    shown = {one.position for one in tokens}
    for plans in levels:
        for index, anchor in enumerate(plans.anchors):
            for number, one in enumerate(anchor.readings):
                positions = [at for at in range(one.start, one.start + one.length) if at in shown]
                if positions and one.weights:
                    pieces = ",".join(f".p{at}:hover" for at in positions)
                    rules.append(f".nc:has({pieces}) .m{plans.level}-{index} .c{SHOWN % number}")
    return "\n".join(rules)


def hover_note(plans: LevelPlans) -> str:
    """Return a sentence on what the shares of a level are; "" if there are none."""
    if not any(anchor.readings for anchor in plans.anchors):
        return ""
    reads = {
        "cross": "how its attention to the plan divides among the steps, on average over heads and blocks",
        "prefix": "how much of its attention goes to each step, on average over heads and blocks; the rest goes to "
        "the text before it",
        "unbind": "the step that it reads, at its own place in the chunk",
    }
    return (
        f"Point at a piece of the text: orange shows {reads[plans.conditioning]}. What is read passes gates of a mean "
        f"size of {plans.gate:.3f}."
    )


def marked(text: str) -> str:
    """Return a text as HTML with blanks made visible, and with a sign for the end of a document."""
    return '<span class="stop">end</span>'.join(escape(visible(part)) for part in text.split(END_MARK))


def _sentence(plans: LevelPlans, position: int) -> str:
    """Say what the piece at a position read of a level, "" if nothing is known."""
    for anchor in plans.anchors:
        for one in anchor.readings:
            if one.start <= position < one.start + one.length and one.weights:
                pairs = zip(anchor.steps, one.weights, strict=True)
                parts = [f"+{step.step} {visible(step.planned)[:20]} {share:.0%}" for step, share in pairs if share]
                place = "" if one.place is None else f" at place {one.place}"
                return f"level {plans.level}{place}: {', '.join(parts)}"
    return ""
