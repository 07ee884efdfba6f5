"""What a model writes under its own plan, without a plan, and under the plan of another text.

Shapes: T tokens, H horizon, D width of a level.
"""

import torch
from torch import Tensor

from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.inference.plan_edits import PlanEdit
from nextconcept.inference.plans import PlanReport, first_visible, plans_at_end, report_plan
from nextconcept.nn.eval_mode import eval_mode
from nextconcept.nn.model import NextConceptModel

__all__ = ["compare_sources", "plan_of"]


def plan_of(model: NextConceptModel, tokenizer: Tokenizer, prompt: str) -> list[PlanEdit]:
    """Return the plan that a model makes at the end of a text, as edits of any other text.

    Args:
        model: a model with concepts.
        tokenizer: the model's tokenizer.
        prompt: the text.

    Raises:
        InputError: if the prompt can't be used.
    """
    tokens = torch.from_numpy(tokenizer.encode_prompt(prompt).astype("int64")).to(model.device)
    with eval_mode(model):
        plans = plans_at_end(model, tokens[first_visible(model, len(tokens)) :])
    normed = {level: model.encoder.composition(level).norm(plan) for level, plan in plans.items()}
    return [PlanEdit(level, step, concept) for level, plan in normed.items() for step, concept in enumerate(plan)]


def compare_sources(
    model: NextConceptModel, tokenizer: Tokenizer, prompt: str, other: str, max_new_tokens: int | None = None
) -> dict[str, PlanReport]:
    """Continue a prompt under three plans, always with the likeliest token.

    Args:
        model: a model with concepts, whose composition is additive.
        tokenizer: the model's tokenizer.
        prompt: the text to continue.
        other: a text whose plan is put in place of the prompt's.
        max_new_tokens: tokens to write; default: as many as the longest plan covers.

    Returns:
        ``predicted``: under the model's own plan. ``zero``: with all plans zero, the prompt's
        included; its report shows the plan that was taken away. ``other``: with the plan that the
        model makes at the end of ``other``, until that is written.

    Raises:
        InputError: if the model has no plan, or a text or an option can't be used.
    """
    return {
        "predicted": report_plan(model, tokenizer, prompt, max_new_tokens=max_new_tokens),
        "zero": report_plan(model, tokenizer, prompt, max_new_tokens=max_new_tokens, hook=_no_plan),
        "other": report_plan(model, tokenizer, prompt, plan_of(model, tokenizer, other), max_new_tokens),
    }


def _no_plan(level: int, plan: Tensor, anchors: Tensor, rows: Tensor) -> Tensor:
    return torch.zeros_like(plan)
