import re
from pathlib import Path

import lightning as L
import pytest
import torch

from nextconcept.core.errors import TrainingError
from nextconcept.training.callbacks import FiniteGradients, LastCheckpoint, StoreModelMetadata
from nextconcept.training.module import ConceptModule
from tests.helpers import data_of, module_of, small_config, trainer_of


class Poison(L.Callback):
    """Makes the head of level 1 predict NaN from a step on."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        if trainer.global_step == self.step:
            head = pl_module.model.predictors["1"].head
            self.handle = head.register_forward_hook(lambda module, args, plan: plan * float("nan"))


def test_nan__stops_with_step_level_windows_and_checkpoint(corpus: Path, tmp_path: Path):
    last = LastCheckpoint(every_n_train_steps=3)
    last.dirpath = str(tmp_path / "kept")
    callbacks = [StoreModelMetadata(), last, Poison(5), FiniteGradients()]
    trainer = trainer_of(tmp_path, 9, callbacks=callbacks, enable_checkpointing=True, limit_val_batches=0)
    module = module_of(levels=2)
    with pytest.raises(TrainingError) as stopped:
        trainer.fit(module, data_of(corpus, levels=2))
    message = str(stopped.value)
    assert re.search(r"step 5, on windows 20 to 23: .*concept loss of level 1 are not finite;", message)
    assert str(tmp_path / "kept" / "last.ckpt") in message
    assert torch.load(tmp_path / "kept" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_nan__is_seen_in_a_subclass_with_a_hook_of_its_own(corpus: Path, tmp_path: Path):
    class Own(ConceptModule):
        def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
            pass

    module = Own(small_config(vocab_size=256, context_length=32))
    trainer = trainer_of(tmp_path, 9, callbacks=[Poison(5), FiniteGradients()], limit_val_batches=0)
    with pytest.raises(TrainingError, match="step 5"):
        trainer.fit(module, data_of(corpus))


def test_overflow_of_the_gradient_alone(corpus: Path, tmp_path: Path):
    module = module_of()
    module.model.transformer(0).blocks[0].attention.out.weight.register_hook(lambda grad: grad * float("inf"))
    trainer = trainer_of(tmp_path, 2, callbacks=[FiniteGradients()], limit_val_batches=0)
    with pytest.raises(TrainingError, match="step 0, .*: the gradient is not finite; .*no checkpoint was saved yet"):
        trainer.fit(module, data_of(corpus))
