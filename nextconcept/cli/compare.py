"""Command ``nextconcept compare``: models trained to the same budget, and a table."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from nextconcept.cli.parsers import run_function
from nextconcept.evaluation.compare import Comparison

__all__ = ["run"]

GOES_ON = "stopped; the same command goes on from here."


def run(arguments: list[str]) -> None:
    """Run the command."""
    comparison = run_function(Comparison, arguments)
    with _told_how_to_go_on():
        path = comparison.run()
    print(f"wrote {path}, {path.with_suffix('.md')} and {path.with_suffix('.png')}")


@contextmanager
def _told_how_to_go_on() -> Iterator[None]:
    """Say that a comparison that is interrupted or terminated goes on; SIGTERM stops its runs."""
    with _sigterm_as_exit():
        try:
            yield
        except KeyboardInterrupt:
            print(GOES_ON, file=sys.stderr, flush=True)
            raise


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, so that a comparison that is terminated stops its runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        """Leave by an exception, which stops the runs."""
        print(GOES_ON, file=sys.stderr, flush=True)
        sys.exit(128 + number)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
