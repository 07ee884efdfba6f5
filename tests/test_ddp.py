"""Two processes do what one does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.processes import run_command

SHARDED = {
    "trainer.strategy": "lightning.pytorch.strategies.ModelParallelStrategy",
    "trainer.strategy.data_parallel_size": 2,
    "trainer.strategy.tensor_parallel_size": 1,
    "trainer.strategy.save_distributed_checkpoint": False,
    "trainer.inference_mode": False,
}
"""experiments/trainer/fsdp.yaml on two processes."""


def fit(
    folder: Path, corpus: Path, devices: int, sharing: str, launch: bool = False, **options: object
) -> subprocess.CompletedProcess[str]:
    """Train twenty steps of eight windows; ``launch`` leaves starting processes to Lightning."""
    arguments = {
        "model.config": "{levels: 3, width: 32, depth: 1, num_heads: 2, horizon: 2, context_length: 32, "
        f"sharing: {sharing}}}",
        "model.optimizer.warmup_steps": 1,
        "data.dataset": corpus,
        "data.batch_size": 8 // devices,
        "data.eval_batch_size": 4,
        "data.split": "{by: contiguous, val: 0.15, test: 0.1}",
        "sample.max_new_tokens": 5,
        "plan_view.windows": 0,
        "trainer.accelerator": "cpu",
        "trainer.devices": devices,
        "trainer.max_steps": 20,
        "trainer.log_every_n_steps": 1,
        "trainer.val_check_interval": 10,
        "trainer.check_val_every_n_epoch": "null",
        "trainer.logger": "lightning.pytorch.loggers.TensorBoardLogger",
        "trainer.logger.save_dir": folder,
        **options,
    }
    options = [part for name, value in arguments.items() if value is not None for part in (f"--{name}", str(value))]
    if launch:
        command = [sys.executable, "-m", "nextconcept", "fit", *options]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    return run_command(["fit", *options], folder, devices)


def train(
    folder: Path, corpus: Path, devices: int, sharing: str, name: str, launch: bool = False, **options: object
) -> tuple[dict[str, torch.Tensor], EventAccumulator, str]:
    """Weights, curves and what was printed of a fit called ``name``."""
    done = fit(folder, corpus, devices, sharing, launch, **{"trainer.logger.name": name, **options})
    assert done.returncode == 0, done.stderr
    run = folder / name / "version_0"
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return weights, EventAccumulator(str(run)).Reload(), done.stdout


ADAMW = {"model.optimizer.optimizer": "adamw", "model.optimizer.lr": 1e-3}


def assert_equal_weights(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]):
    for name, value in weights.items():
        torch.testing.assert_close(
            others[name], value, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_equal_runs(one: tuple, other: tuple):
    """Same weights, same curves, one process that prints."""
    (weights, events, said), (other_weights, other_events, other_said) = one, other
    assert_equal_weights(weights, other_weights)
    assert events.Tags()["scalars"] == other_events.Tags()["scalars"]
    for tag in events.Tags()["scalars"]:
        points = [[(event.step, event.value) for event in each.Scalars(tag)] for each in (events, other_events)]
        assert [step for step, _ in points[0]] == [step for step, _ in points[1]]
        # Shuffled plans depend on how rows are spread over batches.
        if tag.startswith(("val/loss/tokens", "train/loss", "train/tokens_seen")) and "shuffled" not in tag:
            expected = pytest.approx([value for _, value in points[0]], rel=1e-5)
            assert [value for _, value in points[1]] == expected
    assert other_said.count("val/loss/tokens") == said.count("val/loss/tokens"), "one process alone prints"


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
@pytest.mark.parametrize(
    ("sharing", "optimizer"), [("nested", ADAMW), ("separate", {})], ids=["nested with adamw", "separate with muon"]
)
def test_fit__two_processes_equal_one(tmp_path: Path, corpus: Path, sharing: str, optimizer: dict[str, object]):
    one = train(tmp_path, corpus, 1, sharing, "one", **optimizer)
    ddp = train(tmp_path, corpus, 2, sharing, "ddp", launch=bool(optimizer), **optimizer, **{"trainer.strategy": "ddp"})
    assert_equal_runs(one, ddp)
    assert_equal_runs(one, train(tmp_path, corpus, 2, sharing, "fsdp", **optimizer, **SHARDED))


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
def test_fit__an_objective_with_parameters_is_sharded_with_its_model(tmp_path: Path, corpus: Path):
    options = ADAMW | {
        "model.config": "{levels: 1, width: 32, depth: 1, num_heads: 2, context_length: 32}",
        "model.objective": "nextconcept.baselines.BeliefState",
        "model.objective.prompt": 20,
    }
    one = train(tmp_path, corpus, 1, "separate", "one", **options)
    assert any(name.startswith("objective.backward_encoder.") for name in one[0])
    assert_equal_runs(one, train(tmp_path, corpus, 2, "separate", "fsdp", **options, **SHARDED))


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
def test_fit__checkpoints_go_from_one_process_to_two_sharded_ones_and_back(tmp_path: Path, corpus: Path):
    constant = {"model.optimizer.min_lr_ratio": 1.0}  # so that the schedule does not depend on the number of steps
    half = constant | {"trainer.max_steps": 10}
    expected, *_ = train(tmp_path, corpus, 1, "nested", "whole", **constant)
    for before, devices, ways in (({}, 1, [(SHARDED, 2)]), (SHARDED, 2, [({}, 1), (SHARDED, 2)])):
        name = f"half_on_{devices}"
        train(tmp_path, corpus, devices, "nested", name, **half, **before)
        checkpoint = tmp_path / name / "version_0" / "checkpoints" / "last.ckpt"
        for after, rest in ways:
            options = constant | after | {"ckpt_path": checkpoint}
            found, *_ = train(tmp_path, corpus, rest, "nested", f"{name}_rest_on_{rest}", **options)
            assert_equal_weights(expected, found)


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
def test_fit__a_grown_model_continues_sharded(tmp_path: Path, corpus: Path):
    train(tmp_path, corpus, 1, "nested", "small", **{"trainer.max_steps": 10})
    checkpoint = tmp_path / "small" / "version_0" / "checkpoints" / "last.ckpt"
    run_command(["grow", "--source", checkpoint, "--output", "grown"], tmp_path).check_returncode()
    options = {"model.init_from": "grown", "grown.freeze_steps": 4, "grown.warmup_steps": 6}
    options["model.config"] = None  # it comes with the grown model
    one, *_ = train(tmp_path, corpus, 1, "nested", "one", **options)
    assert_equal_weights(one, train(tmp_path, corpus, 2, "nested", "two", **options, **SHARDED)[0])


NAMES = """
import json
import lightning as L

class Names(L.Callback):
    def on_validation_end(self, trainer, module):
        with open(f"names_{trainer.global_rank}.json", "a") as file:
            file.write(json.dumps(sorted(trainer.callback_metrics)) + chr(10))

    on_test_end = on_validation_end
"""
"""A module with a callback that notes the metrics of each process."""


def run_on_star_graphs(
    folder: Path, command: str, lines: int, batch: int, *options: str
) -> subprocess.CompletedProcess[str]:
    """Run a command on two processes with all callbacks; validation and test have so many lines."""
    (folder / "names.py").write_text(NAMES)
    arguments = {
        "model.config": "{levels: 2, chunk_size: 3, width: 16, depth: 1, num_heads: 2, sharing: separate, "
        "planner: {noise_width: 4}}",
        "data": "TaskDataModule",
        "data.task": "StarGraph",
        "data.task.arms": 2,
        "data.task.path_length": 3,
        "data.task.nodes": 9,
        "data.task.test_lines": lines,
        "data.batch_size": batch,
        "sample.max_new_tokens": 5,
        "trainer.accelerator": "cpu",
        "trainer.devices": 2,
        "trainer.strategy": "ddp",
        "trainer.max_steps": 2,
        "trainer.val_check_interval": 1,
        "trainer.check_val_every_n_epoch": "null",
        "trainer.log_every_n_steps": 1,
        "trainer.logger": "lightning.pytorch.loggers.CSVLogger",
        "trainer.logger.save_dir": folder / "logs",
        "trainer.callbacks+": "names.Names",
    }
    parts = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
    curriculum = ["--trainer.callbacks+", "nextconcept.training.callbacks.LevelCurriculum", "--trainer.callbacks.start"]
    return run_command([command, *parts, *curriculum, "[1]", *options], folder, 2)


def names_of(folder: Path, rank: int) -> list[str]:
    return (folder / f"names_{rank}.json").read_text().splitlines()


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
@pytest.mark.parametrize(
    ("lines", "batch", "shuffled", "commands"),
    [
        pytest.param(3, 2, False, ["test"], id="two rows and a single one"),
        pytest.param(5, 2, True, ["test", "predict"], id="two batches, one of a single row, and one batch"),
        pytest.param(6, 8, True, [], id="even"),
    ],
)
def test_callbacks__two_processes_with_uneven_shares(
    tmp_path: Path, lines: int, batch: int, shuffled: bool, commands: list[str]
):
    """All processes log the same names, so that none waits for another; so does the test."""
    said = run_on_star_graphs(tmp_path, "fit", lines, batch)
    assert said.returncode == 0, said.stderr[-2000:]
    one, other = names_of(tmp_path, 0), names_of(tmp_path, 1)
    assert one == other
    assert "val/answer/exact" in json.loads(one[-1])
    assert ("val/answer/exact_shuffled" in json.loads(one[-1])) == shuffled
    run = tmp_path / "logs" / "lightning_logs" / "version_0"
    for command in commands:
        checkpoint = str(run / "checkpoints" / "last.ckpt")
        said = run_on_star_graphs(tmp_path, command, lines, batch, "--ckpt_path", checkpoint)
        assert said.returncode == 0, said.stderr[-2000:]
    assert names_of(tmp_path, 0) == names_of(tmp_path, 1)
    assert ("test/answer/exact" in json.loads(names_of(tmp_path, 0)[-1])) == ("test" in commands)
    assert len(list(tmp_path.glob("**/surprisal_rank*.safetensors"))) == 2 * ("predict" in commands)


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
@pytest.mark.parametrize("command", ["fit", "test"])
def test_callbacks__a_process_without_windows(tmp_path: Path, command: str):
    said = run_on_star_graphs(tmp_path, command, 1, 2)
    assert said.returncode == 2, said.stderr[-2000:]
    assert "Traceback" not in said.stderr
    assert said.stderr.count("split has 1 windows for 2 processes, and each process needs one") >= 1
