"""Runs that go on, runs that are measured, and the folders that they own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from filelock import FileLock

from nextconcept.cli.main import main
from nextconcept.cli.stored_settings import GivenSettings
from tests.helpers import fails

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*")

RUN = Path("logs/tiny/version_0")


def train(config: Path, *options: object) -> None:
    main(["fit", "--config", str(config), *map(str, options)])


def checkpoint(run: Path, name: str = "last") -> dict:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)


def files(folder: str = ".") -> set[str]:
    return {
        str(path) for path in Path(folder).rglob("*") if path.name != ".lock" and not {"cache", "hf"} & set(path.parts)
    }


def test_training_goes_on_from_the_last_checkpoint_and_evaluation_takes_the_best(
    config: Path, capsys: pytest.CaptureFixture
):
    train(config)
    assert (checkpoint(RUN, "best")["global_step"], checkpoint(RUN)["global_step"]) == (4, 6)
    for path in ("logs/tiny", RUN):
        capsys.readouterr()
        train(config, "--ckpt_path", path, "--trainer.max_steps", 7)
        assert f"fit goes on from {RUN}/checkpoints/last.ckpt" in capsys.readouterr().err
        main(["validate", "--config", str(config), "--ckpt_path", str(RUN)])
        assert f"validate measures {RUN}/checkpoints/best.ckpt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("limits", "note"),
    [
        (("--trainer.max_steps", 6), "has made 6 steps of training, .* set trainer.max_steps above 6"),
        (("--budget.tokens", 768), "has spent 768 tokens, .* give a larger --budget.tokens"),
    ],
)
def test_training_that_is_finished_is_said_to_be(config: Path, capsys: pytest.CaptureFixture, limits: tuple, note: str):
    train(config)
    train(config, "--ckpt_path", RUN, *limits)
    assert re.search(note, capsys.readouterr().err)


NOT_RESUMED: list[tuple[dict, tuple, str]] = [
    ({"optimizer_states": None}, (), "last.ckpt has weights alone, so that training can't go on where it was"),
    ({"optimizer_states": []}, (), "last.ckpt has weights alone"),
    ({"lr_schedulers": [{}]}, (), "last.ckpt is damaged, or of other code than this: its state can't be restored"),
    ({"callbacks": "x"}, (), "last.ckpt is damaged"),
    ({"hyper_parameters": 3}, (), "last.ckpt is damaged: what it says of the model can't be read"),
    ({"loops": {"fit_loop": 3}}, (), "last.ckpt is damaged: what it says"),
    ({"nextconcept_seed": "x"}, (), "last.ckpt is damaged: what it says"),
    ({"nextconcept_compute": {}}, (), "last.ckpt is damaged: what it says"),
    ({"global_step": float("nan")}, (), "last.ckpt is damaged: what it says"),
    ({"state_dict": {}}, (), "last.ckpt is damaged"),
]
"""What is changed in a checkpoint, how training is to go on, and why it does not."""


def test_training_does_not_go_on(config: Path, capsys: pytest.CaptureFixture):
    """Because the checkpoint does not hold what it takes."""
    train(config)
    path, whole = RUN / "checkpoints/last.ckpt", checkpoint(RUN)
    for change, limits, message in NOT_RESUMED:
        torch.save({name: value for name, value in (whole | change).items() if value is not None}, path)
        limits = limits or ("--trainer.max_steps", 9)
        told = fails(capsys, "fit", "--config", config, "--ckpt_path", path, *limits)
        assert re.search(message, told), (change, told)


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
@pytest.mark.parametrize("name", ["last", "best"])
def test_evaluation__of_a_run_that_does_not_exist(config: Path, capsys: pytest.CaptureFixture, command: str, name: str):
    before = files()
    assert f"there is no {name}.ckpt" in fails(capsys, command, "--config", config, "--ckpt_path", name)
    assert files() == before


def test_evaluation__leaves_the_run_as_it_was(config: Path):
    train(config)
    before, settings = files(), (RUN / "config.yaml").read_text()
    for command in ("validate", "test"):
        for path in ("last", "best", "logs/tiny"):
            main([command, "--config", str(config), "--ckpt_path", path])
    assert files() == before
    main(["predict", "--config", str(config), "--ckpt_path", "logs/tiny"])
    assert files() - before == {str(RUN / "surprisal_rank0.safetensors")}
    assert (RUN / "config.yaml").read_text() == settings
    # A logger that is asked for is used.
    main(["validate", "--config", str(config), "--ckpt_path", str(RUN), "--trainer.logger.init_args.name", "final"])
    assert list(Path("logs/final").glob("version_0/events*"))


def test_config__trains_the_run_anew(config: Path):
    train(config, "--ckpt_path", "last")
    train(config, "--ckpt_path", "last", "--trainer.max_steps", 8, "--trainer.logger.init_args.version", "version_0")
    assert checkpoint(RUN)["global_step"] == 8
    before = (RUN / "checkpoints" / "last.ckpt").read_bytes()
    saved = yaml.safe_load((RUN / "config.yaml").read_text())
    assert saved["trainer"]["max_steps"] == 8
    assert saved["ckpt_path"] is None
    logger = saved["trainer"]["logger"]["init_args"]
    assert (logger["version"], logger["purge_step"]) == (None, None)
    train(RUN / "config.yaml")
    assert (RUN / "checkpoints" / "last.ckpt").read_bytes() == before
    anew = checkpoint(Path("logs/tiny/version_1"))
    assert anew["global_step"] == 8
    assert yaml.safe_load(Path("logs/tiny/version_1/config.yaml").read_text()) == saved


def test_version__goes_on_in_that_run_or_is_refused(config: Path, capsys: pytest.CaptureFixture):
    mine = ("--trainer.logger.init_args.version", "mine")
    train(config, *mine, "--ckpt_path", "last")
    run = Path("logs/tiny/mine")
    train(config, *mine, "--ckpt_path", "last", "--trainer.max_steps", 8)
    assert checkpoint(run)["global_step"] == 8
    assert "mine holds a run already" in fails(capsys, "fit", "--config", config, *mine)
    train(config, "--ckpt_path", "last", "--trainer.max_steps", 9)
    assert checkpoint(run)["global_step"] == 9
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    assert "there is no last.ckpt" in fails(capsys, "fit", "--config", config, *mine, "--ckpt_path", "last")
    assert not Path("logs/tiny/version_0").exists()


def test_owner__a_run_that_another_process_writes_is_refused(config: Path, capsys: pytest.CaptureFixture):
    train(config)
    with FileLock(RUN / ".lock"):
        refused = fails(capsys, "fit", "--config", config, "--ckpt_path", "last", "--trainer.max_steps", 9)
    assert "another process is training in logs/tiny/version_0" in refused
    assert checkpoint(RUN)["global_step"] == 6


def test_owner__a_run_that_is_refused_leaves_no_folder(config: Path, capsys: pytest.CaptureFixture):
    Path("few.txt").write_text("".join(f"line {number}\n" for number in range(200)))
    split = ["--data.split.by", "document"]
    sentence = fails(capsys, "fit", "--config", config, "--data.dataset", "few.txt", *split)
    assert "the val split of 'few.txt' is empty" in sentence
    assert not Path("logs").exists()
    main(["fit", "--config", str(config), "--data.dataset", "few.txt", *split, "--trainer.limit_val_batches", "0"])
    assert Path("logs/tiny/version_0/config.yaml").exists()


@pytest.mark.slow
def test_owner__runs_that_begin_together_have_folders_of_their_own(config: Path):
    command = [sys.executable, "-m", "nextconcept", "fit", "--config", str(config), "--trainer.max_steps", "1"]
    processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    for version in range(3):
        run = Path(f"logs/tiny/version_{version}")
        assert checkpoint(run)["global_step"] == 1
        assert len(list(run.glob("events*"))) == 1


@pytest.mark.slow
def test_logger_false__leaves_nothing_in_the_working_directory(config: Path, capsys: pytest.CaptureFixture):
    before = files()
    train(config, "--trainer.logger", "false")
    assert files() == before
    assert "a run has no folder" in capsys.readouterr().err
    train(config, "--trainer.logger", "false", "--trainer.default_root_dir", "here")
    assert {"here/config.yaml", "here/checkpoints/last.ckpt", "here/checkpoints/best.ckpt"} <= files()


@pytest.mark.slow
def test_notes__name_other_data_and_nothing_that_is_the_same(config: Path, corpus: Path, capsys: pytest.CaptureFixture):
    one_level = ("--model.config.levels", 1, "--model.config.depth", "[1, 2]")
    train(config, *one_level)
    capsys.readouterr()
    train(config, *one_level, "--ckpt_path", RUN, "--trainer.max_steps", 7)
    assert "not" not in capsys.readouterr().err.replace(str(RUN), "")
    other = corpus.with_name("other.txt")
    other.write_text(corpus.read_text() * 2)
    main(["validate", "--config", str(config), "--ckpt_path", str(RUN), "--data.dataset", str(other)])
    assert f"trained on: dataset is {other}, not {corpus}." in capsys.readouterr().err
    main(["validate", "--config", str(config), "--ckpt_path", str(RUN), "--data.split.val", "0.2"])
    assert "trained on: split is {'by': 'contiguous', 'val': 0.2" in capsys.readouterr().err


@pytest.mark.slow
def test_settings__of_optimizer_and_loss_change_when_a_run_goes_on(config: Path, capsys: pytest.CaptureFixture):
    train(config, "--model.optimizer.lr", "4e-3", "--model.optimizer.warmup_steps", 2)
    capsys.readouterr()
    changes = ("--model.optimizer.lr=1e-3", "--model.optimizer.betas", "[0.8, 0.9]", "--model.loss.level_weight", 0.7)
    more = (*changes, "--model.optimizer", "{weight_decay: 0.3}", "--trainer.max_steps", 8, "--ckpt_path", RUN)
    train(config, *more)
    said = capsys.readouterr().err
    assert "model.optimizer.lr is 0.001 now; the checkpoint had 0.004" in said
    assert "warmup_steps" not in said
    stored = checkpoint(Path("logs/tiny/version_1"))
    muon, *adamw = stored["optimizer_states"][0]["param_groups"]
    assert (muon["initial_lr"], muon["weight_decay"]) == (2.5e-3, 0.3)
    assert all(group["betas"] == (0.8, 0.9) for group in adamw)
    assert [group["weight_decay"] for group in adamw] == [0.3] * (len(adamw) - 1) + [0.0]
    assert adamw[-1]["lr"] <= adamw[-1]["initial_lr"] == 1e-3
    assert stored["lr_schedulers"][0]["base_lrs"] == [group["initial_lr"] for group in (muon, *adamw)]
    settings = stored["hyper_parameters"]
    assert (settings["optimizer"]["lr"], settings["optimizer"]["warmup_steps"]) == (1e-3, 2)
    assert settings["loss"]["level_weight"] == 0.7


@pytest.mark.slow
def test_fit__another_optimizer_can_not_go_on(config: Path, capsys: pytest.CaptureFixture):
    train(config)
    more = ("--model.optimizer.optimizer", "adamw", "--trainer.max_steps", 8, "--ckpt_path", RUN)
    said = fails(capsys, "fit", "--config", config, *more)
    assert "trained with another optimizer than adamw: resume with --model.optimizer.optimizer muon" in said


def test_settings__of_another_model_are_refused(config: Path, capsys: pytest.CaptureFixture):
    train(config, "--trainer.max_steps", 1)
    for options, sentence in (
        (["--model.config.width", "64"], "has model.config.width 32, not 64"),
        (["--model.config", "{width: 64}"], "has model.config.width 32, not 64"),
        (["--model.config.depth=2"], "has model.config.depth 1, not 2"),
        (["--model.config.horizon", "4"], "has model.config.horizon 2, not 4"),  # the default
        (["--model.config.block.norm", "layer"], "has model.config.block.norm rms, not layer"),
        (["--model.config.levels", "1"], "has model.config.levels 2, not 1"),
        (["--model.encoder", "tests.helpers.Doubling"], "has the encoder ConceptEncoder, not Doubling"),
        (["--model.init_from", "logs/tiny"], "goes on from --ckpt_path or begins with"),
    ):
        for command in ("fit", "validate"):
            assert sentence in fails(capsys, command, "--config", config, "--ckpt_path", "logs/tiny", *options)


def test_settings__that_say_what_is_stored_are_accepted(config: Path, capsys: pytest.CaptureFixture):
    train(config, "--trainer.max_steps", 1, "--model.config.depth", 2)
    capsys.readouterr()
    main(["validate", "--config", str(config), "--ckpt_path", "logs/tiny", "--model.config.width", "32"])
    assert "model.config.depth is that of the trained model, 2, not 1" in capsys.readouterr().err


WORKING = {
    "overfit_batches": "2",
    "enable_checkpointing": "false",
    "fast_dev_run": "true",
    "val_check_interval": "1000",
    "limit_val_batches": "0",
    "limit_train_batches": "1",
    "accumulate_grad_batches": "2",
    "profiler": "simple",
    "inference_mode": "false",
    "reload_dataloaders_every_n_epochs": "1",
}


@pytest.mark.slow
@pytest.mark.parametrize("flag", WORKING)
def test_flags_of_the_trainer__work(config: Path, flag: str):
    quick = ("--sample.max_new_tokens", 0, "--plan_view.windows", 0, "--trainer.max_steps", 2)
    epochs = ("--trainer.check_val_every_n_epoch", 1)
    train(config, f"--trainer.{flag}", WORKING[flag], *quick, *epochs)
    kept = flag not in ("enable_checkpointing", "fast_dev_run")
    assert (RUN / "checkpoints" / "last.ckpt").exists() == kept


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("callbacks+", "lightning.pytorch.callbacks.LearningRateFinder", "LearningRateFinder changes settings"),
        ("callbacks+", "lightning.pytorch.callbacks.BatchSizeFinder", "BatchSizeFinder changes settings"),
        ("limit_train_batches", "0", "with trainer.limit_train_batches 0, nextconcept fit would do nothing"),
        ("val_check_interval", "0", "trainer.val_check_interval must be above 0"),
        ("check_val_every_n_epoch", "0", "trainer.check_val_every_n_epoch must be above 0"),
        ("accumulate_grad_batches", "0", "trainer.accumulate_grad_batches must be above 0"),
        ("accumulate_grad_batches", "-1", "trainer.accumulate_grad_batches must be above 0"),
        ("val_check_interval", "-0.5", "trainer.val_check_interval must be above 0"),
        ("gradient_clip_val", "-1", "trainer.gradient_clip_val must be 0 or more"),
        ("gradient_clip_val", ".nan", "trainer.gradient_clip_val must be 0 or more"),
        ("val_check_interval", ".nan", "trainer.val_check_interval must be above 0"),
        ("log_every_n_steps", "-1", "trainer.log_every_n_steps must be 0 or more"),
        ("accelerator", "tpu", "torch_xla"),
        ("barebones", "true", "barebones"),
        ("strategy", "nonsense", "invalid strategy name"),
        ("max_time", "nonsense", "not a valid duration"),
        ("devices", "0", "not a valid input"),
    ],
)
def test_flags_of_the_trainer__refused(
    config: Path, capsys: pytest.CaptureFixture, flag: str, value: str, sentence: str
):
    assert sentence in fails(capsys, "fit", "--config", config, f"--trainer.{flag}", value)
    assert not Path("logs").exists()


def test_limits__a_command_that_would_read_nothing(config: Path, capsys: pytest.CaptureFixture):
    for command, limit in (("validate", "val"), ("test", "test"), ("predict", "predict")):
        told = fails(capsys, command, "--config", config, f"--trainer.limit_{limit}_batches", 0)
        assert f"with trainer.limit_{limit}_batches 0, nextconcept {command} would do nothing" in told


def test_callbacks__what_lightning_refuses_of_them(config: Path, capsys: pytest.CaptureFixture):
    best = "[{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {monitor: val/loss/tokens}}]"
    assert "set --best.save_top_k" in fails(capsys, "fit", "--config", config, "--trainer.callbacks", best)
    stopping = "[{class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {monitor: val/nosuch}}]"
    assert "val/nosuch" in fails(capsys, "fit", "--config", config, "--trainer.callbacks", stopping)
    unequal = (
        "[{class_path: lightning.pytorch.callbacks.GradientAccumulationScheduler, init_args: {scheduling: {0: 2}}}]"
    )
    budget = ("--budget.tokens", 1e4, "--trainer.callbacks", unequal)
    assert "a budget needs steps of one size" in fails(capsys, "fit", "--config", config, *budget)


def test_init_from__takes_no_other_shape(config: Path, capsys: pytest.CaptureFixture):
    train(config, "--model.config.levels", 1)
    without = yaml.safe_load(config.read_text())
    del without["model"]
    config.write_text(yaml.safe_dump(without))
    for option, value in (("--model.config.levels", "2"), ("--model.config.block.post_norm", "true")):
        start = ("--model.init_from", str(RUN), option, value)
        assert "leave out what differs of model.config" in fails(capsys, "fit", "--config", str(config), *start)


@pytest.mark.slow
def test_settings_of_training__may_change_when_a_model_goes_on(config: Path, capsys: pytest.CaptureFixture):
    """They change no weight and no output."""
    train(config, "--trainer.max_steps", 1)
    given = ["--model.config.dropout", 0.25, "--model.config.planner.detach", "true"]
    train(config, *given, "--ckpt_path", "last", "--trainer.max_steps", 2)
    notes = capsys.readouterr().err
    assert "model.config.dropout is 0.25 now; the checkpoint had 0.0." in notes
    assert "model.config.planner.detach is True now; the checkpoint had False." in notes
    kept = checkpoint(RUN)["nextconcept"]["config"]
    assert (kept["dropout"], kept["planner"]["detach"]) == (0.25, True)
    train(config, "--ckpt_path", "last", "--trainer.max_steps", 3)
    assert checkpoint(RUN)["nextconcept"]["config"]["dropout"] == 0.25  # which is not asked for again

    without = yaml.safe_load(config.read_text())
    without["model"] = {"config": {"block": {"gradient_checkpointing": True}}}
    config.write_text(yaml.safe_dump(without))
    begin = ("--model.init_from", RUN, "--model.config.dropout", 0.5, "--trainer.logger.init_args.name", "second")
    train(config, *begin, "--trainer.max_steps", 1)
    config_of_second = checkpoint(Path("logs/second/version_0"))["nextconcept"]["config"]
    assert config_of_second == {**kept, "dropout": 0.5, "block": {**kept["block"], "gradient_checkpointing": True}}


@pytest.mark.slow
def test_init_from__is_kept_by_the_run_that_goes_on(config: Path):
    train(config, "--trainer.max_steps", 1)
    start = ("--model.init_from", RUN, "--trainer.logger.init_args.name", "second")
    train(config, *start, "--ckpt_path", "last")
    train(config, *start, "--ckpt_path", "last", "--trainer.max_steps", 8)
    run = Path("logs/second/version_0")
    assert checkpoint(run)["global_step"] == 8
    assert checkpoint(run)["hyper_parameters"]["init_from"] == str(RUN)
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["init_from"] == str(RUN)


def test_evaluation__says_that_nothing_was_trained(config: Path, capsys: pytest.CaptureFixture):
    main(["validate", "--config", str(config)])
    assert "validate measures untrained weights: --ckpt_path names a run or an export." in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begun", "resumed", "where"),
    [((5, None), (7, None), "last"), ((5, 3), (0, 4), "checkpoint"), ((2, 2), (2, None), "last")],
)
@pytest.mark.filterwarnings("ignore:the run goes on with the training windows of its own seed")
def test_config__of_a_resumed_run_has_its_own_seeds(config: Path, begun: tuple, resumed: tuple, where: str):
    def options(seeds: tuple) -> list[object]:
        seed, of_data = seeds
        return ["--seed_everything", seed, *([] if of_data is None else ["--data.seed", of_data])]

    train(config, *options(begun), "--trainer.max_steps", 2)
    path = "last" if where == "last" else RUN / "checkpoints/last.ckpt"
    train(config, *options(resumed), "--trainer.max_steps", 4, "--ckpt_path", path)
    run = RUN if where == "last" else RUN.with_name("version_1")
    stored = yaml.safe_load((run / "config.yaml").read_text())
    seed, of_data = begun
    assert stored["seed_everything"] == seed
    found = stored["data"]["init_args"]["seed"]
    assert (seed if found is None else found) == (seed if of_data is None else of_data)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*dirpath has changed.*")
def test_corpus__with_another_content_is_warned_of(config: Path, corpus: Path):
    train(config, "--trainer.max_steps", 2)
    main(["validate", "--config", str(config), "--ckpt_path", str(RUN)])  # without a warning, which is an error here
    corpus.write_text(corpus.read_text().replace("fox", "cat"))
    with pytest.warns(UserWarning, match="corpus.txt' holds another text than when the model was trained"):
        main(["validate", "--config", str(config), "--ckpt_path", str(RUN)])
    with pytest.warns(UserWarning, match="corpus.txt' holds another text"):
        train(config, "--trainer.max_steps", 3, "--ckpt_path", RUN)


def test_given_settings__know_whether_data_were_given(tmp_path: Path):
    for name, content in (("data.yaml", "data: {init_args: {}}"), ("model.yaml", "model: {config: {}}")):
        (tmp_path / name).write_text(content)
    given = ["--data", "HubDataModule"], ["--data.dataset=x"], ["--config", str(tmp_path / "data.yaml")]
    assert all(GivenSettings.of(arguments).data for arguments in given)
    assert not GivenSettings.of(["--ckpt_path", "x", "--config", str(tmp_path / "model.yaml")]).data
