"""Tables and pictures of comparisons."""

import math
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from nextconcept.evaluation.pictures import draw_comparison
from nextconcept.evaluation.report import write_report
from tests.helpers import run_record


def names(*keys: str) -> dict[str, list[str]]:
    """The entries of runs whose keys are those of :func:`run_record`."""
    return {key: [key[:-1]] for key in keys}


def content(*runs: dict) -> dict:
    return {
        "name": "trial",
        "question": "Which?",
        "metric": "val/loss/tokens",
        "mode": "min",
        "command": "nextconcept compare --config x.yaml",
        "runs": list(runs),
    }


def test_write_report__means_and_spreads_of_the_chosen_runs(tmp_path: Path):
    runs = [run_record("gpt", 0, 2.0), run_record("gpt", 1, 2.2), run_record("gpt", 9, 7.0), run_record("plan", 0, 1.5)]
    runs.append(run_record("gpt", 5, 8.0))  # of an earlier state of the comparison
    write_report(content(*runs), names("gpt0", "gpt1", "plan0"), names("gpt0", "gpt9"), tmp_path / "trial")
    lines = (tmp_path / "trial.md").read_text().splitlines()
    gpt, *others = [line for line in lines if line.startswith("| gpt")]
    cells = [cell.strip() for cell in gpt.strip("|").split("|")]
    assert cells[:4] == ["gpt", "2.1000 ± 0.1414", "2", "+0.5000"]
    assert cells[4:] == ["2.50 M", "3.00", "10.0", "10", "0.001", "1234"]
    assert "Mean ± standard deviation over seeds of val/loss/tokens; less is better." in lines
    assert (
        "The standard deviation of the seeds, pooled over the entries, is 0.1414, so twice the standard error of a "
        "difference of two entries of 2 seeds is 0.2828."
    ) in lines
    assert "Further runs, to choose settings: 1." in "\n".join(lines)
    assert others == ["| gpt | 0.001 | 7.0000 | 1 |"]
    assert "Machine: 2 cores; torch 1. Further" in "\n".join(lines)
    runs[1] |= {"machine": "1 x H200"}
    write_report(content(*runs), names("gpt0", "gpt1", "plan0"), names("gpt0", "gpt9"), tmp_path / "trial")
    assert "Machine: 2 cores; torch 1 / 1 x H200; torch 1. Further" in (tmp_path / "trial.md").read_text()
    assert (tmp_path / "trial.png").stat().st_size > 5000
    write_report(content(*runs), names("gpt0"), {}, tmp_path / "trial_1.5")
    assert {path.name for path in tmp_path.iterdir()} >= {"trial_1.5.md", "trial_1.5.png"}


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_write_report__seeds_that_diverged(broken: float, tmp_path: Path):
    runs = [
        run_record("gpt", 0, 2.0),
        run_record("gpt", 1, broken),
        run_record("gpt", 8, 3.0),
        run_record("gpt", 9, broken),
    ]
    write_report(content(*runs), names("gpt0", "gpt1"), names("gpt8", "gpt9"), tmp_path / "trial")
    table = (tmp_path / "trial.md").read_text()
    assert "| gpt | nan ± nan | 2 |" in table
    assert "pooled" not in table
    assert "| gpt | 0.001 | nan ± nan | 2 |" in table


def test_write_report__options_that_were_searched(tmp_path: Path):
    deep, flat = [run_record("plan", seed, 2.0 + seed) | {"grid": {"depth": 9 - seed}} for seed in (0, 1)]
    write_report(content(deep, flat), names("plan0"), names("plan0", "plan1"), tmp_path / "trial")
    lines = (tmp_path / "trial.md").read_text().splitlines()
    chosen, other = [line for line in lines if line.startswith("| plan")]
    assert "| `depth: 9` |" in chosen
    assert other == "| plan | 0.001 | `depth: 8` | 3.0000 | 1 |"
    tables = [line.count("|") for line in lines if line.startswith("|")]
    assert tables[0] == tables[1] == tables[2]
    assert tables[3] == tables[4] == tables[5] == 6


TASK = {"val/answer/token_1": 0.99, "val/answer/first_branch": 0.9}
OTHER_PLANS = {
    "val/answer/first_branch_zero": 0.5,
    "val/answer/first_branch_shuffled": 0.1,
    "val/answer/exact_zero": 0.2,
}


def test_write_report__a_task_with_a_named_answer(tmp_path: Path):
    runs = [
        run_record("plan", seed, 1.0, **TASK, **OTHER_PLANS, **{"val/answer/exact": exact})
        for seed, exact in ((0, 0.995), (1, 0.9))
    ]
    for run in runs:  # the second seed is at 0.99 for a while, and does not end there
        run["curves"]["val/answer/exact"] = [[2, 0.5], [4, 0.99], [9, run["final"]["val/answer/exact"]]]
    write_report(content(*runs) | {"metric": "val/answer/exact"}, names("plan0", "plan1"), {}, tmp_path / "trial")
    head, _, row = [line for line in (tmp_path / "trial.md").read_text().splitlines() if line.startswith("|")]
    assert head.startswith(
        "| | val/answer/exact | seeds | first branch | solved seeds | TFLOPs until solved | first branch, zero plan |"
    )
    assert row.startswith("| plan | 0.9475 ± 0.0672 | 2 | 0.9000 ± 0.0000 | 1 of 2 | 5.0 | 0.5000 ± 0.0000 | ")


def test_write_report__a_task_without_named_answers(tmp_path: Path):
    answers = {"val/answer/exact": 1.0, "val/answer/exact_zero": 0.25, "val/answer/token_1": 1.0}
    write_report(content(run_record("plan", 0, 1.0, **answers)), names("plan0"), {}, tmp_path / "trial")
    head, _, row = [line for line in (tmp_path / "trial.md").read_text().splitlines() if line.startswith("|")]
    assert head.startswith("| | val/loss/tokens | seeds | exact | solved seeds | TFLOPs until solved | exact, zero ")
    assert row.startswith("| plan | 1.0000 | 1 | 1.0000 | 1 of 1 | 10.0 | 0.2500 | ")


@pytest.mark.parametrize(("exact", "solved"), [(0.9899, "0 of 1"), (0.99, "1 of 1")])
def test_write_report__a_seed_is_solved_from_99_percent_on(exact: float, solved: str, tmp_path: Path):
    write_report(
        content(run_record("plan", 0, 1.0, **{"val/answer/exact": exact})), names("plan0"), {}, tmp_path / "trial"
    )
    assert f"| {solved} |" in (tmp_path / "trial.md").read_text()


def test_write_report__counts_the_flops_of_smaller_models(tmp_path: Path):
    grown = run_record("grown", 0, 2.0) | {"stages": [[0, 1e12], [4, 3e12]]}
    write_report(content(grown), names("grown0"), {}, tmp_path / "trial")
    assert "| 22.0 | 10 |" in (tmp_path / "trial.md").read_text()  # 4 steps of 1 and 6 of 3


def test_write_report__compute_at_which_the_baseline_is_reached(tmp_path: Path):
    runs = [
        run_record("gpt", 0, 2.0),
        run_record("gpt", 1, 2.2),
        run_record("plan", 0, 1.0),
        run_record("plan", 1, 2.5),
    ]
    runs.append(run_record("worse", 0, 3.0))
    runs.append(run_record("costly", 0, 1.0) | {"stages": [[0, 4e12]]})
    task = content(*runs) | {"baseline": "gpt"}
    write_report(task, names(*(run["key"] for run in runs)), {}, tmp_path / "trial")
    lines = (tmp_path / "trial.md").read_text().splitlines()
    head, *rows = (line for line in lines if line.startswith("|") and "---" not in line)
    assert head.endswith("| reaches gpt at |")
    ends = {row.split(" | ")[0]: row.split(" | ")[-1] for row in rows}
    assert ends["| plan"] == "50% (1 of 2 runs) |"  # 2.1 is reached at step 5 of 10
    assert ends["| costly"] == "200% |"  # of the baseline's compute
    assert (ends["| worse"], ends["| gpt"]) == ("never |", " |")
    upward = [run | {"final": {"val/loss/tokens": 0.5}} for run in runs[:1]] + runs[2:3]
    write_report(task | {"mode": "max", "runs": upward}, names(*(run["key"] for run in upward)), {}, tmp_path / "up")
    assert any(
        line.startswith("| plan") and line.endswith("| 50% |") for line in (tmp_path / "up.md").read_text().splitlines()
    )


@pytest.mark.parametrize("metric", ["val/answer/exact", "val/answer/first_branch", "val/bits_per_byte"])
def test_write_report__pictures_of_any_metric(metric: str, tmp_path: Path):
    run = run_record("plan", 0, 1.0, **{metric: 0.5})
    write_report(content(run) | {"metric": metric, "mode": "max"}, names("plan0"), {}, tmp_path / "trial")
    assert (tmp_path / "trial.png").exists()


def test_write_report__a_row_per_budget_beside_the_baseline_of_that_budget(tmp_path: Path):
    runs = [
        run_record(entry, seed, loss) | {"key": f"{entry}{seed}{budget:g}", "budget": {"flops": budget}}
        for entry, losses in (("gpt", (3.0, 2.0)), ("plan", (3.5, 1.0)))
        for budget, loss in zip((1e12, 1e13), losses, strict=True)
        for seed in (0, 1)
    ]
    spare = run_record("gpt", 0, 9.0) | {"key": "spare", "budget": {"flops": 1e13}}
    keys = {run["key"]: [run["entry"]] for run in runs}
    write_report(content(*runs, spare) | {"baseline": "gpt"}, keys, {"spare": ["gpt"]}, tmp_path / "trial")
    rows = [line for line in (tmp_path / "trial.md").read_text().splitlines() if line.startswith(("| gpt", "| plan"))]
    assert [row.split(" | ")[:3] for row in rows[:4]] == [
        ["| gpt", "1e+12 FLOPs", "3.0000 ± 0.0000"],
        ["| plan", "1e+12 FLOPs", "3.5000 ± 0.0000"],
        ["| gpt", "1e+13 FLOPs", "2.0000 ± 0.0000"],
        ["| plan", "1e+13 FLOPs", "1.0000 ± 0.0000"],
    ]
    assert [row.split(" | ")[-1] for row in rows[:4]] == [" |", "never |", " |", "50% |"]


def drawn(runs: list[dict], **head: object) -> list[Axes]:
    groups: dict = {}
    for run in runs:
        groups.setdefault((next(iter(run["budget"].items())), run["entry"]), []).append(run)
    return draw_comparison(content() | head, groups).axes


def test_draw_comparison__final_losses_against_the_budget():
    runs = [
        run_record(entry, seed, loss + seed) | {"budget": {"flops": budget}}
        for entry, budget, loss in (("gpt", 1e12, 3.0), ("gpt", 1e13, 2.0), ("plan", 1e12, 4.0), ("plan", 1e13, 1.0))
        for seed in (0, 1)
    ]
    (axes,) = drawn(runs)
    assert [container.get_label() for container in axes.containers] == ["gpt", "plan"]
    assert axes.get_xscale() == "log"
    assert [container[0].get_xydata().tolist() for container in axes.containers] == [
        [[1e12, 3.5], [1e13, 2.5]],
        [[1e12, 4.5], [1e13, 1.5]],
    ]


def test_draw_comparison__shares_against_the_budget_are_in_percent_too():
    runs = [
        run_record("gpt", 0, 1.0, **{"val/answer/exact": share}) | {"budget": {"flops": budget}}
        for budget, share in ((1e12, 0.25), (1e13, 0.5))
    ]
    (axes,) = drawn(runs, metric="val/answer/exact", mode="max")
    assert axes.containers[0][0].get_ydata().tolist() == [25.0, 50.0]


def test_draw_comparison__against_an_option_with_a_panel_per_budget():
    option = "model.config.sliding_window"
    runs = [
        run_record(f"gpt_{window}", 0, loss) | {"budget": {"flops": budget}, "arguments": [f"--{option}", window]}
        for budget in (1e12, 1e13)
        for window, loss in (("1024", 2.0), ("16", 1.0), ("null", 4.0), ("256", 3.0))
    ]
    panels = drawn(runs, against=option)
    assert [axes.get_title() for axes in panels] == ["1e+12 FLOPs", "1e+13 FLOPs"]
    for axes in panels:
        assert [label.get_text() for label in axes.get_xticklabels()] == ["16", "256", "1024", "none"]
        assert axes.containers[0][0].get_ydata().tolist() == [1.0, 3.0, 2.0, 4.0]


def test_draw_comparison__exact_answers_in_percent_with_the_mean_of_the_seeds():
    runs = [
        run_record("plan", seed, 1.0, **{"val/answer/exact": final})
        | {"budget": {"flops": 1e13}, "curves": {"val/answer/exact": [[4, 0.5 * seed], [9, final]]}}
        for seed, final in ((0, 0.5), (1, 1.0))
    ]
    (axes,) = drawn(runs, metric="val/answer/exact", mode="max")
    *_, average, solved = axes.get_lines()
    assert average.get_xydata().tolist() == [[5.0, 25.0], [10.0, 75.0]]
    assert average.get_label() == "plan (solved: 1 of 2 seeds)"
    assert list(solved.get_ydata()) == [99.0, 99.0]


def test_write_report__small_trials(tmp_path: Path):
    """A fraction of a TFLOP is not 0.0, nor is a rate that no run logged 0."""
    runs = [run_record("gpt", seed, 2.0) | {"stages": [[0, 2e8]], "tokens_per_second": 0.0} for seed in (0, 1)]
    write_report(content(*runs), names("gpt0", "gpt1"), {}, tmp_path / "trial")
    text = (tmp_path / "trial.md").read_text()
    assert "| 0.002 | 10 | 0.001 |" in text
    assert "tokens/s" not in text
    runs[1]["tokens_per_second"] = 50.0
    write_report(content(*runs), names("gpt0", "gpt1"), {}, tmp_path / "trial")
    assert "| 50 |" in (tmp_path / "trial.md").read_text()
