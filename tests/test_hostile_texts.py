"""Texts that no rule was made for, in training, generation and plans.

A text without a boundary, of boundaries alone, of one byte; an empty one is refused.
"""

from pathlib import Path

import pytest
import torch

from nextconcept import InputError, NextConceptModel, generate
from nextconcept.core.chunk_rules import RULES
from nextconcept.data.text import TextDataModule
from nextconcept.data.token_cache import SplitConfig
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.inference.plans import report_plan
from nextconcept.training.losses import LossConfig, compute_losses
from nextconcept.training.module import ConceptModule
from tests.helpers import open_model, small_config, trainer_of

BOUNDARIES = ".\n" * 24
TEXTS = {"one byte": "a", "one boundary": "\n", "boundaries": BOUNDARIES, "none": "a" * 48, "blanks": " " * 48,
         "newlines": "\n" * 48, "not ASCII": "é☃" * 9, "zeros": "\0" * 48}  # fmt: skip
ENDS = {"ends": "|\n", "max_length": 5, "mean_length": 2.5}
STACKS: list[list] = [[rule] for rule in RULES] + [
    [ENDS],
    ["words", "sentences"],
    ["lines", "paragraphs"],
    [3, ENDS],
    [ENDS, 2, "words"],
]
COMMON = {"sharing": "separate", "vocab_size": 256, "width": 16, "num_heads": 2, "depth": 1, "context_length": 48}


def model_of(rules: list, **options: object) -> NextConceptModel:
    shape = {"levels": len(rules) + 1, "chunking": rules, "horizon": 2, "reader__plan_conditioning": "unbind"}
    return open_model(small_config(**COMMON | shape | options))


@pytest.mark.parametrize("length", [2, 49])
@pytest.mark.parametrize("rules", STACKS, ids=str)
def test_hostile_texts__are_learnt_with_finite_losses_and_gradients(rules: list, length: int):
    model = model_of(rules)
    tokens = torch.tensor([list(text.encode() * 49)[:length] for text in TEXTS.values()])
    known = torch.ones_like(tokens, dtype=torch.bool)
    terms = dict.fromkeys(("decode", "cosine", "info_nce", "mse"), 1.0)
    losses = compute_losses(LossConfig(terms=terms), model, model(tokens[:, :-1]), tokens, known)
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("rules", STACKS[::2], ids=str)
def test_hostile_texts__are_continued_and_planned(rules: list):
    model, prompts = model_of(rules), [text.encode() for text in TEXTS.values()]
    longest = max(map(len, prompts))
    rows = torch.tensor([[*prompt, *bytes(longest - len(prompt))] for prompt in prompts])
    lengths = torch.tensor(list(map(len, prompts)))
    texts = [generate(model, rows, 12, 0.0, lengths=lengths, use_cache=cached) for cached in (True, False)]
    assert torch.equal(*texts)
    for text in ("a", "a" * 20, BOUNDARIES[:12]):
        report = report_plan(model, ByteTokenizer(), text, max_new_tokens=3)
        assert {step.level for step in report.steps} == set(range(1, len(rules) + 1))
        assert all(step.planned for step in report.steps)
        # What an edit plans may be hostile too.
        edited = report_plan(model, ByteTokenizer(), text, edits=[f"1:0={BOUNDARIES}", "1:1=a"], max_new_tokens=3)
        assert sum(step.edited for step in edited.steps) == 2


@pytest.mark.parametrize("rules", STACKS, ids=str)
def test_hostile_texts__an_empty_one_is_refused(rules: list):
    model = model_of(rules)
    with pytest.raises(InputError, match="time >= 1"):
        model(torch.zeros(1, 0, dtype=torch.long))
    with pytest.raises(InputError, match="prompt"):
        generate(model, torch.zeros(1, 0, dtype=torch.long), 2)
    with pytest.raises(InputError, match="the prompt is empty"):
        report_plan(model, ByteTokenizer(), "")


@pytest.mark.slow
@pytest.mark.parametrize("text", [BOUNDARIES, "a", "\n"], ids=["boundaries", "none", "newlines"])
@pytest.mark.parametrize("rules", [["words"], ["lines", "paragraphs"], [ENDS, 2, "words"]], ids=str)
def test_hostile_texts__are_fitted_and_validated(rules: list, text: str, tmp_path: Path):
    (tmp_path / "text.txt").write_text(text * (2000 // len(text)))
    shape = {"levels": len(rules) + 1, "chunking": rules, "context_length": 48}
    split = SplitConfig("contiguous", 0.1, 0.1)
    data = TextDataModule(str(tmp_path / "text.txt"), batch_size=2, split=split, cache_dir=str(tmp_path), **shape)
    module = ConceptModule(model_of(rules).config, LossConfig(terms={"decode": 1.0}))
    trainer = trainer_of(tmp_path, 2)
    trainer.fit(module, data)
    (measured,) = trainer.validate(module, data, verbose=False)
    assert measured["val/loss"] > 0
    assert trainer.global_step == 2
