"""What every trained model on disk can tell and load, be it an export or a run."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.data.tokenizers import tokenizer_from_json
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.hub_model import check_encoder
from nextconcept.nn.model import NextConceptModel

__all__ = ["StoredModel"]

UNREADABLE = (OSError, SafetensorError, RuntimeError, TypeError, ValueError, KeyError, AttributeError, OverflowError)
"""What reading a stored model raises if its files are missing, broken or of other content."""


@dataclass(frozen=True)
class StoredModel(ABC):
    """A trained model on disk, which is read when something of it is first asked for.

    Args:
        path: the folder of an export, or the file of a checkpoint.
    """

    path: Path

    def load(self, encoder: type[ConceptEncoder] = ConceptEncoder) -> tuple[NextConceptModel, Tokenizer]:
        """Load the model and its tokenizer.

        Args:
            encoder: class of the concept encoder, if the model was trained with one of your own.

        Returns:
            The model, in eval mode and on the CPU, and the tokenizer.

        Raises:
            InputError: if another version made the model, it has another encoder, does not write
                without the objective it was trained with, does not know all tokens of its
                tokenizer or has none, or its weights are damaged or not finite.
        """
        model = self._model(encoder)
        for name, parameter in model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise InputError(
                    f"the weights in {self.path} are not finite ({name} holds NaN or infinity): its training diverged; "
                    "take an earlier checkpoint, or train again with a lower learning rate."
                )
        if (vocabulary := self.vocabulary()) is None:
            raise InputError(
                f"{self.path} has no tokenizer, because its run had no ConceptDataModule, or one whose tokenizer can't "
                "be stored: load its module with ConceptModule.load_from_checkpoint, and write with "
                "nextconcept.Writer(module.model, tokenizer)."
            )
        return model.eval(), vocabulary[0]

    def config(self, encoder: type[ConceptEncoder] = ConceptEncoder) -> ModelConfig:
        """Return the configuration of the model.

        Args:
            encoder: class of the concept encoder, if the model was trained with one of your own.

        Raises:
            InputError: if it is damaged or of another version, or the model has another encoder.
        """
        check_encoder(self._config, encoder, self.path)
        return self._config

    @cached_property
    def _config(self) -> ModelConfig:
        with self._own_errors():
            return ModelConfig.from_dict(self._stored_config())

    def vocabulary(self) -> tuple[Tokenizer, int] | None:
        """Read the tokenizer, and return it with the number of token ids that the model knows.

        Returns:
            None if the model was trained on data without a tokenizer.

        Raises:
            InputError: if one of them is damaged, or the tokenizer has more tokens.
        """
        vocab_size = self._config.vocab_size
        with self._own_errors():
            text = self._stored_tokenizer()
            tokenizer = None if text is None else tokenizer_from_json(text)
        if tokenizer is None:
            return None
        if tokenizer.vocab_size > vocab_size:  # fewer are found where BPE has little text
            raise InputError(
                f"the tokenizer in {self.path} has {tokenizer.vocab_size} tokens, but the model knows {vocab_size}: "
                "use the tokenizer that the model was trained with."
            )
        return tokenizer, vocab_size

    @abstractmethod
    def task(self) -> dict[str, Any] | None:
        """Return class and settings of the task that the model was trained on, as they were stored.

        Returns:
            Plain values; None if nothing is said of a task.

        Raises:
            InputError: if what is stored is no record of a task.
        """

    def record(self) -> dict[str, Any]:
        """Return what a model card reports of the training; nothing if that is not stored."""
        return {}

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        """Turn what reading the model raises into an error of our own that names the path."""
        try:
            yield
        except InputError as error:
            message = str(error)
            named = str(self.path) in message
            raise InputError(message if named else f"{self.path} can't be used: {message}") from None
        except UNREADABLE as error:
            raise self._unreadable(error) from None

    @abstractmethod
    def _model(self, encoder: type[ConceptEncoder]) -> NextConceptModel:
        """Load the model alone."""

    @abstractmethod
    def _stored_config(self) -> dict[str, Any]:
        """Return the configuration as it is stored."""

    @abstractmethod
    def _stored_tokenizer(self) -> str | None:
        """Return the tokenizer as it is stored."""

    @abstractmethod
    def _unreadable(self, error: Exception) -> InputError:
        """Return our own error for one of :data:`UNREADABLE`."""
