"""Command ``nextconcept experiments``: a list of the shipped experiments."""

from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten, wrap

from nextconcept.cli.parsers import OneLineErrors
from nextconcept.core.errors import InputError
from nextconcept.core.experiments import experiment_files, find_experiment

__all__ = ["Experiment", "read_experiment", "run"]

WIDTH = 100


@dataclass(frozen=True)
class Experiment:
    """What the head comment of an experiment says.

    Args:
        shows: what the experiment shows, in a sentence or two.
        time: how long it takes, and on what.
        commands: the command lines to run.
    """

    shows: str
    time: str
    commands: list[str]


def read_experiment(path: Path) -> Experiment:
    """Read the head comment: sentences, then a line ``# Time: ...``, then indented command lines.

    Raises:
        InputError: if the file has no such head.
    """
    head: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("#"):
            break
        head.append(line.removeprefix("#").removeprefix(" ").rstrip())
    commands = [line.strip() for line in head if line.startswith("  ")]
    prose = " ".join(line for line in head if not line.startswith("  "))
    shows, found, time = prose.partition(" Time: ")
    if not (shows and found and commands):
        raise InputError(f"{path} needs a head comment: what it shows, then '# Time: ...', then its command.")
    return Experiment(shows, time, commands)


def run(arguments: list[str]) -> None:
    """Print a line for each shipped experiment, or some of them in full.

    Raises:
        InputError: if no experiment, folder of them or file has the name that is asked for.
    """
    parser = OneLineErrors(prog="nextconcept experiments", description="List the shipped experiments.")
    parser.add_argument("name", nargs="?", help="an experiment or a folder of them, to be described in full")
    name = parser.parse_args(arguments[1:]).name
    files = experiment_files()
    if name is None:
        space = max(map(len, files)) + 2
        for known, path in files.items():
            print(known.ljust(space) + shorten(read_experiment(path).shows, WIDTH - space, placeholder=" ..."))
        print("\nMore about one, or about a folder: nextconcept experiments NAME")
        print(
            "Run one with nextconcept fit --config NAME, those in comparisons with nextconcept compare --config NAME;"
        )
        print("those in trainer go on top of another one: nextconcept fit --config two_levels --config trainer/bf16.")
        return
    inside = {known: path for known, path in files.items() if known.startswith(f"{name.rstrip('/')}/")}
    for known, path in (inside or {name: files.get(name) or find_experiment(name)}).items():
        experiment = read_experiment(path)
        print(known)
        for text in (experiment.shows, f"Time: {experiment.time}"):
            print("\n".join(wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")))
        print("\n".join(f"    {command}" for command in experiment.commands))
