"""Planning tasks: prompt -> answer."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nextconcept.tasks.accuracy import TaskAccuracy
    from nextconcept.tasks.countdown import Countdown
    from nextconcept.tasks.datamodule import TaskDataModule
    from nextconcept.tasks.lines import LinesTask
    from nextconcept.tasks.maze import Maze
    from nextconcept.tasks.star_graph import StarGraph
    from nextconcept.tasks.task import Task

__all__ = ["Countdown", "LinesTask", "Maze", "StarGraph", "Task", "TaskAccuracy", "TaskDataModule"]

_MODULES = {
    "Countdown": "countdown",
    "LinesTask": "lines",
    "Maze": "maze",
    "StarGraph": "star_graph",
    "Task": "task",
    "TaskAccuracy": "accuracy",
    "TaskDataModule": "datamodule",
}


def __getattr__(name: str) -> Any:
    """Import a task, or a part that needs Lightning, when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
