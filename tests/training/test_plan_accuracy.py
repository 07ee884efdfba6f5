"""Plans read back, place by place."""

import pytest
import torch

from nextconcept.data.windows import ConceptBatch
from nextconcept.training.evaluator import Evaluator
from nextconcept.training.losses import LossConfig
from nextconcept.training.plan_accuracy import right_by_place, right_lengths
from tests.helpers import RULE_TEXT, open_model, small_config

TEXT = torch.tensor([[*RULE_TEXT[:60]], [*RULE_TEXT[10:70]]])
CASES = [
    {"levels": 2, "chunk_size": 4},
    {"levels": 2, "chunk_size": 4, "encoder__chunk_alignment": "end"},
    {"levels": 2, "chunking": ["words"]},
    {"levels": 3, "chunking": [{"ends": " .", "max_length": 6}, 2], "encoder__composition": "mean"},
]


def expected(model, output, tokens, mask, places: int) -> list[tuple[int, int]]:
    """Right ones and all, by a loop over rows and tokens."""
    counts = [[0, 0] for _ in range(places)]
    for row in range(len(tokens)):
        anchor, place = 0, 0
        for token in range(tokens.shape[1]):
            if output.chunks is not None:
                anchor, place = (int(part[row, token]) for part in (output.chunks[1].index, output.chunks[1].place))
            else:
                anchor, place = divmod(token, model.config.hierarchy.chunk_size)
            if place < places and mask[row, token]:
                nearest = model.decode_plan(output.plans[1][row, anchor, 0][None, None, None], 1)[0, 0, 0, place, 0]
                counts[place][0] += int(nearest == tokens[row, token])
                counts[place][1] += 1
    return [tuple(pair) for pair in counts]


@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("plan", ["predicted", "true"])
def test_right_by_place__equals_a_loop(options: dict, plan: str):
    model = open_model(
        small_config(vocab_size=256, width=64, sharing="separate", horizon=1, context_length=64, **options)
    )
    with torch.no_grad():
        output = model(TEXT)
        if plan == "true":
            concepts = torch.nn.functional.pad(output.concepts[1], (0, 0, 0, 1))
            output.predictions[1].plan = concepts.unsqueeze(2)
        tokens = torch.nn.functional.pad(TEXT, (output.offset, 0))
        mask = torch.ones_like(tokens, dtype=torch.bool)
        mask[1, :20] = False
        shares, counts = right_by_place(model, output, tokens, mask, 3)
        loop = expected(model, output, tokens, mask, 3)
    assert [(round(float(s) * int(c)), int(c)) for s, c in zip(shares, counts, strict=True)] == loop
    assert counts.min() > 5
    if plan == "true":
        assert shares.min() > 0.5  # a sum of a few elements can be read back


@pytest.mark.parametrize("options", CASES[2:], ids=str)
def test_right_lengths__true_concepts_of_a_wide_model_know_where_they_end(options: dict):
    shape = {"vocab_size": 256, "width": 512, "sharing": "separate", "horizon": 1, "context_length": 64}
    model = open_model(small_config(**shape | options))
    mask = torch.ones_like(TEXT, dtype=torch.bool)
    mask[1, :20] = False
    with torch.no_grad():
        output = model(TEXT)
        output.predictions[1].plan = torch.nn.functional.pad(output.concepts[1], (0, 0, 0, 1)).unsqueeze(2)
        share, count = right_lengths(model, output, mask, scale=64.0)
        assert share > 0.9
        output.predictions[1].plan = output.plans[1].flip(1)
        assert right_lengths(model, output, mask, scale=64.0)[0] < 0.5
    chunks = output.chunks[1]
    cut = chunks.lengths == model.config.hierarchy.chunk_lengths(1)[0]
    masked = torch.arange(chunks.most) < (chunks.start[1, : chunks.counts[1]] < 20).sum()
    left_out = cut | (masked & torch.tensor([[False], [True]]))
    assert int(count) == int((~left_out & (chunks.lengths > 0)).sum())


def test_evaluator__reports_lengths_where_a_rule_of_the_text_cuts_chunks():
    for chunking, there in ((["words"], True), ([3, "words"], False)):
        config = small_config(levels=len(chunking) + 1, chunking=chunking, vocab_size=256, context_length=64)
        evaluator, batch = Evaluator(config, LossConfig()), ConceptBatch(TEXT, torch.ones_like(TEXT, dtype=torch.bool))
        with torch.no_grad():
            evaluator.update(open_model(config), batch)
        found = evaluator.finish()
        assert ("plan_l1/right_length" in found) == there
        assert not there or 0 <= found["plan_l1/right_length"] <= 1


def test_evaluator__reports_places_outside_a_fit():
    model = open_model(small_config(levels=2, chunk_size=4))
    tokens = torch.randint(64, (2, 33))
    batch = ConceptBatch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    for brief, names in ((False, {f"plan_l1/right_at_{place}" for place in (1, 2, 3, 4)}), (True, set())):
        evaluator = Evaluator(model.config, LossConfig())
        with torch.no_grad():
            evaluator.update(model, batch, None, brief)
        assert {name for name in evaluator.finish() if "right_at" in name} == names
    assert Evaluator(small_config(levels=1), LossConfig()).places == 0
    assert Evaluator(small_config(levels=2, encoder__composition="mlp"), LossConfig()).places == 0
