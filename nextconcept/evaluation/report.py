"""Table and picture of a comparison."""

from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure

from nextconcept.evaluation.metrics import ANSWER, EXACT, LOSS, named_answers

__all__ = ["write_report"]

SOLVED = 0.99
"""Share of exact answers from which on a run has solved its task."""


def write_report(content: dict[str, Any], chosen: list[str], tried: list[str], path: Path) -> None:
    """Write the table ``PATH.md`` and the picture ``PATH.png`` of a comparison.

    Args:
        content: content of the comparison's JSON file.
        chosen: keys of the runs that the table compares.
        tried: keys of the runs that tried learning rates. Runs that are in neither list belong to
            an earlier state of the comparison, and are left out.
        path: path of the files without suffix.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in content["runs"]:
        if record["key"] in chosen:
            groups.setdefault(record["entry"], []).append(record)
    others = [record for record in content["runs"] if record["key"] in tried and record["key"] not in chosen]
    path.with_suffix(".md").write_text(_table(content, groups, others, path.name), encoding="utf-8")
    _picture(content, groups).savefig(path.with_suffix(".png"), dpi=110)


def _stages(run: dict[str, Any]) -> list[tuple[int, float, float]]:
    """Return ``(first step, FLOPs spent before it, FLOPs per step)`` of each stage."""
    stages: list[tuple[int, float, float]] = []
    for step, cost in run["stages"]:
        before = stages[-1][1] + (step - stages[-1][0]) * stages[-1][2] if stages else 0.0
        stages.append((step, before, cost))
    return stages


def _tflops(run: dict[str, Any], steps: int) -> float:
    """Return the training TFLOPs of the first ``steps`` steps, of all stages."""
    first, before, cost = next(stage for stage in reversed(_stages(run)) if stage[0] <= steps)
    return (before + (steps - first) * cost) / 1e12


def _course(run: dict[str, Any], metric: str) -> list[tuple[int, float]]:
    """Return ``(step, value)`` of a metric over training, and at its end."""
    return [*run["curves"].get(metric, []), (run["steps"] - 1, run["final"][metric])]


def _spread(values: Iterable[float]) -> str:
    values = list(values)
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def _gap(finals: list[dict[str, float]], source: str) -> str:
    """Format what the loss gains when another plan is read instead of the predicted one."""
    name = f"{LOSS}_{source}"
    return f"{mean(final[name] - final[LOSS] for final in finals):+.4f}" if name in finals[0] else ""


def _reached(content: dict[str, Any], runs: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> str:
    """Format the share of the baseline's compute at which runs reach its final value.

    The mean is over the runs that reach it.
    """
    metric, sign = content["metric"], 1 if content["mode"] == "min" else -1
    target = mean(run["final"][metric] for run in baseline)
    total = mean(_tflops(run, run["steps"]) for run in baseline)
    shares = []
    for run in runs:
        steps = [step for step, value in _course(run, metric) if sign * value <= sign * target]
        if steps:
            shares.append(_tflops(run, steps[0] + 1) / total)
    if not shares:
        return "never"
    return f"{mean(shares):.0%}" + (f" ({len(shares)} of {len(runs)} runs)" if len(shares) < len(runs) else "")


def _columns(content: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, str]:
    metric, first, finals = content["metric"], runs[0], [run["final"] for run in runs]
    columns = {metric: _spread(final[metric] for final in finals), "seeds": str(len(runs))}
    if EXACT in finals[0]:
        columns |= _answer_columns(finals, metric)
    else:
        if "val/bits_per_byte" in finals[0]:
            columns["bits per byte"] = f"{mean(final['val/bits_per_byte'] for final in finals):.4f}"
        columns |= {f"{source} plan": _gap(finals, source) for source in ("zero", "shuffled", "oracle")}
    return columns | {
        "parameters": f"{first['parameters'] / 1e6:.2f} M",
        "MFLOPs per token": f"{first['flops_per_token'] / 1e6:.2f}",
        "training TFLOPs": f"{_tflops(first, first['steps']):.1f}",
        "steps": str(first["steps"]),
        "learning rate": f"{first['learning_rate']:g}",
        "options": _options(first),
        "tokens/s": f"{mean(run['tokens_per_second'] for run in runs):.0f}",
    }


def _answer_columns(finals: list[dict[str, float]], metric: str) -> dict[str, str]:
    """Return the columns of a planning task: its answers, also with another plan."""
    names = named_answers(finals[0])
    columns = {} if metric == EXACT else {"exact": _spread(final[EXACT] for final in finals)}
    for name in names:
        columns[name.replace("_", " ")] = _spread(final[f"{ANSWER}{name}"] for final in finals)
    columns["solved"] = f"{sum(final[EXACT] >= SOLVED for final in finals)} of {len(finals)}"
    for name in names or ["exact"]:
        for source in ("zero", "shuffled"):
            values = [final[tag] for final in finals if (tag := f"{ANSWER}{name}_{source}") in final]
            shown = _spread(values) if len(values) == len(finals) else ""
            columns[f"{name.replace('_', ' ')}, {source} plan"] = shown
    return columns


def _table(
    content: dict[str, Any], groups: dict[str, list[dict[str, Any]]], others: list[dict[str, Any]], name: str
) -> str:
    rows = {entry: _columns(content, runs) for entry, runs in groups.items()}
    baseline = content.get("baseline")
    if baseline in groups:
        for entry, runs in groups.items():
            reached = "" if entry == baseline else _reached(content, runs, groups[baseline])
            rows[entry][f"reaches {baseline} at"] = reached
    names = list(dict.fromkeys(column for row in rows.values() for column in row))
    names = [column for column in names if any(row.get(column) for row in rows.values())]
    better = {"min": "less", "max": "more"}[content["mode"]]
    lines = [
        f"# {name}",
        "",
        content["question"],
        "",
        f"Mean ± standard deviation over seeds of {content['metric']}; {better} is better.",
    ]
    if any(f"{source} plan" in names for source in ("zero", "shuffled", "oracle")):
        lines[-1] += (
            " Plan columns: what the loss gains (+) or loses (-) when that plan is read instead of the predicted one."
        )
    lines += ["", f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {entry} | {' | '.join(row.get(column, '') for column in names)} |" for entry, row in rows.items()]
    counted = [*(run for runs in groups.values() for run in runs), *others]
    places = " / ".join(dict.fromkeys(map(_place, counted)))
    lines += ["", f"![The course of training]({name}.png)", "", f"Command: `{content['command']}`", ""]
    lines += [f"Machine: {places}. Further runs, to choose settings: {len(others)}.", ""]
    return "\n".join([*lines, *_not_chosen(others, content["metric"])])


def _options(run: dict[str, Any]) -> str:
    """Format the values of the options that the comparison searched."""
    return ", ".join(f"`{name}: {value}`" for name, value in run.get("grid", {}).items())


def _place(run: dict[str, Any]) -> str:
    versions = ", ".join(f"{package} {number}" for package, number in run["versions"].items())
    return f"{run['machine']}; {versions}"


def _not_chosen(runs: list[dict[str, Any]], metric: str) -> list[str]:
    """Return the lines of a table of the settings that were not chosen, or none."""
    tried: dict[tuple[str, float, str], list[float]] = {}
    for run in runs:
        tried.setdefault((run["entry"], run["learning_rate"], _options(run)), []).append(run["final"][metric])
    if not tried:
        return []
    searched = any(options for _, _, options in tried)
    head = f"| not chosen | learning rate |{' options |' if searched else ''} {metric} | seeds |"
    rows = [
        f"| {entry} | {rate:g} |{f' {options} |' if searched else ''} {_spread(values)} | {len(values)} |"
        for (entry, rate, options), values in tried.items()
    ]
    return [head, "|---" * (head.count("|") - 1) + "|", *rows, ""]


def _picture(content: dict[str, Any], groups: dict[str, list[dict[str, Any]]]) -> Figure:
    crowded = len(groups) > 8
    figure = Figure(figsize=(12 if crowded else 7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    styles = ["-", "--", ":", "-."]
    for index, (entry, runs) in enumerate(groups.items()):
        style, color = styles[index % len(styles)], f"C{index % 10}"
        for number, run in enumerate(runs):
            points = _course(run, content["metric"])
            axes.plot(
                [_tflops(run, step + 1) for step, _ in points],
                [value for _, value in points],
                marker="o",
                markersize=2.5,
                label=f"{entry} ({len(runs)} seeds)" if number == 0 else None,
                linestyle=style,
                color=color,
                linewidth=1.2,
            )
            for _, spent, _ in _stages(run)[1:]:
                axes.axvline(spent / 1e12, color=color, linewidth=0.6, alpha=0.5)
    axes.set_xlabel("training compute (TFLOPs); vertical lines: growth by a level")
    if all(len(run["stages"]) == 1 for runs in groups.values() for run in runs):
        axes.set_xlabel("training compute (TFLOPs)")
    axes.set_ylabel(_label(content["metric"]))
    axes.set_title(content["name"], fontsize=10)
    axes.grid(alpha=0.3)
    if crowded:
        figure.legend(fontsize=8, loc="outside right center", ncols=2)
    else:
        axes.legend(fontsize=8)
    return figure


def _label(metric: str) -> str:
    """Return what a picture calls a metric."""
    if metric == LOSS:
        return "validation cross-entropy (nats per token)"
    if metric == EXACT or named_answers([metric]):
        return f"right answers: {metric.removeprefix(ANSWER).replace('_', ' ')} (share of held-out prompts)"
    return metric
