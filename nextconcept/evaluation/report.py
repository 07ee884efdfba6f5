"""Table and picture of a comparison."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from nextconcept.checkpoints.complete_files import complete
from nextconcept.evaluation.metrics import ANSWER, EXACT, LOSS, SOLVED, named_answers
from nextconcept.evaluation.pictures import draw_comparison
from nextconcept.evaluation.records import Groups, budget_of, format_budget, reaches, spread, tflops

__all__ = ["write_report"]


def write_report(
    content: dict[str, Any], chosen: Mapping[str, Sequence[str]], tried: Mapping[str, Sequence[str]], path: Path
) -> None:
    """Write the table ``PATH.md`` and the picture ``PATH.png`` of a comparison.

    Args:
        content: content of the comparison's JSON file.
        chosen: of the runs that the table compares, by their keys, the names of the entries whose
            they are; entries with the same settings share a run.
        tried: the same of the runs that tried learning rates. Runs that are in neither belong to an
            earlier state of the comparison, and are left out.
        path: path of the files without suffix.

    Raises:
        InputError: if a file can't be written.
    """
    groups: dict[Any, list[dict[str, Any]]] = {}
    for record in _named(content, chosen):
        groups.setdefault((budget_of(record), record["entry"]), []).append(record)
    groups = dict(sorted(groups.items(), key=lambda item: item[0][0] or ("", 0.0)))  # keeps the order of entries
    others = _named(content, {key: names for key, names in tried.items() if key not in chosen})
    # A name may have a dot in it, after which with_suffix would cut.
    with complete(path.with_name(f"{path.name}.md")) as table:
        table.write_text(_table(content, groups, others, path.name), encoding="utf-8")
    with complete(path.with_name(f"{path.name}.png")) as picture:
        draw_comparison(content, groups).savefig(picture, dpi=110, format="png")


def _named(content: dict[str, Any], names: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return records with the names of their entries, not the names that they were made under."""
    return [record | {"entry": name} for record in content["runs"] for name in names.get(record["key"], ())]


def _spread(values: Iterable[float]) -> str:
    values = list(values)
    middle, deviation = spread(values)
    return f"{middle:.4f}" + (f" ± {deviation:.4f}" if len(values) > 1 else "")


def _compute(number: float) -> str:
    """Format TFLOPs, of which small trials have a fraction."""
    return f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def _gap(finals: list[dict[str, float]], source: str) -> str:
    """Format what the loss gains when another plan is read instead of the predicted one."""
    name = f"{LOSS}_{source}"
    return (
        f"{mean(final[name] - final[LOSS] for final in finals):+.4f}" if all(name in final for final in finals) else ""
    )


def _reached(content: dict[str, Any], runs: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> str:
    """Format the share of the baseline's compute at which runs reach its final value.

    The mean is over the runs that reach it.
    """
    metric = content["metric"]
    target = mean(run["final"][metric] for run in baseline)
    total = mean(tflops(run, run["steps"]) for run in baseline)
    spent = [reaches(run, metric, target, content["mode"]) for run in runs]
    shares = [one / total for one in spent if one is not None]
    if not shares:
        return "never"
    return f"{mean(shares):.0%}" + (f" ({len(shares)} of {len(runs)} runs)" if len(shares) < len(runs) else "")


def _columns(content: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, str]:
    metric, first, finals = content["metric"], runs[0], [run["final"] for run in runs]
    columns = {metric: _spread(final[metric] for final in finals), "seeds": str(len(runs))}
    if EXACT in finals[0]:
        columns |= _answer_columns(runs, metric)
    else:
        if all("val/bits_per_byte" in final for final in finals):
            columns["bits per byte"] = f"{mean(final['val/bits_per_byte'] for final in finals):.4f}"
        columns |= {f"{source} plan": _gap(finals, source) for source in ("zero", "shuffled", "oracle")}
    # A run that is short, or has no progress bar, logs none.
    rates = [run["tokens_per_second"] for run in runs if run["tokens_per_second"]]
    return columns | {
        "parameters": f"{first['parameters'] / 1e6:.2f} M",
        "MFLOPs per token": f"{first['flops_per_token'] / 1e6:.2f}",
        "training TFLOPs": _compute(tflops(first, first["steps"])),
        "steps": str(first["steps"]),
        "learning rate": f"{first['learning_rate']:g}",
        "options": _options(first),
        "tokens/s": f"{mean(rates):.0f}" if rates else "",
    }


def _answer_columns(runs: Sequence[Mapping[str, Any]], metric: str) -> dict[str, str]:
    """Return the columns of a planning task: its answers, also with another plan."""
    finals = [run["final"] for run in runs]
    names = named_answers(finals[0])
    columns = {} if metric == EXACT else {"exact": _spread(final[EXACT] for final in finals)}
    for name in names:
        columns[name.replace("_", " ")] = _spread(final[f"{ANSWER}{name}"] for final in finals)
    solved = [run for run in runs if run["final"][EXACT] >= SOLVED]
    spent = [one for run in solved if (one := reaches(run, EXACT, SOLVED, "max")) is not None]
    columns["solved seeds"] = f"{len(solved)} of {len(runs)}"
    columns["TFLOPs until solved"] = _compute(mean(spent)) if spent else ""
    for name in names or ["exact"]:
        for source in ("zero", "shuffled"):
            values = [final[tag] for final in finals if (tag := f"{ANSWER}{name}_{source}") in final]
            shown = _spread(values) if len(values) == len(finals) else ""
            columns[f"{name.replace('_', ' ')}, {source} plan"] = shown
    return columns


def _table(content: dict[str, Any], groups: Groups, others: list[dict[str, Any]], name: str) -> str:
    rows = {key: _columns(content, runs) for key, runs in groups.items()}
    if len({budget for budget, _ in groups}) > 1:
        rows = {key: {"budget": format_budget(key[0])} | row for key, row in rows.items()}
    baseline = content.get("baseline") or ""
    for (budget, entry), runs in groups.items():
        if (budget, baseline) in groups:
            reached = "" if entry == baseline else _reached(content, runs, groups[budget, baseline])
            rows[budget, entry][f"reaches {baseline} at"] = reached
    names = list(dict.fromkeys(column for row in rows.values() for column in row))
    names = [column for column in names if any(row.get(column) for row in rows.values())]
    question = re.sub(r"(?<=[.?]) (?=[A-Z`])", "\n", content["question"])  # a sentence per line
    lines = [f"# {name}", "", question, "", _caption(content, names) + _noise(content, groups)]
    lines += ["", f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [
        f"| {entry} | {' | '.join(row.get(column, '') for column in names)} |" for (_, entry), row in rows.items()
    ]
    counted = [*(run for runs in groups.values() for run in runs), *others]
    places = " / ".join(dict.fromkeys(map(_place, counted)))
    lines += ["", f"![{name}]({name}.png)", "", f"Command: `{content['command']}`", ""]
    lines += [f"Machine: {places}. Further runs, to choose settings: {len(others)}.", ""]
    return "\n".join([*lines, *_not_chosen(others, content["metric"])])


def _caption(content: dict[str, Any], columns: list[str]) -> str:
    """Return the sentences that say what the numbers of the table are, a line each."""
    better = {"min": "less", "max": "more"}[content["mode"]]
    caption = f"Mean ± standard deviation over seeds of {content['metric']}; {better} is better."
    if any(f"{source} plan" in columns for source in ("zero", "shuffled", "oracle")):
        caption += (
            "\nPlan columns: what the loss gains (+) or loses (-) when that plan is read instead of the predicted one."
        )
    if "solved seeds" in columns:
        caption += (
            f"\nA seed is solved if it ends with at least {SOLVED:.0%} exact answers; until solved: training TFLOPs of "
            "these seeds up to the first validation that sees as many."
        )
    return caption


def _noise(content: dict[str, Any], groups: Groups) -> str:
    """Return a line that says by how much two entries may differ by chance, or none.

    Exact answers have none, because their spread depends on their share, and neither have tables of
    several budgets.
    """
    losses = [[run["final"][content["metric"]] for run in runs] for runs in groups.values() if len(runs) > 1]
    if content["mode"] != "min" or not losses or len({budget for budget, _ in groups}) > 1:
        return ""
    deviation, fewest = mean(spread(values)[1] ** 2 for values in losses) ** 0.5, min(map(len, losses))
    if math.isnan(deviation):  # a run diverged
        return ""
    return (
        f"\nThe standard deviation of the seeds, pooled over the entries, is {deviation:.4f}, so twice the standard "
        f"error of a difference of two entries of {fewest} seeds is {2 * deviation * (2 / fewest) ** 0.5:.4f}."
    )


def _options(run: dict[str, Any]) -> str:
    """Format the values of the options that the comparison searched."""
    return ", ".join(f"`{name}: {value}`" for name, value in run.get("grid", {}).items())


def _place(run: dict[str, Any]) -> str:
    versions = ", ".join(f"{package} {number}" for package, number in run["versions"].items())
    return f"{run['machine']}; {versions}"


def _not_chosen(runs: list[dict[str, Any]], metric: str) -> list[str]:
    """Return the lines of a table of the settings that were not chosen, or none."""
    tried: dict[tuple[str, ...], list[float]] = {}
    for run in runs:
        cells = run["entry"], format_budget(budget_of(run)), f"{run['learning_rate']:g}", _options(run)
        tried.setdefault(cells, []).append(run["final"][metric])
    if not tried:
        return []
    shown = [True, len({budget for _, budget, _, _ in tried}) > 1, True, any(options for *_, options in tried)]

    def row(cells: Iterable[str]) -> str:
        """Join the cells of the columns that are shown."""
        return " | ".join(cell for cell, show in zip(cells, shown, strict=True) if show)

    head = f"| {row(('not chosen', 'budget', 'learning rate', 'options'))} | {metric} | seeds |"
    rows = [f"| {row(cells)} | {_spread(values)} | {len(values)} |" for cells, values in tried.items()]
    return [head, "|---" * (head.count("|") - 1) + "|", *rows, ""]
