"""Runs that are stopped go on as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

SOAK = Path(__file__).parent / "soak.py"


@pytest.mark.slow
def test_kills__twenty_at_random_moments_change_nothing():
    command = [sys.executable, str(SOAK), "--kills", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=SOAK.parents[1])
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout)
    assert "20 kills" in done.stdout
    assert "all equal" in done.stdout


def test_sigterm__saves_and_stops(tmp_path: Path):
    """The checkpoint is that of the step at which the signal came, not of the validation before."""
    (tmp_path / "corpus.txt").write_text("The quick brown fox jumps over the lazy dog.\n" * 200)
    values = {
        "model.config": "{levels: 2, width: 32, depth: 1, heads: 2, horizon: 2, context: 32}",
        "data": f"{{dataset: {tmp_path / 'corpus.txt'}, batch_size: 2, split: {{by: contiguous, val: 0.1, test: 0.1}}}}",
        "trainer.accelerator": "cpu",
        "trainer.max_steps": 100_000,
        "trainer.val_check_interval": 1_000_000,
        "trainer.check_val_every_n_epoch": "null",
        "trainer.num_sanity_val_steps": 0,
        "trainer.log_every_n_steps": 1,
        "trainer.logger": "lightning.pytorch.loggers.TensorBoardLogger",
        "trainer.logger.save_dir": tmp_path / "logs",
    }
    command = [sys.executable, "-m", "nextconcept", "fit"]
    command += [part for key, value in values.items() for part in (f"--{key}", str(value))]
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("logs/**/events*")) and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(3)
        run.send_signal(signal.SIGTERM)
        code = run.wait(60)
    said = (tmp_path / "log").read_text()
    assert code == 0, said[-2000:]
    assert "Traceback" not in said
    (last,) = tmp_path.glob("logs/**/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] > 0
