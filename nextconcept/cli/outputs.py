"""Folders that commands write."""

from pathlib import Path

from nextconcept.core.errors import InputError

__all__ = ["new_folder"]


def new_folder(output: str) -> Path:
    """Return the path of a folder that does not exist yet.

    Raises:
        InputError: if it exists.
    """
    if Path(output).exists():
        raise InputError(f"{output} exists: give a new folder with --output.")
    return Path(output)
