import numpy as np
import pytest
import torch

from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.tasks.star_graph import StarGraph
from nextconcept.tasks.task import pad
from tests.helpers import Reverse


def test_pad__in_front_and_behind():
    rows = [[1, 2], np.array([3]), []]
    assert pad(rows, 3, 9, front=True).tolist() == [[9, 1, 2], [9, 9, 3], [9, 9, 9]]
    assert pad(rows, 2, 9).tolist() == [[1, 2], [3, 9], [9, 9]]


@pytest.mark.parametrize(("levels", "chunk"), [(1, 3), (2, 3), (3, 3), (2, 4), (3, 2)])
@pytest.mark.parametrize("task", [StarGraph(3, 4, 15), Reverse()], ids=lambda task: type(task).__name__)
def test_layout__the_answer_begins_with_a_chunk_of_every_level(task: object, levels: int, chunk: int):
    hierarchy = Hierarchy(levels, chunk)
    layout = task.layout(hierarchy)
    hierarchy.check_context(layout.context_length)
    assert layout.answer % hierarchy.top_span == 0
    assert 0 <= layout.prompt < hierarchy.top_span
    assert layout.answer == layout.prompt + task.prompt_length
    assert 0 <= layout.context_length - layout.answer - task.answer_length < hierarchy.top_span


@pytest.mark.parametrize(("rules", "span"), [([2, 3], 6), ([3, 2, 2], 12), (["words"], 1), ([2, "sentences"], 1)])
def test_layout__with_rules_that_count_the_answer_begins_with_a_chunk_too(rules: list, span: int):
    layout = Reverse().layout(Hierarchy.of(len(rules) + 1, 4, rules))
    assert (layout.answer % span, layout.context_length % span) == (0, 0)
    assert layout.prompt == layout.answer - Reverse.prompt_length < span


def test_judge__up_to_the_end_of_text():
    task = Reverse()
    end = task.tokenizer.end_of_text
    truths = torch.tensor([[1, 2, end, end]] * 4)
    answers = torch.tensor([[1, 2, end, end], [1, 2, end, 5], [1, 2, 5, end], [1, 3, end, end]])
    assert task.judge(truths, answers, truths)["exact"].tolist() == [True, True, False, False]


def test_draw_answer__a_task_need_not_have_pictures():
    prompts, answers = Reverse().draw("val", 0, [0])
    with pytest.raises(InputError, match="the task Reverse has no pictures: define draw_answer"):
        Reverse().draw_answer(prompts[0], answers[0])
