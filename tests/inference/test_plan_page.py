"""Plans as HTML."""

import re
from html.parser import HTMLParser

import pytest
import torch

from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.inference.plan_figures import look_at_plan
from nextconcept.inference.plan_page import plan_fragment, plan_page
from nextconcept.inference.plan_steps import CONTROL_CHARACTERS, AnchorPlan, LevelPlans, PlanStep, visible
from nextconcept.inference.plan_style import RIGHT, SURE, shade
from nextconcept.inference.text import Writer
from tests.helpers import open_model, small_config

VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = "<script src='https://evil.example/x.js'>alert(1)</script>&amp;\" onload=\"x() </style><b>"


class Page(HTMLParser):
    """Checks that elements are nested, and collects them with their texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "bdi":
            self.words.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))
        self.text += data
        if "bdi" in self.open:
            self.words[-1] += data


def plan_of(planned: str, written: str | None, gate: float = 0.5, cosine: float = 0.3) -> LevelPlans:
    step = PlanStep(1, 0, 4, planned, 0.9, [planned], written, None if written is None else cosine)
    return LevelPlans(1, gate, [AnchorPlan(4, written or "", [step])])


def page_of(plans: LevelPlans, prompt: str = "prompt", written: str = "written") -> Page:
    return Page(plan_page([plans], plans.anchors[0].steps, prompt, written, title=prompt))


def test_plan_page__is_one_file_without_scripts_or_addresses():
    page = page_of(plan_of("fox ", "dog "))
    assert not {"script", "link", "img", "iframe", "object", "svg", "base", "form", "a"} & {tag for tag, _ in page.tags}
    attributes = {name for _, attrs in page.tags for name in attrs}
    assert not {"src", "href", "srcset", "action", "data", "style"} & (attributes - {"style"})
    assert not [name for name in attributes if name.startswith("on")]
    whole = "".join(text for _, text in page.texts)
    for sign in ("http:", "https:", "//", "@import", "url("):
        assert sign not in whole
    policy = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert ("meta", {"charset": "utf-8"}) in page.tags


@pytest.mark.parametrize("text", [HOSTILE, "中文 日本語", "שלום עולם", "a\nb\tc\x07", "🙂 &lt;"])
def test_plan_page__shows_any_text_as_text(text: str):
    """Its elements are those of harmless words, and their words as HTML can hold them."""
    page, harmless = page_of(plan_of(text, text + "!"), text, text), page_of(plan_of("a", "b"), "c", "d")
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert [set(attrs) for _, attrs in page.tags] == [set(attrs) for _, attrs in harmless.tags]
    shown = "".join(page.words)
    assert shown.count(visible(text)) >= 4
    assert "".join(page.words[:2]) == (text + text).translate(CONTROL_CHARACTERS)


def test_plan_page__marks_where_plan_and_text_part():
    differing, equal = page_of(plan_of("fox ", "dog ")), page_of(plan_of("fox ", "fox ", cosine=1.0))
    assert any("part at step +0" in text for _, text in differing.texts)
    assert any("agree" in text for _, text in equal.texts)
    assert sum("≠" in text for _, text in differing.texts) == 1 + sum("≠" in text for _, text in equal.texts) + 1
    cells = [attrs["class"] for tag, attrs in equal.tags if tag == "td" and "class" in attrs]
    assert cells == ["s9 c", "r10 c"]
    cells = [attrs["class"] for tag, attrs in differing.tags if tag == "td" and "class" in attrs]
    assert cells == ["s9 differs c", "r3 differs c"]
    unwritten = page_of(plan_of("fox ", None))
    assert [attrs["class"] for tag, attrs in unwritten.tags if tag == "td" and "class" in attrs] == ["s9 c", "open c"]


def test_plan_page__says_that_a_plan_is_barely_read():
    read, barely = page_of(plan_of("fox ", "dog ")), page_of(plan_of("fox ", "dog ", gate=0.001))
    assert not any("barely read" in text for _, text in read.texts)
    assert any("The plan is barely read" in text for _, text in barely.texts)
    assert ("section", {"class": "faded"}) in barely.tags


@pytest.mark.parametrize("dark", [RIGHT, SURE])
def test_shade__text_is_readable_on_every_shade(dark: tuple[int, int, int]):
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for value in range(101):
        low, high = sorted(map(luminance, shade(value / 100, dark)))
        assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize("changes", [{"levels": 3, "chunk_size": 2}, {"levels": 3, "chunking": ["words", 2]}], ids=str)
def test_reports_of_plans__are_shown_by_notebooks(changes: dict):
    """Every planned and every written concept of a report is on the page."""
    model = open_model(small_config(vocab_size=256, context_length=64, sharing="shared", **changes))
    report = Writer(model, ByteTokenizer()).plan("Is 3 < 4? Yes.", max_new_tokens=20)
    page = Page(report._repr_html_())
    assert page.words[:2] == ["Is 3 < 4? Yes.", report.written.translate(CONTROL_CHARACTERS)]
    texts = [text for step in report.steps for text in (step.planned, step.written) if text]
    assert {visible(text).replace("<|endoftext|>", "end") for text in texts} <= set(page.words)
    assert sum(tag == "h2" for tag, _ in page.tags) == model.config.levels - 1
    assert all(len(plans.anchors) > 1 for plans in report.levels)


def test_pictures_of_plans__are_shown_by_notebooks():
    tokens = torch.tensor(list(b"To be, or not to be"))
    picture = look_at_plan(open_model(small_config(vocab_size=256)), ByteTokenizer(), tokens)
    assert {"To␣b", "e,␣o", "r␣no"} <= set(Page(picture._repr_html_()).words)
    assert picture._repr_html_() == plan_fragment(picture.levels)
    closed = open_model(small_config(vocab_size=256, encoder__composition="max"))
    assert look_at_plan(closed, ByteTokenizer(), tokens)._repr_html_() is None


@pytest.mark.parametrize("known", [8, 10, 11])
@pytest.mark.parametrize("alignment", ["start", "end"])
def test_plan_page__says_where_the_prompt_ends(known: int, alignment: str):
    """Between two chunks, or in the one in which it ends after some of its tokens."""
    changes = {"levels": 3, "chunk_size": 2, "context_length": 64, "encoder__chunk_alignment": alignment}
    report = Writer(open_model(small_config(vocab_size=256, **changes)), ByteTokenizer()).plan("To be, or not"[:known])
    for plans in report.levels:
        page = plan_fragment([plans], report.steps, report.prompt, report.written)
        read = ""
        for row in re.findall("<tr.*?</tr>", page[page.index("Every plan") :])[1:]:
            if "the prompt ends here" in row:
                break
            if inside := re.search('the prompt ends after <bdi class="w ">(.*?)</bdi>', row):
                read += inside[1]
                break
            read += Page(re.search("<td>.*?</td>", row)[0]).text  # none in a chunk of padding
        assert read == visible(report.prompt)


@pytest.mark.parametrize("conditioning", ["cross", "prefix", "unbind"])
def test_plan_fragment__shades_what_the_piece_under_the_pointer_read(conditioning: str):
    """Each share is on the cell of its step, and each written token has a rule for each level."""
    changes = {"levels": 3, "chunk_size": 2, "context_length": 64, "reader__plan_conditioning": conditioning}
    report = Writer(open_model(small_config(vocab_size=256, **changes)), ByteTokenizer()).plan(
        "To be, or", max_new_tokens=7
    )
    html = report._repr_html_()
    page = Page(html)
    for plans in report.levels:
        for index, anchor in enumerate(plans.anchors):
            row = re.search(f'<tr class="m m{plans.level}-{index}">.*?</tr>', html)[0]
            styles = re.findall('<td class="[^"]* c"(?: style="([^"]*)")?>', row)
            for step, style in enumerate(styles):
                read = [(number, one) for number, one in enumerate(anchor.readings) if one.weights]
                shares = [f"--a{number}:{100 * one.weights[step]:.0f}" for number, one in read]
                assert style == ";".join(shares)
            pieces = re.findall('<span class="q[0-9]+">', row)
            assert len(pieces) == len(anchor.readings)
    assert [one.position for one in report.tokens] == list(range(9, 16))
    titles = {
        attrs["class"]: attrs["title"]
        for _, attrs in page.tags
        if "title" in attrs and attrs.get("class", "")[0] == "p"
    }
    for token in (one for one in report.tokens if one.text):
        assert re.search(r"level 2.*\+0 .*%; level 1.*\+0 .*%", titles[f"p{token.position}"])
        assert len(re.findall(rf"[:(,]has\([^)]*\.p{token.position}:hover[^)]*\) \.m[12]-", html)) == 2
    assert "Point at a piece of the text" in page.text
    assert page.words[:2] == ["To be, or", report.written.translate(CONTROL_CHARACTERS)]
