"""``nextconcept fit``, ``validate``, ``test`` and ``predict``, which start without SciPy."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Run the command that ``arguments`` begin with.

    Raises:
        InputError: if Lightning refuses the settings.
    """
    try:
        with _without_scipy():
            from nextconcept.cli import lightning_cli
    except ImportError:  # another release of a library wants more of SciPy than its name
        from nextconcept.cli import lightning_cli
    lightning_cli.run(arguments)


@contextmanager
def _without_scipy() -> Iterator[None]:
    """Let modules that are imported within have an empty ``scipy.signal``, unless it is loaded.

    Lightning imports torchmetrics, which imports ``scipy.signal`` wherever SciPy is installed, only
    to give it the name ``hamming`` of old releases. That takes nearly as long as torch. What
    torchmetrics computes with SciPy imports it when it is called.
    """
    if "scipy" in sys.modules:
        yield
        return
    stand_ins = {name: module_from_spec(ModuleSpec(name, None, is_package=True)) for name in ("scipy", "scipy.signal")}
    stand_ins["scipy"].__dict__["signal"] = stand_ins["scipy.signal"]
    stand_ins["scipy.signal"].__dict__["hamming"] = None
    sys.modules |= stand_ins
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]
