"""What callbacks work on, by its type: Lightning hands them any module and any trainer."""

from typing import Any, cast

import lightning as L

from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.training.module import ConceptModule

__all__ = ["data_of", "module_of"]


def module_of(pl_module: L.LightningModule) -> ConceptModule:
    """The module that is trained."""
    return cast(ConceptModule, pl_module)


def data_of(trainer: L.Trainer) -> ConceptDataModule:
    """The data that it is trained on."""
    holder: Any = trainer  # Lightning sets the attribute without declaring it
    return cast(ConceptDataModule, holder.datamodule)
