"""Which tokens of a text were drafted."""

import re

import torch

from nextconcept.data.tokenizers import SymbolTokenizer
from nextconcept.inference.drafted_tokens import DraftedTokens
from nextconcept.inference.drafts import DraftFigures
from nextconcept.inference.generate import generate
from nextconcept.inference.plans import report_plan
from tests.helpers import open_model, small_config


def test_add__the_accepted_drafts_of_each_pass_come_before_its_own_token():
    drafted = DraftedTokens()
    for accepted, count in ((2, 3), (0, 3), (0, 0), (1, 1)):
        drafted.add(torch.tensor([accepted]), torch.tensor([count]))
    # dd. . . d.
    assert drafted.places == {0, 1, 5}
    assert (drafted.tokens, drafted.passes) == (7, 4)


def test_report_plan__marks_the_tokens_that_were_drafted():
    """As many as passes accepted, in the text that is written without drafts."""
    tokenizer = SymbolTokenizer([*"ab"])
    model = open_model(small_config(vocab_size=tokenizer.vocab_size, context_length=64))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter *= 0.5 / parameter.std()
    figures, most = DraftFigures(), 0
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
    assert most > 3
