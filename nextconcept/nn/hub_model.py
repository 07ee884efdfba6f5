"""Models that are read from exported folders and from the Hugging Face Hub."""

import json
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import PyTorchModelHubMixin
from safetensors import SafetensorError
from torch import nn

from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.nn.concept_encoder import ConceptEncoder

__all__ = ["HubModel", "check_encoder"]

Model = TypeVar("Model", bound="HubModel")


class HubModel(nn.Module, PyTorchModelHubMixin):
    """A module whose folder of safetensors and ``config.json`` is checked before it is loaded."""

    @classmethod
    def from_pretrained(
        cls: type[Model],
        pretrained_model_name_or_path: str | Path,
        *,
        encoder: type[ConceptEncoder] = ConceptEncoder,
        **kwargs: Any,
    ) -> Model:
        """Load a model from a folder that ``save_pretrained`` wrote, or from the Hugging Face Hub.

        Args:
            pretrained_model_name_or_path: the folder, or a repository as ``OWNER/NAME``.
            encoder: class of the concept encoder, if the model has one of the user's own.
            **kwargs: further arguments of :class:`huggingface_hub.PyTorchModelHubMixin`.

        Raises:
            InputError: if the folder holds no exported model, or one of another version or with
                another encoder.
        """
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir():
            try:
                # The mixin would ignore settings that this version does not know.
                config = ModelConfig.from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError, AttributeError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(
                    f"{folder} holds no exported model: load a run with nextconcept.load, or export it first with "
                    "nextconcept export."
                ) from None
            check_encoder(config, encoder, folder)
        # Without a class of its own, the mixin would pass the group `encoder` of config.json, and
        # without `strict` leave weights that the file lacks as they were drawn.
        settings: dict[str, Any] = {"encoder": encoder, "strict": True} | kwargs
        try:
            model: Model = super().from_pretrained(pretrained_model_name_or_path, **settings)
        except (SafetensorError, OSError) as error:
            if isinstance(error, OSError) and not folder.is_dir():
                raise  # the Hub's own words say more
            raise InputError(f"the weights in {folder} can't be read: export the model again.") from None
        except RuntimeError as error:
            if "state_dict" not in str(error):
                raise
            raise InputError(
                f"the weights in {folder} do not fit its configuration: export the model again, or load it with the "
                "version that made it."
            ) from None
        return model


def check_encoder(config: ModelConfig, encoder: type[ConceptEncoder], source: str | Path) -> None:
    """Check that a stored model has the encoder that is asked for.

    A model that is to have an encoder of its own and gets none is refused where it is made.

    Args:
        config: the stored configuration.
        encoder: the class that is asked for.
        source: file or folder that ``config`` comes from, for the message.

    Raises:
        InputError: if ``encoder`` is a class of one's own, and the model has another.
    """
    own = config.encoder.class_name
    if encoder is not ConceptEncoder and encoder.__qualname__ != own:
        raise InputError(
            f"the model in {source} has the encoder {own or ConceptEncoder.__name__}, not {encoder.__qualname__}: "
            f"{'name that class' if own else 'leave the encoder out'}."
        )
