"""Parsers whose errors are one sentence, and the options that jsonargparse would misread."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from jsonargparse import ActionYesNo, ArgumentParser, auto_cli

from nextconcept.cli.value_errors import describe_value_error
from nextconcept.core.errors import InputError, own_error
from nextconcept.core.experiments import check_yaml, experiment_files, find_experiment, read_yaml
from nextconcept.core.suggestions import closest, did_you_mean

__all__ = ["CommandParser", "OneLineErrors", "options_of", "resolve_experiments", "run_function"]

T = TypeVar("T")

FREE_TEXT: dict[str, dict[str, Any]] = {
    "--prompt": {"type": str},
    "--stop": {"type": str, "action": "append"},
    "--edit": {"type": str, "action": "append"},
}
"""Options that take text as typed: jsonargparse would read ``null`` or ``# Title`` as YAML."""

MEANT = {
    "seed": ("seed_everything",),
    "resume": ("ckpt_path",),
    "ckpt_path": ("source",),
    "source": ("ckpt_path",),
    "checkpoint": ("ckpt_path", "source"),
}
"""What options of other programs, or of another command, are called here."""


class OneLineErrors(ArgumentParser):
    """A parser that reports a bad argument in one sentence; it takes options by full names alone.

    Attributes:
        command: the chosen command, for a parser that has several.
        classes: classes that the command line knows by their short names.
    """

    command = ""
    classes: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False} | kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one sentence to standard error and exit with code 2."""
        text = " ".join(line.strip(" -") for line in message.split("\n") if line.strip()).rstrip(".")
        typed = re.search(r"unrecognized arguments: --([\w.]+\+?)", text)
        in_file = re.search(r"does not accept option '([\w.]+)'", text)
        of_class = re.search(r"Option '([\w.]+)' is not accepted", text)
        no_class = re.search(r"(?:Expected a dot import path string|Unexpected import path format): (\S+)", text)
        missing = re.fullmatch(r"the following arguments are required: ([\w., ]+)", text)
        prog = " ".join([re.sub(r" \[[^]]*\]", "", self.prog), *self.command.split()])
        # The parser that jsonargparse makes for the settings of a class has no command.
        ending = f"; {prog} --help lists what is accepted." if " " in prog else " among the settings of a class."
        name = re.search(r"unrecognized arguments: ([^-\s]\S*)", text)
        if typed:
            text = self._unknown_option("--", typed[1])
        elif name and "--config" in self._options() and (name[1] in experiment_files() or Path(name[1]).is_file()):
            text = f"{name[1]} stands alone: did you mean --config {name[1]}?"
        elif in_file:
            text = self._unknown_option("", in_file[1])
        elif of_class:
            text, ending = self._unknown_option("", of_class[1]), "."
        elif no_class:
            text = f"there is no class {no_class[1]}: {did_you_mean(no_class[1], self.classes) or 'give its full name'}"
        elif missing:
            names = missing[1].split(", ")
            text = f"{', '.join(f'--{name}' for name in names) if ' ' in prog else missing[1]} must be given"
        elif refused := describe_value_error(message):
            text, ending = refused, "."
        if text.endswith("?"):
            ending = ""
        print(f"nextconcept: error: {text}{ending}", file=sys.stderr)
        sys.exit(2)

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse arguments; a class that can't be imported is a bad argument too."""
        try:
            return super().parse_args(*args, **kwargs)
        except (ImportError, AttributeError) as error:
            self.error(f"a name that was given can't be imported: {error}")

    def _unknown_option(self, dashes: str, name: str) -> str:
        """Say that there is no such option, and which one may have been meant.

        Among the options of the same group, the last part of the name decides; an option of another
        group is suggested if that part is the same or nearly all of the name is.
        """
        known = {option.removeprefix("--") for option in self._options() if option.startswith("--")}
        if (whole := name.removesuffix("+")) != name and whole in known:
            return f"{dashes}{name} can't add to {whole}: give all of it as {dashes}{whole}"
        if meant := next((option for option in MEANT.get(name, ()) if option in known), None):
            return f"there is no option {dashes}{name}: did you mean {dashes}{meant}?"
        group, dot, last = name.rpartition(".")
        siblings = {option.rpartition(".")[2]: option for option in known if option.rpartition(".")[0] == group}
        namesakes = [option for option in known if option.rpartition(".")[2] == last]
        if len(namesakes) == 1:
            found = namesakes[0]
        else:
            match = closest(last, siblings)
            found = siblings[match] if match else closest(name, known, 0.85 if dot else 0.6)
        hint = f": did you mean {dashes}{found}?" if found else ""
        return f"there is no option {dashes}{name}{hint}"

    def setting_groups(self) -> set[str]:
        """Return the dotted names under which settings are given by name: ``model.config``."""
        names = [option.removeprefix("--").split(".") for option in self._options() if not option.endswith(".help")]
        return {".".join(parts[:depth]) for parts in names for depth in range(1, len(parts))}

    def _options(self) -> Iterator[str]:
        """Yield the options of this parser and of its subcommands."""
        for action in self._actions:
            yield from action.option_strings
            for parser in action.choices.values() if isinstance(action.choices, dict) else ():
                yield from parser._options()


class CommandParser(OneLineErrors):
    """A parser for the signature of a function."""

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """Make switches of booleans (``--stream`` means ``--stream true``), and keep free text."""
        if kwargs.get("type") is bool:
            kwargs.pop("type")
            kwargs |= {"action": ActionYesNo, "nargs": "?"}
        if args and args[0] in FREE_TEXT:
            kwargs.pop("action", None)
            kwargs |= FREE_TEXT[args[0]]
            args = args[:1]
        return super().add_argument(*args, **kwargs)


def run_function(function: Callable[..., T], arguments: list[str]) -> T:
    """Call a function or a class with what the command line says.

    Args:
        function: its parameters are the options, its docstring is the help.
        arguments: the name of the command and its options.

    Returns:
        What the function returns, or the instance of the class.

    Raises:
        InputError: if an option is refused by what it belongs to.
        SystemExit: if an option is wrong.
    """
    command, *options = resolve_experiments(arguments)
    try:
        result: T = auto_cli(
            function,
            args=options,
            as_positional=False,
            return_instance=True,
            parser_class=CommandParser,
            prog=f"nextconcept {command}",
        )
        return result
    except ValueError as error:  # of jsonargparse, for one that a class of settings raises
        raise own_error(error) or error from None


def options_of(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the options among words of the command line with their values, "" if there is none.

    Args:
        arguments: the words; a value is the next one, or stands behind an equals sign.
    """
    for index, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option.startswith("-"):
            yield option, value if equals else "".join(arguments[index + 1 : index + 2])


def resolve_experiments(arguments: list[str], groups: Iterable[str] = ()) -> list[str]:
    """Replace the names of experiments after ``--config`` by the paths of their files.

    Args:
        arguments: the name of the command and its options.
        groups: dotted names under which a file has settings by name, such as ``model.config``.

    Raises:
        InputError: if there is no such file or experiment, if it is not one for the command, or if
            it has a value where a group of settings belongs, which jsonargparse drops or trips on.
    """
    resolved = list(arguments)
    for index, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option not in ("-c", "--config"):
            continue
        if equals:
            resolved[index] = f"{option}={_find_for(arguments[0], value, groups)}"
        elif index + 1 < len(arguments):
            resolved[index + 1] = str(_find_for(arguments[0], arguments[index + 1], groups))
    return resolved


def _find_for(command: str, name: str, groups: Iterable[str]) -> Path:
    """Find a configuration file by path or name; checks as in :func:`resolve_experiments`."""
    path, shipped = find_experiment(name), {file.resolve(): known for known, file in experiment_files().items()}
    comparison = shipped.get(path.resolve(), "").startswith("comparisons/")
    if path.resolve() in shipped and comparison != (command == "compare"):
        kind, suitable = ("a comparison", "compare") if comparison else ("an experiment", "fit")
        raise InputError(f"{name} is {kind}: use nextconcept {suitable} --config {name}.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"the configuration {path} is not valid UTF-8 near byte {error.start}: convert it to UTF-8."
        ) from None
    check_yaml(text, path)
    content = read_yaml(text)  # if broken, the parser says where
    if not isinstance(content, dict | None):
        raise InputError(f"{path} is not a configuration, which is a YAML mapping of settings to values.")
    for group in sorted(groups):
        value: Any = content
        for part in group.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, dict | str | None):
            raise InputError(f"{group} takes settings by name, or a file of them, not {value!r} as in {path}.")
    return path
