"""Planned and written answers of a task as pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from nextconcept.core.errors import InputError
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.inference.plan_steps import END_MARK, PlanStep
from nextconcept.inference.plans import PlanReport
from nextconcept.tasks.task import Task

__all__ = ["Drawings"]

NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))

NOT_LEARNT = "<p>The prompts of a task are not learnt: what is planned inside them means little.</p>"


@dataclass
class Drawings:
    """Draws the answers of a task.

    Args:
        task: the task.
        tokenizer: the model's tokenizer.
    """

    task: Task
    tokenizer: Tokenizer

    def html(self, report: PlanReport) -> str:
        """Return pictures of the planned and the written answer; "" if the prompt has none."""
        try:
            ids = self.tokenizer.encode_prompt(report.prompt)
            start = getattr(self.tokenizer, "prompt_length", None) or self.task.prompt_length
            prompt, begun = ids[start - self.task.prompt_length : start], ids[start:]
            if self.tokenizer.end_of_text in prompt:
                return ""  # too short for a question
            lowest = [step for step in report.steps if step.level == 1]
            planned = np.concatenate((begun, self._planned(lowest)))[: self.task.answer_length]
            written = np.concatenate((begun, self.tokenizer.encode(report.written)))[: self.task.answer_length]
            figures = {"planned": planned, "written": written}
            parts = [_picture(self.task.draw_answer(prompt, answer), name) for name, answer in figures.items()]
        except (InputError, LookupError, ValueError):
            return ""  # the prompt is no question of the task, or the plan is no answer
        return f'<div class="nc-pictures">{"".join(parts)}{NOT_LEARNT}</div>'

    def _planned(self, steps: Sequence[PlanStep]) -> np.ndarray:
        """Return the planned token ids that follow the prompt, up to the end of the text."""
        parts = [np.empty(0, dtype=np.int64)]
        for step in steps:
            text, end, _ = step.planned.partition(END_MARK)
            there = len(self.tokenizer.encode(step.in_prompt)) if step.in_prompt else 0
            parts.append(np.asarray(self.tokenizer.encode(text), dtype=np.int64)[there:])
            if end:
                break
        return np.concatenate(parts)


def _picture(figure: Figure, name: str) -> str:
    """Return a figure as SVG inside HTML, with a caption."""
    stream = StringIO()
    # Without this, texts are paths with ids that two pictures of a page would share.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True, bbox_inches="tight", metadata=NO_METADATA)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{escape(name)} answer"', 1)
    return f"<figure>{svg}<figcaption>{escape(name)} answer</figcaption></figure>"
