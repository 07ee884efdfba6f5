"""The plans of a whole text in words: what was planned before each chunk, and what stands there.

Shapes: T tokens, A anchors, H horizon, N complete concepts, D width of a level.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.inference.plan_attention import PlanAttentionRecorder
from nextconcept.inference.plan_edits import PlanEdit, edit_plans
from nextconcept.inference.plan_readings import chunk_readings
from nextconcept.inference.plan_steps import AnchorPlan, LevelPlans, PlanStep
from nextconcept.inference.read_back import ReadChunk, check_readable, decode_chunk, read_concepts
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.model_output import ModelOutput, horizon_targets

__all__ = ["gate_size", "text_plans"]


@torch.no_grad()
def text_plans(
    model: NextConceptModel,
    tokenizer: Tokenizer,
    tokens: Tensor,
    known: int | None = None,
    edits: Sequence[PlanEdit] = (),
    attention: bool = False,
) -> list[LevelPlans]:
    """Put the plans at all anchors of a text into words.

    Args:
        model: in eval mode, with an additive composition.
        tokenizer: the model's tokenizer.
        tokens: (T,) int64, the text, of which the model sees everything at once.
        known: tokens of the prompt, after which edits apply; default: all.
        edits: planned concepts that were replaced.
        attention: whether to say what each element of a chunk read of the plan.

    Returns:
        The plans of each level, as the level below read them, the highest level first.

    Raises:
        InputError: if the composition is not additive, so that a concept can't be decoded.
    """
    check_readable(model)
    known = len(tokens) if known is None else known
    read: dict[int, Tensor] = {}
    edited = edit_plans(edits, model, tokens, known) if edits else None

    def keep(level: int, plan: Tensor) -> Tensor:
        """Note the plans (1, A, H, D) that a level reads."""
        read[level] = plan if edited is None else edited(level, plan)
        return read[level]

    # A compiled call would be compiled for every length.
    recorder = PlanAttentionRecorder(model)
    with recorder if attention else nullcontext():
        output = model.forward(tokens[None], keep, model.config.padding(known))
    found = []
    for level in sorted(output.plans, reverse=True):
        anchors = _anchors(model, tokenizer, tokens, output, level, read[level], edits)
        found.append(LevelPlans(level, gate_size(model, level), anchors, model.config.reader.plan_conditioning))
        if attention:
            readings = chunk_readings(model, tokenizer, tokens, known, output, recorder, level)
            ends = [*(anchor.start for anchor in anchors[1:]), len(tokens)]
            for anchor, end in zip(anchors, ends, strict=True):
                anchor.readings = readings(anchor.start, max(0, end), anchor.chunk)
    return found


def gate_size(model: NextConceptModel, level: int) -> float:
    """Return the mean size of the gates through which the level below reads plans of ``level``."""
    gates = model.part(level - 1).gates
    assert gates is not None, f"there is no plan of level {level}"
    return float(gates.plan.detach().abs().mean()) * gates.gate_scale


def _anchors(
    model: NextConceptModel,
    tokenizer: Tokenizer,
    tokens: Tensor,
    output: ModelOutput,
    level: int,
    read: Tensor,
    edits: Sequence[PlanEdit],
) -> list[AnchorPlan]:
    """Return the plan at each anchor of a level; ``read`` is (1, A, H, D), edits included."""
    own = [(edit.concept, edit.tokens) for edit in edits if edit.level == level and edit.tokens is not None]
    starts = output.starts(level, model.config.hierarchy.span(level))
    count = len(starts) - 1
    plan = model.encoder.composition(level).norm(read[0, : count + 1])
    edited = (read != output.plans[level])[0, : count + 1].any(-1).tolist()
    targets, known = horizon_targets(output.concepts[level][:, :count], plan.shape[1])
    there = known.tolist()
    cosines = F.cosine_similarity(plan, targets[0], dim=-1).tolist()
    # As many as compare_plan asks for, so that both show the same words.
    found = read_concepts(model, plan.flatten(0, 1), level, alternatives=2)
    ordered, horizon = model.config.encoder.position_binding, plan.shape[1]
    ends = [*starts[1:], len(tokens)]
    chunks = [
        decode_chunk(tokenizer, tokens[max(0, start) : max(0, end)], ordered or index == count)
        for index, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
    anchors = []
    for anchor, start in enumerate(starts):
        steps = []
        for step in range(horizon):
            best = found[anchor * horizon + step][0]
            step_start = starts[anchor + step] if there[anchor][step] else len(tokens)
            if edited[anchor][step]:
                here = read[0, anchor, step]
                best = next((ReadChunk(ids, 1.0) for concept, ids in own if torch.equal(concept, here)), best)
            planned = decode_chunk(tokenizer, best.tokens, ordered)
            one = PlanStep(level, step, step_start, planned, best.cosine, edited=edited[anchor][step])
            # A chunk that begins in the padding is not in the text as a whole.
            if there[anchor][step] and step_start >= 0:
                one.written, one.cosine = chunks[anchor + step], cosines[anchor][step]
            steps.append(one)
        anchors.append(AnchorPlan(start, chunks[anchor], steps))
    return anchors
