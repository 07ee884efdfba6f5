"""Folders and files that commands write, completely or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from nextconcept.core.errors import InputError

__all__ = ["filled", "new_folder", "new_page", "write_page"]


def new_folder(output: str) -> Path:
    """Return the path of a folder that does not exist yet.

    Raises:
        InputError: if it exists.
    """
    if Path(output).exists():
        raise InputError(f"{output} exists: give a new folder with --output.")
    return Path(output)


@contextmanager
def filled(folder: Path) -> Iterator[Path]:
    """Make a folder that appears under its name once it is complete, so that a failure leaves none.

    Yields:
        The folder to write into, beside ``folder``.

    Raises:
        InputError: if it can't be written.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir(parents=True)
        yield partial
        partial.rename(folder)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{folder} can't be written: {reason}; nothing was left there.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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


def write_page(page: Path, content: str) -> None:
    """Write a page; an older one is replaced once the new one is complete.

    Raises:
        InputError: if it can't be written.
    """
    target = page.resolve()  # where a link leads
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_text(content, encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise InputError(f"the page {page} can't be written: {error.strerror}.") from None
    finally:
        with suppress(OSError):
            partial.unlink()
