"""Modes of a model and of its parts."""

from contextlib import suppress

import torch

from nextconcept import NextConceptModel, generate
from nextconcept.nn.eval_mode import eval_mode
from tests.helpers import small_config


def test_eval_mode__gives_each_part_its_mode_back():
    model = NextConceptModel(small_config(dropout=0.1)).train()
    model.decoder.eval()  # frozen
    before = {name: part.training for name, part in model.named_modules()}
    assert len(set(before.values())) == 2
    with suppress(ZeroDivisionError), eval_mode(model):
        assert not any(part.training for part in model.modules())
        raise ZeroDivisionError
    assert {name: part.training for name, part in model.named_modules()} == before
    generate(model, torch.tensor([[1, 2, 3]]), 2)
    assert {name: part.training for name, part in model.named_modules()} == before


def test_eval_mode__of_several_that_overlap_the_last_to_end_gives_the_mode_back():
    model = NextConceptModel(small_config(dropout=0.1)).train()
    first, second = eval_mode(model), eval_mode(model)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(part.training for part in model.modules())
    second.__exit__(None, None, None)
    assert all(part.training for part in model.modules())


def test_eval_mode__a_context_that_never_ends_does_not_keep_later_ones_in_eval_mode():
    model = NextConceptModel(small_config(dropout=0.1)).train()
    left = eval_mode(model)
    left.__enter__()
    model.train()
    with eval_mode(model):
        assert not any(part.training for part in model.modules())
    assert all(part.training for part in model.modules())
    left.__exit__(None, None, None)
