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


def test_complete__two_that_write_one_file_leave_one_of_them_whole(tmp_path: Path):
    path = tmp_path / "plan.html"
    with complete(path) as one:
        one.write_text("one")
        with complete(path) as other:
            other.write_text("another")
        assert path.read_text() == "another"
    assert path.read_text() == "one"
    assert os.listdir(tmp_path) == ["plan.html"]


def test_complete__a_file_where_a_folder_should_be(tmp_path: Path):
    (tmp_path / "file").touch()
    message = "export can't be written: Not a directory"
    with pytest.raises(InputError, match=message), complete(tmp_path / "file" / "export") as partial:
        partial.mkdir()


def test_complete__a_link_to_itself(tmp_path: Path):
    (tmp_path / "page.html").symlink_to("page.html")
    message = "page.html can't be written: a link in this path leads back to itself"
    with pytest.raises(InputError, match=message), complete(tmp_path / "page.html") as partial:
        partial.touch()
    assert os.listdir(tmp_path) == ["page.html"]
