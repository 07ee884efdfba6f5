"""Two processes do what one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def train(folder: Path, corpus: Path, devices: int) -> tuple[dict[str, torch.Tensor], EventAccumulator]:
    """Train four steps of eight windows on so many processes."""
    arguments = {
        "model.config": "{levels: 2, width: 32, depth: 1, heads: 2, horizon: 2, context: 32}",
        "model.optimizer.warmup_steps": 1,
        "data.dataset": corpus,
        "data.batch_size": 8 // devices,
        "data.eval_batch_size": 4,
        "data.split": "{by: contiguous, val: 0.15, test: 0.1}",
        "sample.max_new_tokens": 5,
        "trainer.accelerator": "cpu",
        "trainer.devices": devices,
        "trainer.strategy": "ddp" if devices > 1 else "auto",
        "trainer.max_steps": 4,
        "trainer.log_every_n_steps": 1,
        "trainer.val_check_interval": 4,
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
    return weights, EventAccumulator(str(run)).Reload()


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
def test_fit__two_processes_equal_one(tmp_path: Path, corpus: Path):
    one, events_one = train(tmp_path, corpus, 1)
    two, events_two = train(tmp_path, corpus, 2)
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert events_one.Tags()["scalars"] == events_two.Tags()["scalars"]
    for tag in ("val/loss/tokens", "val/loss/tokens_zero", "val/bits_per_byte", "val/concepts_l1/cosine/step_2"):
        assert events_two.Scalars(tag)[-1].value == pytest.approx(events_one.Scalars(tag)[-1].value, rel=1e-5)
    assert events_two.Scalars("train/tokens_seen")[-1].value == events_one.Scalars("train/tokens_seen")[-1].value
