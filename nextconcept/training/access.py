"""Typed access to the module and the data of a run, for callbacks."""

from typing import cast

import lightning as L

from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.training.module import ConceptModule

__all__ = ["data_of", "module_of"]


def module_of(pl_module: L.LightningModule) -> ConceptModule:
    """Return the module that a callback was called with, as a :class:`ConceptModule`."""
    return cast(ConceptModule, pl_module)


def data_of(trainer: L.Trainer) -> ConceptDataModule | None:
    """Return the data module of a run, or None if the run has none of this type."""
    data = getattr(trainer, "datamodule", None)  # an attribute that Lightning sets without declaring it
    return data if isinstance(data, ConceptDataModule) else None
