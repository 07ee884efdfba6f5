import os
from pathlib import Path

import pytest
import torch

from nextconcept import InputError
from nextconcept.checkpoints.atomic import AtomicCheckpointIO


def test_save__replaces_the_previous_checkpoint(tmp_path: Path):
    writer, path = AtomicCheckpointIO(), tmp_path / "folder" / "last.ckpt"
    for step in (1, 2):
        writer.save_checkpoint({"step": step}, path)
        assert torch.load(path, weights_only=True) == {"step": step}
    assert os.listdir(path.parent) == ["last.ckpt"]


def test_save__deferred_until_commit(tmp_path: Path):
    writer, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    writer.save_checkpoint({"step": 1}, path)
    writer.deferred = True
    writer.save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    writer.commit()
    assert torch.load(path, weights_only=True) == {"step": 2}
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_save__a_full_disk_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    writer, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    with monkeypatch.context() as full:
        full.setattr("os.fsync", _full)
        with pytest.raises(InputError, match="No space left on device; no checkpoint was there before"):
            writer.save_checkpoint({"step": 0}, path)
    writer.save_checkpoint({"step": 1}, path)
    with monkeypatch.context() as full:
        full.setattr("os.fsync", _full)
        with pytest.raises(InputError, match="No space left on device; the checkpoint before it is kept"):
            writer.save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert os.listdir(tmp_path) == ["last.ckpt"]


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")
