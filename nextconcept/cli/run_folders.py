"""Folders of runs: which run ``last`` and ``best`` mean, and who may write into a folder."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from nextconcept.core.errors import InputError
from nextconcept.training.lightning_compat import fix_version, fixed_version, next_version

__all__ = ["folder_of_run", "logger_settings", "newest_checkpoint", "own_run_folders"]

LOCK = ".lock"
LOCATION = ("save_dir", "name", "version")
"""Settings of a logger that say where its runs are."""


def folder_of_run(checkpoint: Path) -> Path:
    """Return the folder of the run that wrote ``checkpoint``."""
    return checkpoint.parents[1] if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def logger_settings(logger: Any) -> list[Namespace]:
    """Return the settings of the loggers among ``trainer.logger`` that number their runs."""
    found = [getattr(one, "init_args", None) for one in (logger if isinstance(logger, list) else [logger])]
    return [one for one in found if one is not None and all(name in one for name in LOCATION)]


def newest_checkpoint(loggers: Sequence[Namespace], name: str) -> tuple[Path | None, Path]:
    """Find a checkpoint of the newest run of a logger, or of the run that its ``version`` names.

    Args:
        loggers: settings as of :func:`logger_settings`, of which the first count.
        name: file name of the checkpoint.

    Returns:
        The checkpoint, or None if no run has written one, and the folder that was searched.

    Raises:
        InputError: if there is no logger, or it has no folder.
    """
    settings = next(iter(loggers), None)
    if settings is None or settings.save_dir is None or settings.name is None:
        raise InputError(
            f"--ckpt_path {Path(name).stem} looks for the newest run under the logger's save_dir and name: give a "
            "logger that has both, as the experiments do, or the checkpoint's path."
        )
    folder = _expanded(settings.save_dir) / settings.name
    if settings.version is None:
        found = folder.glob(f"*/checkpoints/{name}")
        return max(found, key=lambda path: path.stat().st_mtime, default=None), folder
    folder = _folder(folder, settings.version)
    path = folder / "checkpoints" / name
    return (path if path.is_file() else None), folder


@contextmanager
def own_run_folders(trainer: Trainer, continued: bool) -> Iterator[None]:
    """Make this process the only one that writes into the folders of the trainer's loggers.

    A new folder is made in one atomic step, so that runs that begin at the same instant get
    different numbers; a lock marks every folder that is in use. A folder in which nothing was
    written is removed again.

    Args:
        trainer: the trainer, before it starts.
        continued: whether the run goes on in the folder of an earlier one.

    Raises:
        InputError: if a new run would begin in the folder of another run, or another process
            writes into the folder.
    """
    made: list[Path] = []
    with ExitStack() as stack:
        if trainer.is_global_zero:
            versions: dict[Path, int | str] = {}
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger | CSVLogger) and "://" not in logger.root_dir:
                    stack.callback(_remove_empty, made)
                    _own(logger, versions, continued, made, stack)
        yield


def _own(
    logger: TensorBoardLogger | CSVLogger,
    versions: dict[Path, int | str],
    continued: bool,
    made: list[Path],
    stack: ExitStack,
) -> None:
    """Choose the logger's version where there is none, make its folder, and lock it."""
    root = _expanded(logger.root_dir)
    version = fixed_version(logger)
    if version is None and root in versions:  # of another logger, which writes into the same folder
        version = versions[root]
        fix_version(logger, version)
    if versions.get(root) == version is not None:
        return
    if version is None:
        version = next_version(logger)
        while not _make(_folder(root, version), made):
            version = next_version(logger)
        fix_version(logger, version)
    elif not continued and not _make(_folder(root, version), made):
        raise InputError(
            f"{_folder(root, version)} holds a run already: go on with it by --ckpt_path last, or choose another "
            "version of the logger, or none."
        )
    versions[root] = version
    try:
        stack.enter_context(FileLock(_folder(root, version) / LOCK, timeout=0))
    except Timeout:
        raise InputError(
            f"another process is training in {_folder(root, version)}: wait until it ends, or leave out --ckpt_path "
            "last to begin a new run."
        ) from None


def _expanded(path: str) -> Path:
    return Path(os.path.expanduser(os.path.expandvars(path)))


def _folder(root: Path, version: int | str) -> Path:
    return root / (version if isinstance(version, str) else f"version_{version}")


def _make(folder: Path, made: list[Path]) -> bool:
    """Make a folder, and note it and the folders around it that are new; False if it exists."""
    missing = [one for one in folder.parents if not one.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    made += [folder, *missing]
    return True


def _remove_empty(made: list[Path]) -> None:
    """Remove the folders that were made in vain, with the events that TensorBoard begins with."""
    for folder in made:
        if not folder.is_dir():
            continue
        files = list(folder.iterdir())
        if all(path.name == LOCK or path.name.startswith("events.") for path in files):
            for path in files:
                path.unlink(missing_ok=True)
            try:
                folder.rmdir()
            except OSError:  # another process has begun to use it
                return
