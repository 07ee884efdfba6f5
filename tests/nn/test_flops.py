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
