"""Plans in words."""

import re

import pytest
import torch

from nextconcept import InputError
from nextconcept.data.tokenizers import ByteTokenizer, SymbolTokenizer
from nextconcept.inference.draft_acceptance import DraftFigures
from nextconcept.inference.generate import generate
from nextconcept.inference.plan_edits import PlanEdit, parse_edit
from nextconcept.inference.plans import compare_plan, first_visible, plans_at_end, report_plan
from nextconcept.inference.read_back import decode_chunk
from nextconcept.nn.model_output import horizon_targets
from tests.helpers import open_model, small_config

TEXT = "the quick brown fox jumps over"


def ids(text: str) -> torch.Tensor:
    return torch.tensor(list(text.encode()))


@pytest.mark.parametrize("level", [1, 2])
def test_compare_plan__a_perfect_plan_agrees_with_the_text(level: int):
    model = open_model(small_config(vocab_size=256, width=1024, levels=3, chunk_size=2))
    known, span = 8, 2**level
    concepts = model(ids(TEXT)[None]).concepts[level]
    plan = horizon_targets(concepts, 3)[0][0, known // span]
    steps = compare_plan(model, ByteTokenizer(), ids(TEXT), known, {level: plan})
    for step in steps:
        start = known + step.step * span
        assert step.start == start
        assert step.planned == step.written == TEXT[start : start + span]
        assert step.cosine == pytest.approx(1, abs=1e-4)


RULES = {"levels": 3, "chunking": ["words", {"ends": "."}], "vocab_size": 256, "width": 1024, "context_length": 64}
SENTENCES = "a big fox. it ran off. we saw it."


@pytest.mark.parametrize(("level", "known"), [(1, 2), (1, 10), (2, 10)])
def test_compare_plan__reads_chunks_of_unequal_lengths_back(level: int, known: int):
    """A perfect plan is read as the words or sentences that follow, each up to its own end."""
    model = open_model(small_config(**RULES, sharing="shared"))
    output = model(ids(SENTENCES)[None])
    starts = output.chunks[level].start[0].tolist()
    anchor = starts.index(known)
    plan = horizon_targets(output.concepts[level], 2, output.counts(level))[0][0, anchor]
    steps = compare_plan(model, ByteTokenizer(), ids(SENTENCES), known, {level: plan})
    for step in steps:
        start, end = starts[anchor + step.step : anchor + step.step + 2]
        assert (step.start, step.written) == (start, SENTENCES[start:end])
        assert step.cosine == pytest.approx(1, abs=1e-4)
        if level == 1:  # the tokens under several words are read less surely
            assert step.planned == step.written


def test_report_plan__tokens_that_do_not_make_up_the_text(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nextconcept.inference.plans.token_texts", lambda *_, **__: [])
    report = report_plan(open_model(small_config(vocab_size=256, levels=2)), ByteTokenizer(), "apples", [], 8)
    assert report.tokens == []
    assert report.written


def test_compare_plan__chunks_of_unequal_lengths_that_are_not_written_yet():
    model = open_model(small_config(**RULES, sharing="shared", horizon=3))
    tokens = ids("a big fo")
    steps = compare_plan(model, ByteTokenizer(), tokens, 3, plans_at_end(model, tokens[:3]))
    first, second = ([step for step in steps if step.level == level] for level in (1, 2))
    assert [(step.start, step.written, step.in_prompt) for step in first] == [
        (2, "big ", "b"), (6, None, ""), (8, None, ""),
    ]  # fmt: skip
    assert [(step.start, step.written, step.in_prompt) for step in second] == [
        (0, None, "a b"), (8, None, ""), (8, None, ""),
    ]  # fmt: skip


def test_parse_edit__any_text_is_a_chunk_where_rules_cut_them():
    model = open_model(small_config(**RULES, sharing="shared"))
    edit = parse_edit(model, ByteTokenizer(), "2:1=it was late.")
    torch.testing.assert_close(edit.concept, model.compose(ids("it was late."), 2))


def test_compare_plan__beyond_the_text_nothing_is_written():
    model = open_model(small_config(vocab_size=256))
    tokens = ids("abcdefghij")
    steps = compare_plan(model, ByteTokenizer(), tokens, 5, plans_at_end(model, tokens[:5]))
    assert [step.start for step in steps] == [4, 8, 12]
    assert [step.written for step in steps] == ["efgh", None, None]
    assert [step.in_prompt for step in steps] == ["e", "", ""]


def test_compare_plan__chunks_aligned_with_the_end_of_the_prompt():
    model = open_model(small_config(vocab_size=256, encoder__chunk_alignment="end"))
    tokens = ids("abcdefghij")
    steps = compare_plan(model, ByteTokenizer(), tokens, 6, plans_at_end(model, tokens[:6]))
    assert [step.written for step in steps] == ["ghij", None, None]


@pytest.mark.parametrize("shape", [(32,), (1, 32)], ids=str)
def test_report_plan__concepts_of_edits_may_have_an_axis_of_rows(shape: tuple[int, ...]):
    model = open_model(small_config(vocab_size=256))
    concept = model.compose(ids("kiwi"))
    edit = PlanEdit(1, 0, concept.view(shape), ids("kiwi"))
    report = report_plan(model, ByteTokenizer(), "apples and kiwis", [edit], 8)
    assert (report.steps[0].edited, report.steps[0].planned) == (True, "kiwi")
    plain = report_plan(model, ByteTokenizer(), "apples and kiwis", [PlanEdit(1, 0, concept, ids("kiwi"))], 8)
    assert report.written == plain.written


def test_compare_plan__edits_are_marked():
    model = open_model(small_config(vocab_size=256))  # too narrow to read the letters back
    tokens = ids("abcdefgh")
    edit = parse_edit(model, ByteTokenizer(), "1:1=kiwi")
    steps = compare_plan(model, ByteTokenizer(), tokens, 8, plans_at_end(model, tokens), [edit])
    assert [step.edited for step in steps] == [False, True, False]
    assert steps[1].planned == "kiwi"


def test_compare_plan__needs_concepts_that_can_be_decoded():
    model = open_model(small_config(vocab_size=256, encoder__composition="max"))
    with pytest.raises(InputError, match="not 'max'"):
        compare_plan(model, ByteTokenizer(), ids("abcd"), 4, {})


def test_decode_chunk__in_order_or_as_a_set():
    assert decode_chunk(ByteTokenizer(), ids("cab"), ordered=True) == "cab"
    assert decode_chunk(ByteTokenizer(), ids("cab"), ordered=False) == "{a b c}"


def test_decode_chunk__shows_the_end_of_a_document():
    assert decode_chunk(ByteTokenizer(), torch.tensor([0, 98, 99, 0]), ordered=True) == "<|endoftext|>bc<|endoftext|>"
    assert decode_chunk(ByteTokenizer(), torch.tensor([98, 0]), ordered=False) == "{<|endoftext|> b}"


def test_first_visible__follows_generation():
    model = open_model(small_config(vocab_size=256, context_length=16))
    assert [first_visible(model, length) for length in (1, 16, 17, 24, 25)] == [0, 0, 8, 8, 16]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("1:0", "not of the form LEVEL:STEP=TEXT"),
        ("x:0=kiwi", "not of the form"),
        ("2:0=kiwi", "no concept level 2: those are 1"),
        ("1:0=kiwis", 'has 5 tokens, but a concept of level 1 has 4: it is cut into "k" "i" "w" "i" "s"'),
        ("1:0=kiw", "has 3 tokens, but a concept of level 1 has 4"),
        ("1:0=", "has no text"),
        ("1:0=\udcff", "the text of the edit is not valid UTF-8"),
        ("1:9=kiw", "the plan of level 1 has steps 0 to 2, not 9"),
    ],
)
def test_parse_edit__bad_input(edit: str, message: str):
    with pytest.raises(InputError, match=message):
        parse_edit(open_model(small_config(vocab_size=256)), ByteTokenizer(), edit)


def test_parse_edit__a_short_text_is_filled_up_from_the_plan():
    model = open_model(small_config(vocab_size=256, width=512))
    plans = {1: model.compose(ids("abcdwxyz").view(2, 4)).detach()}
    edit = parse_edit(model, ByteTokenizer(), "1:1=ki", plans)
    assert torch.equal(edit.concept, model.compose(ids("kiyz")))


def test_report_plan__marks_the_tokens_that_were_drafted():
    """As many as passes accepted, in the text that is written without drafts."""
    tokenizer = SymbolTokenizer([*"ab"])
    model = open_model(small_config(vocab_size=tokenizer.vocab_size, context_length=64))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter *= 0.5 / parameter.std()
    most = 0
    for prompt in ("abba", "bbb", "a", "ababab"):
        plain = report_plan(model, tokenizer, prompt, max_new_tokens=30)
        drafted = report_plan(model, tokenizer, prompt, max_new_tokens=30, draft="plan")
        assert (drafted.written, drafted.steps) == (plain.written, plain.steps)
        figures = DraftFigures()
        generate(model, torch.tensor(tokenizer.encode(prompt))[None], 30, 0.0, draft="plan", figures=figures)
        marked = [one.position for one in drafted.tokens if one.drafted]
        assert not any(one.drafted for one in plain.tokens)
        assert len(marked) == figures.accepted
        most = max(most, len(marked))
        page = drafted._repr_html_()
        shown = [str(one.position) for one in drafted.tokens if one.drafted and one.text]
        assert re.findall('class="p([0-9]+) drafted"', page) == shown
        assert (f"{len(marked)} of 30 tokens were drafted" in page) == (len(marked) > 0)
    assert most > 1
