"""Text -> tokens -> windows."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nextconcept.data.datamodule import ConceptDataModule
    from nextconcept.data.hub import HubDataModule
    from nextconcept.data.text import TextDataModule

__all__ = ["ConceptDataModule", "HubDataModule", "TextDataModule"]

_MODULES = {"ConceptDataModule": "datamodule", "HubDataModule": "hub", "TextDataModule": "text"}


def __getattr__(name: str) -> Any:
    """Import a data module, and with it Lightning, when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
