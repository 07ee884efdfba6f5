"""Small models and texts that every test can afford."""

import os
import socket
from pathlib import Path

# Set before the hub's library is imported: a name that is no file is refused at once, here and in
# processes that tests start.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
# Models of tests are too small for more, and threads that wait for one another take the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
import yaml

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep encoded corpora and downloads out of the user's folders; seed every test alike."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NEXTCONCEPT_CACHE", str(folder))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    torch.manual_seed(0)
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail what looks for a machine other than this one."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test connects to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def fresh_compiler() -> None:
    """Forget what earlier tests compiled: sizes that have differed are compiled as unknown ones.

    That takes ten times as long.
    """
    torch.compiler.reset()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A text file of about 6,000 bytes that a small model can learn something about."""
    path = tmp_path / "corpus.txt"
    path.write_text("".join(f"Line {i}: the quick brown fox jumps over the lazy dog.\n" for i in range(110)))
    return path


@pytest.fixture
def config(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a second or two, without pictures of plans, which take a third of it."""
    monkeypatch.chdir(tmp_path)
    logger = {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": "logs", "name": "tiny", "default_hp_metric": False},
    }
    values = {
        "model": {"config": {"levels": 2, "width": 32, "depth": 1, "num_heads": 2, "horizon": 2, "context_length": 32}},
        "data": {"dataset": str(corpus), "batch_size": 4, "split": {"by": "contiguous", "val": 0.1, "test": 0.1}},
        "sample": {"max_new_tokens": 5},
        "plan_view": {"windows": 0},
        "trainer": {
            "accelerator": "cpu",
            "max_steps": 6,
            "val_check_interval": 4,
            "check_val_every_n_epoch": None,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "logger": logger,
        },
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path
