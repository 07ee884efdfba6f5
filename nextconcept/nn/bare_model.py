"""The model itself, of what a caller passes as one."""

from nextconcept.core.errors import InputError
from nextconcept.nn.model import NextConceptModel

__all__ = ["bare_model"]


def bare_model(model: object, action: str) -> NextConceptModel:
    """Return a model without the wrapper of ``torch.compile``, whose weights have other names.

    Args:
        model: what was passed.
        action: name of the function that it was passed to, for the message.

    Raises:
        InputError: if it is no model.
    """
    model = getattr(model, "_orig_mod", model)
    if not isinstance(model, NextConceptModel):
        raise InputError(
            f"{action} takes a NextConceptModel, not {type(model).__name__}: of what load returns, or of a module of "
            "training, give its model."
        )
    return model
