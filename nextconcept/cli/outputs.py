"""Folders and files that commands write."""

from pathlib import Path

from nextconcept.core.errors import InputError

__all__ = ["new_folder", "new_page"]


def new_folder(output: str) -> Path:
    """Return the path of a folder that does not exist yet.

    Raises:
        InputError: if it exists, or the name is empty.
    """
    if not output:
        raise InputError("--output names nothing: give a new folder.")
    if Path(output).exists():
        raise InputError(f"{output} exists: give a new folder with --output.")
    return Path(output)


def new_page(output: str) -> Path:
    """Return the path of a page to write; an older one is replaced.

    Raises:
        InputError: if its name does not end in .html, or its folder does not exist.
    """
    path = Path(output)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"the page {output} must have a name that ends in .html.")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write {path.name} into: make it first.")
    return path
