"""Texts and figures for the loggers of a run, each in the form that the logger offers."""

from abc import ABC, abstractmethod
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure

__all__ = ["Media", "media_of"]


class Media(ABC):
    """Shows texts and figures through one logger.

    Names have parts with slashes between them, such as ``plan/window_0/level_1``.
    """

    @abstractmethod
    def text(self, name: str, text: str, step: int, markdown: bool = False) -> None:
        """Show a text.

        Args:
            name: what the text shows.
            text: the text.
            step: optimizer steps made.
            markdown: whether ``text`` is Markdown, as a table is.
        """

    @abstractmethod
    def figure(self, name: str, figure: Figure, step: int) -> None:
        """Show a figure.

        Args:
            name: what the figure shows.
            figure: the figure.
            step: optimizer steps made.
        """


def media_of(trainer: L.Trainer) -> list[Media]:
    """Return the ways to show texts and figures: one for each logger, none on other processes.

    TensorBoard, W&B and MLflow show them. For any other logger with a folder they become files:
    ``samples/step_000200.txt``, ``plans/window_0_level_1_step_000200.png`` and so on.
    """
    if not trainer.is_global_zero:
        return []
    found = (_media(logger) for logger in trainer.loggers)
    return [media for media in found if media is not None]


def _media(logger: Logger) -> Media | None:
    if isinstance(logger, TensorBoardLogger):
        return _TensorBoard(logger)
    if isinstance(logger, WandbLogger):
        return _Wandb(logger)
    if isinstance(logger, MLFlowLogger):
        return _MLflow(logger)
    if logger.log_dir is not None:
        return _Files(Path(logger.log_dir))
    if logger.save_dir is not None:
        return _Files(Path(logger.save_dir, str(logger.name), str(logger.version)))
    return None


class _TensorBoard(Media):
    """Tabs "Text" and "Images"."""

    def __init__(self, logger: TensorBoardLogger) -> None:
        self._board = logger.experiment

    def text(self, name: str, text: str, step: int, markdown: bool = False) -> None:
        """Show a text in the tab "Text"."""
        # Four spaces make a code block, which keeps line breaks.
        self._board.add_text(name, text if markdown else "    " + text.replace("\n", "\n    "), step)

    def figure(self, name: str, figure: Figure, step: int) -> None:
        """Show a figure in the tab "Images"."""
        self._board.add_figure(name, figure, step, close=False)


class _Wandb(Media):
    """Tables and images of a W&B run, logged with the trainer's step as its metrics are."""

    def __init__(self, logger: WandbLogger) -> None:
        self._logger = logger

    def text(self, name: str, text: str, step: int, markdown: bool = False) -> None:
        """Log a text as a table of one cell."""
        self._logger.log_text(key=name, columns=["text"], data=[[text]], step=step)

    def figure(self, name: str, figure: Figure, step: int) -> None:
        """Log a figure as an image."""
        self._logger.log_image(key=name, images=[figure], step=step)


class _MLflow(Media):
    """Artifacts of an MLflow run."""

    def __init__(self, logger: MLFlowLogger) -> None:
        self._logger = logger

    def text(self, name: str, text: str, step: int, markdown: bool = False) -> None:
        """Log a text as an artifact."""
        self._logger.experiment.log_text(self._logger.run_id, text, _file_name(name, step, _suffix(markdown)))

    def figure(self, name: str, figure: Figure, step: int) -> None:
        """Log a figure as an artifact."""
        self._logger.experiment.log_figure(self._logger.run_id, figure, _file_name(name, step, "png"))


class _Files(Media):
    """Files in the folder of a run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, name: str, step: int, suffix: str) -> Path:
        path = self._folder / _file_name(name, step, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def text(self, name: str, text: str, step: int, markdown: bool = False) -> None:
        """Write a text to a file."""
        self._path(name, step, _suffix(markdown)).write_text(text + "\n", encoding="utf-8")

    def figure(self, name: str, figure: Figure, step: int) -> None:
        """Write a figure to a file."""
        figure.savefig(self._path(name, step, "png"))


def _suffix(markdown: bool) -> str:
    return "md" if markdown else "txt"


def _file_name(name: str, step: int, suffix: str) -> str:
    """Return a path whose folder is the plural of the first part of ``name``."""
    kind, *rest = name.split("/")
    return f"{kind}s/{'_'.join([*rest, f'step_{step:06d}'])}.{suffix}"
