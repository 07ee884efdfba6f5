"""The plan that the level below reads."""

import pytest
import torch

from nextconcept import InputError
from nextconcept.nn.plan_choice import choose_plan

PLAN = torch.arange(24.0).reshape(2, 4, 3, 1)
CONCEPTS = 100 + torch.arange(6.0).reshape(2, 3, 1)


def test_choose_plan__takes_a_plan_from_outside():
    given = torch.ones_like(PLAN)
    assert choose_plan("predicted", 1, PLAN, CONCEPTS, None) is PLAN
    assert choose_plan({2: "zero"}, 1, PLAN, CONCEPTS, None) is PLAN
    assert choose_plan({1: given}, 1, PLAN, CONCEPTS, None) is given
    assert torch.equal(choose_plan(lambda level, plan: level * plan, 2, PLAN, CONCEPTS, None), 2 * PLAN)


def test_choose_plan__controls():
    assert not choose_plan("zero", 1, PLAN, CONCEPTS, None).any()
    assert torch.equal(choose_plan("shuffled", 1, PLAN, CONCEPTS, None), PLAN.flip(0))
    oracle = choose_plan("oracle", 1, PLAN, CONCEPTS, torch.tensor([3, 2]))[..., 0]
    assert torch.equal(oracle[0, 0], CONCEPTS[0, :, 0])
    assert torch.equal(oracle[1, 1], torch.stack([CONCEPTS[1, 1, 0], *PLAN[1, 1, 1:, 0]]))


def test_choose_plan__shuffled_needs_another_row():
    with pytest.raises(InputError, match="two rows"):
        choose_plan("shuffled", 1, PLAN[:1], CONCEPTS[:1], None)


def test_choose_plan__refuses_unknown_sources():
    with pytest.raises(InputError, match="unknown plan source 'guessed': choose"):
        choose_plan("guessed", 1, PLAN, CONCEPTS, None)  # type: ignore[arg-type]
