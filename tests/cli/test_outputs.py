"""What commands write is there completely or not at all."""

from pathlib import Path

import pytest

from nextconcept.cli.main import main
from nextconcept.training.warm_start import TrainingState
from tests.helpers import fails, full_disk

PROMPT = "0|1,2|1,0/0,2="


@pytest.mark.parametrize("size", [20_000, 1_000])  # the weights, or the card, which is written first
def test_folders(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.chdir(tmp_path)
    command = ["grow", "--source", "star-graph", "--output", "deep/written"]
    with full_disk(size):
        sentence = fails(capsys, *command)
    assert "deep/written can't be written: " in sentence
    assert "File too large" in sentence
    assert not list(Path("deep").iterdir())
    main(command)
    assert Path("deep/written/model.safetensors").stat().st_size > size
    assert [path.name for path in Path("deep").iterdir()] == ["written"]


def test_folders__without_a_name(capsys: pytest.CaptureFixture):
    assert "--output names nothing" in fails(capsys, "grow", "--source", "star-graph", "--output", "")


def test_training_states(tmp_path: Path):
    """Moments are larger than weights, and written last."""
    state = TrainingState(1, 1.0, 1.0, {}, {"filler": "x" * 30_000}, {})
    with full_disk(20_000), pytest.raises(OSError, match="large"):
        state.save(tmp_path)


def test_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """The page of an earlier command stays."""
    monkeypatch.chdir(tmp_path)
    Path("page.html").write_text("earlier")
    command = ["plan", "--ckpt_path", "star-graph", "--prompt", PROMPT, "--html", "page.html"]
    with full_disk(1_000):
        assert "page.html can't be written: File too large." in fails(capsys, *command)
    assert Path("page.html").read_text() == "earlier"
    assert len(list(tmp_path.iterdir())) == 1
    main(command)
    assert Path("page.html").read_text() != "earlier"
