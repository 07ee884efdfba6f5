"""Settings of the data that follow from the model, and that nobody may give another value."""

from pathlib import Path
from typing import Any

from nextconcept.cli.parsers import options_of
from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.core.experiments import read_yaml

__all__ = ["SHAPE", "check_linked"]

SHAPE = ("levels", "chunk_size", "context_length", "chunking")
"""Settings of ``model.config`` that the data takes over."""


def check_linked(arguments: list[str]) -> None:
    """Refuse settings of the data that would be overwritten by those of the model.

    A configuration file may repeat the model's values, as those that a run has saved do.

    Args:
        arguments: command and options, with the paths of configuration files.

    Raises:
        InputError: if the command line gives the data such a setting, or if a file gives data and
            model different ones.
    """
    model = {name: getattr(ModelConfig(), name) for name in SHAPE} | {"context_length": None}
    for option, value in options_of(arguments):
        if option in ("-c", "--config"):
            _check_file(Path(value), model)
            continue
        *group, name = option.removeprefix("--").split(".")
        if group in (["data"], ["data", "init_args"]) and name in SHAPE:
            raise _error(f"{option} {value}", name)
        if option in ("--data", "--data.init_args"):
            for name in _settings_of(_mapping(read_yaml(value))):
                raise _error(f"{name} in {option}", name)


def _check_file(path: Path, model: dict[str, Any]) -> None:
    """Compare the data's settings in a file with the model's, which the file may change."""
    content = _mapping(read_yaml(path))
    config = _mapping(_mapping(content.get("model")).get("config"))
    model |= {name: config[name] for name in SHAPE if name in config}
    for name, value in _settings_of(_mapping(content.get("data"))).items():
        if value != model[name]:
            raise _error(f"{name} {value} under data in {path}", name)


def _settings_of(data: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of :data:`SHAPE` that the data is given."""
    found = data | _mapping(data.get("init_args"))
    return {name: found[name] for name in SHAPE if found.get(name) is not None}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}  # the parser says what is wrong


def _error(what: str, name: str) -> InputError:
    return InputError(f"{what} has no effect, because the data takes {name} from the model: set --model.config.{name}.")
