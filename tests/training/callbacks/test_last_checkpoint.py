import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import Logger

from nextconcept.training.callbacks import LastCheckpoint, StoreModelMetadata
from tests.helpers import data_of, module_of, trainer_of, weights_after


class Signals(Logger):
    """Sends SIGTERM to its own process at a step: as the step begins, as its losses go to the curves, or in the validation after it."""

    name, version = "signals", 0

    def __init__(self, moment: str, step: int) -> None:
        super().__init__()
        self.moment, self.step, self.curves = moment, step, []
        self.callback = L.Callback()
        self.callback.on_train_batch_start = lambda trainer, *_: self.reach("start", trainer.global_step + 1)
        self.callback.on_validation_batch_start = lambda trainer, *_: self.reach("validation", trainer.global_step)

    def reach(self, moment: str, step: int) -> None:
        if moment == self.moment and step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.curves.append((step, {name: value for name, value in metrics.items() if "second" not in name}))
        self.reach("curves", -1 if step is None else step + 1)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass


def trainer(folder: Path, moment: str = "", step: int = 5, accumulated: int = 1) -> L.Trainer:
    last = LastCheckpoint()
    last.dirpath = str(folder)
    signals = Signals(moment, step)
    return trainer_of(
        folder,
        9,
        callbacks=[StoreModelMetadata(), last, signals.callback],
        logger=signals,
        enable_checkpointing=True,
        val_check_interval=4 * accumulated,
        check_val_every_n_epoch=None,
        limit_val_batches=2,
        log_every_n_steps=1,
        accumulate_grad_batches=accumulated,
    )


@pytest.mark.filterwarnings("ignore:.*dirpath has changed.*")
@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize(
    ("moment", "step", "kept"),
    [("start", 5, 5), ("curves", 5, 6), ("curves", 1, 2), ("start", 8, 8), ("curves", 7, 8), ("validation", 8, 8)],
)
def test_sigterm__stops_behind_a_step_and_its_validation(
    corpus: Path, tmp_path: Path, moment: str, step: int, kept: int, accumulated: int
):
    """Weights and curves of the run and of the one that goes on from it are those of a run that nobody stopped."""
    uninterrupted = trainer(tmp_path / "whole", accumulated=accumulated)
    whole = weights_after(uninterrupted, module_of(), data_of(corpus))
    first = trainer(tmp_path / "first", moment, step, accumulated)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
        first.fit(module_of(), data_of(corpus))
    assert signal.getsignal(signal.SIGTERM) is handler
    path = tmp_path / "first" / "last.ckpt"
    assert torch.load(path, weights_only=True)["global_step"] == kept
    second = trainer(tmp_path / "second", accumulated=accumulated)
    resumed = weights_after(second, module_of(), data_of(corpus), path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert first.logger.curves + second.logger.curves == uninterrupted.logger.curves
