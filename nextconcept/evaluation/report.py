"""The table and the picture of a comparison."""

from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure

__all__ = ["write_report"]

SOLVED = 0.99
"""Share of exact paths from which a run counts as having solved the star graph."""

LABELS = {
    "val/loss/tokens": "validation cross-entropy (nats per token)",
    "val/path/exact": "exact paths (share of held-out lines)",
    "val/path/first_branch": "right first branch (share of held-out lines)",
}
"""What metrics are called in pictures."""


def write_report(content: dict[str, Any], chosen: list[str], tried: list[str], path: Path) -> None:
    """Write ``PATH.md`` and ``PATH.png``.

    Args:
        content: the JSON file of a comparison.
        chosen: keys of the runs that count.
        tried: keys of the runs that tried learning rates; others are of an earlier state of the comparison.
        path: without suffix.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in content["runs"]:
        if record["key"] in chosen:
            groups.setdefault(record["entry"], []).append(record)
    others = [record for record in content["runs"] if record["key"] in tried and record["key"] not in chosen]
    path.with_suffix(".md").write_text(_table(content, groups, others, path.name), encoding="utf-8")
    _picture(content, groups).savefig(path.with_suffix(".png"), dpi=110)


def _stages(run: dict[str, Any]) -> list[tuple[int, float, float]]:
    """``(first step, flops spent before it, flops per step)`` of each stage."""
    stages: list[tuple[int, float, float]] = []
    for step, cost in run["stages"]:
        before = stages[-1][1] + (step - stages[-1][0]) * stages[-1][2] if stages else 0.0
        stages.append((step, before, cost))
    return stages


def _tflops(run: dict[str, Any], steps: int) -> float:
    """Training compute of the first ``steps`` optimizer steps, those of smaller models counted."""
    first, before, cost = next(stage for stage in reversed(_stages(run)) if stage[0] <= steps)
    return (before + (steps - first) * cost) / 1e12


def _course(run: dict[str, Any], metric: str) -> list[tuple[int, float]]:
    """``(step, value)`` of a metric in training, and at its end."""
    return [*run["curves"].get(metric, []), (run["steps"] - 1, run["final"][metric])]


def _spread(values: Iterable[float]) -> str:
    values = list(values)
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def _gap(runs: list[dict[str, Any]], source: str) -> str:
    name, finals = f"val/loss/tokens_{source}", [run["final"] for run in runs]
    if name not in finals[0]:
        return ""
    return f"{mean(final[name] - final['val/loss/tokens'] for final in finals):+.4f}"


def _reached(content: dict[str, Any], runs: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> str:
    """With what share of the baseline's compute runs reach its final value, on average of those that do."""
    metric, sign = content["metric"], 1 if content["mode"] == "min" else -1
    target = mean(run["final"][metric] for run in baseline)
    whole = mean(_tflops(run, run["steps"]) for run in baseline)
    shares = []
    for run in runs:
        steps = [step for step, value in _course(run, metric) if sign * value <= sign * target]
        if steps:
            shares.append(_tflops(run, steps[0] + 1) / whole)
    if not shares:
        return "never"
    return f"{mean(shares):.0%}" + (f" ({len(shares)} of {len(runs)} runs)" if len(shares) < len(runs) else "")


def _columns(content: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, str]:
    metric, first, finals = content["metric"], runs[0], [run["final"] for run in runs]
    columns = {metric: _spread(final[metric] for final in finals), "seeds": str(len(runs))}
    if "val/path/exact" in finals[0]:
        solved = sum(final["val/path/exact"] >= SOLVED for final in finals)
        columns |= {
            "first branch": _spread(final["val/path/first_branch"] for final in finals),
            "solved": f"{solved} of {len(runs)}",
        }
        for source in ("zero", "shuffled"):
            shares = [final.get(f"val/path/first_branch_{source}") for final in finals]
            columns[f"first branch, {source} plan"] = "" if None in shares else _spread(shares)
    else:
        if "val/bits_per_byte" in finals[0]:
            columns["bits per byte"] = f"{mean(final['val/bits_per_byte'] for final in finals):.4f}"
        columns |= {f"{source} plan": _gap(runs, source) for source in ("zero", "shuffled", "oracle")}
    return columns | {
        "parameters": f"{first['parameters'] / 1e6:.2f} M",
        "MFLOPs per token": f"{first['flops_per_token'] / 1e6:.2f}",
        "training TFLOPs": f"{_tflops(first, first['steps']):.1f}",
        "steps": str(first["steps"]),
        "learning rate": f"{first['learning_rate']:g}",
        "tokens/s": f"{mean(run['tokens_per_second'] for run in runs):.0f}",
    }


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
    if any(column.endswith(" plan") and "branch" not in column for column in names):
        lines[-1] += (
            " Plan columns: what the loss gains (+) or loses (-) when that plan is read instead of the predicted one."
        )
    lines += ["", f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {entry} | {' | '.join(row.get(column, '') for column in names)} |" for entry, row in rows.items()]
    counted = [*(run for runs in groups.values() for run in runs), *others]
    places = " / ".join(dict.fromkeys(map(_place, counted)))
    lines += ["", f"![The course of training]({name}.png)", "", f"Command: `{content['command']}`", ""]
    lines += [f"Machine: {places}. Further runs, to choose learning rates: {len(others)}.", ""]
    return "\n".join([*lines, *_not_chosen(others, content["metric"])])


def _place(run: dict[str, Any]) -> str:
    versions = ", ".join(f"{package} {number}" for package, number in run["versions"].items())
    return f"{run['machine']}; {versions}"


def _not_chosen(runs: list[dict[str, Any]], metric: str) -> list[str]:
    """Lines of a table of the learning rates that were tried and not chosen, if there are any."""
    tried: dict[tuple[str, float], list[float]] = {}
    for run in runs:
        tried.setdefault((run["entry"], run["learning_rate"]), []).append(run["final"][metric])
    rows = [f"| {entry} | {rate:g} | {_spread(values)} | {len(values)} |" for (entry, rate), values in tried.items()]
    return [f"| not chosen | learning rate | {metric} | seeds |", "|---|---|---|---|", *rows, ""] if rows else []


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
    axes.set_ylabel(LABELS.get(content["metric"], content["metric"]))
    axes.set_title(content["name"], fontsize=10)
    axes.grid(alpha=0.3)
    if crowded:
        figure.legend(fontsize=8, loc="outside right center", ncols=2)
    else:
        axes.legend(fontsize=8)
    return figure
