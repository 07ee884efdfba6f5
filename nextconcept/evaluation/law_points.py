"""Losses of families of models at several budgets, from the results of comparisons."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from nextconcept.core.errors import InputError
from nextconcept.evaluation.metrics import LOSS
from nextconcept.evaluation.records import budget_of, tflops

__all__ = ["Point", "read_points"]


@dataclass(frozen=True)
class Point:
    """Final losses of a family's best model at a budget.

    Attributes:
        flops: training FLOPs, C.
        losses: one per seed.
    """

    flops: float
    losses: tuple[float, ...]


def read_points(paths: Sequence[Path], families: Sequence[str], metric: str = LOSS) -> dict[str, list[Point]]:
    """Read the points of families from the results files of comparisons.

    A family is an entry; entries of the same name in several files are one family. A point is the
    entry's chosen settings at a budget: those with most seeds, and of these the best mean.

    Args:
        paths: JSON files that ``nextconcept compare`` wrote.
        families: names of the entries.
        metric: metric that is a loss.

    Raises:
        InputError: if a file is no results file, or has none of the families.
    """
    points: dict[str, list[Point]] = {family: [] for family in families}
    for path in paths:
        cells: dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]] = {}
        try:
            for run in json.loads(path.read_text(encoding="utf-8"))["runs"]:
                settings = json.dumps([run["learning_rate"], run.get("grid", {})])
                some = cells.setdefault((run["entry"], budget_of(run)), {}).setdefault(settings, [])
                if any(run["seed"] == one["seed"] for one in some):
                    raise InputError(
                        f"{path} has two runs of {run['entry']} with seed {run['seed']} and equal settings, of which "
                        "one is of an earlier state of the comparison: start it anew under another --name."
                    )
                if metric not in run["final"]:
                    raise InputError(f"{path} has no {metric}: give comparisons that log it.")
                some.append(run)
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{path} is not the results file of a comparison: give the JSON files.") from None
        if not {entry for entry, _ in cells} & set(families):
            raise InputError(f"{path} has none of the entries {', '.join(families)}.")
        for (entry, _), tried in cells.items():
            if entry in points:
                runs = max(tried.values(), key=lambda some: (len(some), -mean(run["final"][metric] for run in some)))
                flops = mean(tflops(run, run["steps"]) for run in runs) * 1e12
                points[entry].append(Point(flops, tuple(run["final"][metric] for run in runs)))
    return {family: sorted(found, key=lambda point: point.flops) for family, found in points.items()}
