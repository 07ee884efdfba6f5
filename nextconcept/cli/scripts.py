"""Scripts, such as benchmarks, whose options are the parameters of a function."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jsonargparse import auto_cli

from nextconcept.cli.main import errors_told
from nextconcept.cli.parsers import CommandParser
from nextconcept.core.errors import InputError

__all__ = ["check_device", "run_script"]


def check_device(name: str) -> None:
    """Check that tensors can be made on a device.

    Raises:
        InputError: if this machine has none of the name.
    """
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError):
        raise InputError(f"there is no device {name!r} here: give cpu, or cuda where there is a GPU.") from None


def run_script(function: Callable[..., None] | Sequence[Callable[..., None]]) -> None:
    """Call a function with what the command line says, and tell wrong input in one sentence.

    Args:
        function: its parameters are the options, its docstring is the help; of several, the command
            line names one.

    Raises:
        SystemExit: as :func:`~nextconcept.cli.main.main` does.
    """
    chosen: Any = function
    with errors_told():
        auto_cli(chosen, as_positional=False, parser_class=CommandParser, prog=f"python {sys.argv[0]}")
