"""Pictures of planned and written answers."""

import numpy as np
import pytest

from nextconcept.app.drawings import Drawings
from nextconcept.inference.plan_steps import PlanStep
from nextconcept.inference.plans import PlanReport
from nextconcept.tasks.star_graph import StarGraph

LINE = "4,7|9,2|0,4|3,9|2,11|5,1|5,3|1,0/5,11="


def drawings() -> Drawings:
    task = StarGraph(2, 5, 20)
    return Drawings(task, task.tokenizer.with_prompt_length(30))


def report_of(planned: list[str], written: str, prompt: str = LINE, in_prompt: str = "") -> PlanReport:
    steps = [PlanStep(1, index, 30 + 3 * index, text, 0.9) for index, text in enumerate(planned)]
    steps[0].in_prompt = in_prompt
    return PlanReport(prompt, written, steps)


class Seen(StarGraph):
    """Remembers what it has to draw."""

    def draw_answer(self, prompt: np.ndarray, answer: np.ndarray):
        self.drawn = [*getattr(self, "drawn", []), (prompt.tolist(), answer.tolist())]
        return super().draw_answer(prompt, answer)


@pytest.mark.parametrize(
    ("report", "planned", "written"),
    [
        (report_of(["5,3,9", "2,11<|endoftext|>"], "5,1,0,4,7"), [5, 3, 9, 2, 11], [5, 1, 0, 4, 7]),
        (report_of(["5,3,9", "<|endoftext|>2,11"], "5"), [5, 3, 9], [5]),
        # The prompt begins the answer, in the middle of a chunk.
        (report_of(["5,3,9", "2,11"], "9,2,11", LINE + "5,3", "5,3"), [5, 3, 9, 2, 11], [5, 3, 9, 2, 11]),
    ],
)
def test_html__draws_planned_and_written_answer(report: PlanReport, planned: list[int], written: list[int]):
    task = Seen(2, 5, 20)
    html = Drawings(task, task.tokenizer.with_prompt_length(30)).html(report)
    question = task.tokenizer.encode(LINE).tolist()
    assert task.drawn == [(question, planned), (question, written)]
    assert html.count("<svg") == html.count("</svg>") == 2
    assert 'aria-label="planned answer"' in html
    assert "http" not in html.replace("http://www.w3.org/", "")


@pytest.mark.parametrize("prompt", ["1=", "5,3=", LINE.replace("/5,", "/6,"), LINE[:-1], "kiwi"])
def test_html__prompts_that_are_no_question_have_no_picture(prompt: str):
    assert drawings().html(report_of(["5,3,9"], "5", prompt)) == ""
