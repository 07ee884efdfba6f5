"""Exact answers against training compute, a panel per planning task, from results files.

    python benchmarks/planning_picture.py --results+ results/planning/g2_5.json
    --results+ results/planning/g3_4.json --results+ results/planning/g2_8.json
    --results+ results/planning/g5_5.json --results+ results/planning/countdown.json
    --results+ results/planning/maze.json

Thin lines are seeds, thick ones their means. Of each entry the runs with the settings that most
seeds have are drawn, and of several such settings those of the largest budget with the best mean.
"""

import json
import re
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

from nextconcept.cli.scripts import run_script
from nextconcept.core.errors import InputError
from nextconcept.evaluation.metrics import EXACT, SOLVED
from nextconcept.evaluation.records import budget_of, course, mean_course, tflops

NAMES = {
    "gpt": "GPT",
    "multi_token": "multi-token",
    "next_latent": "NextLat",
    "teacherless": "teacherless",
    "belief_state": "belief state",
    "two_levels": "two levels",
    "three_levels": "three levels",
}

COLUMNS = 3
"""Panels side by side."""


def chosen_runs(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the runs of each entry of a results file that are to be drawn.

    Raises:
        InputError: if the file is not one of a comparison of exact answers.
    """
    settings: dict[str, dict[str, list[dict[str, Any]]]] = {}
    try:
        for run in json.loads(path.read_text(encoding="utf-8"))["runs"]:
            key = json.dumps([budget_of(run), run["learning_rate"], run.get("grid", {})])
            settings.setdefault(run["entry"], {}).setdefault(key, []).append(run)
        return {entry: max(found.values(), key=_worth) for entry, found in settings.items()}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} is not the results file of a comparison of {EXACT}: give its JSON file.") from None


def _worth(runs: list[dict[str, Any]]) -> tuple[int, float, float]:
    """Compare runs with equal settings by seeds, then by training FLOPs, then by their answers."""
    return len(runs), tflops(runs[0], runs[0]["steps"]), mean(run["final"][EXACT] for run in runs)


def main(results: list[str], output: str = "results/planning/planning.png") -> None:
    """Draw the picture.

    Args:
        results: JSON files of comparisons, a panel each.
        output: the picture.
    """
    panels = {Path(path).stem: chosen_runs(Path(path)) for path in results}
    entries = dict.fromkeys([*NAMES, *(entry for panel in panels.values() for entry in panel)])
    colors = {entry: f"C{index % 10}" for index, entry in enumerate(entries)}
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 4.8 * rows), layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (task, panel) in zip(every, panels.items(), strict=False):
        for entry in filter(panel.get, colors):
            runs, color = panel[entry], colors[entry]
            lines = [[(tflops(run, step + 1), 100 * value) for step, value in course(run, EXACT)] for run in runs]
            for line in lines:
                axes.plot(*zip(*line, strict=True), color=color, linewidth=0.7, alpha=0.4)
            solved = sum(run["final"][EXACT] >= SOLVED for run in runs)
            label = f"{NAMES.get(entry, entry)}: {solved} of {len(runs)}"
            axes.plot(*mean_course(lines), color=color, linewidth=2.2, label=label)
        axes.set_title(re.sub(r"^g(\d+)_(\d+)$", r"G(\1, \2)", task))
        axes.set_xlabel("training compute (TFLOPs)")
        axes.set_ylim(-3, 103)
        axes.grid(alpha=0.3)
        axes.legend(
            fontsize=8, title="solved seeds", title_fontsize=8, loc="upper center", ncols=2, bbox_to_anchor=(0.5, -0.16)
        )
    for axes in figure.axes[::columns]:
        axes.set_ylabel("exact answers (% of held-out prompts)")
    for axes in figure.axes[len(panels) :]:
        axes.remove()
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    run_script(main)
