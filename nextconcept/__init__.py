"""Next-concept prediction: language models that plan in concepts and write in tokens.

The names below are imported when they are first used, so that ``import nextconcept`` loads
neither torch nor Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nextconcept.core.config import ModelConfig
    from nextconcept.core.errors import InputError
    from nextconcept.data.datamodule import ConceptDataModule
    from nextconcept.inference.generate import generate
    from nextconcept.inference.text import Writer, load
    from nextconcept.nn.growth import grow, shrink
    from nextconcept.nn.model import NextConceptModel
    from nextconcept.nn.model_output import ModelOutput
    from nextconcept.training.module import ConceptModule

__all__ = [
    "ConceptDataModule",
    "ConceptModule",
    "InputError",
    "ModelConfig",
    "ModelOutput",
    "NextConceptModel",
    "Writer",
    "generate",
    "grow",
    "load",
    "shrink",
]
__version__ = "0.3.0"

_MODULES = {
    "ConceptDataModule": "nextconcept.data.datamodule",
    "ConceptModule": "nextconcept.training.module",
    "InputError": "nextconcept.core.errors",
    "ModelConfig": "nextconcept.core.config",
    "ModelOutput": "nextconcept.nn.model_output",
    "NextConceptModel": "nextconcept.nn.model",
    "Writer": "nextconcept.inference.text",
    "generate": "nextconcept.inference.generate",
    "grow": "nextconcept.nn.growth",
    "load": "nextconcept.inference.text",
    "shrink": "nextconcept.nn.growth",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
