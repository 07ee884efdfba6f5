import dataclasses
from pathlib import Path

import pytest
import torch

from nextconcept import ConceptModule
from nextconcept.training.stored_classes import STORED, allow_stored_classes


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: stored.__name__)
def test_allow_stored_classes__loads_without_pickles(stored: type, tmp_path: Path):
    allow_stored_classes()
    torch.save(stored(), tmp_path / "settings.ckpt")
    assert torch.load(tmp_path / "settings.ckpt", weights_only=True) == stored()


def test_stored__has_the_class_of_all_settings_of_a_module():
    """Also of those within others."""

    def classes(value: object) -> set[type]:
        if not dataclasses.is_dataclass(value):
            return set()
        inner = [classes(getattr(value, field.name)) for field in dataclasses.fields(value)]
        return {type(value)}.union(*inner)

    found = set[type]().union(*(classes(value) for value in ConceptModule().hparams.values()))
    assert len(found) > 5
    assert found <= set(STORED)
