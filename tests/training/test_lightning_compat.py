"""The private members that the project uses exist; what they do is tested where it is used."""

import csv
import logging
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, ModelSummary, RichProgressBar
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import CombinedLoader

from nextconcept.training.lightning_compat import (
    accumulates,
    allow_clipping,
    cut_csv_curves,
    hide_tips,
    keep_csv_curves,
    may_save,
    shows_step,
    stops_early,
    validates_next,
)
from tests.helpers import data_of, module_of, trainer_of


@pytest.fixture
def trainer(tmp_path: Path) -> L.Trainer:
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(accelerator="cpu", default_root_dir=tmp_path, **options)


def test_members__exist(trainer: L.Trainer):
    owners = {
        trainer.fit_loop: ["_data_fetcher", "_can_stop_early", "_combined_loader", "_combined_loader_states_to_load"],
        trainer.fit_loop.epoch_loop: ["_should_check_val_fx", "_should_accumulate", "batch_progress"],
        CombinedLoader([]): ["_load_state_dicts"],
        ModelCheckpoint(): ["_should_skip_saving_checkpoint", "_save_topk_checkpoint", "_monitor_candidates"],
        CSVLogger("."): ["_experiment"],
        trainer: ["_logger_connector"],
        type(trainer._logger_connector): ["should_update_logs"],
        RichProgressBar: ["_get_train_description"],
        LightningCLI: ["_parser"],
        L.LightningModule(): ["_trainer"],
    }
    for owner, names in owners.items():
        for name in names:
            assert hasattr(owner, name), f"this release of Lightning has no {name}"


def test_functions__of_a_trainer_that_has_not_begun(trainer: L.Trainer):
    assert not validates_next(trainer)
    assert not accumulates(trainer)
    assert not stops_early(trainer)
    assert not may_save(ModelCheckpoint(), trainer)


@pytest.mark.parametrize("every", [1, 3])
def test_shows_step__says_what_loggers_get(tmp_path: Path, corpus: Path, every: int):
    shown: list[int] = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
            if shows_step(trainer):
                shown.append(trainer.global_step - 1)

    logger = CSVLogger(tmp_path, "curves")
    options = {"logger": logger, "log_every_n_steps": every, "callbacks": [Watch()], "limit_val_batches": 0}
    trainer_of(tmp_path, 8, **options).fit(module_of(), data_of(corpus))
    assert shown == list(range(every - 1, 8, every))
    with (Path(logger.log_dir) / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("train/loss", "train/gradient_norm", "train/bits_per_byte", "train/learning_rate"):
        assert [int(row["step"]) for row in rows if row[name]] == shown


def test_allow_clipping__marks_the_optimizer():
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], fused=True)
    assert optimizer._step_supports_amp_scaling
    allow_clipping(optimizer)
    assert not optimizer._step_supports_amp_scaling


def steps_of(path: Path) -> list[int]:
    with path.open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_csv_curves__survive_a_process_that_dies_while_they_are_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "run" / "version_0" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("step,loss\n0,1.0\n")
    trainers = [trainer_of(tmp_path, 1, logger=CSVLogger(tmp_path, "run", 0)) for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(CSVLogger, "experiment", property(lambda _: 1 / 0))
        with pytest.raises(ZeroDivisionError):
            keep_csv_curves(trainers[0])
    assert len(keep_csv_curves(trainers[1])) == 1
    assert path.read_text() == "step,loss\n0,1.0\n"


def test_csv_curves__are_kept_and_cut(tmp_path: Path):
    first, path = CSVLogger(tmp_path, "run", 0), tmp_path / "run" / "version_0" / "metrics.csv"
    for step in range(6):
        first.log_metrics({"loss": 1.0}, step)
    first.save()
    again = CSVLogger(tmp_path, "run", 0)
    trainer = SimpleNamespace(loggers=[again, DummyLogger()], is_global_zero=True)
    assert keep_csv_curves(trainer) == [again]
    assert keep_csv_curves(trainer) == [], "a logger that has begun keeps its file anyway"
    assert steps_of(path) == [0, 1, 2, 3, 4, 5]
    cut_csv_curves(again, 4)
    again.log_metrics({"loss": 1.0, "accuracy": 0.5}, 4)
    again.save()
    assert steps_of(path) == [0, 1, 2, 3, 4]
    # Rows that killed processes did not finish, or wrote into one another.
    path.write_bytes(path.read_bytes() + b"0.7,1,4,4\n\xff,\n0.7")
    cut_csv_curves(again, 3)
    assert steps_of(path) == [0, 1, 2]
    cut_csv_curves(again, 0)
    again.log_metrics({"accuracy": 0.5}, 0)
    again.save()
    assert path.read_text().splitlines() == ["accuracy,step", "0.5,0"]


@pytest.mark.slow
def test_hide_tips__only_what_is_no_news_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(logging.getLogger("lightning.pytorch.utilities.rank_zero"), "filters", [])
    options = {"accelerator": "cpu", "logger": False, "default_root_dir": tmp_path, "callbacks": [ModelSummary()]}
    L.Trainer(**options)
    before = caplog.messages.copy()
    assert any("Tip" in line for line in before)  # or there would be nothing to hide
    caplog.clear()
    hide_tips()
    L.Trainer(**options)
    assert caplog.messages == [line for line in before if "Tip" not in line and "already configured" not in line] != []
