"""Command ``nextconcept compare``: models trained to the same budget, and a table."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from nextconcept.cli.parsers import options_of, resolve_experiments, run_function
from nextconcept.core.errors import InputError
from nextconcept.core.experiments import read_yaml
from nextconcept.core.suggestions import did_you_mean
from nextconcept.evaluation.compare import Comparison, Entry, Growth

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Run the command."""
    for option, value in options_of(resolve_experiments(arguments)):
        if option in ("-c", "--config"):
            _check_names(read_yaml(Path(value)))
    comparison = run_function(Comparison, arguments)
    try:
        with _sigterm_as_exit():
            path = comparison.run()
    except (KeyboardInterrupt, SystemExit):
        print("stopped; the same command goes on from here.", file=sys.stderr, flush=True)
        raise
    print(f"wrote {path}, {path.with_suffix('.md')} and {path.with_suffix('.png')}")


def _check_names(content: Any) -> None:
    """Refuse unknown settings of entries in a configuration file: jsonargparse drops empty ones.

    Raises:
        InputError: if there is one.
    """
    entries = content.get("entries") if isinstance(content, dict) else None
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        for cls, given, owner in (
            (Entry, entry, f"the entry {name!r}"),
            (Growth, entry.get("growth") if isinstance(entry, dict) else None, f"growth of the entry {name!r}"),
        ):
            known = [one.name for one in fields(cls)]
            unknown = next((one for one in given if one not in known), None) if isinstance(given, dict) else None
            if unknown is not None:
                hint = did_you_mean(str(unknown), known) or f"there are {', '.join(known)}."
                raise InputError(f"{owner} has no setting {unknown}: {hint}")


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, so that a comparison that is terminated stops its runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        """Leave by an exception, which stops the runs."""
        sys.exit(128 + number)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
