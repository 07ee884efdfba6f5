"""The plan that the level below reads."""

import pytest
import torch

from nextconcept import InputError, NextConceptModel
from nextconcept.nn.chunks import Chunks
from nextconcept.nn.plan_choice import choose_plan
from tests.helpers import small_config

PLAN = torch.arange(24.0).reshape(2, 4, 3, 1)
CONCEPTS = 100 + torch.arange(6.0).reshape(2, 3, 1)
STARTS = torch.tensor([[0, 2, 3, 5], [0, 3, 7, 9]])
EMPTY = torch.zeros(2, 10, dtype=torch.long)
CHUNKS = Chunks(torch.tensor([3, 2]), EMPTY, EMPTY, EMPTY, EMPTY, STARTS, STARTS)
"""Three chunks of 2, 1 and 2 tokens, and two of 3 and 4."""


def test_choose_plan__takes_a_plan_from_outside():
    given = torch.ones_like(PLAN)
    assert choose_plan("predicted", 1, PLAN, CONCEPTS, None) is PLAN
    assert choose_plan({2: "zero"}, 1, PLAN, CONCEPTS, None) is PLAN
    assert choose_plan({1: given}, 1, PLAN, CONCEPTS, None) is given
    assert torch.equal(choose_plan(lambda level, plan: level * plan, 2, PLAN, CONCEPTS, None), 2 * PLAN)


def test_choose_plan__controls():
    assert not choose_plan("zero", 1, PLAN, CONCEPTS, None).any()
    assert torch.equal(choose_plan("shuffled", 1, PLAN, CONCEPTS, None), PLAN.flip(0))
    oracle = choose_plan("oracle", 1, PLAN, CONCEPTS, CHUNKS)[..., 0]
    assert torch.equal(oracle[0, 0], CONCEPTS[0, :, 0])
    assert torch.equal(oracle[1, 1], torch.stack([CONCEPTS[1, 1, 0], *PLAN[1, 1, 1:, 0]]))


def test_choose_plan__shuffled_is_not_later_in_the_text():
    shuffled = choose_plan("shuffled", 1, PLAN, CONCEPTS, CHUNKS)
    assert torch.equal(shuffled[0], PLAN[1, [0, 0, 1, 1]])
    assert torch.equal(shuffled[1, :3], PLAN[0, [0, 2, 3]])  # the last anchor is one that is not there


def test_choose_plan__shuffled_needs_another_row():
    with pytest.raises(InputError, match="two rows"):
        choose_plan("shuffled", 1, PLAN[:1], CONCEPTS[:1], None)


def test_choose_plan__refuses_another_shape():
    for given in (PLAN[:1], lambda level, plan: plan[:, :1]):
        with pytest.raises(InputError, match=r"the plan of level 1 needs shape \(2, .*\), not \("):
            choose_plan(given, 1, PLAN, CONCEPTS, None)
    with pytest.raises(InputError, match="needs shape .*, not NoneType"):
        choose_plan(lambda level, plan: None, 1, PLAN, CONCEPTS, None)


@pytest.mark.parametrize(
    ("levels", "choice", "message"),
    [
        (2, "guessed", "unknown plan source 'guessed': choose predicted, zero, shuffled, oracle"),
        (2, {1: "guessed"}, "unknown plan source 'guessed'"),
        (1, "guessed", "unknown plan source 'guessed'"),
        (3, {0: "zero"}, "no concept level 0: those are 1, 2"),
        (2, {2: "zero"}, "no concept level 2: those are 1"),
        (1, {1: "zero"}, "no concept level 1: it has tokens alone"),
        (2, torch.zeros(3), r"the plan of level 1 needs shape \(1, .*\), not \(3,\)"),
    ],
    ids=str,
)
def test_forward__refuses_plans_that_there_are_not(levels: int, choice: object, message: str):
    model = NextConceptModel(small_config(levels=levels))
    with pytest.raises(InputError, match=message):
        model(torch.zeros(1, 8, dtype=torch.long), choice)
