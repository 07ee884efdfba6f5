"""Pictures of a comparison."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nextconcept.evaluation.metrics import ANSWER, EXACT, LOSS, SOLVED, is_share
from nextconcept.evaluation.records import Groups, course, format_budget, mean_course, spread, stages, tflops

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_comparison"]

STYLES = ["-", "--", ":", "-."]


def draw_comparison(content: Mapping[str, Any], groups: Groups) -> "Figure":
    """Draw a comparison.

    With an option ``against``, the picture shows the final values against it, a panel per budget;
    else, with several budgets, final values against the budget; else the course of training, a
    thin line per seed and a thick one for their mean.

    Args:
        content: content of the comparison's JSON file.
        groups: records of the chosen runs.
    """
    from matplotlib.figure import Figure

    budgets, entries = list(dict.fromkeys(budget for budget, _ in groups)), len({entry for _, entry in groups})
    panels, crowded = len(budgets) if content.get("against") else 1, entries > 8 and not content.get("against")
    figure = Figure(figsize=(12 if crowded else max(7.5, 3.6 * panels), 4.5), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    if content.get("against"):
        for place, budget in zip(axes, budgets, strict=True):
            _draw_against(place, content, {key: runs for key, runs in groups.items() if key[0] == budget})
            place.set_title(format_budget(budget) or content["name"], fontsize=10)
        figure.suptitle(content["name"], fontsize=10)
    elif len(budgets) > 1:
        _draw_budgets(axes[0], content, groups)
    else:
        _draw_courses(axes[0], content, groups)
    for place in axes:
        place.grid(alpha=0.3)
    axes[0].set_ylabel(_label(content["metric"]))
    if crowded:
        figure.legend(fontsize=8, loc="outside right center", ncols=2)
    elif not content.get("against"):
        axes[0].set_title(content["name"], fontsize=10)
        axes[0].legend(fontsize=8)
    return figure


def _draw_courses(axes: "Axes", content: Mapping[str, Any], groups: Groups) -> None:
    metric, scale = content["metric"], _scale(content["metric"])
    for index, ((_, entry), runs) in enumerate(groups.items()):
        look: dict[str, Any] = {"linestyle": STYLES[index % len(STYLES)], "color": f"C{index % 10}"}
        courses = [[(tflops(run, step + 1), scale * value) for step, value in course(run, metric)] for run in runs]
        for points in courses:
            axes.plot(*zip(*points, strict=True), linewidth=0.8, alpha=0.5 if len(runs) > 1 else 1.0, **look)
        axes.plot(*mean_course(courses), linewidth=2.0, label=_entry_label(entry, runs, metric), **look)
        for run in runs:
            for _, spent, _ in stages(run)[1:]:
                axes.axvline(spent / 1e12, color=look["color"], linewidth=0.6, alpha=0.5)
    if metric == EXACT:
        axes.axhline(100 * SOLVED, color="0.4", linewidth=0.8, linestyle=(0, (1, 2)))
    if scale == 100:
        axes.set_ylim(-3, 103)
    grows = any(len(run["stages"]) > 1 for runs in groups.values() for run in runs)
    axes.set_xlabel("training compute (TFLOPs)" + ("; vertical lines: growth by a level" if grows else ""))


def _entry_label(entry: str, runs: Sequence[Mapping[str, Any]], metric: str) -> str:
    if metric != EXACT:
        return f"{entry} ({len(runs)} seed{'s' if len(runs) > 1 else ''})"
    solved = sum(run["final"][EXACT] >= SOLVED for run in runs)
    return f"{entry} (solved: {solved} of {len(runs)} seeds)"


def _draw_budgets(axes: "Axes", content: Mapping[str, Any], groups: Groups) -> None:
    """Draw the final values of each entry against the budget."""
    for index, entry in enumerate(dict.fromkeys(entry for _, entry in groups)):
        own = {budget: runs for (budget, name), runs in groups.items() if name == entry and budget}
        look = {"linestyle": STYLES[index % len(STYLES)], "color": f"C{index % 10}", "label": entry}
        _draw_finals(axes, [budget[1] for budget in own], own.values(), content["metric"], **look)
    kind = next(budget[0] for budget, _ in groups if budget)
    axes.set_xscale("log")
    axes.set_xlabel({"flops": "training FLOPs", "tokens": "training tokens"}[kind])


def _draw_against(axes: "Axes", content: Mapping[str, Any], groups: Groups) -> None:
    """Draw the final values of one budget against an option, whose values are evenly spaced."""
    option = content["against"]
    found = {_option(runs[0], option): runs for runs in groups.values()}
    values = sorted(found, key=_order)
    _draw_finals(axes, range(len(values)), [found[value] for value in values], content["metric"], color="C0")
    axes.set_xticks(range(len(values)), ["none" if value == "null" else value for value in values])
    axes.set_xlabel(option.removeprefix("model.config."))


def _option(run: Mapping[str, Any], name: str) -> str:
    arguments: list[str] = run["arguments"]
    return dict(zip(arguments[::2], arguments[1::2], strict=True))[f"--{name}"]


def _order(value: str) -> tuple[bool, bool, float]:
    """Sort numbers first, and null, which stands for no limit, last."""
    try:
        number = json.loads(value)
    except ValueError:
        number = value
    is_number = isinstance(number, (int, float))
    return number is None, not is_number, float(number) if is_number else 0.0


def _draw_finals(
    axes: "Axes", places: Iterable[float], groups: Iterable[Sequence[Mapping[str, Any]]], metric: str, **look: Any
) -> None:
    """Draw means of the final values over seeds, and their standard deviations."""
    finals = [[_scale(metric) * run["final"][metric] for run in runs] for runs in groups]
    means, deviations = zip(*map(spread, finals), strict=True)
    axes.errorbar(list(places), means, deviations, marker="o", markersize=4, capsize=3, **look)


def _scale(metric: str) -> int:
    """Return what a metric is multiplied by in a picture: shares are in percent."""
    return 100 if is_share(metric) else 1


def _label(metric: str) -> str:
    """Return what a picture calls a metric."""
    if metric == LOSS:
        return "validation cross-entropy (nats per token)"
    if is_share(metric):
        return f"right answers: {metric.removeprefix(ANSWER).replace('_', ' ')} (% of held-out prompts)"
    return metric
