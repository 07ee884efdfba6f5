import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import Logger

from nextconcept.callbacks import LastCheckpoint, SelfContained
from tests.test_module import data_of, module_of, trainer_of, weights_after


class Signals(Logger):
    """Sends SIGTERM to its own process at a step: as the step begins, as its losses go to the curves, or in the validation after it."""

    name, version = "signals", 0

    def __init__(self, moment: str, step: int) -> None:
        super().__init__()
        self.moment, self.step = moment, step
        self.callback = L.Callback()
        self.callback.on_train_batch_start = lambda trainer, *_: self.reach("start", trainer.global_step + 1)
        self.callback.on_validation_batch_start = lambda trainer, *_: self.reach("validation", trainer.global_step)

    def reach(self, moment: str, step: int) -> None:
        if moment == self.moment and step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.reach("curves", -1 if step is None else step + 1)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass


def trainer(folder: Path, moment: str = "", step: int = 5) -> L.Trainer:
    last = LastCheckpoint()
    last.dirpath = str(folder)
    signals = Signals(moment, step)
    callbacks = [SelfContained(), last, signals.callback]
    options = {"val_check_interval": 4, "check_val_every_n_epoch": None, "limit_val_batches": 2, "log_every_n_steps": 1}
    return trainer_of(folder, 9, callbacks=callbacks, logger=signals, enable_checkpointing=True, **options)


@pytest.mark.filterwarnings("ignore:.*dirpath has changed.*")
@pytest.mark.parametrize(
    ("moment", "step", "kept"), [("start", 5, 5), ("curves", 5, 5), ("curves", 2, 2), ("validation", 8, 4)]
)
def test_sigterm__saves_the_step_whenever_it_comes(corpus: Path, tmp_path: Path, moment: str, step: int, kept: int):
    """A validation that is cut short is made again: the checkpoint of the one before stays."""
    whole = weights_after(trainer(tmp_path / "whole"), module_of(), data_of(corpus))
    with pytest.raises(SystemExit):
        trainer(tmp_path / "first", moment, step).fit(module_of(), data_of(corpus))
    path = tmp_path / "first" / "last.ckpt"
    assert torch.load(path, weights_only=True)["global_step"] == kept
    resumed = weights_after(trainer(tmp_path / "second"), module_of(), data_of(corpus), path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
