"""The plan that the level below reads: the predicted one, a control, or one from outside."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.nn.chunks import Chunks
from nextconcept.nn.model_output import horizon_targets
from nextconcept.nn.rows import take_rows

__all__ = ["PlanChoice", "PlanSource", "check_choice", "choose_plan"]

PlanSource = Literal["predicted", "zero", "shuffled", "oracle"]
LevelPlan = PlanSource | Tensor | Callable[[int, Tensor], Tensor]
PlanChoice = LevelPlan | dict[int, LevelPlan]


def check_choice(choice: PlanChoice, hierarchy: Hierarchy) -> None:
    """Check that a choice names sources that there are, for levels that make plans.

    Args:
        choice: see :meth:`~nextconcept.nn.model.NextConceptModel.forward`.
        hierarchy: the levels of the model.

    Raises:
        InputError: if a source or a level does not exist.
    """
    for level in choice if isinstance(choice, dict) else ():
        hierarchy.check_level(level)
    for source in choice.values() if isinstance(choice, dict) else [choice]:
        if not (isinstance(source, Tensor) or callable(source) or source in get_args(PlanSource)):
            raise InputError(f"unknown plan source {source!r}: choose {', '.join(get_args(PlanSource))}.")


def choose_plan(choice: PlanChoice, level: int, plan: Tensor, concepts: Tensor, chunks: Chunks | None) -> Tensor:
    """Return the plan that the level below reads.

    A shuffled plan is that of the row before, at the same anchor; where chunks differ in length, at
    its last anchor that is not later in the text. If several levels are shuffled, it was itself
    made beside a shuffled plan of the level above: with two rows, beside that of the row that reads
    it.

    Args:
        choice: see :meth:`~nextconcept.nn.model.NextConceptModel.forward`, after
            :func:`check_choice`.
        level: level of the plan.
        plan: (B, A, H, D), the predicted plan.
        concepts: (B, N, D), the realised concepts, of which ``oracle`` takes the future.
        chunks: the chunks of the level, None if all have one length and all N are complete.

    Returns:
        (B, A, H, D); ``plan`` itself for ``predicted``.

    Raises:
        InputError: if a plan has another shape, or there is no second row to shuffle with.
    """
    if isinstance(choice, dict):
        choice = choice.get(level, "predicted")
    if isinstance(choice, Tensor) or callable(choice):
        chosen = choice if isinstance(choice, Tensor) else choice(level, plan)
        if not isinstance(chosen, Tensor) or chosen.shape != plan.shape:
            given = tuple(chosen.shape) if isinstance(chosen, Tensor) else type(chosen).__name__
            raise InputError(f"the plan of level {level} needs shape {tuple(plan.shape)}, not {given}.")
        return chosen
    if choice == "predicted":
        return plan
    if choice == "zero":
        return torch.zeros_like(plan)
    if choice == "shuffled":
        if plan.shape[0] < 2:
            raise InputError("a shuffled plan is another row's: give a batch of two rows or more.")
        return plan.roll(1, 0) if chunks is None else _at_same_token(plan, chunks)
    counts = None if chunks is None else chunks.counts
    targets, known = horizon_targets(concepts, plan.shape[2], counts)  # the oracle's
    return torch.where(known[..., None], targets, plan)


def _at_same_token(plan: Tensor, chunks: Chunks) -> Tensor:
    """Return for each anchor the last plan of the row before that was not made at a later token."""
    anchors = torch.arange(plan.shape[1], device=plan.device)
    starts = torch.where(anchors <= chunks.counts[:, None], chunks.start, chunks.index.shape[1] + chunks.start.amax())
    latest = torch.searchsorted(starts.roll(1, 0), starts, right=True) - 1
    return take_rows(plan.roll(1, 0), latest)
