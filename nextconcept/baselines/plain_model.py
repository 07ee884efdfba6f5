"""What all baselines need of a model: one level, and the states of its trunk."""

from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.nn.model import NextConceptModel

__all__ = ["check_plain", "masked_mean", "present"]


def check_plain(model: NextConceptModel, name: str) -> None:
    """Check that a model is a GPT.

    Args:
        model: the model.
        name: name of the baseline, for messages.

    Raises:
        InputError: if the model has concepts.
    """
    if model.config.levels > 1:
        raise InputError(f"{name} is an objective for a model with one level, not {model.config.levels}: set levels 1.")


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the values where ``mask`` holds, 0 if it holds nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def present(states: Tensor | None) -> Tensor:
    """Return states that each forward pass of a model gives, for the type checker."""
    assert states is not None, "forward() gives states and trunk with every output"
    return states
