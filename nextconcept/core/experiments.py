"""The experiments that ship with the package: configuration files that can be named without a path.

In a checkout they lie in its folder ``experiments``; a wheel installs them as
``nextconcept/experiments``.
"""

from pathlib import Path
from typing import Any

import yaml

from nextconcept.core.errors import InputError
from nextconcept.core.suggestions import did_you_mean

__all__ = ["check_yaml", "experiment_files", "find_experiment", "read_yaml"]


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


def check_yaml(text: str, source: str | Path) -> None:
    """Refuse YAML that is read otherwise than it looks; broken YAML is left to the parser.

    Args:
        text: the YAML.
        source: where it comes from, for the message.

    Raises:
        InputError: if a mapping has a key twice, of which the first would be dropped, or a value
            such as ``1:30`` would be read as a number to the base of 60.
    """
    try:
        waiting, seen = [yaml.compose(text, yaml.SafeLoader)], set[int]()
    except (yaml.YAMLError, ValueError, RecursionError):
        return
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:  # an alias may lead back
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            known = set[tuple[str, str]]()
            for key, value in node.value:
                waiting += [key, value]
                if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                    continue
                if (key.tag, key.value) in known:
                    line = key.start_mark.line + 1
                    raise InputError(f"{source} has {key.value} twice, again in line {line}: leave one of them out.")
                known.add((key.tag, key.value))
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif ":" in node.value and node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
            line = node.start_mark.line + 1
            raise InputError(
                f"YAML reads {node.value} in line {line} of {source} as a number to the base of 60: "
                "put it in quotes, or write the number."
            )


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
