"""Suggestions for misspelt names."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["closest", "did_you_mean"]


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the known name closest to ``name``, or an empty string if none is similar."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=cutoff)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean NAME?`` for the known name closest to ``name``, or an empty string."""
    match = closest(name, known)
    return f"did you mean {match}?" if match else ""
