"""Files and folders that appear under their names once they are complete."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from nextconcept.core.errors import InputError

__all__ = ["complete"]


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Write a file or a folder beside its place, and rename it at the end.

    A failure leaves nothing; an older file remains until then, and an older folder is not replaced.
    Of several processes that write one file at once, one wins, as a whole.

    Args:
        path: the file or folder; a link is followed.

    Yields:
        The path to write to, where nothing is yet.

    Raises:
        InputError: if it can't be written.
    """
    try:
        target = path.resolve()
        loops = target.is_symlink()  # as Python 3.13 leaves it
    except RuntimeError:  # up to Python 3.12
        loops = True
    if loops:
        raise InputError(f"{path} can't be written: a link in this path leads back to itself; remove it first.")
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield partial
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} can't be written: {reason}.") from None
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # whose reason would hide that of the failure
            path.unlink(missing_ok=True)
