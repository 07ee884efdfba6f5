"""Comparisons as a whole."""

import itertools
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
import yaml

from nextconcept import InputError
from nextconcept.checkpoints.files import load_run
from nextconcept.cli.main import main
from nextconcept.core.errors import TrainingError
from nextconcept.evaluation.compare import Comparison, Entry, Growth
from nextconcept.evaluation.entries import Run
from nextconcept.evaluation.results_file import ResultsFile
from tests.helpers import fails, run_record
from tests.processes import ForkedProcess


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entries": {}}, "needs entries"),
        ({"entries": {"a": Entry(["missing.yaml"])}}, "no file and no experiment 'missing.yaml'"),
        ({"entries": {"a": Entry([])}}, "nothing"),
        ({"entries": {"a": Entry(["x"])}, "flops": 1.0, "tokens": 1.0}, "not in both"),
        ({"entries": {"a": Entry(["x"])}, "flops": [1.0], "tokens": [1.0]}, "not in both"),
        ({"entries": {"a": Entry(["x"])}, "flops": []}, "the list of budgets is empty"),
        (
            {"entries": {"a": Entry(["x"], {"depth": 1}), "b": Entry(["x"])}, "against": "depth"},
            "against depth: give it under options of the entry 'b'",
        ),
        ({"entries": {"a": Entry(["x"])}, "tuning_seeds": 4}, "between 1 and the number of seeds, 3, not 4"),
        ({"entries": {"a": Entry(["x"])}, "grid": {"model.optimizer.lr": [1.0]}}, "can't search model.optimizer.lr"),
        ({"entries": {"a": Entry(["x"], grid={"budget.flops": [1.0]})}}, "can't search budget.flops"),
        (
            {"entries": {"a": Entry(["x"], {"model.config.width": 32})}, "grid": {"model.config.width": [64]}},
            "the entry 'a' sets model.config.width, which the grid would replace",
        ),
        (
            {"entries": {"a": Entry(["x"], grid={"data.batch_size": [8]})}, "options": {"data.batch_size": 4}},
            "options for all entries set data.batch_size, which the grid would replace",
        ),
        ({"entries": {"a": Entry(["x"], {"model.optimizer.lr": 0.5})}}, "options can't set model.optimizer.lr"),
        ({"entries": {"a": Entry(["x"])}, "options": {"seed_everything": 9}}, "options can't set seed_everything"),
        ({"entries": {"a": Entry(["x"])}, "options": {1: 2}}, "options have dotted names, .* and 1 is none"),
        ({"entries": {"a": Entry(["x"], grid={1: [2]})}}, "options have dotted names"),
        (
            {"entries": {"a": Entry(["x"], growth=Growth(["g"], [0.5, 0.5], new_levels=[{1: 2}]))}},
            "options have dotted names",
        ),
        ({"entries": {"a": Entry(["x"], {"budget.flops": 9.0})}, "flops": 1.0}, "options can't set budget.flops"),
        ({"entries": {"a": Entry(["x"])}, "threads": 0}, "1 thread or more, not 0"),
        ({"entries": {"a": Entry(["x"])}, "draws": 0}, "draws must be 1 or more combinations"),
        ({"entries": {"a": Entry([__file__])}, "grid": {"model.config.depth": 2}}, "model.config.depth the values 2"),
        ({"entries": {"a": Entry(["x"])}, "seeds": (0, 1, 0)}, r"none of \[0, 1, 0\] can be given twice"),
        ({"entries": {"a": Entry(["x"])}, "learning_rates": (1e-3, 0.0)}, "learning_rates must be positive"),
        ({"entries": {"a": Entry(["x"])}, "flops": [1e12, math.nan]}, "a budget must be positive"),
        (
            {"entries": {name: Entry(["x"], {"depth": 1}) for name in "ab"}, "against": "depth"},
            "two entries have the same value: 1, 1",
        ),
        ({"entries": {"a": Entry(["x"])}, "mode": "minimum"}, "mode can't be 'minimum': choose min or max"),
        ({"entries": {"a": Entry(["x"])}, "baseline": "b"}, "'b' is none of the entries a"),
        ({"entries": {"a": Entry([__file__], growth=Growth([__file__], [0.5, 0.5]))}}, "budget of flops or tokens"),
    ],
)
def test_compare__bad_input(options: dict, message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        Comparison("trial", output=tmp_path / "results", logs=tmp_path / "logs", **options).run()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../trial", "/trial", "a/../../trial", "trial/", "", "a\0b"])
def test_compare__names_lie_within_the_folder_of_results(name: str, tmp_path: Path):
    with pytest.raises(InputError, match="the name"):
        Comparison(name, {"a": Entry(["x"])}, output=tmp_path / "results", logs=tmp_path / "logs")
    with pytest.raises(InputError, match="the name"):
        Comparison("a", {name: Entry(["x"])}, output=tmp_path / "results", logs=tmp_path / "logs")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shares", [[0.5, 0.6], [math.nan, math.nan], []])
def test_compare__growth_whose_shares_do_not_add_up(shares: list[float], tmp_path: Path, capsys: pytest.CaptureFixture):
    entry = {"config": [__file__], "growth": {"config": [__file__], "shares": shares}}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"name": "own", "entries": {"grown": entry}, "tokens": 1e5}))
    assert "shares of a growing entry must be positive and add up to 1" in fails(capsys, "compare", "--config", path)


def test_compare__a_file_in_place_of_the_folder_of_results(tmp_path: Path, capsys: pytest.CaptureFixture):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"name": "own", "entries": {"one": {"config": ["gpt"]}}, "tokens": 1e5}))
    logs = tmp_path / "logs"
    assert "own.yaml" in fails(capsys, "compare", "--config", path, "--output", path, "--logs", logs)


def loss(rate: float, seed: int) -> float:
    """At 1e-3 all seeds end alike; at 2e-3 the first seed does better and the others fail."""
    return {5e-4: 2.2, 1e-3: 2.1, 2e-3: 9.0 if seed else 2.0, 4e-3: 2.3}[rate]


class FakeRunner:
    """Makes records without training."""

    jobs = 1

    def __init__(self, loss: Callable[[float, int], float] = loss) -> None:
        self.loss, self.stopped, self.checked = loss, False, list[str]()

    def check(self, run: Run) -> None:
        self.checked.append(run.entry)

    def train(self, run: Run) -> dict[str, Any]:
        record = run_record(run.entry, run.seed, self.loss(run.learning_rate, run.seed))
        return record | {"key": run.key, "learning_rate": run.learning_rate, "grid": run.candidate.options}

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Compare without training, and return the content of the results file."""
    monkeypatch.setattr("sys.argv", ["nextconcept", "compare"])

    def compared(runner: FakeRunner | None = None, **options: Any) -> dict:
        settings = {"learning_rates": (1e-3,), "output": tmp_path, "logs": tmp_path / "logs"} | options
        comparison = Comparison("trial", {"gpt": Entry([__file__])}, **settings)
        return json.loads(comparison.run(runner or FakeRunner()).read_text())

    return compared


@pytest.mark.parametrize(("tuning_seeds", "rate"), [(1, 2e-3), (2, 1e-3)])
def test_compare__chooses_the_learning_rate_by_the_mean_over_seeds(
    tuning_seeds: int, rate: float, untrained: Callable[..., dict], tmp_path: Path
):
    found = untrained(learning_rates=(1e-3, 2e-3), tuning_seeds=tuning_seeds)
    gpt = next(line for line in (tmp_path / "trial.md").read_text().splitlines() if line.startswith("| gpt |"))
    assert f"| {rate:g} |" in gpt
    tried = [(run["learning_rate"], run["seed"]) for run in found["runs"]]
    # Two rates were asked for and one beyond the better of them was tried; all seeds at the best.
    assert len(tried) == len(set(tried)) == 3 * tuning_seeds + 3 - tuning_seeds


@pytest.mark.parametrize(
    ("best", "asked", "tried"),
    [
        (2e-3, (1e-3, 2e-3, 4e-3), [1e-3, 2e-3, 4e-3]),
        (1e-3, (2e-3, 4e-3), [5e-4, 1e-3, 2e-3, 4e-3]),
        (9e-3, (1e-3, 3e-3), [1e-3, 3e-3, 9e-3, 2.7e-2]),
        (1e-3, (2e-3,), [2e-3]),
    ],
)
def test_compare__searches_until_the_best_rate_is_not_at_an_end(
    best: float, asked: tuple[float, ...], tried: list[float], untrained: Callable[..., dict]
):
    runner = FakeRunner(lambda rate, seed: abs(math.log(rate / best)) + seed)
    found = untrained(runner, learning_rates=asked)
    assert sorted({run["learning_rate"] for run in found["runs"]}) == pytest.approx(tried)
    assert {run["learning_rate"] for run in found["runs"] if run["seed"]} == {best if len(asked) > 1 else asked[0]}


def test_compare__takes_the_rates_of_an_entry_in_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["nextconcept", "compare", "--question", "which one?"])
    entries = {"gpt": Entry([__file__]), "fixed": Entry([__file__], learning_rates=[7e-3])}
    settings: dict[str, Any] = {"learning_rates": (1e-3, 2e-3, 4e-3), "output": tmp_path, "logs": tmp_path / "logs"}
    path = Comparison("rates", entries, **settings).run(FakeRunner(lambda rate, seed: abs(math.log(rate / 2e-3))))
    found = json.loads(path.read_text())
    assert found["command"] == "nextconcept compare --question 'which one?'"  # as a shell takes it
    tried = [(run["entry"], run["learning_rate"], run["seed"]) for run in found["runs"]]
    assert sorted(tried)[:3] == [("fixed", 7e-3, seed) for seed in range(3)]
    assert sorted({rate for entry, rate, _ in tried if entry == "gpt"}) == [1e-3, 2e-3, 4e-3]


def test_compare__searches_options_and_uses_the_best_for_all_seeds(
    untrained: Callable[..., dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An entry's own grid counts; the rates go on beyond their end with the best options alone."""

    class ByDepth(FakeRunner):
        def train(self, run: Run) -> dict[str, Any]:
            record, depth = super().train(run), run.candidate.options["model.config.depth"]
            record["final"]["val/loss/tokens"] += abs(depth - 4)
            assert dict(zip(run.stages[0][::2], run.stages[0][1::2], strict=True))["--model.config.depth"] == f"{depth}"
            return record

    entries = {"gpt": Entry([__file__]), "own": Entry([__file__], grid={"model.config.depth": [3]})}
    comparison = Comparison(
        "grid",
        entries,
        learning_rates=(1e-3, 2e-3),
        grid={"model.config.depth": [2, 4, 8]},
        output=tmp_path,
        logs=tmp_path / "logs",
    )
    monkeypatch.setattr("sys.argv", ["nextconcept", "compare"])
    runner = ByDepth(lambda rate, seed: 1 / rate if rate < 3e-3 else 900.0)
    runs = json.loads(comparison.run(runner).read_text())["runs"]
    tried = {
        entry: sorted(
            (run["grid"]["model.config.depth"], run["learning_rate"], run["seed"])
            for run in runs
            if run["entry"] == entry
        )
        for entry in entries
    }
    first = [(depth, rate, 0) for depth in (2, 4, 8) for rate in (1e-3, 2e-3)]
    assert tried["gpt"] == sorted([*first, (4, 4e-3, 0), (4, 2e-3, 1), (4, 2e-3, 2)])
    assert tried["own"] == sorted([(3, 1e-3, 0), (3, 2e-3, 0), (3, 4e-3, 0), (3, 2e-3, 1), (3, 2e-3, 2)])
    assert "| `model.config.depth: 4` |" in (tmp_path / "grid.md").read_text()


def test_compare__each_budget_has_a_search_and_seeds_of_its_own_the_smallest_first(tmp_path: Path):
    """The best rate falls with the budget here; what is finished is known by its budget."""

    class ByBudget(FakeRunner):
        def __init__(self) -> None:
            super().__init__()
            self.made: list[tuple[float, float, int]] = []

        def train(self, run: Run) -> dict[str, Any]:
            budget = run.budget["flops"]
            self.made.append((budget, run.learning_rate, run.seed))
            self.loss = lambda rate, seed: abs(math.log(rate * budget)) + seed
            return super().train(run)

    runner = ByBudget()
    entries = {"gpt": Entry([__file__])}
    settings: dict[str, Any] = {"learning_rates": (1e-3, 2e-3, 4e-3), "seeds": (0, 1), "output": tmp_path}
    comparison = Comparison("trial", entries, flops=[1e3, 5e2], logs=tmp_path / "logs", **settings)
    found = json.loads(comparison.run(runner).read_text())
    assert [budget for budget, _, _ in runner.made] == sorted(budget for budget, _, _ in runner.made)
    assert {(budget, rate) for budget, rate, seed in runner.made if seed == 1} == {(5e2, 2e-3), (1e3, 1e-3)}
    assert len({run["key"] for run in found["runs"]}) == len(runner.made)
    assert {run["budget"]["flops"] for run in found["runs"]} == {5e2, 1e3}
    single = Comparison("trial", entries, flops=1e3, logs=tmp_path / "logs", **settings)
    again = ByBudget()
    single.run(again)
    assert not again.made  # a list of budgets changes no key


@pytest.mark.parametrize("asked", [(1e-3, 1.001e-3), (1e-3, 1.0), (1e-3, 1e-3)])
def test_compare__ends_its_search(
    asked: tuple[float, ...], untrained: Callable[..., dict], capsys: pytest.CaptureFixture
):
    """Losses that fall for ever, and rates that are nearly equal or far apart."""
    found = untrained(FakeRunner(lambda rate, seed: 5 - math.log(rate)), learning_rates=asked)
    rates = sorted({run["learning_rate"] for run in found["runs"]})
    assert len(rates) == (8 if len(set(asked)) > 1 else 1)
    assert all(1.9 < later / earlier < 4.1 for earlier, later in itertools.pairwise(rates[1:]))
    assert ("of gpt is still at an end" in capsys.readouterr().out) == (len(rates) > 1)


def test_compare__a_rate_at_which_one_seed_diverges_is_never_chosen(untrained: Callable[..., dict]):
    """Also where the search gives up, with the best rate still at an end."""

    class Diverging(FakeRunner):
        def train(self, run: Run) -> dict[str, Any]:
            if run.learning_rate > 2e-3 and run.seed == 1:
                raise TrainingError("the loss is not finite")
            return super().train(run)

    runner = Diverging(lambda rate, seed: 0.1 if rate > 2e-3 else 1 + rate)
    found = untrained(runner, learning_rates=(1e-3, 3e-3), tuning_seeds=2)
    assert {run["learning_rate"] for run in found["runs"] if run["seed"] == 2} == {
        min(run["learning_rate"] for run in found["runs"])
    }


@pytest.mark.parametrize("broken", [math.nan, None])
def test_compare__a_rate_that_diverges_is_the_worst(
    broken: float | None, untrained: Callable[..., dict], capsys: pytest.CaptureFixture
):
    class Diverging(FakeRunner):
        def train(self, run: Run) -> dict[str, Any]:
            if run.learning_rate > 5e-3 and broken is None:
                raise TrainingError("the loss is not finite")
            return super().train(run)

    runner = Diverging(lambda rate, seed: 1 / rate if rate < 5e-3 else cast(float, broken))
    found = untrained(runner, learning_rates=(2e-3, 4e-3))
    assert {run["learning_rate"] for run in found["runs"] if run["seed"]} == {4e-3}
    assert ("diverged: gpt, learning rate 0.008, seed 0" in capsys.readouterr().out) is (broken is None)
    with pytest.raises(InputError, match="no learning rate of gpt gives a finite val/loss/tokens"):
        untrained(Diverging(lambda rate, seed: math.nan), learning_rates=(2e-2, 4e-2))


def test_compare__a_seed_that_diverges_stops_no_other_run(tmp_path: Path):
    class Diverging(FakeRunner):
        def train(self, run: Run) -> dict[str, Any]:
            if (run.entry, run.seed) == ("a", 1):
                raise TrainingError("the loss is not finite")
            return super().train(run)

    entries = {name: Entry([__file__], {"depth": index}) for index, name in enumerate("ab")}
    settings: dict[str, Any] = {"learning_rates": (1e-3,), "output": tmp_path, "logs": tmp_path / "logs"}
    with pytest.raises(TrainingError, match="not finite"):
        Comparison("trial", entries, **settings).run(Diverging())
    found = json.loads((tmp_path / "trial.json").read_text())["runs"]
    assert [(run["entry"], run["seed"]) for run in found] == [("a", 0), ("a", 2), ("b", 0), ("b", 1), ("b", 2)]
    assert "| b | 2.1000 ± 0.0000 | 3 |" in (tmp_path / "trial.md").read_text()


def test_compare__an_entry_that_was_renamed(tmp_path: Path):
    settings: dict[str, Any] = {"learning_rates": (1e-3,), "output": tmp_path, "logs": tmp_path / "logs"}
    Comparison("trial", {"gpt": Entry([__file__])}, **settings).run(FakeRunner())
    Comparison("trial", {"GPT": Entry([__file__])}, baseline="GPT", **settings).run(
        FakeRunner(lambda rate, seed: math.nan)
    )
    assert "| GPT | 2.1000 ± 0.0000 | 3 |" in (tmp_path / "trial.md").read_text()


def test_compare__names_of_entries_go_with_their_settings(tmp_path: Path):
    """Whatever a run was made as, its row is that of the entries that have its settings now."""

    class ByDepth(FakeRunner):
        trained = 0

        def train(self, run: Run) -> dict[str, Any]:
            self.trained += 1
            settings = dict(zip(run.stages[0][::2], run.stages[0][1::2], strict=True))
            record = super().train(run)
            return record | {"final": {"val/loss/tokens": float(settings["--model.config.depth"])}}

    def compared(**depths: int) -> tuple[int, list[str]]:
        entries = {name: Entry([__file__], {"model.config.depth": depth}) for name, depth in depths.items()}
        settings: dict[str, Any] = {"learning_rates": (1e-3,), "output": tmp_path, "logs": tmp_path / "logs"}
        runner = ByDepth()
        Comparison("trial", entries, **settings).run(runner)
        table = (tmp_path / "trial.md").read_text().splitlines()
        return runner.trained, sorted(line[:18] for line in table if "± 0.0000" in line)

    assert compared(small=1, large=2) == (6, ["| large | 2.0000 ±", "| small | 1.0000 ±"])
    assert compared(small=2, large=1) == (0, ["| large | 1.0000 ±", "| small | 2.0000 ±"])
    assert compared(large=1, best=2) == (0, ["| best | 2.0000 ± ", "| large | 1.0000 ±"])
    assert compared(large=1, best=2, same=1)[0] == 0
    assert compared(one=3, same=3) == (3, ["| one | 3.0000 ± 0", "| same | 3.0000 ± "])


def test_compare__of_equally_good_rates_takes_one_between_others(untrained: Callable[..., dict]):
    found = untrained(FakeRunner(lambda rate, seed: 1.0), learning_rates=(1e-3, 2e-3, 4e-3))
    assert {run["learning_rate"] for run in found["runs"] if run["seed"]} == {2e-3}


def test_compare__leaves_finished_runs_the_machine_that_made_them(untrained: Callable[..., dict], tmp_path: Path):
    found = untrained()
    where = {key: found["runs"][0][key] for key in ("machine", "versions")}
    newer = {*where, "budget"}
    found["runs"] = [{key: run[key] for key in run if key not in newer} for run in found["runs"]]
    (tmp_path / "trial.json").write_text(json.dumps(found | where))  # as earlier versions wrote it
    again = untrained(question="Which?")
    assert {run["machine"] for run in again["runs"]} == {"2 cores"}
    assert all(run["budget"] == {} for run in again["runs"])
    assert (len(again["runs"]), again["question"]) == (3, "Which?")  # nothing was left to run


def test_compare__a_run_that_fails_stops_the_others(untrained: Callable[..., dict], tmp_path: Path):
    class Failing(FakeRunner):
        def train(self, run: Run) -> dict[str, Any]:
            if run.seed == 1:
                raise InputError("a run of the comparison failed")
            return super().train(run)

    runner = Failing()
    with pytest.raises(InputError, match="a run of the comparison failed"):
        untrained(runner)
    assert runner.stopped
    assert [run["seed"] for run in json.loads((tmp_path / "trial.json").read_text())["runs"]] == [0]


@pytest.mark.slow
def test_compare__checks_the_entries_that_wait_before_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["nextconcept", "compare"])

    class Refusing(FakeRunner):
        def check(self, run: Run) -> None:
            super().check(run)
            if run.entry == "c":
                raise InputError("c can't be run")

    def run(names: str, runner: FakeRunner, **settings: Any) -> list[str]:
        entries = {name: Entry([__file__], {"model.config.width": ord(name)}) for name in names}
        settings = {"learning_rates": (1e-3, 2e-3), "output": tmp_path, "logs": tmp_path} | settings
        Comparison("trial", entries, **settings).run(runner)
        return runner.checked

    refusing = Refusing(lambda rate, seed: rate)
    with pytest.raises(InputError, match="c can't be run"):
        run("abc", refusing)
    assert refusing.stopped
    assert not (tmp_path / "trial.json").exists()
    rated = {"loss": lambda rate, seed: rate}
    assert run("ab", FakeRunner(**rated)) == ["b"]  # a begins at once
    assert run("abde", FakeRunner(**rated)) == ["e"]  # a and b are finished, d begins at once
    assert run("f", FakeRunner(**rated), grid={"model.config.depth": [1, 2, 3]}) == ["f", "f"]


def test_compare__another_comparison_of_the_same_name(untrained: Callable[..., dict], tmp_path: Path):
    with ResultsFile.lock(tmp_path / "trial.json"), pytest.raises(InputError, match="another comparison is writing"):
        untrained()
    assert len(untrained()["runs"]) == 3


def test_compare__a_metric_that_finished_runs_lack_is_refused_before_the_others(untrained: Callable[..., dict]):
    untrained(seeds=(0,))
    runner = FakeRunner(lambda rate, seed: pytest.fail("a run was trained"))
    with pytest.raises(InputError, match="the runs have not logged val/answer/exact"):
        untrained(runner, seeds=(0, 1), tuning_seeds=2, metric="val/answer/exact")


def test_compare__a_metric_that_no_run_logs(untrained: Callable[..., dict]):
    runner = FakeRunner()
    with pytest.raises(InputError, match="the runs have not logged val/answer/exact: they have val/loss/tokens"):
        untrained(runner, metric="val/answer/exact", learning_rates=(1e-3, 2e-3, 4e-3), seeds=(0, 1), tuning_seeds=2)
    assert runner.stopped  # after the first run


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start runs without importing everything again."""
    monkeypatch.setattr("nextconcept.evaluation.runner.subprocess", SimpleNamespace(Popen=ForkedProcess))


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("rules", [[], ["words"]])
def test_compare__a_growing_entry(rules: list[str], config: Path, capsys: pytest.CaptureFixture):
    """Two stages spend the budget together; a stage that is finished is not repeated."""
    later = yaml.safe_load(config.read_text())
    del later["model"]
    Path("later.yaml").write_text(yaml.safe_dump(later))
    spec = {
        "name": "trial",
        "seeds": [0],
        "learning_rates": [1e-3],
        "tokens": 1280,
        "entries": {
            "grown": {
                "config": [str(config)],
                "options": {"model.config.levels": 1},
                "growth": {
                    "config": ["later.yaml"],
                    "shares": [0.4, 0.6],
                    "rules": rules,
                    "before": {"model.optimizer.min_lr_ratio": 1.0},
                },
            }
        },
    }
    growth = spec["entries"]["grown"]["growth"]
    Path("compare.yaml").write_text(yaml.safe_dump(spec))
    if not rules:
        growth["new_levels"] = [{"depth": 0}]
        Path("wrong.yaml").write_text(yaml.safe_dump(spec))
        with pytest.raises(SystemExit):
            main(["compare", "--config", "wrong.yaml"])
        printed = capsys.readouterr()
        assert "depth must be" in printed.err
        assert "training" not in printed.out
    main(["compare", "--config", "compare.yaml"])
    (run,) = json.loads(Path("results/trial.json").read_text())["runs"]
    assert [step for step, _ in run["stages"]] == [0, 4]
    assert run["stages"][0][1] < run["stages"][1][1]
    assert run["steps"] == 10
    assert "val/loss/tokens_zero" in run["final"]
    (grown,) = Path("lightning_logs").glob("compare/trial/grown/*/grown_1")
    chunking = load_run(grown)[0].config.chunking
    assert [rule["rule"] for rule in chunking or []] == rules  # stored with everything that a rule depends on
    made = grown.stat().st_mtime
    Path("results/trial.json").unlink()
    main(["compare", "--config", "compare.yaml"])
    (again,) = json.loads(Path("results/trial.json").read_text())["runs"]
    assert again["final"] == run["final"]
    assert grown.stat().st_mtime == made


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_compare__trains_reports_and_repeats_nothing(config: Path, capsys: pytest.CaptureFixture):
    spec = {
        "name": "trial",
        "seeds": [0, 1],
        "learning_rates": [1e-3],
        "tokens": 600,
        "entries": {
            "gpt": {"config": [str(config)], "options": {"model.config.levels": 1}},
            "plan": {"config": [str(config)]},
        },
    }
    Path("compare.yaml").write_text(yaml.safe_dump(spec))
    main(["compare", "--config", "compare.yaml", "--jobs", "2"])
    printed = capsys.readouterr().out.splitlines()
    run = "gpt, learning rate 0.001, 600 tokens, seed 1"
    assert sum(line.startswith(f"training {run}, in lightning_logs/compare/trial/gpt/") for line in printed) == 1
    assert sum(line.startswith(f"finished {run}: val/loss/tokens ") for line in printed) == 1
    assert sum(line.startswith("finished ") for line in printed) == 4
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

    spec["entries"] = {"gpt": {"config": [str(config)]}, "wide": {"config": [str(config)]}}
    spec["entries"]["gpt"]["options"] = {"model.config.levels": 1, "model.config.depth": 1}
    spec["entries"]["wide"]["options"] = {"model.config.num_heads": 3}
    Path("compare.yaml").write_text(yaml.safe_dump(spec))
    assert "see lightning_logs/compare/trial/wide/" in fails(capsys, "compare", "--config", "compare.yaml")
    assert len(json.loads(Path("results/trial.json").read_text())["runs"]) == 4  # and gpt has not been trained


@pytest.mark.slow
def test_compare__ends_its_runs_with_itself_and_goes_on(config: Path):
    spec = {"name": "trial", "seeds": [0], "learning_rates": [1e-3], "entries": {"gpt": {"config": [str(config)]}}}
    options = {"trainer.max_steps": 60, "trainer.val_check_interval": 20}
    Path("compare.yaml").write_text(yaml.safe_dump(spec | {"options": options}))
    call = [sys.executable, "-m", "nextconcept", "compare", "--config", "compare.yaml"]
    with subprocess.Popen(call) as stopped:
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
    assert subprocess.run(call, check=False).returncode == 0
    (run,) = json.loads(Path("results/trial.json").read_text())["runs"]
    assert run["steps"] == 60
    assert len(list(Path("lightning_logs").glob("**/stage_0/version_*"))) == 2  # it went on where it was stopped


@pytest.mark.parametrize("name", ["options", "grid", "seeds", "learning_rates", "metric", "jobs"])
def test_comparison__a_name_without_a_value(name: str):
    with pytest.raises(InputError, match=f"^{name} of the comparison has no value"):
        Comparison("c", {"a": Entry(["gpt"])}, **{name: None})
