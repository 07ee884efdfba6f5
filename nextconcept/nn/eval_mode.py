"""A model in eval mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn

__all__ = ["eval_mode"]

_begun: WeakKeyDictionary[nn.Module, tuple[list[nn.Module], list[object]]] = WeakKeyDictionary()
"""Per model, its parts that were in training mode, and the contexts that have not ended."""


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, and each of its parts back afterwards, also after an error.

    Of several contexts, such as texts that are streamed in turns, the last to end does that.
    """
    context, training = object(), [part for part in model.modules() if part.training]
    if training or model not in _begun:  # it was put into training mode since the others began
        _begun[model] = training, []
    training, contexts = begun = _begun[model]
    contexts.append(context)
    model.eval()
    try:
        yield
    finally:
        contexts.remove(context)
        if not contexts:
            for part in training:
                part.training = True
            if _begun.get(model) is begun:
                del _begun[model]
