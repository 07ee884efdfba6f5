from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from nextconcept import InputError
from nextconcept.checkpoints.files import COMPUTE
from nextconcept.training.callbacks import ComputeBudget
from nextconcept.training.losses import training_flops_per_token
from nextconcept.training.optim import optimizer_flops
from tests.helpers import StopAt, data_of, module_of, trainer_of


@pytest.mark.parametrize("options", [{"tokens": 2000}, {"flops": 3e9}, {}], ids=str)
def test_setup__sets_the_steps_that_the_budget_allows(options: dict, corpus: Path, tmp_path: Path):
    trainer = L.Trainer(logger=False, max_steps=77, accelerator="cpu", default_root_dir=tmp_path)
    trainer.datamodule = data_of(corpus)
    module, budget = module_of(), ComputeBudget(**options)
    budget.setup(trainer, module, "validate")
    assert trainer.max_steps == 77
    budget.setup(trainer, module, "fit")
    per_step = training_flops_per_token(module.loss, module.model, 32) * 128
    assert trainer.max_steps == {"tokens": 16, "flops": -int(-3e9 // per_step)}.get(next(iter(options), ""), 77)
    logged = {}
    logger = SimpleNamespace(log_metrics=lambda values, step: logged.update(values))
    budget.on_fit_start(SimpleNamespace(loggers=[logger], ckpt_path=None, is_global_zero=True), module)
    assert logged["model/flops_per_step"] == per_step
    assert logged["model/optimizer_flops_per_step"] == optimizer_flops(module.optimizer_config, module.model) > 0
    assert logged["model/parameters"] == sum(parameter.numel() for parameter in module.model.parameters())


def test_save_checkpoint__after_a_validation(corpus: Path, tmp_path: Path):
    trainer = trainer_of(tmp_path, 1, limit_val_batches=1, callbacks=[ComputeBudget()])
    trainer.validate(module_of(), data_of(corpus), verbose=False)
    trainer.save_checkpoint(tmp_path / "validated.ckpt")
    assert COMPUTE not in torch.load(tmp_path / "validated.ckpt", weights_only=True)


def test_spent__counts_the_tokens_of_each_batch_across_a_change_of_batch_size(corpus: Path, tmp_path: Path):
    """Five steps of 4 windows, then 2 windows a step: 40 windows allow ten more steps."""
    options = {"limit_val_batches": 0}
    budgets = [ComputeBudget(tokens=40 * 32) for _ in range(2)]
    first = trainer_of(tmp_path / "first", 99, callbacks=budgets[:1], **options)
    first.callbacks.append(StopAt(5))
    first.fit(module_of(), data_of(corpus))
    first.save_checkpoint(tmp_path / "first.ckpt")
    stored = torch.load(tmp_path / "first.ckpt", weights_only=True)[COMPUTE]
    assert stored["tokens"] == 5 * 4 * 32
    assert stored["first_step"] == 0
    assert stored["costs"]["model/flops_per_step"] == pytest.approx(stored["flops"] / 5)
    assert stored["flops"] == pytest.approx(stored["tokens"] * budgets[0].flops_per_token)
    data = data_of(corpus)
    data.batch_size = 2
    second = trainer_of(tmp_path / "second", 99, callbacks=budgets[1:], **options)
    second.fit(module_of(), data, ckpt_path=tmp_path / "first.ckpt", weights_only=True)
    assert second.global_step == 15
    assert budgets[1].spent()["tokens"] == 40 * 32
    assert budgets[1].spent()["flops"] == pytest.approx(2 * stored["flops"])


@pytest.mark.parametrize("stop", [7, 9])
def test_budget__a_resumed_run_makes_as_many_steps(corpus: Path, tmp_path: Path, stop: int):
    """An epoch of seven batches has three steps of two batches and one of a single one."""
    corpus.write_text(corpus.read_text()[:1000])
    options = {"limit_val_batches": 0, "accumulate_grad_batches": 2}
    budgets = [ComputeBudget(tokens=26 * 4 * 32) for _ in range(3)]
    whole = trainer_of(tmp_path / "whole", 99, callbacks=budgets[:1], **options)
    whole.fit(module_of(), data_of(corpus))
    assert whole.num_training_batches % 2 == 1
    first = trainer_of(tmp_path / "first", 99, callbacks=[budgets[1], StopAt(stop)], **options)
    first.fit(module_of(), data_of(corpus))
    first.save_checkpoint(tmp_path / "first.ckpt")
    second = trainer_of(tmp_path / "second", 99, callbacks=budgets[2:], **options)
    second.fit(module_of(), data_of(corpus), ckpt_path=tmp_path / "first.ckpt", weights_only=True)
    assert second.global_step == whole.global_step == 13
    assert budgets[2].spent() == budgets[0].spent()
    assert budgets[0].spent()["tokens"] < 26 * 4 * 32


@pytest.mark.parametrize(
    ("options", "message"), [({"flops": 1, "tokens": 1}, "not in both"), ({"tokens": 0}, "must be positive")]
)
def test_budget__bad_input(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        ComputeBudget(**options)


def test_setup__a_second_fit_does_not_count_what_the_model_before_had_spent(corpus: Path, tmp_path: Path):
    trainer = L.Trainer(logger=False, accelerator="cpu", default_root_dir=tmp_path)
    trainer.datamodule = data_of(corpus)
    grown, budget = module_of(), ComputeBudget(tokens=2000)
    grown.__dict__["start"] = SimpleNamespace(training=SimpleNamespace(step=3, flops=1e9, tokens=1000.0))
    budget.setup(trainer, grown, "fit")
    assert (trainer.max_steps, budget.spent()["tokens"]) == (3 + 8, 1000)
    budget.setup(trainer, module_of(), "fit")
    assert (trainer.max_steps, budget.spent()["tokens"]) == (16, 0)
