"""The plan that the level below reads: the predicted one, a control, or one from outside."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.nn.model_output import horizon_targets

__all__ = ["PlanChoice", "PlanSource", "choose_plan"]

PlanSource = Literal["predicted", "zero", "shuffled", "oracle"]
LevelPlan = PlanSource | Tensor | Callable[[int, Tensor], Tensor]
PlanChoice = LevelPlan | dict[int, LevelPlan]


def choose_plan(choice: PlanChoice, level: int, plan: Tensor, concepts: Tensor, counts: Tensor | None) -> Tensor:
    """Return the plan that the level below reads.

    A shuffled plan is that of the row before. If several levels are shuffled, it was itself made
    beside a shuffled plan of the level above: with two rows, beside that of the row that reads it.

    Args:
        choice: see :meth:`~nextconcept.nn.model.NextConceptModel.forward`.
        level: level of the plan.
        plan: (B, A, H, D), the predicted plan.
        concepts: (B, N, D), the realised concepts, of which ``oracle`` takes the future.
        counts: (B,) complete concepts, None if all N are complete.

    Returns:
        (B, A, H, D); ``plan`` itself for ``predicted``.

    Raises:
        InputError: if the source has no such name, or there is no second row to shuffle with.
    """
    if isinstance(choice, dict):
        choice = choice.get(level, "predicted")
    if isinstance(choice, Tensor):
        return choice
    if callable(choice):
        return choice(level, plan)
    if choice == "predicted":
        return plan
    if choice == "zero":
        return torch.zeros_like(plan)
    if choice == "shuffled":
        if plan.shape[0] < 2:
            raise InputError("a shuffled plan is another row's: give a batch of two rows or more.")
        return plan.roll(1, 0)
    if choice == "oracle":
        targets, known = horizon_targets(concepts, plan.shape[2], counts)
        return torch.where(known[..., None], targets, plan)
    raise InputError(f"unknown plan source {choice!r}: choose predicted, zero, shuffled or oracle.")
