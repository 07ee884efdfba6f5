"""Classes of settings that a checkpoint may hold."""

from typing import Any

import torch

from nextconcept.core.config import ModelConfig
from nextconcept.core.config_groups import (
    BlockConfig,
    EncoderConfig,
    MatchingConfig,
    NestedConfig,
    PlannerConfig,
    ReaderConfig,
)
from nextconcept.training.losses import LossConfig
from nextconcept.training.optim import OptimizerConfig

__all__ = ["STORED", "allow_stored_classes"]

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
