"""The plans of a whole text in words."""

import pytest
import torch

from nextconcept import InputError
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.inference.generate import generate
from nextconcept.inference.plan_edits import parse_edit
from nextconcept.inference.plans import compare_plan, plans_at_end, report_plan
from nextconcept.inference.read_back import decode_chunk, read_concepts
from nextconcept.inference.text_plans import gate_size, text_plans
from tests.helpers import open_model, small_config

TEXT = torch.tensor(list(b"the quick brown fox. jumps over the dog. again"))


@pytest.mark.parametrize(
    "changes",
    [
        {"levels": 3, "chunk_size": 2},
        {"levels": 3, "chunk_size": 2, "encoder__chunk_alignment": "end"},
        {"levels": 2, "encoder__position_binding": False},
        {"levels": 3, "chunking": ["words", 2], "sharing": "shared"},
    ],
    ids=str,
)
def test_text_plans__each_anchor_is_the_plan_after_its_prefix(changes: dict):
    """Every row says what the model plans when it has read the text up to there, and no more."""
    # In double precision, so that no reading hangs on the rounding of sums of another length.
    model = open_model(small_config(vocab_size=256, context_length=64, depth=1, **changes)).double()
    for plans in text_plans(model, ByteTokenizer(), TEXT, known=29):
        compared = 0
        for anchor in plans.anchors:
            # Only at the bounds of top-level chunks does a prefix have the padding of the text.
            if anchor.start < 17 or (model.config.padding(29) + anchor.start) % model.config.hierarchy.alignment:
                continue
            known = TEXT[: anchor.start]
            plan = {plans.level: plans_at_end(model, known)[plans.level]}
            expected = compare_plan(model, ByteTokenizer(), TEXT, anchor.start, plan)
            found = anchor.steps
            assert [(step.step, step.planned, step.written) for step in found] == [
                (step.step, step.planned, step.written) for step in expected
            ]
            cosines = [step.cosine for step in expected if step.cosine is not None]
            assert [step.cosine for step in found if step.cosine is not None] == pytest.approx(cosines, abs=1e-4)
            compared += 1
        assert compared > 0


def test_text_plans__edits_are_what_the_text_was_written_after():
    """An edited concept stays in all plans that hold it, and the rest is planned after it."""
    # Too narrow to read the letters back.
    model = open_model(small_config(vocab_size=256, levels=3, chunk_size=2))
    tokenizer, prompt = ByteTokenizer(), TEXT[:8]
    edits = [parse_edit(model, tokenizer, "2:1=kiwi"), parse_edit(model, tokenizer, "1:0=no")]
    text = generate(model, prompt[None], 12, temperature=0.0, edits=edits)[0]
    top, below = text_plans(model, tokenizer, text, known=8, edits=edits)
    marked = {(anchor.start, step.step) for anchor in top.anchors for step in anchor.steps if step.edited}
    assert marked == {(8, 1), (12, 0)}
    assert {step.planned for anchor in top.anchors for step in anchor.steps if step.edited} == {"kiwi"}
    assert [step.planned for anchor in below.anchors for step in anchor.steps if step.edited] == ["no"]
    unedited = text_plans(model, tokenizer, text, known=8)[1]
    assert below.anchors[:4] == unedited.anchors[:4]
    assert below.anchors[4].steps != unedited.anchors[4].steps


def test_text_plans__needs_concepts_that_can_be_decoded():
    model = open_model(small_config(vocab_size=256, encoder__composition="max"))
    with pytest.raises(InputError, match="not 'max'"):
        text_plans(model, ByteTokenizer(), TEXT)


def test_gate_size__tells_a_plan_that_is_barely_read():
    model = open_model(small_config(vocab_size=256))
    assert not text_plans(model, ByteTokenizer(), TEXT)[0].barely_read
    torch.nn.init.constant_(model.decoder.gates.plan, -0.002)
    assert gate_size(model, 1) == pytest.approx(0.002)
    assert text_plans(model, ByteTokenizer(), TEXT)[0].barely_read
    model.set_gate_scale(1, 0.0)
    assert gate_size(model, 1) == 0


@pytest.mark.parametrize("options", [{"chunk_size": 2}, {"chunk_size": 2, "encoder__chunk_alignment": "end"}], ids=str)
def test_report_plan__lower_levels_read_the_edit_of_a_higher_one(options: dict):
    """The plan at the end of the prompt is that of the same anchor in the table of all plans."""
    model = open_model(small_config(vocab_size=256, levels=3, context_length=64, **options))
    report = report_plan(model, ByteTokenizer(), "hello wo", ["2:0=abcd"], max_new_tokens=8)
    plain = report_plan(model, ByteTokenizer(), "hello wo", max_new_tokens=8)
    (anchor,) = [one.steps for level in report.levels if level.level == 1 for one in level.anchors if one.start == 8]
    steps, unedited = ([step.planned for step in one.steps if step.level == 1] for one in (report, plain))
    assert steps == [step.planned for step in anchor]
    assert steps != unedited


@pytest.mark.parametrize("known", [13, 40])
@pytest.mark.parametrize("alignment", ["start", "end"])
def test_report_plan__shows_the_plans_that_the_model_made(known: int, alignment: str):
    """Also where text and padding together pass the context, or the prompt is longer than it."""
    changes = {"levels": 3, "chunk_size": 2, "context_length": 16, "encoder__chunk_alignment": alignment}
    model, tokenizer = open_model(small_config(vocab_size=256, depth=1, **changes)), ByteTokenizer()
    prompt, padding = bytes(TEXT[:known].tolist()).decode(), model.config.padding(known)
    made: dict[tuple[int, int], torch.Tensor] = {}

    def note(level: int, plan: torch.Tensor, anchors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        for anchor, one in zip(anchors[0].tolist(), plan[0], strict=True):
            made.setdefault((level, anchor), model.encoder.composition(level).norm(one))
        return plan

    report = report_plan(model, tokenizer, prompt, max_new_tokens=14, hook=note)
    shown = 0
    for plans in report.levels:
        span = model.config.hierarchy.span(plans.level)
        assert any(anchor.start >= known - span for anchor in plans.anchors)
        for anchor in plans.anchors:
            found = read_concepts(model, made[plans.level, (anchor.start + padding) // span], plans.level, 0)
            expected = [decode_chunk(tokenizer, one[0].tokens, ordered=True) for one in found]
            assert [step.planned for step in anchor.steps] == expected
            shown += 1
    assert shown > 3


def test_report_plan__says_that_nothing_is_written():
    model = open_model(small_config(vocab_size=256, levels=2))
    text = str(report_plan(model, ByteTokenizer(), "abcdefgh", max_new_tokens=0))
    assert text.endswith("nothing is written yet")
    assert "agree" not in text


@pytest.mark.parametrize("changes", [{"chunk_size": 2}, {"chunking": ["words"], "sharing": "shared"}], ids=str)
def test_report_plan__positions_are_those_of_the_text(changes: dict):
    """Also where the model sees only the end of a prompt."""
    model = open_model(small_config(vocab_size=256, levels=2, context_length=16, **changes))
    prompt = bytes(TEXT[:40].tolist()).decode()
    report = report_plan(model, ByteTokenizer(), prompt, max_new_tokens=9)
    text, compared = prompt + report.written, 0
    for anchor in report.levels[0].anchors:
        if anchor.chunk.isascii():
            assert text[anchor.start :].startswith(anchor.chunk)
            compared += len(anchor.chunk) > 0
    for step in report.steps:
        if step.written is not None and step.written.isascii():
            assert text[step.start :].startswith(step.written)
            compared += 1
    assert compared > 3
