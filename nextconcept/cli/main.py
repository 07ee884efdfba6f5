"""Front door of the command line: choose a command, run it, turn errors into exit codes.

This module imports neither torch nor Lightning; a command is imported when it is chosen.
"""

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import NoReturn

from nextconcept import __version__
from nextconcept.core.errors import InputError, TrainingError
from nextconcept.core.suggestions import did_you_mean

__all__ = ["COMMANDS", "Command", "errors_told", "main"]


FILE_ERRORS = {
    getattr(errno, f"E{name}")
    for name in (
        *("ACCES", "PERM", "ROFS", "NOSPC", "DQUOT", "FBIG", "NAMETOOLONG", "NOTDIR", "ISDIR", "EXIST", "NOENT"),
        "LOOP",
    )
    if hasattr(errno, f"E{name}")
}
"""Errors of a file system that a user can mend: no permission, no space, no folder there."""


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Args:
        module: module with a function ``run(arguments)``; ``arguments`` begin with the command.
        summary: what the command does, in one line.
        example: a command line that works.
    """

    module: str
    summary: str
    example: str


COMMANDS = {
    "fit": Command(
        "nextconcept.cli.trainer_commands",
        "Train a model.",
        "nextconcept fit --config shakespeare",
    ),
    "validate": Command(
        "nextconcept.cli.trainer_commands",
        "Measure a run on its validation split.",
        "nextconcept validate --config shakespeare --ckpt_path lightning_logs/shakespeare",
    ),
    "test": Command(
        "nextconcept.cli.trainer_commands",
        "Measure a run on its test split.",
        "nextconcept test --config shakespeare --ckpt_path lightning_logs/shakespeare",
    ),
    "predict": Command(
        "nextconcept.cli.trainer_commands",
        "Write the surprisal of each token of the test split to a file.",
        "nextconcept predict --config shakespeare --ckpt_path lightning_logs/shakespeare",
    ),
    "generate": Command(
        "nextconcept.cli.generate",
        "Continue a text.",
        'nextconcept generate --ckpt_path lightning_logs/shakespeare --prompt "ROMEO:"',
    ),
    "plan": Command(
        "nextconcept.cli.plan",
        "Show what a model plans after a text, and what it then writes.",
        'nextconcept plan --ckpt_path lightning_logs/shakespeare --prompt "ROMEO:"',
    ),
    "app": Command(
        "nextconcept.cli.app",
        "Show plans on a page in the browser, change them, and see the text follow.",
        "nextconcept app --ckpt_path lightning_logs/shakespeare",
    ),
    "export": Command(
        "nextconcept.cli.export",
        "Write a trained model as safetensors with a model card.",
        "nextconcept export --ckpt_path lightning_logs/shakespeare --output exported",
    ),
    "grow": Command(
        "nextconcept.cli.grow",
        "Add a level on top of a trained model.",
        "nextconcept grow --source lightning_logs/gpt --output grown",
    ),
    "compare": Command(
        "nextconcept.cli.compare",
        "Train several models to the same budget, with several seeds, and write a table.",
        "nextconcept compare --config comparisons/planning/g2_5",
    ),
    "experiments": Command(
        "nextconcept.cli.experiments",
        "List the shipped experiments.",
        "nextconcept experiments",
    ),
}


def help_text() -> str:
    """Return what ``nextconcept --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [
        "usage: nextconcept COMMAND [options]",
        "",
        "Train next-concept models, write with them, and look at their plans.",
        "",
        "commands:",
    ]
    for name, command in COMMANDS.items():
        lines += [f"  {name:{width}}  {command.summary}", f"  {'':{width}}    {command.example}"]
    return "\n".join(
        [
            *lines,
            "",
            "nextconcept COMMAND --help lists the options of a command; nextconcept --version prints the version.",
        ]
    )


def main(args: list[str] | None = None) -> None:
    """Run a command.

    Args:
        args: command and options; default: those of the process.

    Raises:
        SystemExit: with code 2 and one sentence on standard error if the user's input is wrong or a
            file can't be written, with code 1 if training fails or the reader of the output closes
            it, with code 130 on Ctrl+C.
    """
    arguments = sys.argv[1:] if args is None else args
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # where the terminal lacks a character
    with errors_told():
        _run(arguments)


@contextmanager
def errors_told() -> Iterator[None]:
    """Turn the errors of what runs inside into one sentence on standard error and an exit code.

    Raises:
        SystemExit: as :func:`main` does.
    """
    try:
        try:
            yield
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning turns it into code 1
                raise KeyboardInterrupt from None
            if (module := _module_that_exits(stop)) is None:
                raise
            raise InputError(f"the module {module} exits while it is imported: mend it, or name another.") from None
    except InputError as error:
        _fail(str(error))
    except TrainingError as error:
        print(f"nextconcept: {error}", file=sys.stderr)
        sys.exit(1)
    except (OverflowError, MemoryError) as error:
        _fail(f"a number that was given is too large{f' ({error})' if str(error) else ''}: give a smaller one.")
    except RuntimeError as error:
        if "allocate" not in str(error):  # what PyTorch says on all devices; its class is loaded with torch alone
            raise
        _fail(f"there is not enough memory: choose a smaller model, batch or context. {str(error).splitlines()[0]}")
    except KeyboardInterrupt:
        print("nextconcept: interrupted.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of our output has stopped, as in "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in FILE_ERRORS:
            raise
        where = f"{error.filename} can't be read or written" if error.filename else "a file can't be written"
        _fail(f"{where}: {error.strerror}.")


def _fail(sentence: str) -> NoReturn:
    print(f"nextconcept: error: {sentence}", file=sys.stderr)
    sys.exit(2)


def _module_that_exits(stop: SystemExit) -> str | None:
    """Return the name of the user's module that an option names and whose import exits."""
    for frame, _ in traceback.walk_tb(stop.__traceback__):
        name = str(frame.f_globals.get("__name__"))
        # A script of benchmarks is __main__.
        if frame.f_code.co_name == "<module>" and not name.startswith(("nextconcept.", "__main__")):
            return name
    return None


def _run(arguments: list[str]) -> None:
    if not arguments:
        raise InputError("no command was given: nextconcept --help lists them.")
    if arguments[0] in ("-h", "--help"):
        print(help_text())
    elif arguments[0] == "--version":
        print(f"nextconcept {__version__}")
    elif arguments[0] in COMMANDS:
        import_module(COMMANDS[arguments[0]].module).run(arguments)
    elif arguments[0].startswith("-"):
        raise InputError(f"{arguments[0]} comes before a command: nextconcept --help shows the form.")
    else:
        hint = did_you_mean(arguments[0], COMMANDS) or "nextconcept --help lists the commands."
        raise InputError(f"there is no command {arguments[0]!r}: {hint}")
