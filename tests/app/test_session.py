"""What the page of plans shows, without the page."""

import re

import pytest
import torch

from nextconcept.app.session import MOST_CHARACTERS, PlanSession, View
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.inference.text import Writer
from tests.helpers import open_model, small_config

PROMPT = "the quick brown"


@pytest.fixture
def session() -> PlanSession:
    model = open_model(small_config(vocab_size=256, levels=3, chunk_size=2, width=128, context_length=64))
    return PlanSession(Writer(model, ByteTokenizer()))


def sentence_of(view: View) -> str:
    """The one sentence of a page that refuses something, which shows nothing else."""
    assert (view.html, view.every, view.choices) == ("", "", [])
    found = re.fullmatch(r'<p class="nc-message" role="alert">([^<]*)</p>', view.message)
    return found[1]


def test_show__what_the_model_writes_and_plans(session: PlanSession):
    view, report = session.show(PROMPT, 12), session.writer.plan(PROMPT, max_new_tokens=12)
    assert view.message == ""
    assert [value for _, value in view.choices] == [f"{step.level}:{step.step}" for step in report.steps]
    assert all(f'data-level="{step.level}" data-step="{step.step}"' in view.html for step in report.steps)
    assert view.every.count("the prompt ends") == 2


def test_edit__the_text_follows_and_other_edits_stay(session: PlanSession):
    first = session.edit(PROMPT, 12, [], "2:1", "kiwi")
    second = session.edit(PROMPT, 12, first.edits, "1:0", "no")
    third = session.edit(PROMPT, 12, second.edits, "1:0", "ok")
    assert (first.edits, third.edits) == (["2:1=kiwi"], ["2:1=kiwi", "1:0=ok"])
    assert second.html == session.show(PROMPT, 12, ["2:1=kiwi", "1:0=no"]).html
    assert len({view.html for view in (session.show(PROMPT, 12), first, second, third)}) == 4
    assert third.html.count("edited") == 2


def test_edit__one_that_cannot_be_used_leaves_the_others(session: PlanSession):
    edits = ["1:0=no"]
    for step, text, sentence in [
        ("2:1", "far too long", "has 12 tokens, but a concept of level 2 has 4"),
        ("2:1", "", "has no text"),
        ("7:0", "no", "no concept level 7"),
        ("x", "no", "is not of the form"),
        (None, "no", "Choose a step"),
    ]:
        view = session.edit(PROMPT, 12, edits, step, text)
        assert sentence in sentence_of(view)
        assert view.edits == edits


def test_show_and_compare__refuse_in_one_sentence(session: PlanSession):
    for prompt, count, sentence in [
        ("", 0, "The prompt is empty"),
        ("x" * (MOST_CHARACTERS + 1), 0, "The text has 10,001 characters, and the page takes 10,000"),
        ("a\0b", 0, "NUL character"),
        ("a\ud800b", 0, "not valid UTF-8"),
        (PROMPT, -1, "0 to 1,000, not -1"),
        (PROMPT, 1e9, "0 to 1,000, not 1e+09"),
        (PROMPT, float("nan"), "0 to 1,000, not nan"),
    ]:
        assert sentence in sentence_of(session.show(prompt, count))
        assert sentence in sentence_of(session.compare(prompt, count, "other"))
    assert "Give another text" in sentence_of(session.compare(PROMPT, 0, ""))
    assert "NUL character" in sentence_of(session.compare(PROMPT, 0, "\0"))


def test_show__hostile_text_is_text(session: PlanSession):
    view = session.show("<script>alert('x')</script>", 4)
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in view.html
    assert "<script" not in view.html + view.every
    assert "<b>" not in session.edit(PROMPT, 4, [], "2:1", "<b>too long</b>").message


def test_compare__three_plans_side_by_side(session: PlanSession):
    view = session.compare(PROMPT, 12, "another text")
    assert view.message == ""
    titles = re.findall("<h3>(.*?)</h3>", view.html)
    assert titles == ["with its own plan", "with the plan taken away", "with the other text&#x27;s plan"]


def test_sessions__leave_the_model_as_it_is(session: PlanSession):
    before = {name: value.clone() for name, value in session.writer.model.state_dict().items()}
    session.edit(PROMPT, 4, [], "1:0", "no")
    session.compare(PROMPT, 4, "other")
    assert all(torch.equal(before[name], value) for name, value in session.writer.model.state_dict().items())
    assert session.show(PROMPT, 4).html == session.show(PROMPT, 4).html
