from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from nextconcept import InputError
from nextconcept.training.callbacks import LevelCurriculum
from nextconcept.training.losses import LossConfig, compute_losses
from nextconcept.training.module import ConceptModule
from nextconcept.training.optim import OptimizerConfig
from tests.helpers import data_of, module_of, small_config, trainer_of


def test_factor__starts_late_and_rises():
    curriculum = LevelCurriculum([0, 10], ramp=4)
    assert [curriculum.factor(1, step) for step in (0, 3, 4, 100)] == pytest.approx([0.2, 0.8, 1, 1])
    assert [curriculum.factor(2, step) for step in (0, 9, 10, 14)] == pytest.approx([0, 0, 0.2, 1])


def test_on_train_batch_start__a_waiting_level_has_no_loss_and_no_reader():
    torch.manual_seed(0)
    module = ConceptModule(small_config(levels=3))
    for name, parameter in module.named_parameters():
        if ".gates." in name:
            torch.nn.init.normal_(parameter)
    curriculum, tokens = LevelCurriculum([0, 10]), torch.randint(64, (2, 33))
    mask = torch.ones_like(tokens, dtype=torch.bool)

    def at(step: int) -> tuple[bool, torch.Tensor]:
        curriculum.on_train_batch_start(SimpleNamespace(global_step=step), module, None, 0)
        out = module.model(tokens[:, :-1])
        read = not torch.equal(module.model(tokens[:, :-1], {2: torch.zeros_like(out.plans[2])}).logits, out.logits)
        return read, compute_losses(LossConfig(), module.model, out, tokens, mask, module.level_factors())

    read, losses = at(0)
    assert not read
    torch.testing.assert_close(losses.total, losses.tokens + 0.3 * losses.concepts[1].total)
    read, losses = at(10)
    assert read
    both = losses.concepts[1].total + losses.concepts[2].total
    torch.testing.assert_close(losses.total, losses.tokens + 0.3 * both)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_fit__weights_of_a_waiting_level_stay_as_they_are(optimizer: str, corpus: Path, tmp_path: Path):
    config = small_config(levels=3, vocab_size=256, sharing="separate", reader__memory="anchor")
    settings = OptimizerConfig(optimizer=optimizer, weight_decay=0.5, warmup_steps=1)
    module = ConceptModule(config, LossConfig(), settings)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    data = data_of(corpus, context_length=config.context_length, levels=3)
    trainer_of(tmp_path, 3, callbacks=[LevelCurriculum([0, 3])], limit_val_batches=0).fit(module, data)
    waiting = ("model.predictors.2.", "model.transformers.2.")
    changed = {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}
    assert not [name for name in changed if name.startswith(waiting)]
    assert any(name.startswith("model.predictors.1.") for name in changed)
    trainer_of(tmp_path, 3, callbacks=[LevelCurriculum([0, 2])], limit_val_batches=0).fit(module, data)
    assert [n for n, value in module.named_parameters() if n.startswith(waiting) and not torch.equal(value, before[n])]


def test_init__bad():
    for start, ramp in (([-1], 0), ([1.5], 0), (5, 0), ([None], 0), ([0], "2"), ([True], 0)):
        with pytest.raises(InputError, match="takes a list of steps and a ramp, whole numbers of 0 or more"):
            LevelCurriculum(start, ramp)
    with pytest.raises(InputError, match="2 starts for 1 concept levels"):
        LevelCurriculum([0, 5]).on_fit_start(None, ConceptModule(small_config()))
    ungated = ConceptModule(small_config(reader__gated=False))
    LevelCurriculum([0]).on_fit_start(None, ungated)
    with pytest.raises(InputError, match="can't begin later in a model with reader.gated: false"):
        LevelCurriculum([5]).on_fit_start(None, ungated)


@pytest.mark.parametrize("stopped", [False, True])
def test_on_fit_end__a_later_fit_without_the_curriculum_trains_all_levels(stopped: bool, corpus: Path, tmp_path: Path):
    module = module_of()
    trainer = trainer_of(tmp_path / "a", 2, callbacks=[LevelCurriculum([100])], limit_val_batches=0)
    if stopped:
        trainer.callbacks.append(Failing())
    with pytest.raises(RuntimeError) if stopped else nullcontext():
        trainer.fit(module, data_of(corpus))
    assert set(module.level_factors().values()) == {1.0}
    trainer_of(tmp_path / "b", 3, limit_val_batches=0).fit(module, data_of(corpus))
    gates = [value for name, value in module.named_parameters() if ".gates." in name]
    assert any(bool(value.detach().any()) for value in gates)


class Failing(L.Callback):
    def on_train_batch_end(self, *_: object) -> None:
        raise RuntimeError("stopped")
