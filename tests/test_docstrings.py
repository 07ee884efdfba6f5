"""Every module and public name has a docstring that names its arguments and says something."""

import ast
import importlib
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import nextconcept

PACKAGE = Path(nextconcept.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

EMPTY_PHRASES = re.compile(
    r"^the same\b|^as (above|below|before)\b|\brecall it\b|\bshared? out\b|\bdear\b|\bwhatever it\b", re.IGNORECASE
)
"""Docstrings that only point elsewhere, and phrases where the field has a term."""


def module_name(file: Path) -> str:
    """Return the dotted name of a file of the package."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def callables(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Functions and classes in ``__all__``, and public methods and properties of these classes."""
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isfunction(value)) or typing.get_origin(value):
            continue  # a constant or a type alias
        yield name, value
        for key, member in vars(value).items() if inspect.isclass(value) else ():
            member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if not key.startswith("_") and (inspect.isfunction(member) or inspect.isclass(member)):
                yield f"{name}.{key}", member


def undocumented(module: ModuleType) -> list[str]:
    """Public names without a docstring, and arguments that an ``Args`` section leaves out."""
    missing = []
    for name, value in callables(module):
        text = value.__doc__ or ""
        if not text:
            missing.append(name)
        elif "Args:" in text:
            entries = re.findall(r"^\s+([\w, *]+?)(?: \([^)]*\))?: ", text.split("Args:")[1], re.MULTILINE)
            documented = {word.strip(" *") for entry in entries for word in entry.split(",")}
            arguments = {argument for argument in inspect.signature(value).parameters if argument[0] != "_"}
            missing += [f"{name}({argument})" for argument in sorted(arguments - documented - {"self", "cls"})]
    return missing


def poor_docstrings(source: str) -> list[str]:
    """Docstrings of fewer than three words or with an empty phrase, private ones included."""
    tree = ast.parse(source)
    poor = [] if ast.get_docstring(tree) else ["module: no docstring"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None and (len(text.split()) < 3 or EMPTY_PHRASES.search(text)):
                poor.append(f"{getattr(node, 'name', 'module')}: {text}")
    return poor


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_public_names__have_docstrings_with_arguments(file: Path):
    module = importlib.import_module(module_name(file))
    assert undocumented(module) == []
    assert hasattr(module, "__all__") or file.name in ("__init__.py", "__main__.py")


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_docstrings__say_something(file: Path):
    assert poor_docstrings(file.read_text(encoding="utf-8")) == []


def test_undocumented__finds_missing_docstrings_and_arguments():
    module = ModuleType("bare")
    exec(
        "class Thing:\n    'A thing of use.'\n    def do(self): pass\n"
        "def work(first, second):\n    '''Work on both.\\n\\n    Args:\n        first: one of them.\n    '''\n"
        "__all__ = ['Thing', 'work']",
        vars(module),
    )
    assert undocumented(module) == ["Thing.do", "work(second)"]


@pytest.mark.parametrize("text", ["The same.", "Recall it.", "A window.", "Share out a tensor among processes."])
def test_poor_docstrings__finds_empty_phrases(text: str):
    assert poor_docstrings(f'"""Things of use."""\n\ndef do():\n    """{text}"""\n') == [f"do: {text}"]


def test_poor_docstrings__finds_a_module_without_one():
    assert poor_docstrings("x = 1\n") == ["module: no docstring"]
