"""Copies that operations are counted on."""

import pytest
import torch
from torch import nn

from nextconcept import NextConceptModel
from nextconcept.nn.flops import without_data
from tests.helpers import small_config


@pytest.mark.parametrize("tied", [False, True])
def test_without_data__copies_no_weight(tied: bool, monkeypatch: pytest.MonkeyPatch):
    model = NextConceptModel(small_config(levels=2, tie_embeddings=tied)).train()

    def copied(*_: object) -> None:
        raise AssertionError("a weight is copied")

    for kind in (nn.Parameter, torch.Tensor):
        monkeypatch.setattr(kind, "__deepcopy__", copied)
    ghost = without_data(model)
    assert all(one.is_meta for one in (*ghost.parameters(), *ghost.buffers()))
    assert [(name, one.shape) for name, one in ghost.named_parameters()] == [
        (name, one.shape) for name, one in model.named_parameters()
    ]
    assert not ghost.training
    assert model.training
    assert not any(one.is_meta for one in model.parameters())


def test_level_flops__one_pass_for_all_who_ask(monkeypatch: pytest.MonkeyPatch):
    passes = 0

    def counted(model: NextConceptModel) -> NextConceptModel:
        nonlocal passes
        passes += 1
        return without_data(model)

    monkeypatch.setattr("nextconcept.nn.flops.without_data", counted)
    model = NextConceptModel(small_config(levels=3))
    by_level = model.level_flops(64)
    assert list(by_level) == [0, 1, 2]
    assert model.flops_per_token(64) == sum(by_level.values())
    assert passes == 1
    model.flops_per_token(32)
    assert passes == 2
