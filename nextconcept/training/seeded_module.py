"""Random numbers of a batch that depend on seed, process and batch alone."""

import os
from typing import Any

import lightning as L
import torch

from nextconcept.training.lightning_compat import attached_trainer

__all__ = ["BatchDraws", "SeededModule"]


class BatchDraws:
    """Seeds the generators for a batch, and gives them back as they were.

    Otherwise whoever draws between two batches, such as a loader that shuffles, would get the same
    numbers after each of them.
    """

    def __init__(self) -> None:
        self._before: tuple[torch.Tensor, torch.Tensor | None] | None = None

    def begin(self, seed: int, device: torch.device) -> None:
        """Seed the generators of the CPU and of ``device``."""
        if device.type == "cpu":
            self._before = torch.get_rng_state(), None
            torch.default_generator.manual_seed(seed)  # a tenth of a small step sooner than all devices
        else:
            self._before = torch.get_rng_state(), torch.get_device_module(device).get_rng_state(device)
            torch.manual_seed(seed)

    def end(self, device: torch.device) -> None:
        """Bring back the states of before :meth:`begin`."""
        if self._before is None:
            return
        (of_cpu, of_device), self._before = self._before, None
        torch.set_rng_state(of_cpu)
        if of_device is not None:
            torch.get_device_module(device).set_rng_state(of_device, device)


class SeededModule(L.LightningModule):
    """A LightningModule whose batches draw the same numbers whatever was drawn before them.

    The seed of a fit is that of ``seed_everything``, or else one that it draws from torch's
    generator when it begins. Checkpoints keep it, so that a resumed run draws what an uninterrupted
    one does, whatever seed it is given.
    """

    def __init__(self) -> None:
        super().__init__()
        self._draws, self._seed = BatchDraws(), 0

    def configure_callbacks(self) -> list[L.Callback]:
        """Return what gives the generators back where a step is broken off, once per trainer."""
        callbacks = getattr(attached_trainer(self), "callbacks", [])
        return [] if any(isinstance(one, _EndOfDraws) for one in callbacks) else [_EndOfDraws()]

    def on_fit_start(self) -> None:
        """Take or draw the seed of a run that begins."""
        if self.trainer.ckpt_path is None:
            drawn = self.trainer.strategy.broadcast(int(torch.randint(2**62, ())))
            self._seed = _global_seed(drawn)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the seed."""
        checkpoint["nextconcept_seed"] = self._seed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the seed."""
        self._seed = checkpoint.get("nextconcept_seed", 0)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make all that is drawn in a step a function of seed, process and step."""
        self._begin(self.trainer.fit_loop.total_batch_idx)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Give the generators back as they were before the step."""
        self.end_draws()

    def end_draws(self) -> None:
        """Give the generators back as they were before the batch that is running, if one is."""
        self._draws.end(self.device)

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Measure all models, whenever they are measured, with the same noise."""
        self._begin(batch_idx)

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Give the generators back as they were before the batch."""
        self.end_draws()

    on_test_batch_start, on_test_batch_end = on_validation_batch_start, on_validation_batch_end

    def _begin(self, number: int) -> None:
        seed = self._seed if self.trainer.state.fn == "fit" else _global_seed(self._seed)
        self._draws.begin(hash((seed, self.global_rank, number)), self.device)


class _EndOfDraws(L.Callback):
    """Ends the draws of a batch that ends in an error, of which a module is not told."""

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the generators back as they were before the batch."""
        if isinstance(pl_module, SeededModule):
            pl_module.end_draws()


def _global_seed(otherwise: int) -> int:
    """Return the seed of ``seed_everything``, or another where there is none."""
    return int(os.environ.get("PL_GLOBAL_SEED", otherwise))
