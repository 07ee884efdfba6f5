"""``nextconcept fit``, ``validate``, ``test`` and ``predict``, which start without SciPy."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__ = ["deferred_scipy_signal", "run"]


def run(arguments: list[str]) -> None:
    """Run the command that ``arguments`` begin with.

    Raises:
        InputError: if Lightning refuses the settings.
    """
    with deferred_scipy_signal():
        from nextconcept.cli import lightning_cli
    lightning_cli.run(arguments)


class _Deferred(ModuleType):
    """``scipy.signal`` until something other than ``hamming`` is asked of it."""

    hamming = None

    def __getattr__(self, name: str) -> Any:
        if name in ("__file__", "__wrapped__"):  # inspect asks this of every module
            raise AttributeError(name)
        _forget(self)
        return getattr(import_module("scipy.signal"), name)


@contextmanager
def deferred_scipy_signal() -> Iterator[None]:
    """Let ``import scipy.signal`` take no time within, unless the module is used.

    Lightning imports torchmetrics, which imports ``scipy.signal`` wherever SciPy is installed, only
    to give it the name ``hamming`` of old releases. That takes nearly as long as torch. Whoever
    asks for anything else, also for a module below it, gets the real module.
    """
    if "scipy.signal" in sys.modules or find_spec("scipy") is None:
        yield
        return
    deferred = _Deferred("scipy.signal")
    sys.modules["scipy.signal"] = import_module("scipy").__dict__["signal"] = deferred
    try:
        yield
    finally:
        _forget(deferred)


def _forget(deferred: _Deferred) -> None:
    """Have the next import of ``scipy.signal`` load it."""
    if sys.modules.get("scipy.signal") is deferred:
        del sys.modules["scipy.signal"], sys.modules["scipy"].__dict__["signal"]
