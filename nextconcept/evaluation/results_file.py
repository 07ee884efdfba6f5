"""The JSON file of a comparison: the records of its finished runs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nextconcept.checkpoints.complete_files import complete
from nextconcept.core.errors import InputError

__all__ = ["ResultsFile"]

NEEDED = ("entry", "learning_rate", "seed", "key", "steps", "parameters", "flops_per_token", "stages",
          "tokens_per_second", "final", "curves", "machine", "versions")  # fmt: skip
"""What every record says."""


class ResultsFile:
    """Keeps the records of finished runs in a JSON file, which is rewritten after each of them.

    Args:
        path: the file; its records are read if it exists.
        head: what the file says about the comparison as a whole.

    Attributes:
        path: the file.
        content: ``head``, and under ``runs`` the list of records.

    Raises:
        InputError: if the file can't be read.
    """

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self.path = path
        try:
            stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": []}
            # Older files hold machine and versions once for all runs.
            shared = {key: stored[key] for key in ("machine", "versions") if key in stored}
            records = {record["key"]: _checked(shared | record) for record in stored["runs"]}
            self.content = head | {"runs": list(records.values())}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise InputError(f"{path} is not the results file of a comparison: move it away, or repair it.") from None

    @staticmethod
    @contextmanager
    def lock(path: Path) -> Iterator[None]:
        """Keep other comparisons from writing ``path`` meanwhile.

        Raises:
            InputError: if another comparison is writing the file.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.stem}.lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(
                f"another comparison is writing {path}: wait until it ends, or give another --name or --output."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def __contains__(self, key: str) -> bool:
        return any(record["key"] == key for record in self.content["runs"])

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Return the record of the finished run that has a key."""
        found: dict[str, Any] = next(record for record in self.content["runs"] if record["key"] == key)
        return found

    def add(self, record: dict[str, Any]) -> None:
        """Add the record of a finished run, and save the file."""
        # A new list: other threads read the old one, which sorting in place would empty meanwhile.
        self.content["runs"] = sorted([*self.content["runs"], record], key=_place)
        self.save()

    def save(self) -> None:
        """Write the file; the records that it had remain until it is complete.

        Raises:
            InputError: if it can't be written.
        """
        with complete(self.path) as partial:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record, or raise a ValueError if it is none."""
    if any(name not in record for name in NEEDED):
        raise ValueError(record)
    kinds = {"entry": str, "key": str, "machine": str, "stages": list, "final": dict, "curves": dict, "versions": dict,
             "grid": dict}  # fmt: skip
    numbers = [record[name] for name in ("learning_rate", "seed", "steps", "parameters", "flops_per_token")]
    numbers += [record["tokens_per_second"], *record["final"].values(), *record.get("budget", {}).values()]
    pairs = [*record["stages"], *(point for points in record["curves"].values() for point in points)]
    numbers += [number for pair in pairs for number in pair]
    if not all(isinstance(record.get(name, kind()), kind) for name, kind in kinds.items()):
        raise ValueError(record)
    if any(len(pair) != 2 for pair in pairs) or record["stages"][0][0] != 0:
        raise ValueError(record)
    if not all(isinstance(number, int | float) for number in numbers):
        raise ValueError(record)
    return record


def _place(record: dict[str, Any]) -> tuple[Any, ...]:
    return record["entry"], list(record.get("budget", {}).values()), record["learning_rate"], record["seed"]
