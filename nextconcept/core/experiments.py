"""The experiments that ship with the package: configuration files that can be named without a path.

In a checkout they lie in its folder ``experiments``; a wheel installs them as
``nextconcept/experiments``.
"""

from pathlib import Path
from typing import Any

import yaml

from nextconcept.core.errors import InputError
from nextconcept.core.suggestions import did_you_mean

__all__ = ["experiment_files", "find_experiment", "read_yaml"]


def experiment_files() -> dict[str, Path]:
    """Return the shipped configuration files by name, such as ``star_graph/two_levels``."""
    package = Path(__file__).parents[1]
    installed, checkout = package / "experiments", package.parent / "experiments"
    folder = installed if installed.is_dir() else checkout
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def find_experiment(name: str) -> Path:
    """Return the configuration file that ``name`` means.

    Args:
        name: path of an existing file, or name of a shipped experiment; the folder may be left out
            where the rest is unique, and so may ``.yaml``.

    Raises:
        InputError: if there is no such file and no such experiment, or several.
    """
    if Path(name).is_file():
        return Path(name)
    files = experiment_files()
    wanted = name.removesuffix(".yaml")
    if wanted in files:
        return files[wanted]
    matches = [known for known in files if known.rpartition("/")[2] == wanted]
    if len(matches) == 1:
        return files[matches[0]]
    if matches:
        raise InputError(f"the experiment {name!r} can be {' or '.join(matches)}: give the folder too.")
    short = {known.rpartition("/")[2]: known for known in files}
    hint = (
        did_you_mean(wanted, files) or did_you_mean(wanted, short) or "nextconcept experiments lists the shipped ones."
    )
    raise InputError(f"there is no file and no experiment {name!r}: {hint}")


def read_yaml(source: str | Path) -> Any:
    """Read YAML whose mistakes are reported elsewhere, by the parser of the command line.

    Args:
        source: the text, or its file.

    Returns:
        Plain values; None if the file can't be read or the text is broken.
    """
    try:
        return yaml.safe_load(source.read_text(encoding="utf-8") if isinstance(source, Path) else source)
    except (yaml.YAMLError, OSError, ValueError, RecursionError):
        return None
