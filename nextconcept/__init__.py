"""Next-concept prediction: language models that plan in concepts and write in tokens."""

from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.inference.generate import generate
from nextconcept.inference.text import Writer, load
from nextconcept.nn.growth import grow, shrink
from nextconcept.nn.model import ModelOutput, NextConceptModel

__all__ = [
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
__version__ = "0.2.0"
