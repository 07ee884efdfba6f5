"""Settings that a checkpoint may hold, and those that it may not name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.core.saving import CHECKPOINT_PAST_HPARAMS_KEYS

from nextconcept.core.config import ModelConfig
from nextconcept.core.config_groups import (
    BlockConfig,
    EncoderConfig,
    MatchingConfig,
    NestedConfig,
    PlannerConfig,
    ReaderConfig,
)
from nextconcept.core.errors import InputError
from nextconcept.training.losses import LossConfig
from nextconcept.training.optim import OptimizerConfig

__all__ = ["STORED", "allow_stored_classes", "plain_values", "refuse_code"]

SETTINGS = (*CHECKPOINT_PAST_HPARAMS_KEYS, "hyper_parameters")
"""Keys of a checkpoint under which Lightning looks for settings, the old ones first."""

LEFT_OUT = object()
"""Stands for a value that a checkpoint can't hold."""


STORED: list[Any] = [
    ModelConfig,
    EncoderConfig,
    PlannerConfig,
    MatchingConfig,
    ReaderConfig,
    BlockConfig,
    NestedConfig,
    LossConfig,
    OptimizerConfig,
]
"""The classes, which hold plain values alone."""


def allow_stored_classes() -> None:
    """Let ``torch.load(..., weights_only=True)`` make objects of these classes."""
    torch.serialization.add_safe_globals(STORED)


def plain_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a checkpoint can hold.

    A path becomes text; others that are no plain values are left out, as those of a user's data
    module may be, so that the file can be read again.
    """
    found = {name: _plain(value) for name, value in settings.items()}
    return {name: value for name, value in found.items() if value is not LEFT_OUT}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return plain_values(value)
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        whole = type(value) in (list, tuple) and all(item is not LEFT_OUT for item in items)
        return type(value)(items) if whole else LEFT_OUT
    plain = type(value) in (bool, int, float, str, type(None)) or isinstance(value, torch.Tensor | torch.dtype)
    return value if plain or type(value) in STORED else LEFT_OUT


def refuse_code(checkpoint: Any, given: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose settings name code that is imported when a module is made of them.

    Args:
        checkpoint: the file; what can't be read is left to whoever loads it.
        given: the settings that replace those of the checkpoint.

    Raises:
        InputError: if it does.
    """
    try:
        on_disk = isinstance(checkpoint, str | Path)
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=on_disk)
    except Exception:  # a damaged file can make the unpickler raise anything
        content = {}
    settings: dict[str, Any] = {}
    for key in SETTINGS if isinstance(content, dict) else ():
        settings.update(content.get(key, {}))  # as Lightning does, whatever the types
    if hasattr(checkpoint, "seek"):
        checkpoint.seek(0)
    loss, config = (None if name in given else settings.get(name) for name in ("loss", "config"))
    code = {"loss": [name for name in getattr(loss, "terms", {}) if "." in name], "config": []}
    if isinstance(config, ModelConfig):
        rules = config.hierarchy.rules
        code["config"] = [str(rule) for rule in rules if rule.of_text and not rule.known and not rule.num_states]
    for setting, names in code.items():
        if names:
            raise InputError(
                f"the checkpoint asks for code of its own, {names[0]}: if you trust it, pass {setting} with the "
                "settings it was trained with to load_from_checkpoint."
            )
