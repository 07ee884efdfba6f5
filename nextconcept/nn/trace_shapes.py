"""Printing the inputs and outputs of modules, for notebooks."""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from typing import Any, TextIO

from torch import Tensor, nn

__all__ = ["describe", "trace_shapes"]


def describe(value: Any) -> str:
    """Describe the shapes of tensors, and of lists, tuples, dicts and dataclasses of them."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {describe(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        inner = ", ".join(describe(item) for item in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ", ".join(
            f"{field.name}={describe(getattr(value, field.name))}" for field in dataclasses.fields(value)
        )
        return f"{type(value).__name__}({fields})"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    return type(value).__name__


@contextmanager
def trace_shapes(model: nn.Module, names: str = "*", file: TextIO | None = None) -> Iterator[None]:
    """Print a tree of the module calls inside the block, with names, inputs and outputs.

    .. code-block:: python

        with trace_shapes(model, "predictors.*"):
            model(tokens)

    Works by forward hooks, which are removed after the block.

    Args:
        model: the model whose modules are watched.
        names: pattern of the names to print, as in ``model.named_modules()``; the name of the model
            itself is ``model``.
        file: where to print; by default standard output.
    """
    calls: list[list[Any]] = []  # depth, text, whether to print
    open_calls: list[list[Any]] = []

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> None:
        """Note a call and the shapes of its arguments."""
        arguments = [describe(value) for value in args] + [f"{key}={describe(value)}" for key, value in kwargs.items()]
        call = [len(open_calls), f"{name} {type(module).__name__}({', '.join(arguments)})", fnmatch(name, names)]
        calls.append(call)
        open_calls.append(call)

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Add the shape of the output to the call that was entered last."""
        open_calls.pop()[1] += f" -> {describe(output)}"

    handles = []
    for name, module in model.named_modules():

        def pre(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str = name or "model") -> None:
            """Enter the module under its name in the model."""
            enter(module, args, kwargs, name)

        handles.append(module.register_forward_pre_hook(pre, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for depth, text, shown in calls:
            if shown:
                print("  " * depth + text, file=file or sys.stdout)
