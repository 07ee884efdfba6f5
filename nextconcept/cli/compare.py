"""Command ``nextconcept compare``: models trained to the same budget, and a table."""

from nextconcept.cli.parsers import run_function
from nextconcept.evaluation.compare import compare

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Run the command."""
    run_function(compare, arguments)
