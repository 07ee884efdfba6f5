import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nextconcept import InputError
from nextconcept.checkpoints.complete_files import complete
from tests.helpers import full_disk


def test_complete__a_full_disk_keeps_the_previous_file(tmp_path: Path):
    path = tmp_path / "surprisal.safetensors"
    with complete(path) as partial:
        save_file({"nats": torch.zeros(9)}, partial)
    message = r"surprisal.safetensors can't be written: .*File too large"
    with full_disk(1000), pytest.raises(InputError, match=message), complete(path) as partial:
        save_file({"nats": torch.ones(999)}, partial)
    assert torch.equal(load_file(path)["nats"], torch.zeros(9))
    assert os.listdir(tmp_path) == ["surprisal.safetensors"]


def test_complete__what_a_killed_process_left_is_no_part_of_a_folder(tmp_path: Path):
    (tmp_path / ".export.partial").mkdir()
    (tmp_path / ".export.partial/stub").touch()
    with complete(tmp_path / "export") as partial:
        partial.mkdir()
        (partial / "card").touch()
    assert os.listdir(tmp_path) == ["export"]
    assert os.listdir(tmp_path / "export") == ["card"]
