"""Dataclasses of settings: made from plain values, checked against the types of their fields."""

from collections.abc import Collection, Iterator
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from nextconcept.core.errors import InputError
from nextconcept.core.suggestions import did_you_mean

__all__ = ["check_types", "flat", "from_dict"]

Group = TypeVar("Group")


def from_dict(cls: type[Group], values: dict[str, Any], prefix: str = "") -> Group:
    """Make a dataclass of settings from plain values.

    Args:
        cls: the dataclass.
        values: its settings by name.
        prefix: what stands before the names in messages.

    Raises:
        InputError: if a name is unknown.
    """
    assert is_dataclass(cls)
    unknown = sorted(str(name) for name in set(values) - {one.name for one in fields(cls)})
    if unknown:
        hint = did_you_mean(unknown[0], [one.name for one in fields(cls)])
        raise InputError(
            f"unknown settings {', '.join(prefix + name for name in unknown)}: "
            + (f"{hint} " if hint else "")
            + "A stored model with such settings comes from another version of nextconcept: train it again with this "
            "one, or load it with the version that made it."
        )
    return cls(**values)


def flat(values: Any, name: str = "", whole: Collection[str] = (), lists: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield nested settings by their dotted names.

    Args:
        values: a dictionary of settings and groups of them, to any depth.
        name: what stands before the names.
        whole: names of groups that are yielded as they are, as empty ones are.
        lists: whether lists are groups too, whose names are numbers.
    """
    if isinstance(values, dict) and values and name not in whole:
        parts = list(values.items())
    elif isinstance(values, list) and values and lists:
        parts = list(enumerate(values))
    else:
        yield name, values
        return
    for key, value in parts:
        yield from flat(value, f"{name}.{key}" if name else str(key), whole, lists)


def check_types(config: Any, prefix: str = "") -> None:
    """Check the type of every field, because a file may hold any value.

    Args:
        config: a dataclass of settings.
        prefix: what stands before the names in messages.

    Raises:
        InputError: if a value has another type than its field.
    """
    for name, hint in get_type_hints(type(config)).items():
        if not _fits(getattr(config, name), hint):
            choices = ", ".join(map(str, _choices(hint)))
            raise InputError(
                f"{prefix}{name} can't be {getattr(config, name)!r}: "
                + (f"choose from {choices}." if choices else f"see the docstring of {type(config).__name__}.")
            )


def _choices(hint: Any) -> list[Any]:
    """Return the values of a type that lists all that it allows but None."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [part for part in parts if part is not NoneType]
    if any(get_origin(kind) is not Literal for kind in kinds):
        return []
    return [value for kind in kinds for value in get_args(kind)]


def _fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` has the type ``hint``.

    Integers of 64 bits fit a float too, longer ones nothing, and truth values no number.
    """
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return value in parts
    if kind is list:
        return isinstance(value, list) and all(_fits(one, parts[0]) for one in value)
    if kind is tuple:
        matches = isinstance(value, (tuple, list)) and len(value) == len(parts)
        return matches and all(map(_fits, value, parts))
    if kind is dict:
        return isinstance(value, dict)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    if isinstance(value, int):
        return hint in (int, float) and abs(value) < 2**63
    return isinstance(value, hint)
