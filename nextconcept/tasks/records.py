"""Tasks as runs and exports record them: the name of a class, and plain values.

A record names a class of :mod:`nextconcept.tasks`, or one of the user's own by its full name. The
latter is never imported because a file names it: the user gives the class.
"""

from dataclasses import is_dataclass
from typing import Any

import nextconcept.tasks
from nextconcept.checkpoints.stored_model import StoredModel
from nextconcept.core.errors import InputError
from nextconcept.core.settings import check_types
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.tasks.task import Task

__all__ = ["record_of", "task_from_record", "task_of", "task_record"]

OWN = ("Countdown", "Maze", "StarGraph")
"""Classes of this package that are made again from a record."""

DATASETS = {"star graph": "StarGraph", "maze": "Maze", "countdown": "Countdown"}
"""Classes by what :meth:`.Task.describe` calls them, for runs made before tasks were recorded."""


def record_of(task: Task) -> dict[str, Any] | None:
    """Return a task as plain values: ``name`` of its class, and ``settings``.

    Returns:
        None if the task can't be made again from plain values; see :meth:`.Task.settings`.
    """
    settings = task.settings()
    return None if settings is None else {"name": _name(type(task)), "settings": settings}


def task_record(stored: StoredModel) -> dict[str, Any] | None:
    """Return the record of the task that a model was trained on.

    Args:
        stored: the model.

    Returns:
        The record; None if the model was trained on other data, or an export of version 0.2 or
        earlier does not say.

    Raises:
        InputError: if the record can't be read.
    """
    if (record := stored.task()) is not None:
        return record
    settings = dict(stored.record().get("data", {}))
    name = DATASETS.get(str(settings.get("dataset", "")))
    if name is None:
        return None
    known = set(getattr(nextconcept.tasks, name).__dataclass_fields__)
    chosen = {key: value for key, value in settings.items() if key in known and not key.endswith(("_file", "_lines"))}
    return {"name": name, "settings": chosen}


def task_of(stored: StoredModel, tokenizer: Tokenizer, own: type[Task] | None = None) -> Task | None:
    """Make the task that a model was trained on.

    Args:
        stored: the model.
        tokenizer: the model's tokenizer.
        own: class of a task of the user's own.

    Returns:
        The task; None if the model was trained on other data, the record does not say, or it names
        a class of the user's own that was not given.

    Raises:
        InputError: if the record is broken, names another class than ``own``, or is of a task with
            other tokens than the model's.
    """
    record, path = task_record(stored), str(stored.path)
    if record is None:
        if own is not None:
            raise InputError(f"{path} does not say that the model was trained on a task: leave --task out.")
        return None
    misfit = InputError(f"the task that {path} names has other tokens than the model: export the model again.")
    settings = record.get("settings")
    numbers = settings.values() if isinstance(settings, dict) and own is None else ()
    # No setting of our tasks exceeds the number of tokens; a huge one would be a huge task.
    if any(isinstance(value, int | float) and not abs(value) <= tokenizer.vocab_size for value in numbers):
        raise misfit
    task = task_from_record(record, path, own)
    if task is not None and not task.tokenizer.same_tokens(tokenizer):
        raise misfit
    return task


def task_from_record(record: dict[str, Any], source: str, own: type[Task] | None = None) -> Task | None:
    """Make a task from its record.

    Args:
        record: see :func:`record_of`.
        source: where the record comes from, for messages.
        own: class of a task of the user's own.

    Returns:
        The task; None if the record names a class of the user's own that was not given.

    Raises:
        InputError: if the record is broken, or names another class than ``own``.
    """
    name, settings = record.get("name"), record.get("settings")
    if not isinstance(name, str) or not isinstance(settings, dict):
        raise InputError(f"the record of the task in {source} is broken: it needs a name and settings.")
    if own is not None and _name(own) != name:
        raise InputError(
            f"the model in {source} was trained on the task {name}, not {_name(own)}: give that with --task."
        )
    if own is None and name not in OWN:
        return None
    cls: type[Task] = own or getattr(nextconcept.tasks, name)
    if own is None and any(str(setting).endswith("_file") for setting in settings):
        # Whoever made the model has no say in what is read on this machine.
        raise InputError(f"the record of the task in {source} names files to read: export the model again.")
    try:
        task = cls(**settings)
        if is_dataclass(task) and own is None:
            check_types(task)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise InputError(f"the task {name} in {source} can't be made from its settings: {reason}.") from None
    return task


def _name(cls: type[Task]) -> str:
    """Return the name of a class: without its module if it is one of this package."""
    known = cls.__name__ in OWN and getattr(nextconcept.tasks, cls.__name__) is cls
    return cls.__name__ if known else f"{cls.__module__}.{cls.__qualname__}"
