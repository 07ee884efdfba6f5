"""Exports on this machine: folders, and models that ship with the package and have a name.

The shipped models lie in ``nextconcept/packaged``, one folder each.
"""

from pathlib import Path

from nextconcept.checkpoints.hub import Export, is_export

__all__ = ["local_export", "packaged_models"]


def packaged_models() -> dict[str, Path]:
    """Return the folders of the shipped models by name, such as ``star-graph``."""
    folder = Path(__file__).parents[1] / "packaged"
    return {path.name: path for path in sorted(folder.iterdir()) if is_export(path)}


def local_export(path: str | Path) -> Export | None:
    """Return the exported model on this machine that ``path`` means.

    Args:
        path: a folder, or the name of a shipped model. What lies at ``path`` wins, so that a run of
            one's own is never mistaken for a shipped model.

    Returns:
        The model; None if something else lies there, or nothing and no shipped model has the name.
    """
    folder = Path(path) if Path(path).exists() else packaged_models().get(str(path))
    return Export(folder) if folder is not None and is_export(folder) else None
