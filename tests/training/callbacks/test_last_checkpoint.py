import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import Logger

from nextconcept.core.errors import InputError
from nextconcept.training.callbacks import LastCheckpoint, StoreModelMetadata
from nextconcept.training.module import ConceptModule
from nextconcept.training.optim import OptimizerConfig
from tests.helpers import StopAt, data_of, module_of, trainer_of, weights_after


def test_steps__are_not_negative():
    with pytest.raises(InputError, match="every_n_train_steps must be 0 or more, not -1"):
        LastCheckpoint(-1)


class Signals(Logger):
    """Sends signals to its own process as a step begins, as it is logged, or in its validation."""

    name, version = "signals", 0

    def __init__(self, moment: str, step: int, sent: tuple[signal.Signals, ...] = (signal.SIGTERM,)) -> None:
        super().__init__()
        self.moment, self.step, self.sent, self.curves = moment, step, sent, []
        self.callback = L.Callback()
        self.callback.on_train_batch_start = lambda trainer, *_: self.reach("start", trainer.global_step + 1)
        self.callback.on_validation_batch_start = lambda trainer, *_: self.reach("validation", trainer.global_step)

    def reach(self, moment: str, step: int) -> None:
        if moment == self.moment and step == self.step:
            self.moment = ""  # once, in the first batch of a step or of a validation
            for one in self.sent:
                os.kill(os.getpid(), one)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.curves.append((step, {name: value for name, value in metrics.items() if "second" not in name}))
        self.reach("curves", -1 if step is None else step + 1)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass


def trainer(folder: Path, moment: str = "", step: int = 5, accumulated: int = 1, **signals_options: Any) -> L.Trainer:
    last = LastCheckpoint()
    last.dirpath = str(folder)
    signals = Signals(moment, step, **signals_options)
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
@pytest.mark.parametrize("accumulated", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("moment", "step", "kept", "sent"),
    [
        ("start", 5, 5, signal.SIGTERM),
        ("curves", 5, 6, signal.SIGINT),
        ("curves", 1, 2, signal.SIGTERM),
        ("start", 8, 8, signal.SIGTERM),
        ("curves", 7, 8, signal.SIGTERM),
        ("validation", 8, 8, signal.SIGINT),
    ],
)
def test_signal__stops_after_a_step_and_its_validation(
    corpus: Path, tmp_path: Path, moment: str, step: int, kept: int, sent: signal.Signals, accumulated: int
):
    """A stopped and a resumed run together have the weights and curves of an uninterrupted one."""
    uninterrupted = trainer(tmp_path / "whole", accumulated=accumulated)
    whole = weights_after(uninterrupted, module_of(), data_of(corpus))
    first = trainer(tmp_path / "first", moment, step, accumulated, sent=(sent,))
    handler = signal.getsignal(sent)
    with pytest.raises(SystemExit, match=str(128 + sent)):
        first.fit(module_of(), data_of(corpus))
    assert signal.getsignal(sent) is handler
    path = tmp_path / "first" / "last.ckpt"
    assert torch.load(path, weights_only=True)["global_step"] == kept
    second = trainer(tmp_path / "second", accumulated=accumulated)
    resumed = weights_after(second, module_of(), data_of(corpus), path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert first.logger.curves + second.logger.curves == uninterrupted.logger.curves


@pytest.mark.filterwarnings("ignore:.*dirpath has changed.*")
def test_second_interrupt__stops_at_once(corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture):
    """The checkpoint of the last validation is kept."""
    interrupted = trainer(tmp_path / "run", "start", 6, sent=(signal.SIGINT, signal.SIGINT))
    with pytest.raises(SystemExit) as stopped:
        interrupted.fit(module_of(), data_of(corpus))
    assert isinstance(stopped.value.__context__, KeyboardInterrupt)
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] == 4
    assert "Ctrl-C again stops at once" in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore:.*dirpath has changed.*")
def test_ignored_interrupts__stay_ignored(corpus: Path, tmp_path: Path):
    """As in jobs that a shell runs in the background."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = trainer(tmp_path / "run", "start", 6, sent=(signal.SIGINT, signal.SIGINT))
        run.fit(module_of(), data_of(corpus))
    finally:
        signal.signal(signal.SIGINT, previous)
    assert run.global_step == 9


def small_trainer(folder: Path, steps: int, *callbacks: L.Callback, **options: Any) -> L.Trainer:
    last = LastCheckpoint()
    last.dirpath = str(folder)
    defaults = {"enable_checkpointing": True, "limit_val_batches": 0, "check_val_every_n_epoch": None}
    return trainer_of(folder, steps, callbacks=[StoreModelMetadata(), last, *callbacks], **(defaults | options))


def steps_saved(folder: Path) -> int:
    return torch.load(folder / "last.ckpt", weights_only=True)["global_step"]


def constant_module() -> ConceptModule:
    """A module whose learning rate does not depend on the planned number of steps."""
    module = module_of()
    module.optimizer_config = OptimizerConfig(lr=3e-3, warmup_steps=2, min_lr_ratio=1.0)
    return module


@pytest.mark.filterwarnings("ignore:.*dirpath has changed.*")
def test_validation__amid_accumulated_gradients_is_saved_at_the_next_step(corpus: Path, tmp_path: Path):
    """Validation at batch 5, steps of 3 batches: the checkpoint is that of step 2, at batch 6."""
    options = {"accumulate_grad_batches": 3, "val_check_interval": 5, "limit_val_batches": 1}
    whole = weights_after(small_trainer(tmp_path / "whole", 4, **options), module_of(), data_of(corpus))

    class Kill(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.fit_loop.batch_idx == 7:
                raise KeyError("killed")

    with pytest.raises(KeyError, match="killed"):
        small_trainer(tmp_path / "first", 4, Kill(), **options).fit(module_of(), data_of(corpus))
    assert steps_saved(tmp_path / "first") == 2
    second = small_trainer(tmp_path / "second", 4, **options)
    resumed = weights_after(second, module_of(), data_of(corpus), tmp_path / "first" / "last.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.filterwarnings("ignore:.*dirpath has changed.*", "ignore:.*max_epochs.*")
def test_max_epochs__the_last_step_is_saved_and_resumed(corpus: Path, tmp_path: Path):
    corpus.write_text(corpus.read_text()[:800])
    first = small_trainer(tmp_path / "first", -1, max_epochs=1)
    first.fit(constant_module(), data_of(corpus))
    steps = first.global_step
    assert steps_saved(tmp_path / "first") == steps < 10
    whole = weights_after(small_trainer(tmp_path / "whole", 2 * steps), constant_module(), data_of(corpus))
    second = small_trainer(tmp_path / "second", 2 * steps)
    resumed = weights_after(second, constant_module(), data_of(corpus), tmp_path / "first" / "last.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.filterwarnings("ignore:.*dirpath has changed.*")
@pytest.mark.parametrize("accumulated", [1, 2])
def test_should_stop__the_last_step_is_saved_and_resumed(corpus: Path, tmp_path: Path, accumulated: int):
    """As early stopping and max_time end a training."""
    options = {"accumulate_grad_batches": accumulated}
    whole = weights_after(small_trainer(tmp_path / "whole", 6, **options), module_of(), data_of(corpus))
    first = small_trainer(tmp_path / "first", 6, StopAt(3), **options)
    first.fit(module_of(), data_of(corpus))
    assert first.global_step == steps_saved(tmp_path / "first") == 3
    second = small_trainer(tmp_path / "second", 6, **options)
    resumed = weights_after(second, module_of(), data_of(corpus), tmp_path / "first" / "last.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.filterwarnings("ignore:.*dirpath has changed.*")
@pytest.mark.parametrize(
    "limits", [{"limit_train_batches": 4}, pytest.param({"overfit_batches": 3}, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("accumulated", "stop"), [(1, 4), (1, 5), (3, 2)])
@pytest.mark.parametrize("validation", [{}, {"check_val_every_n_epoch": 1, "limit_val_batches": 1}])
def test_resume__across_epochs_that_are_cut_short(
    corpus: Path, tmp_path: Path, limits: dict, accumulated: int, stop: int, validation: dict
):
    """The windows that follow are those of the uninterrupted run, wherever the run stops."""
    options = limits | validation | {"accumulate_grad_batches": accumulated}
    whole = weights_after(small_trainer(tmp_path / "whole", 11, **options), module_of(), data_of(corpus))
    small_trainer(tmp_path / "first", 11, StopAt(stop), **options).fit(module_of(), data_of(corpus))
    assert steps_saved(tmp_path / "first") == stop
    second = small_trainer(tmp_path / "second", 11, **options)
    resumed = weights_after(second, module_of(), data_of(corpus), tmp_path / "first" / "last.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


class Windows(L.Callback):
    """Records the tokens of the training windows, step by step."""

    def __init__(self) -> None:
        self.steps: list[list[list[int]]] = []

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        while len(self.steps) <= trainer.global_step:
            self.steps.append([])
        self.steps[trainer.global_step] += batch.tokens.tolist()


@pytest.mark.filterwarnings("ignore:.*dirpath has changed.*", "ignore:.*max_epochs.*")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"batch_size": 1, "steps": 7}, {"batch_size": 2}),
        ({"batch_size": 3, "steps": 3}, {"batch_size": 1}),
        ({"batch_size": 1, "steps": 5}, {"batch_size": 1, "accumulated": 3}),
        ({"batch_size": 2, "steps": 2, "accumulated": 2}, {"batch_size": 3, "accumulated": 2}),
        ({"batch_size": 3, "steps": 5}, {"batch_size": 2}),
        ({"batch_size": 3, "steps": 8}, {"batch_size": 2}),  # at the end of an epoch
        ({"batch_size": 3, "steps": 6}, {"batch_size": 1, "limit_train_batches": 9}),
    ],
)
def test_resume__with_batches_of_another_size(corpus: Path, tmp_path: Path, before: dict, after: dict):
    """Steps are whole, and no window is left out or read twice."""
    corpus.write_text(corpus.read_text()[:900])
    read = Windows()
    data = data_of(corpus, batch_size=before["batch_size"])
    options = {"accumulate_grad_batches": before.get("accumulated", 1)}
    small_trainer(tmp_path / "first", before["steps"], read, **options).fit(constant_module(), data)
    windows = [window for step in read.steps for window in step]
    per_epoch = len(data.training_windows(0))
    assert 12 < per_epoch < 30

    read, options = Windows(), {"accumulate_grad_batches": after.get("accumulated", 1)}
    if "limit_train_batches" in after:
        options["limit_train_batches"] = after["limit_train_batches"]
    second = small_trainer(tmp_path / "second", before["steps"] + 20, read, **options)
    data = data_of(corpus, batch_size=after["batch_size"])
    second.fit(constant_module(), data, ckpt_path=tmp_path / "first" / "last.ckpt", weights_only=True)
    steps = read.steps[before["steps"] :]
    assert len(steps) == 20
    whole = after["batch_size"] * after.get("accumulated", 1)
    assert all(len(step) == whole for step in steps[:3])
    windows += [window for step in steps[: after.get("limit_train_batches")] for window in step]
    expected = data.training_windows(data.training_seed).__getitems__(list(range(len(windows))))
    assert windows == expected.tokens.tolist()


@pytest.mark.filterwarnings("ignore:.*dirpath has changed.*", "ignore:.*max_epochs.*")
@pytest.mark.parametrize("limits", [{}, {"val_check_interval": 2, "limit_val_batches": 1}])
def test_resume__after_epochs_of_another_size(corpus: Path, tmp_path: Path, limits: dict):
    """Epochs are limited, so that Lightning takes the run for a new one that begins an epoch."""
    corpus.write_text(corpus.read_text()[:900])
    options = {"check_val_every_n_epoch": 1} | limits
    read, data = Windows(), data_of(corpus, batch_size=3)
    small_trainer(tmp_path / "first", -1, read, max_epochs=1, **options).fit(constant_module(), data)
    windows = [window for step in read.steps for window in step]
    read, data = Windows(), data_of(corpus, batch_size=5)
    second = small_trainer(tmp_path / "second", -1, read, max_epochs=3, **options)
    second.fit(constant_module(), data, ckpt_path=tmp_path / "first" / "last.ckpt", weights_only=True)
    windows += [window for step in read.steps for window in step]
    expected = data.training_windows(data.training_seed).__getitems__(list(range(len(windows))))
    assert windows == expected.tokens.tolist()
