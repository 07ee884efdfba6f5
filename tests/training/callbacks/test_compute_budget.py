from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest

from nextconcept import InputError
from nextconcept.training.callbacks import ComputeBudget
from nextconcept.training.losses import loss_flops_per_token
from nextconcept.training.module import ConceptModule
from tests.helpers import small_config


@pytest.mark.parametrize("options", [{"tokens": 1000}, {"flops": 3e9}, {}], ids=str)
def test_setup__sets_the_steps_that_the_budget_allows(options: dict, tmp_path: Path):
    trainer = L.Trainer(logger=False, max_steps=77, accelerator="cpu", default_root_dir=tmp_path)
    trainer.datamodule = SimpleNamespace(batch_size=2, context_length=32)
    module, budget = ConceptModule(small_config(context_length=32)), ComputeBudget(**options)
    budget.setup(trainer, module, "validate")
    assert trainer.max_steps == 77
    budget.setup(trainer, module, "fit")
    per_step = (3 * module.model.flops_per_token(32) + loss_flops_per_token(module.loss, module.model, 32)) * 64
    assert trainer.max_steps == {"tokens": 16, "flops": -int(-3e9 // per_step)}.get(next(iter(options), ""), 77)
    logged = {}
    logger = SimpleNamespace(log_metrics=lambda values, step: logged.update(values))
    budget.on_fit_start(SimpleNamespace(loggers=[logger], ckpt_path=None), module)
    assert logged["model/flops_per_step"] == per_step
    assert logged["model/parameters"] == sum(parameter.numel() for parameter in module.model.parameters())


@pytest.mark.parametrize(
    ("options", "message"), [({"flops": 1, "tokens": 1}, "not in both"), ({"tokens": 0}, "must be positive")]
)
def test_budget__bad_input(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        ComputeBudget(**options)
