"""What the records of finished runs say: compute spent, the course of training, budgets."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

__all__ = [
    "Budget",
    "Groups",
    "budget_of",
    "course",
    "format_budget",
    "mean_course",
    "reaches",
    "spread",
    "stages",
    "tflops",
]

Budget = tuple[str, float]
"""Kind of a budget, ``flops`` or ``tokens``, and its amount."""

Groups = Mapping[tuple[Budget | None, str], list[dict[str, Any]]]
"""Records of runs by budget and entry; the budget is None where the steps of an entry count."""


def budget_of(run: Mapping[str, Any]) -> Budget | None:
    """Return the budget of a run, None if it had none or its record does not say."""
    return next(iter(run.get("budget", {}).items()), None)


def format_budget(budget: Budget | None) -> str:
    """Format a budget, such as ``1.2e+13 FLOPs``."""
    return "" if budget is None else f"{budget[1]:g} {'FLOPs' if budget[0] == 'flops' else budget[0]}"


def stages(run: Mapping[str, Any]) -> list[tuple[int, float, float]]:
    """Return ``(first step, FLOPs spent before it, FLOPs per step)`` of each stage."""
    found: list[tuple[int, float, float]] = []
    for step, cost in run["stages"]:
        before = found[-1][1] + (step - found[-1][0]) * found[-1][2] if found else 0.0
        found.append((step, before, cost))
    return found


def tflops(run: Mapping[str, Any], steps: int) -> float:
    """Return the training TFLOPs of the first ``steps`` steps, of all stages."""
    first, before, cost = next(stage for stage in reversed(stages(run)) if stage[0] <= steps)
    return (before + (steps - first) * cost) / 1e12


def spread(values: Iterable[float]) -> tuple[float, float]:
    """Return mean and standard deviation; both are NaN if a value is not finite.

    The deviation of a single value is 0.
    """
    some = list(values)
    if not all(map(math.isfinite, some)):
        return math.nan, math.nan
    return mean(some), stdev(some) if len(some) > 1 else 0.0


def course(run: Mapping[str, Any], metric: str) -> list[tuple[int, float]]:
    """Return ``(step, value)`` of a metric over training, and at its end."""
    return [*map(tuple, run["curves"].get(metric, [])), (run["steps"] - 1, run["final"][metric])]


def mean_course(courses: Sequence[Sequence[tuple[float, float]]]) -> tuple[list[float], list[float]]:
    """Return places and means of the courses of several seeds, where all of them have a value."""
    values: dict[float, list[float]] = {}
    for points in courses:
        for place, value in dict(points).items():
            values.setdefault(place, []).append(value)
    complete = sorted(place for place, found in values.items() if len(found) == len(courses))
    return complete, [mean(values[place]) for place in complete]


def reaches(run: Mapping[str, Any], metric: str, target: float, mode: str) -> float | None:
    """Return the training TFLOPs at which a metric is first seen to reach a target, or None."""
    sign = 1 if mode == "min" else -1
    steps = [step for step, value in course(run, metric) if sign * value <= sign * target]
    return tflops(run, steps[0] + 1) if steps else None
