"""What a model writes under other plans."""

import pytest
import torch

from nextconcept import InputError
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.inference.generate import generate
from nextconcept.inference.plan_edits import PlanEdit
from nextconcept.inference.plan_sources import compare_sources
from tests.helpers import open_model, small_config

PROMPT = "the quick brown fox "


def test_compare_sources__zero_is_the_plan_source_zero():
    """Greedy writing gives at each place the likeliest token of a pass whose plan is zero."""
    model = open_model(small_config(vocab_size=256, levels=3, chunk_size=2, context_length=64)).double()
    tokens = torch.tensor([list(PROMPT.encode())])
    written = generate(model, tokens, 16, temperature=0.0, hook=lambda level, plan, *_: torch.zeros_like(plan))
    with torch.no_grad():
        logits = {source: model(written[:, :-1], source).logits[0, 19:] for source in ("zero", "predicted")}
    assert torch.equal(logits["zero"].argmax(-1), written[0, 20:])
    assert not torch.equal(logits["predicted"].argmax(-1), written[0, 20:])
    report = compare_sources(model, ByteTokenizer(), PROMPT, "x", 16)["zero"]
    assert report.written == ByteTokenizer().decode(written[0, 20:].tolist())


def test_compare_sources__another_plan_is_the_plan_of_the_other_text():
    model = open_model(small_config(vocab_size=256, levels=3, chunk_size=2, context_length=64))
    reports = compare_sources(model, ByteTokenizer(), PROMPT, "jumps over the lazy ", 16)
    theirs = compare_sources(model, ByteTokenizer(), "jumps over the lazy ", PROMPT, 16)
    planned = {name: [step.planned for step in report.steps] for name, report in reports.items()}
    assert planned["other"] == [step.planned for step in theirs["predicted"].steps]
    assert planned["zero"] == planned["predicted"] != planned["other"]
    assert len({report.written for report in reports.values()}) == 3


def test_generate__edits_and_a_hook_exclude_each_other():
    model = open_model(small_config(vocab_size=256))
    edit = PlanEdit(1, 0, torch.zeros(32))
    with pytest.raises(InputError, match="by edits or by a hook"):
        generate(model, torch.zeros(1, 4, dtype=torch.int64), 1, edits=[edit], hook=lambda *args: args[1])
