"""The comparison harness."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from nextconcept import InputError
from nextconcept.cli.main import main
from nextconcept.evaluation.compare import Entry, Growth, compare
from nextconcept.evaluation.report import write_report
from tests.helpers import fails


def record(entry: str, seed: int, loss: float, **final: float) -> dict:
    finals = {"val/loss/tokens": loss, "val/loss/tokens_shuffled": loss + 0.5} | final
    return {
        "entry": entry,
        "learning_rate": 1e-3,
        "seed": seed,
        "key": f"{entry}{seed}",
        "machine": "2 cores",
        "versions": {"torch": "1"},
        "steps": 10,
        "parameters": 2_500_000,
        "flops_per_token": 3e6,
        "stages": [[0, 1e12]],
        "tokens_per_second": 1234.0,
        "final": finals,
        "curves": {"val/loss/tokens": [[4, loss + 1], [9, loss]]},
    }


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
    runs = [record("gpt", 0, 2.0), record("gpt", 1, 2.2), record("gpt", 9, 7.0), record("plan", 0, 1.5)]
    runs.append(record("gpt", 5, 8.0))  # of an earlier state of the comparison
    write_report(content(*runs), ["gpt0", "gpt1", "plan0"], ["gpt0", "gpt9"], tmp_path / "trial")
    lines = (tmp_path / "trial.md").read_text().splitlines()
    gpt, *others = [line for line in lines if line.startswith("| gpt")]
    cells = [cell.strip() for cell in gpt.strip("|").split("|")]
    assert cells[:4] == ["gpt", "2.1000 ± 0.1414", "2", "+0.5000"]
    assert cells[4:] == ["2.50 M", "3.00", "10.0", "10", "0.001", "1234"]
    assert "Further runs, to choose learning rates: 1." in "\n".join(lines)
    assert others == ["| gpt | 0.001 | 7.0000 | 1 |"]
    assert "Machine: 2 cores; torch 1. Further" in "\n".join(lines)
    runs[1] |= {"machine": "1 x H200"}
    write_report(content(*runs), ["gpt0", "gpt1", "plan0"], ["gpt0", "gpt9"], tmp_path / "trial")
    assert "Machine: 2 cores; torch 1 / 1 x H200; torch 1. Further" in (tmp_path / "trial.md").read_text()
    assert (tmp_path / "trial.png").stat().st_size > 5000


def test_write_report__star_graphs_have_a_solve_rate(tmp_path: Path):
    path = {"val/path/first_branch": 0.9, "val/path/first_branch_zero": 0.5, "val/path/first_branch_shuffled": 0.1}
    runs = [record("plan", seed, 1.0, **path, **{"val/path/exact": exact}) for seed, exact in ((0, 0.995), (1, 0.9))]
    write_report(content(*runs), ["plan0", "plan1"], [], tmp_path / "trial")
    assert "| 1 of 2 | 0.5000 ± 0.0000 | 0.1000 ± 0.0000 |" in (tmp_path / "trial.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entries": {}}, "needs entries"),
        ({"entries": {"a": Entry(["missing.yaml"])}}, "missing.yaml.*no file"),
        ({"entries": {"a": Entry([])}}, "nothing"),
        ({"entries": {"a": Entry(["x"])}, "flops": 1.0, "tokens": 1.0}, "not in both"),
        ({"entries": {"a": Entry(["x"])}, "tuning_seeds": 4}, "between 1 and the number of seeds, 3, not 4"),
        ({"entries": {"a": Entry(["x"])}, "baseline": "b"}, "'b' is none of the entries a"),
        ({"entries": {"a": Entry([__file__], growth=Growth([__file__], [0.5, 0.5]))}}, "budget of flops or tokens"),
    ],
)
def test_compare__bad_input(options: dict, message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        compare("trial", output=str(tmp_path / "results"), logs=str(tmp_path / "logs"), **options)
    assert not list(tmp_path.iterdir())


def test_write_report__counts_the_flops_of_smaller_models(tmp_path: Path):
    grown = record("grown", 0, 2.0) | {"stages": [[0, 1e12], [4, 3e12]]}
    write_report(content(grown), ["grown0"], [], tmp_path / "trial")
    assert "| 22.0 | 10 |" in (tmp_path / "trial.md").read_text()  # 4 steps of 1 and 6 of 3


def test_write_report__compute_at_which_the_baseline_is_reached(tmp_path: Path):
    runs = [record("gpt", 0, 2.0), record("gpt", 1, 2.2), record("plan", 0, 1.0), record("plan", 1, 2.5)]
    runs.append(record("worse", 0, 3.0))
    told = content(*runs) | {"baseline": "gpt"}
    write_report(told, [run["key"] for run in runs], [], tmp_path / "trial")
    lines = (tmp_path / "trial.md").read_text().splitlines()
    head, *rows = (line for line in lines if line.startswith("|") and "---" not in line)
    assert head.endswith("| reaches gpt at |")
    ends = {row.split(" | ")[0]: row.split(" | ")[-1] for row in rows}
    assert ends["| plan"] == "50% (1 of 2 runs) |"  # 2.1 is reached at step 5 of 10
    assert (ends["| worse"], ends["| gpt"]) == ("never |", " |")
    upward = [run | {"final": {"val/loss/tokens": 0.5}} for run in runs[:1]] + runs[2:3]
    write_report(told | {"mode": "max", "runs": upward}, [run["key"] for run in upward], [], tmp_path / "up")
    assert any(
        line.startswith("| plan") and line.endswith("| 50% |") for line in (tmp_path / "up.md").read_text().splitlines()
    )


@pytest.fixture
def untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Compare without training: with 1e-3 all seeds end alike, with 2e-3 the first does better and the others fail."""
    losses = {(1e-3, 0): 2.1, (1e-3, 1): 2.1, (1e-3, 2): 2.1, (2e-3, 0): 2.0, (2e-3, 1): 9.0, (2e-3, 2): 9.0}

    def train(self: object, run: Any, environment: dict) -> dict:
        made = record(run.entry, run.seed, losses[run.learning_rate, run.seed])
        return made | {"key": run.key, "learning_rate": run.learning_rate}

    def compared(**options: Any) -> dict:
        compare("trial", {"gpt": Entry([__file__])}, output=str(tmp_path), logs=str(tmp_path / "logs"), **options)
        return json.loads((tmp_path / "trial.json").read_text())

    monkeypatch.setattr("nextconcept.evaluation.compare._Workers._train", train)
    monkeypatch.setattr("sys.argv", ["nextconcept", "compare"])
    return compared


@pytest.mark.parametrize(("tuning_seeds", "rate"), [(1, 2e-3), (2, 1e-3)])
def test_compare__chooses_the_learning_rate_by_the_mean_over_seeds(
    tuning_seeds: int, rate: float, untrained: Callable[..., dict], tmp_path: Path
):
    found = untrained(learning_rates=(1e-3, 2e-3), tuning_seeds=tuning_seeds)
    gpt = next(line for line in (tmp_path / "trial.md").read_text().splitlines() if line.startswith("| gpt |"))
    assert f"| {rate:g} |" in gpt
    tried = [(run["learning_rate"], run["seed"]) for run in found["runs"]]
    assert len(tried) == len(set(tried)) == 3 + tuning_seeds


def test_compare__leaves_finished_runs_the_machine_that_made_them(untrained: Callable[..., dict], tmp_path: Path):
    found = untrained()
    where = {key: found["runs"][0][key] for key in ("machine", "versions")}
    found["runs"] = [{key: run[key] for key in run if key not in where} for run in found["runs"]]
    (tmp_path / "trial.json").write_text(json.dumps(found | where))  # as earlier versions wrote it
    again = untrained(question="Which?")
    assert {run["machine"] for run in again["runs"]} == {"2 cores"}
    assert (len(again["runs"]), again["question"]) == (3, "Which?")  # nothing was left to run


def test_growth__shares_that_do_not_add_up():
    with pytest.raises(InputError, match="add up to 1"):
        Growth(["x"], [0.5, 0.6])


@pytest.mark.slow
def test_compare__a_growing_entry(config: Path, capsys: pytest.CaptureFixture):
    """Two stages spend the budget together; a stage that is finished is not repeated."""
    later = yaml.safe_load(config.read_text())
    del later["model"]
    Path("later.yaml").write_text(yaml.safe_dump(later))
    spec = {
        "name": "trial",
        "seeds": [0],
        "tokens": 1280,
        "entries": {
            "grown": {
                "config": [str(config)],
                "options": {"model.config.levels": 1},
                "growth": {
                    "config": ["later.yaml"],
                    "shares": [0.4, 0.6],
                    "before": {"model.optimizer.min_lr_ratio": 1.0},
                },
            }
        },
    }
    Path("compare.yaml").write_text(yaml.safe_dump(spec))
    main(["compare", "--config", "compare.yaml"])
    (run,) = json.loads(Path("results/trial.json").read_text())["runs"]
    assert [step for step, _ in run["stages"]] == [0, 4]
    assert run["stages"][0][1] < run["stages"][1][1]
    assert run["steps"] == 10
    assert "val/loss/tokens_zero" in run["final"]
    (grown,) = Path("lightning_logs").glob("compare/trial/grown/*/grown_1")
    made = grown.stat().st_mtime
    Path("results/trial.json").unlink()
    main(["compare", "--config", "compare.yaml"])
    (again,) = json.loads(Path("results/trial.json").read_text())["runs"]
    assert again["final"] == run["final"]
    assert grown.stat().st_mtime == made


@pytest.mark.slow
def test_compare__trains_reports_and_repeats_nothing(config: Path, capsys: pytest.CaptureFixture):
    spec = {
        "name": "trial",
        "seeds": [0, 1],
        "learning_rates": [1e-3, 2e-3],
        "tokens": 600,
        "entries": {
            "gpt": {"config": [str(config)], "options": {"model.config.levels": 1}},
            "plan": {"config": [str(config)]},
        },
    }
    Path("compare.yaml").write_text(yaml.safe_dump(spec))
    main(["compare", "--config", "compare.yaml", "--jobs", "2"])
    assert capsys.readouterr().out.count("finished") == 6
    found = json.loads(Path("results/trial.json").read_text())
    assert {(run["entry"], run["seed"], run["steps"]) for run in found["runs"]} == {
        (e, s, 5) for e in ("gpt", "plan") for s in (0, 1)
    }
    assert "| plan | " in Path("results/trial.md").read_text()

    kept = [run for run in found["runs"] if run["seed"] == 0]
    Path("results/trial.json").write_text(json.dumps(found | {"runs": kept}))  # as if it had been stopped
    main(["compare", "--config", "compare.yaml"])
    assert capsys.readouterr().out.count("finished") == 2
    again = json.loads(Path("results/trial.json").read_text())
    assert [run["final"] for run in again["runs"]] == [run["final"] for run in found["runs"]]

    spec["entries"]["gpt"]["options"]["model.config.wings"] = 2
    Path("compare.yaml").write_text(yaml.safe_dump(spec))
    assert "wings" in fails(capsys, "compare", "--config", "compare.yaml")
    assert json.loads(Path("results/trial.json").read_text())["runs"]


@pytest.mark.slow
def test_compare__ends_its_runs_with_itself_and_goes_on(config: Path):
    spec = {"name": "trial", "seeds": [0], "entries": {"gpt": {"config": [str(config)]}}}
    Path("compare.yaml").write_text(yaml.safe_dump(spec | {"options": {"trainer.max_steps": 60}}))
    told = [sys.executable, "-m", "nextconcept", "compare", "--config", "compare.yaml"]
    with subprocess.Popen(told) as stopped:
        while not list(Path("lightning_logs").glob("**/last.ckpt")):
            time.sleep(0.1)
            assert stopped.poll() is None
        runs = psutil.Process(stopped.pid).children(recursive=True)
        assert runs
        stopped.terminate()
    assert stopped.returncode == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(runs, timeout=30)
    assert not alive
    assert not Path("results/trial.json").exists()
    assert subprocess.run(told, check=False).returncode == 0
    (run,) = json.loads(Path("results/trial.json").read_text())["runs"]
    assert run["steps"] == 60
    assert len(list(Path("lightning_logs").glob("**/stage_0/version_*"))) == 2  # it went on where it was stopped
