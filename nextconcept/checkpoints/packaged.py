"""Exports on this machine: folders, and models that ship with the package and have a name.

The shipped models lie in ``nextconcept/packaged``, one folder each.
"""

from pathlib import Path

from nextconcept.checkpoints.hub import is_export

__all__ = ["find_export", "packaged_models"]


def packaged_models() -> dict[str, Path]:
    """Return the folders of the shipped models by name, such as ``star-graph``."""
    folder = Path(__file__).parents[1] / "packaged"
    return {path.name: path for path in sorted(folder.iterdir()) if is_export(path)}


def find_export(path: str | Path) -> Path | None:
    """Return the folder of the exported model that ``path`` means.

    Args:
        path: a folder, or the name of a shipped model. What lies at ``path`` wins, so that a run of
            one's own is never mistaken for a shipped model.

    Returns:
        The folder; None if something else lies there, or nothing and no shipped model has the name.
    """
    if Path(path).exists():
        return Path(path) if is_export(path) else None
    return packaged_models().get(str(path))
