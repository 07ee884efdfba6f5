"""The output of ``nextconcept predict``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from safetensors.torch import save_file

from nextconcept.checkpoints.complete_files import complete

__all__ = ["SurprisalWriter"]


class SurprisalWriter(BasePredictionWriter):
    """Writes the surprisal of all tokens of the test split, to ``surprisal_rankR.safetensors``.

    The file lies in the run's folder. Its tensors: ``window`` (W,) indices, ``tokens`` (W, T) ids,
    ``nats`` (W, T) cross-entropies, NaN at padding.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")

    def write_on_epoch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, predictions: Sequence[Any], batch_indices: Sequence[Any]
    ) -> None:
        """Write the windows of this process.

        Raises:
            InputError: if the file can't be written.
        """
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        tensors = {key: torch.cat([part[key] for part in predictions]).cpu() for key in ("tokens", "nats")}
        indices = [index for loader in batch_indices for batch in loader for index in batch]
        tensors["window"] = torch.tensor(indices)
        path = folder / f"surprisal_rank{trainer.global_rank}.safetensors"
        with complete(path) as partial:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial)
        print(f"wrote the surprisal of {tensors['tokens'].numel()} tokens to {path}")
