"""Next-concept prediction: language models that plan in concepts and write in tokens."""

from nextconcept.config import ModelConfig
from nextconcept.errors import InputError
from nextconcept.nn.model import ModelOutput, NextConceptModel

__all__ = ["InputError", "ModelConfig", "ModelOutput", "NextConceptModel"]
__version__ = "0.1.0"
