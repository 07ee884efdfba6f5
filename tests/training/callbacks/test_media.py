"""Texts and figures reach each kind of logger in the form that the logger offers."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nextconcept.training.callbacks.media import Media, media_of


class FakeWandb(WandbLogger):
    """W&B's logger as the callbacks see it, without its library."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def log_text(self, key: str, columns: list, data: list, step: int) -> None:
        self.calls.append((key, columns, data, step))

    def log_image(self, key: str, images: list, step: int) -> None:
        self.calls.append((key, [type(image) for image in images], step))


class FakeMLflow(MLFlowLogger):
    """MLflow's logger as the callbacks see it, without its library."""

    run_id = "run"

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    @property
    def experiment(self) -> SimpleNamespace:
        def note(run: str, what: object, path: str) -> None:
            self.calls.append((run, what if isinstance(what, str) else type(what), path))

        return SimpleNamespace(log_text=note, log_figure=note)


def show(*loggers: object, zero: bool = True) -> list[Media]:
    """Show a sample, a table and a figure at step 7."""
    found = media_of(SimpleNamespace(is_global_zero=zero, loggers=list(loggers)))
    for media in found:
        media.text("sample", "naïve\ntext", 7)
        media.text("plan/window_0/table", "| a |\n| - |", 7, markdown=True)
        media.figure("plan/window_0/level_1", Figure(), 7)
    return found


def test_tensorboard(tmp_path: Path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    show(logger)
    logger.experiment.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    texts = {
        tag: events.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode()
        for tag in ("sample", "plan/window_0/table")
    }
    assert texts == {"sample": "    naïve\n    text", "plan/window_0/table": "| a |\n| - |"}
    assert events.Images("plan/window_0/level_1")[0].step == 7


def test_wandb():
    logger = FakeWandb()
    show(logger)
    assert logger.calls == [
        ("sample", ["text"], [["naïve\ntext"]], 7),
        ("plan/window_0/table", ["text"], [["| a |\n| - |"]], 7),
        ("plan/window_0/level_1", [Figure], 7),
    ]


def test_mlflow():
    logger = FakeMLflow()
    show(logger)
    assert logger.calls == [
        ("run", "naïve\ntext", "samples/step_000007.txt"),
        ("run", "| a |\n| - |", "plans/window_0_table_step_000007.md"),
        ("run", Figure, "plans/window_0_level_1_step_000007.png"),
    ]


class OwnLogger(DummyLogger):
    """A user's logger that knows where it saves, but has no folder per run."""

    save_dir = name = version = None

    def __init__(self, save_dir: Path) -> None:
        super().__init__()
        self.save_dir, self.name, self.version = str(save_dir), "mine", 3


@pytest.mark.parametrize("kind", ["csv", "own"])
def test_files__for_other_loggers(tmp_path: Path, kind: str):
    logger = CSVLogger(tmp_path, "mine", "3") if kind == "csv" else OwnLogger(tmp_path)
    show(logger)
    folder = tmp_path / "mine" / "3"
    assert (folder / "samples" / "step_000007.txt").read_text(encoding="utf-8") == "naïve\ntext\n"
    assert (folder / "plans" / "window_0_table_step_000007.md").is_file()
    assert (folder / "plans" / "window_0_level_1_step_000007.png").read_bytes().startswith(b"\x89PNG")


def test_media_of__several_loggers_one_process_and_loggers_without_a_folder(tmp_path: Path):
    assert len(show(CSVLogger(tmp_path), FakeWandb())) == 2
    assert show(CSVLogger(tmp_path), zero=False) == []
    assert media_of(SimpleNamespace(is_global_zero=True, loggers=[DummyLogger()])) == []
