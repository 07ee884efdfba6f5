"""A LightningModule whose checkpoints say what its model is, in plain values."""

from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn

from nextconcept.checkpoints.files import KEY, OBJECTIVE
from nextconcept.checkpoints.model_card import RECORD
from nextconcept.core.chunking import same_chunking
from nextconcept.core.config import OF_TRAINING, ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.data.datamodule import data_of
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.training.batches import stored_tokenizer
from nextconcept.training.lightning_compat import attached_trainer
from nextconcept.training.objectives import Objective, check_objective
from nextconcept.training.stored_classes import plain_values, refuse_code

__all__ = ["StoredModule"]


class StoredModule(L.LightningModule):
    """A LightningModule that stores configuration, objective and tokenizer, and checks them.

    Attributes:
        config: the configuration of the model.
        objective: what the model learns.
        tokenizer: the tokenizer of the model, or None.
    """

    config: ModelConfig
    objective: Objective
    tokenizer: Tokenizer | None

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a module and its weights as Lightning does; no code is imported that a file names.

        Args:
            checkpoint_path: the ``.ckpt`` file.
            *args: as Lightning takes them.
            **kwargs: as Lightning takes them, and settings in place of those of the checkpoint:
                encoder and objective, which it does not hold, and with terms of your own the loss.

        Raises:
            InputError: if the checkpoint asks for code that ``kwargs`` do not name, or was made
                with another encoder or objective.
        """
        if kwargs.get("weights_only") is not False:
            refuse_code(checkpoint_path, kwargs)
        return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what the model is, and leave out settings that no file can hold."""
        super().on_save_checkpoint(checkpoint)
        stored: dict[str, Any] = {"config": self.config.to_dict()}
        if objective := self.objective.describe():
            stored[OBJECTIVE] = objective
        if self.tokenizer is not None and (text := stored_tokenizer(self.tokenizer)) is not None:
            stored["tokenizer"] = text
        checkpoint[KEY] = checkpoint.get(KEY, {}) | stored
        for key in ("hyper_parameters", "datamodule_hyper_parameters"):
            if key in checkpoint:
                checkpoint[key] = plain_values(checkpoint[key])
        if isinstance(checkpoint.get("hyper_parameters", {}).get("config"), ModelConfig):
            checkpoint["hyper_parameters"]["config"] = self.config  # which names the encoder, and rules without code

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a checkpoint was made with this objective and this encoder.

        Other settings that the weights do not show, such as ``chunk_size`` or ``rope_base``, and a
        corpus with another content, are warned of.

        Raises:
            InputError: if it was not.
        """
        super().on_load_checkpoint(checkpoint)
        trainer = attached_trainer(self)
        if trainer is not None and trainer.precision == "64-true":
            self.double()  # as Lightning does, but only after it has copied the weights
        self._compare_corpus(checkpoint.get(KEY, {}).get(RECORD, {}).get("data", {}))
        check_objective(checkpoint, self.objective)
        own, stored = self.config.encoder.class_name, checkpoint.get(KEY, {}).get("config", {})
        made_with = stored.get("encoder", {}).get("class_name", own)
        if made_with != own:
            ordinary = ConceptEncoder.__name__
            raise InputError(
                f"the checkpoint was made with the concept encoder {made_with or ordinary}, not {own or ordinary}: "
                "give the module the encoder of its training."
            )
        free = (*OF_TRAINING, "context_length")  # which computes the same over texts of any length
        if other := [name for name in _other_settings(stored, self.config.to_dict()) if name not in free]:
            rank_zero_warn(
                f"the checkpoint was made with other settings of the model than this module has: {', '.join(other)}. "
                "Unless that is what you want, give the module the config of its training, "
                "nextconcept.load(checkpoint).config."
            )

    def _compare_corpus(self, before: dict[str, Any]) -> None:
        """Warn if the corpus has another content than in training, which its name does not show."""
        data = data_of(attached_trainer(self))
        now = {} if data is None else data.describe()
        digests = {now.get("digest"), before.get("digest")}
        if now.get("dataset") == before.get("dataset") and None not in digests and len(digests) > 1:
            rank_zero_warn(
                f"{now['dataset']!r} holds another text than when the model was trained: a run that goes on reads the "
                "new one, and a loss is that of the new one."
            )


def _other_settings(stored: dict[str, Any], own: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted names of settings whose stored value is another one."""
    other = []
    for name in stored.keys() & own.keys():
        old, new = stored[name], own[name]
        if isinstance(old, dict) and isinstance(new, dict) and name != "chunking":
            other += _other_settings(old, new, f"{prefix}{name}.")
        elif old != new and not (name == "chunking" and same_chunking(old, new)):
            other.append(prefix + name)
    return sorted(other)
