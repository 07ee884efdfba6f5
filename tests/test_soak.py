"""Stopped runs resume exactly."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SOAK = Path(__file__).parent / "soak.py"


@pytest.mark.slow
def test_kills__twenty_at_random_moments_change_nothing():
    command = [sys.executable, str(SOAK), "--kills", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=SOAK.parents[1])
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout)
    assert "20 kills" in done.stdout
    assert "all equal" in done.stdout


def _has_curves(events: Path) -> bool:
    return any(tag.startswith("train/") for tag in EventAccumulator(str(events)).Reload().Tags()["scalars"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "signalled", "sent"),
    [(1, 0, signal.SIGTERM), (1, None, signal.SIGINT), (2, 1, signal.SIGTERM), (2, None, signal.SIGINT)],
)
def test_signal__saves_and_stops(tmp_path: Path, processes: int, signalled: int | None, sent: signal.Signals):
    """The checkpoint is that of the step at which any process got the signal.

    A terminal sends Ctrl-C to all processes in it, the workers that read the data included.
    """
    (tmp_path / "corpus.txt").write_text("The quick brown fox jumps over the lazy dog.\n" * 200)
    values = {
        "model.config": "{levels: 2, width: 32, depth: 1, num_heads: 2, horizon: 2, context_length: 32}",
        "data.dataset": tmp_path / "corpus.txt",
        "data.batch_size": 2,
        "data.num_workers": 1 if signalled is None else 0,
        "data.split": "{by: contiguous, val: 0.1, test: 0.1}",
        "trainer.accelerator": "cpu",
        "trainer.devices": processes,
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
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        run = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while not any(_has_curves(file) for file in tmp_path.glob("logs/**/events*")):
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        started = psutil.Process(run.pid).children()
        if signalled is None:
            os.killpg(run.pid, sent)
        else:
            (started[0] if signalled else run).send_signal(sent)
        code = run.wait(60)
    said = (tmp_path / "log").read_text()
    assert code == 128 + sent, said[-2000:]
    assert "Traceback" not in said
    (last,) = tmp_path.glob("logs/**/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] > 0
    assert not psutil.wait_procs(started, timeout=30)[1]
