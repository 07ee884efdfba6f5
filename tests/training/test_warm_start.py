"""A grown run continues where the smaller one stopped."""

from pathlib import Path

import lightning as L
import pytest
import torch

from nextconcept import InputError
from nextconcept.checkpoints.files import load_run, read_checkpoint
from nextconcept.checkpoints.hub import save_pretrained
from nextconcept.cli.grow import grow as grow_command
from nextconcept.data.tokenizers import SymbolTokenizer
from nextconcept.training.callbacks import ComputeBudget, GrowthWarmup, LastCheckpoint, StoreModelMetadata
from nextconcept.training.losses import LossConfig
from nextconcept.training.module import ConceptModule
from nextconcept.training.optim import OptimizerConfig, make_optimizer
from nextconcept.training.warm_start import TrainingState, load_warm_start
from tests.helpers import StopAt, data_of, module_of, trainer_of

pytestmark = pytest.mark.filterwarnings("ignore:.*dirpath has changed.*")


def fit(folder: Path, corpus: Path, module: ConceptModule, *callbacks: L.Callback, **options: object) -> Path:
    """Train, and return the last checkpoint."""
    last = LastCheckpoint(every_n_train_steps=4)
    last.dirpath = str(folder)
    every = [StoreModelMetadata(), last, *callbacks]
    resumed = options.pop("ckpt_path", None)
    steps = options.pop("steps", 1000)
    trainer = trainer_of(folder, steps, callbacks=every, enable_checkpointing=True, limit_val_batches=0, **options)
    trainer.fit(module, data_of(corpus, levels=module.config.levels), ckpt_path=resumed, weights_only=True)
    return folder / "last.ckpt"


def module_from(path: Path) -> ConceptModule:
    config = load_warm_start(path).model.config
    return ConceptModule(config, LossConfig(), OptimizerConfig(lr=3e-3, warmup_steps=2), init_from=str(path))


@pytest.fixture
def grown(corpus: Path, tmp_path: Path) -> Path:
    """A model of two levels after five steps, grown by a level."""
    last = fit(tmp_path / "old", corpus, module_of(), ComputeBudget(), steps=5)
    grow_command(str(last), str(tmp_path / "grown"))
    return tmp_path / "grown"


@pytest.mark.parametrize("limits", [{"steps": 12}, {"steps": 12, "max_epochs": 9}], ids=str)
def test_fit__of_a_grown_model_goes_on(grown: Path, corpus: Path, tmp_path: Path, limits: dict[str, int]):
    """Steps, windows, compute and moments go on; the resumed run equals the uninterrupted one."""
    old = read_checkpoint(tmp_path / "old" / "last.ckpt")
    budget = ComputeBudget()
    whole = read_checkpoint(fit(tmp_path / "whole", corpus, module_from(grown), budget, **limits))
    assert whole["global_step"] == 12
    loader = [state["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]["windows"] for state in (old, whole)]
    assert loader == [5 * 4, 12 * 4]
    assert whole["nextconcept_compute"]["tokens"] == pytest.approx(12 * 4 * 32)
    spent = old["nextconcept_compute"]["flops"]
    assert whole["nextconcept_compute"]["flops"] == pytest.approx(spent + 7 * budget.flops_per_token * 4 * 32)
    assert whole["lr_schedulers"][0]["last_epoch"] == 7

    part = fit(tmp_path / "part", corpus, module_from(grown), ComputeBudget(), StopAt(8), **limits)
    module = module_from(grown)
    module.init_from = None  # as the command line does where a run is resumed
    rest = fit(tmp_path / "rest", corpus, module, ComputeBudget(), **limits, ckpt_path=part)
    resumed = read_checkpoint(rest)
    assert resumed["nextconcept_compute"] == whole["nextconcept_compute"]
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name])


def test_init_from__is_read_once(grown: Path, corpus: Path, tmp_path: Path):
    """What looks at the model after a fit finds the trained weights."""
    module = module_from(grown)
    fit(tmp_path / "fit", corpus, module, steps=7)
    trained = {name: value.clone() for name, value in module.state_dict().items()}
    trainer_of(tmp_path / "look", 1).validate(module, data_of(corpus, levels=3), verbose=False)
    for name, value in module.state_dict().items():
        assert torch.equal(value, trained[name]), name


def test_training_state__old_blocks_keep_their_moments(grown: Path, tmp_path: Path):
    path = tmp_path / "old" / "last.ckpt"
    old = TrainingState.of(read_checkpoint(path), load_run(path)[0], path)
    new = load_warm_start(grown)
    assert old.step == new.training.step == 5
    assert set(new.training.moments) == set(old.moments)
    for name, parameter in new.model.named_parameters():
        if name not in old.moments:
            assert name.startswith(("predictors.2.", "predictors.1.gates.", "encoder.token_prior"))
            continue
        before, after = old.moments[name], new.training.moments[name]
        by_muon = ".blocks." in name and parameter.dim() == 2
        assert set(before) == set(after) == ({"momentum_buffer"} if by_muon else {"step", "exp_avg", "exp_avg_sq"})
        for key in set(before) - {"step"}:
            block = tuple(slice(size) for size in before[key].shape)
            assert torch.equal(after[key][block], before[key])
            assert after[key].shape == parameter.shape
            rest = after[key].clone()
            rest[block] = 0
            assert not rest.any()
        assert by_muon or after["step"] == 5


def test_training_state__moments_of_another_optimizer_are_refused(grown: Path):
    start = load_warm_start(grown)
    optimizer = make_optimizer(OptimizerConfig(optimizer="adamw"), start.model)
    with pytest.raises(InputError, match="was trained with muon: continue with model.optimizer.optimizer muon"):
        start.training.restore_optimizer(optimizer, start.model)


def test_training_state__damaged_moments_are_refused(grown: Path, tmp_path: Path):
    start = load_warm_start(grown)
    name = next(iter(start.training.moments))
    start.training.moments[name].popitem()
    with pytest.raises(InputError, match="the training state of the grown model is damaged"):
        start.training.restore_optimizer(make_optimizer(OptimizerConfig(), start.model), start.model)
    path = tmp_path / "old" / "last.ckpt"
    checkpoint, (model, _) = read_checkpoint(path), load_run(path)
    for wrong in (3, torch.zeros(7)):
        checkpoint["optimizer_states"][0]["state"][0]["exp_avg"] = wrong
        with pytest.raises(InputError, match="last.ckpt has an optimizer's state of .* that can't grow with it"):
            TrainingState.of(checkpoint, model, path)


def test_budget__counts_what_the_smaller_model_spent(grown: Path, corpus: Path, tmp_path: Path):
    spent = load_warm_start(grown).training.flops
    last = fit(tmp_path / "new", corpus, module_from(grown), ComputeBudget(flops=10 * spent))
    assert read_checkpoint(last)["nextconcept_compute"]["flops"] == pytest.approx(10 * spent, rel=0.1)
    with pytest.raises(InputError, match="is spent"):
        fit(tmp_path / "none", corpus, module_from(grown), ComputeBudget(flops=spent))


def test_growth_warmup__freeze_old_blocks(grown: Path, corpus: Path, tmp_path: Path):
    start = load_warm_start(grown)
    frozen = read_checkpoint(fit(tmp_path / "a", corpus, module_from(grown), GrowthWarmup(freeze_steps=3), steps=8))
    thawed = read_checkpoint(fit(tmp_path / "b", corpus, module_from(grown), GrowthWarmup(freeze_steps=2), steps=8))
    name = "transformers.0.blocks.0.attention.query.weight"
    size = start.training.shapes[name][0]
    before = start.model.state_dict()[name]
    for checkpoint, same in ((frozen, True), (thawed, False)):
        after = checkpoint["state_dict"][f"model.{name}"]
        assert torch.equal(after[:size, :size], before[:size, :size]) is same
        assert not torch.equal(after[size:, size:], before[size:, size:])


def test_growth_warmup__warm_up_new_blocks(grown: Path, corpus: Path, tmp_path: Path):
    """One step: what is old moves as ever, what is new by a part of it."""
    start = load_warm_start(grown)
    plain = read_checkpoint(fit(tmp_path / "a", corpus, module_from(grown), steps=6))["state_dict"]
    warm = read_checkpoint(fit(tmp_path / "b", corpus, module_from(grown), GrowthWarmup(warmup_steps=9), steps=6))
    name = "transformers.0.blocks.0.attention.query.weight"
    size = start.training.shapes[name][0]
    before, plain, warm = start.model.state_dict()[name], plain[f"model.{name}"], warm["state_dict"][f"model.{name}"]
    assert torch.equal(plain[:size, :size], warm[:size, :size])
    assert torch.allclose((warm - before)[size:], (plain - before)[size:] / 10, atol=1e-7)


@pytest.mark.parametrize("options", [{"freeze_steps": -1}, {"warmup_steps": -1}])
def test_growth_warmup__bad_input(options: dict):
    with pytest.raises(InputError, match="0 or more"):
        GrowthWarmup(**options)


def test_init_from__another_shape_or_tokenizer(grown: Path, corpus: Path, tmp_path: Path):
    with pytest.raises(InputError, match="has another shape"):
        fit(tmp_path / "a", corpus, ConceptModule(module_of().config, init_from=str(grown)), steps=6)
    model = load_run(grown)[0]
    save_pretrained(model, SymbolTokenizer(["a", "b"]), tmp_path / "other")
    with pytest.raises(InputError, match="reads other tokens"):
        fit(tmp_path / "b", corpus, module_from(tmp_path / "other"), steps=6)


def test_load_warm_start__broken_training_state(grown: Path):
    (grown / "training.ckpt").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="grow the model again"):
        load_warm_start(grown)


@pytest.mark.parametrize(
    "wrong",
    [{"step": None}, {"loops": {}}, {"loops": None}, {"moments": None}, {"moments": {"a": {"b": 1}}}, {"shapes": [3]}],
    ids=str,
)
def test_load_warm_start__training_state_of_other_types(grown: Path, wrong: dict):
    file = grown / "training.ckpt"
    torch.save(torch.load(file, weights_only=True) | wrong, file)
    with pytest.raises(InputError, match="is broken: grow the model again"):
        load_warm_start(grown)


@pytest.mark.parametrize(("options", "made"), [({"steps": 5}, 5), ({"steps": 4}, 5)])
def test_fit__a_grown_model_without_steps_left(grown: Path, corpus: Path, tmp_path: Path, options: dict, made: int):
    with pytest.raises(InputError, match=f"has made {made} steps.*set trainer.max_steps above {made}"):
        fit(tmp_path / "new", corpus, module_from(grown), **options)


def test_grow__says_what_grew(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    last = fit(tmp_path / "old", corpus, module_of(levels=1), steps=1)
    grow_command(str(last), str(tmp_path / "grown"))
    assert "grew 1 level of width 32 (0.04 M parameters) to 2 levels of widths [32, 64]" in capsys.readouterr().out
