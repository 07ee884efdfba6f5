"""What the page shows for a model: everything but the page itself."""

from dataclasses import dataclass, field
from html import escape

from nextconcept.app.drawings import Drawings
from nextconcept.core.errors import InputError
from nextconcept.inference.plan_page import anchors_fragment, sources_fragment, steps_fragment
from nextconcept.inference.plan_sources import compare_sources
from nextconcept.inference.plan_steps import visible
from nextconcept.inference.plans import report_plan
from nextconcept.inference.text import Writer

__all__ = ["MOST_CHARACTERS", "MOST_WRITTEN", "PlanSession", "View", "message"]

MOST_CHARACTERS, MOST_WRITTEN = 10_000, 1_000
"""Longest text that the page takes, and most tokens that it writes."""


@dataclass
class View:
    """What the page shows after a change.

    Attributes:
        html: the text and the plan at the end of the prompt, or a comparison.
        pictures: pictures of a task, as HTML.
        every: the plans at all anchors, as HTML.
        choices: for each step of the plan at the end of the prompt, what it is called and
            ``LEVEL:STEP``.
        edits: the edits in force, ``LEVEL:STEP=TEXT``.
        message: a sentence on what is wrong as HTML, "" if all is well.
    """

    html: str = ""
    pictures: str = ""
    every: str = ""
    choices: list[tuple[str, str]] = field(default_factory=list)
    edits: list[str] = field(default_factory=list)
    message: str = ""


@dataclass
class PlanSession:
    """Answers the page of one model. Holds no state of a visitor.

    Args:
        writer: the model.
        drawings: draws answers, if the model was trained on a task with pictures.
    """

    writer: Writer
    drawings: Drawings | None = None

    def show(self, prompt: str, count: float | None = 0, edits: list[str] | None = None) -> View:
        """Continue a prompt.

        Args:
            prompt: the text to continue.
            count: tokens to write; 0: as many as the plan covers.
            edits: planned concepts to replace, ``LEVEL:STEP=TEXT``.
        """
        edits = edits or []
        try:
            self._check(prompt, *edits)
            model, tokenizer = self.writer.model, self.writer.tokenizer
            # The text is the same with drafts, which this composition may not allow.
            draft = "plan" if model.config.encoder.reads_places else None
            report = report_plan(model, tokenizer, prompt, edits, self._count(count), draft=draft)
        except InputError as error:
            return View(edits=edits, message=message(error))
        choices = [
            (f"level {step.level}, step +{step.step}: {visible(step.planned)}", f"{step.level}:{step.step}")
            for step in report.steps
        ]
        return View(
            steps_fragment(report.levels, report.steps, prompt, report.written, report.tokens),
            self.drawings.html(report) if self.drawings else "",
            anchors_fragment(report.levels, report.steps),
            choices,
            edits,
        )

    def edit(self, prompt: str, count: float | None, edits: list[str], step: str | None, text: str) -> View:
        """Replace a planned concept, and continue the prompt under the changed plan.

        Args:
            prompt: the text to continue.
            count: tokens to write; 0: as many as the plan covers.
            edits: edits so far; one of the same step is replaced. They stay in force if the new one
                can't be used.
            step: the step to change, ``LEVEL:STEP``.
            text: what to plan instead.
        """
        if not step:
            return View(
                edits=edits, message=message("choose a step of the plan first: click it, or take it from the list.")
            )
        changed = [one for one in edits if not one.startswith(f"{step}=")] + [f"{step}={text}"]
        view = self.show(prompt, count, changed)
        return View(edits=edits, message=view.message) if view.message else view

    def compare(self, prompt: str, count: float | None, other: str) -> View:
        """Continue a prompt under its own plan, without a plan, and under that of another text."""
        try:
            self._check(prompt, other)
            if not other:
                raise InputError("give another text, whose plan is put in place of the prompt's.")
            reports = compare_sources(self.writer.model, self.writer.tokenizer, prompt, other, self._count(count))
        except InputError as error:
            return View(message=message(error))
        names = {
            "predicted": "with its own plan",
            "zero": "with the plan taken away",
            "other": "with the other text's plan",
        }
        columns = {names[source]: report for source, report in reports.items()}
        return View(sources_fragment({name: (one.steps, one.written) for name, one in columns.items()}))

    def _check(self, *texts: str) -> None:
        for text in texts:
            if len(text) > MOST_CHARACTERS:
                raise InputError(
                    f"the text has {len(text):,} characters, and the page takes {MOST_CHARACTERS:,}: shorten it."
                )
        if not texts[0]:
            raise InputError("the prompt is empty: write a text to continue.")

    def _count(self, count: float | None) -> int | None:
        count = count or 0  # the field may be empty
        if not 0 <= count <= MOST_WRITTEN:
            raise InputError(f"the number of tokens to write is 0 to {MOST_WRITTEN:,}, not {count:g}.")
        return int(count) or None


def message(error: object) -> str:
    """Return a sentence on what is wrong as HTML."""
    text = str(error)
    return f'<p class="nc-message" role="alert">{escape(text[:1].upper() + text[1:])}</p>'
