"""Orders of callbacks that matter hold whatever order the callbacks are given in."""

from pathlib import Path

import lightning as L
import pytest
import torch

from nextconcept.checkpoints.files import COMPUTE, KEY
from nextconcept.checkpoints.model_card import RECORD
from nextconcept.training.access import module_of as module_of_run
from nextconcept.training.callbacks import ComputeBudget, LastCheckpoint, LevelCurriculum, StoreModelMetadata
from tests.helpers import data_of, module_of, trainer_of


class NotedFactors(L.Callback):
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.factors = module_of_run(pl_module).level_factors()


@pytest.mark.parametrize("reverse", [False, True])
def test_fit__checkpoints_and_schedule_see_what_other_callbacks_do(corpus: Path, tmp_path: Path, reverse: bool):
    last, curriculum = LastCheckpoint(), LevelCurriculum([2], ramp=3)
    last.dirpath = str(tmp_path / "kept")
    noted = NotedFactors()
    callbacks: list[L.Callback] = [StoreModelMetadata(), ComputeBudget(tokens=4 * 4 * 32), curriculum, last, noted]
    options = {"enable_checkpointing": True, "val_check_interval": 4, "limit_val_batches": 1, "log_every_n_steps": 1}
    trainer = trainer_of(tmp_path, 77, callbacks=callbacks[::-1] if reverse else callbacks, **options)
    module = module_of()
    trainer.fit(module, data_of(corpus))
    checkpoint = torch.load(tmp_path / "kept" / "last.ckpt", weights_only=True)
    # The budget set the number of steps before the schedule was made for it.
    assert checkpoint["global_step"] == trainer.max_steps == 4
    schedule = trainer.lr_scheduler_configs[0].scheduler
    assert schedule.get_last_lr()[-1] == pytest.approx(
        module.optimizer_config.lr * module.optimizer_config.min_lr_ratio
    )
    # The last step, its validation and its tokens are in the checkpoint.
    record = checkpoint[KEY][RECORD]
    assert record["step"] == 4
    assert "val/loss/tokens" in record["measured"]
    assert checkpoint[COMPUTE]["tokens"] == 4 * 4 * 32
    # The curriculum set the factor before the step that it is for.
    assert noted.factors == {1: curriculum.factor(1, 3)}
