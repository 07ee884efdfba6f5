"""The private members that the project uses exist; what they do is tested where it is used."""

from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar

from nextconcept.training.lightning_compat import accumulates, allow_clipping, may_save, stops_early, validates_next


@pytest.fixture
def trainer(tmp_path: Path) -> L.Trainer:
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(accelerator="cpu", default_root_dir=tmp_path, **options)


def test_members__exist(trainer: L.Trainer):
    owners = {
        trainer.fit_loop: ["_data_fetcher", "_can_stop_early"],
        trainer.fit_loop.epoch_loop: ["_should_check_val_fx", "_should_accumulate"],
        ModelCheckpoint(): ["_should_skip_saving_checkpoint", "_save_topk_checkpoint", "_monitor_candidates"],
        RichProgressBar: ["_get_train_description"],
    }
    for owner, names in owners.items():
        for name in names:
            assert hasattr(owner, name), f"this release of Lightning has no {name}"


def test_functions__of_a_trainer_that_has_not_begun(trainer: L.Trainer):
    assert not validates_next(trainer)
    assert not accumulates(trainer)
    assert not stops_early(trainer)
    assert not may_save(ModelCheckpoint(), trainer)


def test_allow_clipping__marks_the_optimizer():
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], fused=True)
    assert optimizer._step_supports_amp_scaling
    allow_clipping(optimizer)
    assert not optimizer._step_supports_amp_scaling
