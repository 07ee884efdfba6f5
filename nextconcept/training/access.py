"""Typed access to the module and the data of a run, for callbacks."""

from typing import cast

import lightning as L

from nextconcept.data.datamodule import data_of
from nextconcept.training.module import ConceptModule

__all__ = ["data_of", "module_of"]


def module_of(pl_module: L.LightningModule) -> ConceptModule:
    """Return the module that a callback was called with, as a :class:`ConceptModule`."""
    return cast(ConceptModule, pl_module)
