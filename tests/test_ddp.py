"""Two processes do what one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def train(
    folder: Path, corpus: Path, devices: int, sharing: str
) -> tuple[dict[str, torch.Tensor], EventAccumulator, str]:
    """Train twenty steps of eight windows on so many processes; weights, curves and what was printed."""
    arguments = {
        "model.config": f"{{levels: 3, width: 32, depth: 1, heads: 2, horizon: 2, context: 32, sharing: {sharing}}}",
        "model.optimizer.warmup_steps": 1,
        "data.dataset": corpus,
        "data.batch_size": 8 // devices,
        "data.eval_batch_size": 4,
        "data.split": "{by: contiguous, val: 0.15, test: 0.1}",
        "sample.max_new_tokens": 5,
        "trainer.accelerator": "cpu",
        "trainer.devices": devices,
        "trainer.strategy": "ddp" if devices > 1 else "auto",
        "trainer.max_steps": 20,
        "trainer.log_every_n_steps": 1,
        "trainer.val_check_interval": 10,
        "trainer.check_val_every_n_epoch": "null",
        "trainer.logger": "lightning.pytorch.loggers.TensorBoardLogger",
        "trainer.logger.save_dir": folder,
        "trainer.logger.name": f"devices_{devices}",
    }
    command = [sys.executable, "-m", "nextconcept", "fit"]
    command += [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    run = folder / f"devices_{devices}" / "version_0"
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return weights, EventAccumulator(str(run)).Reload(), done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
@pytest.mark.parametrize("sharing", ["nested", "separate"])
def test_fit__two_processes_equal_one(tmp_path: Path, corpus: Path, sharing: str):
    one, events_one, said_one = train(tmp_path, corpus, 1, sharing)
    two, events_two, said_two = train(tmp_path, corpus, 2, sharing)
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert events_one.Tags()["scalars"] == events_two.Tags()["scalars"]
    for tag in events_one.Tags()["scalars"]:
        points = [[(event.step, event.value) for event in events.Scalars(tag)] for events in (events_one, events_two)]
        assert [step for step, _ in points[0]] == [step for step, _ in points[1]]
        # Another row's plan is another one where batches are shared out otherwise.
        if tag.startswith(("val/loss/tokens", "train/loss", "train/tokens_seen")) and "shuffled" not in tag:
            assert [value for _, value in points[1]] == pytest.approx([value for _, value in points[0]], rel=1e-5)
    assert said_two.count("val/loss/tokens") == said_one.count("val/loss/tokens"), "one process alone prints"
