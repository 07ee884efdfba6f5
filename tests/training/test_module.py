"""Training as Lightning runs it."""

import math
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from nextconcept import InputError, NextConceptModel
from nextconcept.data.text import TextDataModule
from nextconcept.data.token_cache import SplitConfig
from nextconcept.training.callbacks import (
    ComputeBudget,
    ConceptProgressBar,
    FiniteGradients,
    InterventionTable,
    LastCheckpoint,
    PlanView,
    StoreModelMetadata,
    TensorBoardLayout,
    WritingSamples,
)
from nextconcept.training.losses import LossConfig, compute_losses
from nextconcept.training.module import ConceptModule
from nextconcept.training.optim import OptimizerConfig
from tests.helpers import StopAt, data_of, module_of, small_config, trainer_of, weights_after


@pytest.mark.parametrize(
    ("levels", "chunk", "similar"),
    [pytest.param(1, 4, 0, marks=pytest.mark.slow), (2, 4, 0.8), pytest.param(4, 2, 0.4, marks=pytest.mark.slow)],
)
def test_training__overfits_one_batch(levels: int, chunk: int, similar: float):
    """Memorising 128 random tokens takes a working path from every token to every weight."""
    torch.manual_seed(0)
    model = NextConceptModel(small_config(levels=levels, width=64, chunk_size=chunk))
    tokens, mask = torch.randint(64, (4, 33)), torch.ones(4, 33, dtype=torch.bool)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(260):
        losses = compute_losses(LossConfig(), model, model(tokens[:, :-1]), tokens, mask)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert losses.tokens < 0.15
    for terms in losses.concepts.values():
        assert terms.similarity.min() > similar


def test_validation__reports_every_source_and_horizon_step(corpus: Path, tmp_path: Path):
    data, module = data_of(corpus, levels=3), module_of(levels=3)
    for name, parameter in module.named_parameters():
        if ".gates." in name:
            torch.nn.init.normal_(parameter)
    (logged,) = trainer_of(tmp_path, -1).validate(module, data, verbose=False)
    expected = {"val/loss"}
    expected |= {f"val/plan_l1/right_at_{place}" for place in (1, 2, 3, 4)}
    levels = ("", "_l1", "_l2")
    for suffix in ("", *(f"_{source}{level}" for source in ("zero", "shuffled", "oracle") for level in levels)):
        expected |= {f"val/loss/tokens{suffix}", f"val/bits_per_byte{suffix}"}
    for level in (1, 2):
        expected.add(f"val/loss/concepts_l{level}")
        expected |= {
            f"val/collapse_l{level}/{name}"
            for name in ("effective_rank_plan", "effective_rank_target", "variance_ratio")
        }
        expected |= {
            f"val/concepts_l{level}/{term}/step_{step}" for term in ("cosine", "similarity") for step in (1, 2)
        }
    assert set(logged) == expected
    assert logged["val/bits_per_byte"] == pytest.approx(logged["val/loss/tokens"] / math.log(2), rel=0.01)

    nats, count = 0.0, 0
    with torch.no_grad():
        for tokens, mask, _ in data.val_dataloader():
            logits = module.model(tokens[:, :-1], "zero").logits
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
            nats, count = nats + losses[mask[:, 1:]].sum().item(), count + mask[:, 1:].sum().item()
    assert logged["val/loss/tokens_zero"] == pytest.approx(nats / count, rel=1e-5)
    assert logged["val/loss/tokens_zero"] != pytest.approx(logged["val/loss/tokens"], rel=1e-3)


def test_bits_per_byte__counts_the_bytes_of_bpe_tokens(corpus: Path, tmp_path: Path):
    data = data_of(corpus, tokenizer="bpe", vocab_size=280)
    module = ConceptModule(small_config(vocab_size=280, context_length=32))
    (logged,) = trainer_of(tmp_path, -1).validate(module, data, verbose=False)
    tokens = torch.cat([tokens[:, 1:][mask[:, 1:]] for tokens, mask, _ in data.val_dataloader()]).numpy()
    ratio = data.tokenizer.byte_counts()[tokens].sum() / len(tokens)
    assert ratio > 1.5
    assert logged["val/bits_per_byte"] == pytest.approx(logged["val/loss/tokens"] / math.log(2) / ratio, rel=1e-5)


def test_predict__gives_the_surprisal_of_each_token(corpus: Path, tmp_path: Path):
    data, module = data_of(corpus), module_of()
    predictions = trainer_of(tmp_path, -1).predict(module, data)
    nats = torch.cat([part["nats"] for part in predictions])
    (logged,) = trainer_of(tmp_path, -1).test(module, data, verbose=False)
    assert logged["test/loss/tokens"] == pytest.approx(nats.nanmean().item(), rel=1e-5)


@pytest.mark.parametrize("command", ["validate", "test"])
def test_evaluation__draws_the_same_noise_each_time(command: str, corpus: Path, tmp_path: Path):
    """A resumed run has another state of the generator that energy scores draw their noise from."""
    config = small_config(vocab_size=256, context_length=32, horizon=2, planner__noise_width=4)
    module = ConceptModule(config, LossConfig({"energy": 1.0}))
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        found += getattr(trainer_of(tmp_path, -1, limit_val_batches=2, limit_test_batches=2), command)(
            module, data_of(corpus), verbose=False
        )
    assert found[0] == found[1]


@pytest.mark.filterwarnings("ignore:.*dirpath has changed.*")
@pytest.mark.parametrize(
    ("stop", "shape", "limits"),
    [
        pytest.param(7, {}, {}, id="mid-epoch"),
        pytest.param(37, {}, {}, id="at its end", marks=pytest.mark.slow),
        pytest.param(39, {}, {}, id="in the next"),
        pytest.param(7, {"chunking": ["words"]}, {}, id="words"),
        pytest.param(7, {}, {"precision": "64-true"}, id="double precision"),
        pytest.param(7, {}, {"max_epochs": 2}, id="limited epochs, mid-epoch", marks=pytest.mark.slow),
        pytest.param(39, {}, {"max_epochs": 2}, id="limited epochs, in the next", marks=pytest.mark.slow),
    ],
)
def test_resume__equals_uninterrupted(corpus: Path, tmp_path: Path, stop: int, shape: dict, limits: dict):
    """An epoch has 37 batches; a resumed run has the same weights, wherever it stopped."""

    def trainer(name: str, steps: int) -> L.Trainer:
        last = LastCheckpoint(every_n_train_steps=stop)
        last.dirpath = str(tmp_path / name)
        callbacks = [StoreModelMetadata(), last]
        options = {"callbacks": callbacks, "enable_checkpointing": True, "limit_val_batches": 0, **limits}
        return trainer_of(tmp_path / name, steps, **options)

    whole = weights_after(trainer("whole", 41), module_of(**shape), data_of(corpus))
    # The schedule needs to know the planned length, so the first part is stopped from outside.
    first = trainer("first", 41)
    first.callbacks.append(StopAt(stop))
    weights_after(first, module_of(**shape), data_of(corpus))
    path = tmp_path / "first" / "last.ckpt"
    torch.manual_seed(123)
    resumed = weights_after(trainer("second", 41), module_of(**shape), data_of(corpus), path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.filterwarnings("ignore:.*dirpath has changed.*", "ignore:.*Swapping scheduler.*")
@pytest.mark.filterwarnings("ignore:.*exists and is not empty.*", "ignore:SWA is.*")
def test_resume__with_stochastic_weight_averaging(corpus: Path, tmp_path: Path):
    """Which has put its own schedule in place of ours."""

    def fit(stop: int, path: Path | None) -> L.Trainer:
        last = LastCheckpoint(every_n_train_steps=3)
        last.dirpath = str(tmp_path)
        averaging = StochasticWeightAveraging(1e-3, swa_epoch_start=1, annealing_epochs=2)
        options = {"max_epochs": 4, "limit_train_batches": 4, "limit_val_batches": 0, "enable_checkpointing": True}
        trainer = trainer_of(tmp_path, -1, callbacks=[StoreModelMetadata(), averaging, StopAt(stop), last], **options)
        trainer.fit(module_of(), data_of(corpus), ckpt_path=path, weights_only=True)
        return trainer

    fit(9, None)
    assert fit(99, tmp_path / "last.ckpt").global_step == 16


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning", "ignore:.*dirpath has changed.*")
def test_resume__goes_on_with_its_own_seed(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Windows and noise are those of the run, although what resumes it has another seed."""

    def run(name: str, seed: int, stop: int | None = None, path: Path | None = None) -> dict:
        monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
        last = LastCheckpoint(every_n_train_steps=3)
        last.dirpath = str(tmp_path / name)
        callbacks = [last, *([StopAt(stop)] if stop else [])]
        options = {"callbacks": callbacks, "enable_checkpointing": True, "limit_val_batches": 0}
        config = small_config(vocab_size=256, context_length=32, planner__noise_width=4)
        data = TextDataModule(str(corpus), batch_size=4, context_length=32, split=SplitConfig("contiguous", 0.1, 0.1))
        torch.manual_seed(0)
        module = ConceptModule(config, LossConfig({"energy": 1.0}))
        return weights_after(trainer_of(tmp_path / name, 6, **options), module, data, path)

    whole, _ = run("whole", 5), run("first", 5, stop=3)
    with pytest.warns(
        UserWarning, match="goes on with the training windows of its own seed, 5, and not with those of 0"
    ):
        resumed = run("second", 0, path=tmp_path / "first" / "last.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_training__draws_every_phase_of_chunks_that_end_with_the_text(corpus: Path, tmp_path: Path):
    module, offsets = module_of(encoder__chunk_alignment="end"), []
    forward = module.model.forward

    def spy(tokens: torch.Tensor, plan: str = "predicted", offset: int | None = None):
        offsets.append(offset)
        return forward(tokens, plan, offset)

    module.model.forward = spy
    trainer_of(tmp_path, 24, limit_val_batches=0).fit(module, data_of(corpus))
    assert set(offsets) == {0, 1, 2, 3}


def test_init__level_weights_too_few():
    with pytest.raises(InputError, match="no value for concept level 2"):
        ConceptModule(small_config(levels=3), LossConfig(level_weight=[0.1]))


def test_init__no_such_plan():
    with pytest.raises(InputError, match="unknown plan source 'zer': choose predicted, zero"):
        ConceptModule(small_config(), train_plan="zer")


def test_plain_loader__a_bare_trainer_fits_validates_tests_and_predicts(tmp_path: Path):
    module, windows = module_of(levels=3), torch.randint(256, (8, 33))
    loader = DataLoader(windows, batch_size=4)
    trainer = trainer_of(tmp_path, 4, log_every_n_steps=1)
    trainer.fit(module, loader, loader)
    assert trainer.global_step == 4
    assert "val/loss/tokens_shuffled" in trainer.callback_metrics
    assert "train/bits_per_byte" not in trainer.callback_metrics
    (validated,), (tested,) = (run(module, loader, verbose=False) for run in (trainer.validate, trainer.test))
    assert tested["test/loss/tokens"] == validated["val/loss/tokens"]
    predictions = trainer.predict(module, DataLoader(TensorDataset(windows), batch_size=4))
    assert torch.equal(torch.cat([part["tokens"] for part in predictions]), windows[:, 1:])
    nats = torch.cat([part["nats"] for part in predictions])
    assert nats.mean().item() == pytest.approx(tested["test/loss/tokens"], rel=1e-5)


def test_plain_loader__callbacks_do_without_a_data_module(tmp_path: Path):
    last = LastCheckpoint()
    callbacks = [StoreModelMetadata(), ComputeBudget(), FiniteGradients(), InterventionTable(), PlanView(), last]
    callbacks += [TensorBoardLayout(), WritingSamples(max_new_tokens=2), ConceptProgressBar()]
    options = {"enable_checkpointing": True, "enable_progress_bar": True, "logger": TensorBoardLogger(tmp_path)}
    trainer = trainer_of(tmp_path, 2, callbacks=callbacks, log_every_n_steps=1, **options)
    loader = DataLoader(torch.randint(256, (8, 33)), batch_size=4)
    trainer.fit(module_of(), loader, loader)
    checkpoint = torch.load(last.best_model_path, weights_only=True)
    assert checkpoint["nextconcept"]["config"]["context_length"] == 32
    assert checkpoint["nextconcept_compute"]["tokens"] == 2 * 4 * 32
    with pytest.raises(InputError, match="give a ConceptDataModule, or max_steps"):
        trainer_of(tmp_path, 2, callbacks=[ComputeBudget(tokens=100)]).fit(module_of(), loader, loader)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"loss": {"terms": {"cosine": 1.0}}}, "loss must be of the class LossConfig, not {"),
        ({"optimizer": "adamw"}, "optimizer must be of the class OptimizerConfig, not 'adamw'"),
        ({"objective": "own.Objective"}, "objective must be a class or function that makes one of a model, not 'own"),
        ({"encoder": "own.Encoder"}, "the encoder of a model is a subclass of ConceptEncoder, not 'own.Encoder'"),
    ],
)
def test_init__a_setting_of_another_type(setting: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        ConceptModule(small_config(), **setting)


def test_plain_loader__a_bad_batch_is_refused(tmp_path: Path):
    loader = DataLoader(torch.full((8, 33), 256), batch_size=4)
    with pytest.raises(InputError, match="holds token id 256"):
        trainer_of(tmp_path, 2, log_every_n_steps=1).fit(module_of(), loader, loader)


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        ({}, {"levels": 3}, "the data has levels 2, but the model has 3"),
        ({"chunk_size": 2}, {}, "the data has chunk_size 2, but the model has 4"),
        ({"context_length": 16}, {}, "the data has context_length 16, but the model has 32"),
        ({"tokenizer": "bpe", "vocab_size": 300}, {}, "a vocabulary of 300 tokens, but the model knows 256"),
    ],
)
def test_prepare_data__data_that_does_not_fit_the_model(
    corpus: Path, tmp_path: Path, data: dict, model: dict, message: str
):
    folder = tmp_path / "run"
    logger = TensorBoardLogger(folder)
    with pytest.raises(InputError, match=message):
        trainer_of(folder, 2, logger=logger).fit(module_of(**model), data_of(corpus, **data))
    assert not folder.exists()


def test_prepare_data__a_model_without_concepts_fits_any_levels(corpus: Path, tmp_path: Path):
    trainer_of(tmp_path, 1, limit_val_batches=0).fit(module_of(levels=1), data_of(corpus, levels=3))


def test_settings__of_one_module_do_not_change_another():
    first = ConceptModule(small_config())
    first.loss.terms["mse"], first.optimizer_config.lr = 5.0, 1.0
    second = ConceptModule(small_config())
    assert (second.loss, second.optimizer_config) == (LossConfig(), OptimizerConfig())


class Broken(L.Callback):
    def on_validation_batch_end(self, *_: object) -> None:
        raise RuntimeError("stopped")


def test_validation__is_not_changed_by_one_that_was_broken_off(tmp_path: Path):
    module, rows = ConceptModule(small_config()), torch.randint(64, (4, 33))
    rows[:2] = 0
    loader = DataLoader(TensorDataset(rows), batch_size=2)

    def measure() -> float:
        return trainer_of(tmp_path, -1).validate(module, loader, verbose=False)[0]["val/loss/tokens"]

    found = measure()
    with pytest.raises(RuntimeError, match="stopped"):
        trainer_of(tmp_path, -1, callbacks=[Broken()]).validate(module, loader, verbose=False)
    assert measure() == found
