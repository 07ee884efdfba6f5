"""Checkpoints that are written completely or not at all."""

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from nextconcept.core.errors import InputError

__all__ = ["AtomicCheckpointIO"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a file beside its target, and renames the file once it is on the disk.

    If a run is killed while it saves, or the disk is full, the previous checkpoint remains.
    (Lightning itself writes to the folder for temporary files first; a move from there is not
    atomic if that folder is on another disk.)

    Attributes:
        deferred: whether renaming waits for :meth:`commit`.
    """

    def __init__(self) -> None:
        self.deferred = False
        self._waiting: dict[Path, Path] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save a checkpoint.

        Args:
            checkpoint: content of the checkpoint.
            path: the file to write.
            storage_options: not used, as in the base class.

        Raises:
            InputError: if the file can't be written; the previous checkpoint remains.
        """
        if "://" in str(path):  # object stores replace a file atomically
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            self._waiting[partial] = target
            if not self.deferred:
                self.commit()
        except OSError as error:
            self._waiting.pop(partial, None)
            partial.unlink(missing_ok=True)
            kept = "the checkpoint before it is kept" if target.exists() else "no checkpoint was there before"
            raise InputError(f"{target} can't be written: {error.strerror}; {kept}.") from None

    def commit(self) -> None:
        """Rename the files that wait, each over the previous checkpoint."""
        while self._waiting:
            partial, target = self._waiting.popitem()
            partial.replace(target)
