"""Every public name says what it is."""

import importlib
import inspect
import pkgutil
import typing
from types import ModuleType

import pytest

import nextconcept

MODULES = sorted(info.name for info in pkgutil.walk_packages(nextconcept.__path__, "nextconcept."))


def undocumented(module: ModuleType) -> list[str]:
    """Names in ``__all__``, and public methods and properties of its classes, that no docstring of ours explains."""
    missing = [] if module.__doc__ else [module.__name__]
    for name in getattr(module, "__all__", ()):
        found = getattr(module, name)
        if not (inspect.isclass(found) or inspect.isfunction(found)) or typing.get_origin(found):
            continue  # the name of a type, which Python 3.10 takes for a class, has no docstring
        members = {"": found}
        if inspect.isclass(found):
            members |= {key: value for key, value in vars(found).items() if not key.startswith("_")}
        for key, value in members.items():
            shown = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if (inspect.isfunction(shown) or inspect.isclass(shown)) and not shown.__doc__:
                missing.append(f"{module.__name__}.{name}.{key}")
    return missing


@pytest.mark.parametrize("name", MODULES)
def test_docstrings__of_every_public_name(name: str):
    module = importlib.import_module(name)
    assert undocumented(module) == []
    assert hasattr(module, "__all__") or name.endswith(("__main__", "callbacks", "data", "nn"))


def test_docstrings__the_check_can_fail():
    module = ModuleType("bare", doc="A module.")
    exec("class Thing:\n    'A thing.'\n    def do(self): pass\n__all__ = ['Thing']", vars(module))
    assert undocumented(module) == ["bare.Thing.do"]
