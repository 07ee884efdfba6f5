from pathlib import Path

import torch

from nextconcept.training.callbacks import GrowthWarmup
from tests.helpers import data_of, module_of, trainer_of


def test_on_fit_start__a_model_that_never_grew_is_not_frozen_after_one_that_did(corpus: Path, tmp_path: Path):
    warmup, module = GrowthWarmup(freeze_steps=100), module_of()
    warmup.shapes = {name: list(weight.shape) for name, weight in module.model.named_parameters()}
    before = {name: weight.detach().clone() for name, weight in module.model.named_parameters()}
    trainer_of(tmp_path, 2, callbacks=[warmup], limit_val_batches=0).fit(module, data_of(corpus))
    assert warmup.shapes == {}
    assert any(not torch.equal(weight, before[name]) for name, weight in module.model.named_parameters())
