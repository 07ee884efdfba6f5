"""Comparisons: the same budget for every entry, several seeds, one table."""

import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from nextconcept.core.errors import InputError
from nextconcept.evaluation.entries import Entry, Growth, Run, check_given, make_run
from nextconcept.evaluation.metrics import LOSS
from nextconcept.evaluation.report import write_report
from nextconcept.evaluation.results_file import ResultsFile
from nextconcept.evaluation.runner import ProcessRunner, Runner, check_runs, finish_runs
from nextconcept.evaluation.search import Candidate, best_candidate, make_candidates, rates_beyond

__all__ = ["Comparison", "Entry", "Growth"]

RATES = (4e-3, 8e-3, 1.6e-2)
"""Learning rates to begin with, around the optimizer's default."""

MOST_FURTHER_RATES = 6
"""Learning rates that are tried beyond those that were asked for, per entry."""


@dataclass
class Comparison:
    """Train every entry to the same budget with several seeds, and report the results.

    The results are ``OUTPUT/NAME.json``, ``.md`` (a table) and ``.png`` (a picture). The learning
    rate, and the options of a ``grid``, are chosen for each entry in the same way: each is tried
    with the first ``tuning_seeds`` seeds, and what has the best mean is used for the others. If
    that has the smallest or the largest rate, up to six further ones are tried, each about as far
    from it as its neighbour, until the best lies between two others; a rate at which training
    diverges counts as the worst. A single rate is taken as it is. Finished runs stay in the JSON
    file: a comparison that is started again continues where it was stopped, inside a run too.
    Entries that wait for others make one step first, so that one that can't be run is reported at
    once.

    Args:
        name: name of the result files.
        entries: what is compared, by name.
        question: what the comparison is to answer; stands above the table.
        seeds: seeds of the runs.
        learning_rates: learning rates to begin with; of equally good ones the first between two
            others counts.
        grid: values to try for any options, by their dotted names; each combination is tried with
            all learning rates. An entry may have a grid of its own.
        draws: number of combinations of the grid to try, drawn at random; null for all of them.
        tuning_seeds: number of seeds that choose the learning rate; more than one where a run may
            fail with one seed and not with another.
        metric: metric that is compared, as logged by ``nextconcept validate``.
        mode: whether a smaller (``min``) or larger (``max``) metric is better.
        baseline: an entry; the table then says with what share of its compute the others reach its
            final value.
        flops: training FLOPs of each run. With a list, each entry is compared at each of these
            budgets, the smallest first, with a search of its own.
        tokens: training tokens of each run, or a list; without a budget, ``trainer.max_steps`` of
            each entry counts.
        against: an option that all entries give, such as ``model.config.sliding_window``; the
            picture then shows the final values against it, a panel per budget.
        options: settings of all entries.
        jobs: number of runs at the same time; on GPUs each gets one.
        threads: threads of each run on a CPU; default: the cores divided by ``jobs``.
        output: folder of the results.
        logs: folder of the runs.

    Raises:
        InputError: if there is nothing to compare, or an option is out of range.
    """

    name: str
    entries: dict[str, Entry]
    question: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    learning_rates: tuple[float, ...] = RATES
    grid: dict[str, list[Any]] = field(default_factory=dict)
    draws: int | None = None
    tuning_seeds: int = 1
    metric: str = LOSS
    mode: Literal["min", "max"] = "min"
    baseline: str | None = None
    flops: float | Sequence[float] | None = None
    tokens: float | Sequence[float] | None = None
    against: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    jobs: int = 1
    threads: int | None = None
    output: Path = Path("results")
    logs: Path = Path("lightning_logs/compare")

    def __post_init__(self) -> None:
        check_given(self, "the comparison")
        if not self.entries or not self.seeds or not self.learning_rates:
            raise InputError("a comparison needs entries, seeds and learning_rates.")
        if self.mode not in ("min", "max"):
            raise InputError(f"mode can't be {self.mode!r}: choose min or max.")
        for name in (self.name, *self.entries):
            _check_name(name)
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"each seed makes one run, so that none of {list(self.seeds)} can be given twice.")
        for rates in (self.learning_rates, *(entry.learning_rates for entry in self.entries.values())):
            if not all(0 < rate < math.inf for rate in rates):
                raise InputError(f"learning_rates must be positive, not {list(rates)}.")
        if not 1 <= self.tuning_seeds <= len(self.seeds):
            raise InputError(
                f"tuning_seeds must be between 1 and the number of seeds, {len(self.seeds)}, not {self.tuning_seeds}."
            )
        self._check_options()
        if self.draws is not None and self.draws < 1:
            raise InputError(f"draws must be 1 or more combinations, or null for all of the grid, not {self.draws}.")
        if self.baseline is not None and self.baseline not in self.entries:
            raise InputError(f"the baseline {self.baseline!r} is none of the entries {', '.join(self.entries)}.")
        if self.flops is not None and self.tokens is not None:
            raise InputError("give the budget of a comparison in flops or in tokens, not in both.")
        if not self.budgets:
            raise InputError("the list of budgets is empty: give flops or tokens one number or more.")
        if not all(0 < amount < math.inf for budget in self.budgets for amount in budget.values()):
            raise InputError(f"a budget must be positive, not {self.flops if self.tokens is None else self.tokens}.")
        if without := [name for name, entry in self.entries.items() if self.against not in (None, *entry.options)]:
            raise InputError(
                f"results can't be drawn against {self.against}: give it under options of the entry {without[0]!r}."
            )
        shown = [] if self.against is None else [str(entry.options[self.against]) for entry in self.entries.values()]
        if len(set(shown)) < len(shown):
            raise InputError(
                f"results can't be drawn against {self.against}, of which two entries have the same value: "
                f"{', '.join(shown)}."
            )

    def _check_options(self) -> None:
        """Check that no entry sets or searches what the comparison itself sets."""
        entries = self.entries.values()
        every = [
            self.options,
            *(entry.options for entry in entries),
            *(one.growth.before for one in entries if one.growth),
        ]
        given = [*every, self.grid, *(entry.grid for entry in entries)]
        given += [level for one in entries if one.growth for level in one.growth.new_levels]
        for name in (name for options in given for name in options):
            if not isinstance(name, str):
                raise InputError(f"options have dotted names, such as model.config.levels, and {name!r} is none.")
        owned, advice = ("model.optimizer.lr", "seed_everything"), "give learning_rates, seeds, and flops or tokens"
        for name in (name for grid in (self.grid, *(one.grid for one in entries)) for name in grid):
            if name in owned or name.startswith("budget."):
                raise InputError(
                    f"the grid can't search {name}, which the comparison sets: {advice}, which may be lists."
                )
        budget = self.flops is not None or self.tokens is not None
        for entry, one in self.entries.items():
            setters = {f"the entry {entry!r} sets": one.options, "options for all entries set": self.options}
            for setter, options in setters.items():
                if twice := (self.grid | one.grid).keys() & options.keys():
                    raise InputError(
                        f"{setter} {min(twice)}, which the grid would replace: leave it out of these options, or out "
                        "of the grid."
                    )
        for name in (name for options in every for name in options):
            if name in owned or (budget and name.startswith("budget.")):
                raise InputError(f"options can't set {name}, which the comparison sets: {advice}.")

    def run(self, runner: Runner | None = None) -> Path:
        """Make the runs that are not finished, and write the results and their report.

        Args:
            runner: trains the runs; default: processes, ``jobs`` at the same time.

        Returns:
            The JSON file; table and picture lie beside it.

        Raises:
            InputError: if an entry can't be run, a run fails, or another comparison writes the
                same results.
            TrainingError: if a run diverges at the learning rate that was chosen; the other runs
                of its budget are finished before.
        """
        runner = runner or ProcessRunner(self.jobs, self.threads)
        path = self.output / f"{self.name}.json"
        candidates = {
            name: make_candidates(entry.learning_rates or self.learning_rates, self.grid | entry.grid, self.draws)
            for name, entry in self.entries.items()
        }
        searches = [(budget, self._trials(candidates, budget)) for budget in self.budgets]
        with ResultsFile.lock(path):
            results = ResultsFile(path, self._head())
            names, tried = dict[str, list[str]](), dict[str, list[str]]()
            self._check_entries(searches[0][1], results, runner)
            for budget, trials in searches:
                self._search(trials, budget, results, runner)
                tried |= _label(results, [run for runs in trials.values() for run in runs])
                best = {entry: best_candidate(self._means(results, runs), self.mode) for entry, runs in trials.items()}
                chosen = [self._run(entry, best[entry], seed, budget) for entry in self.entries for seed in self.seeds]
                names |= _label(results, chosen)
                for run in chosen:  # some may be of an earlier state of the comparison
                    if run.key in results:
                        self._check_metric(results[run.key]["final"])
                write_report(results.content, names, tried, path.with_suffix(""))
                for _ in self._finish(chosen, results, runner):
                    write_report(results.content, names, tried, path.with_suffix(""))  # of the runs so far
            results.save()  # question and command may have changed although no run was left
        return path

    @property
    def budgets(self) -> list[dict[str, float]]:
        """The budgets, smallest first; one that is empty where ``trainer.max_steps`` counts."""
        for kind, given in (("flops", self.flops), ("tokens", self.tokens)):
            if given is not None:
                amounts = given if isinstance(given, Sequence) else [given]
                return [{kind: amount} for amount in sorted(set(amounts))]
        return [{}]

    @property
    def tuned_with(self) -> tuple[int, ...]:
        """The seeds that choose the learning rate."""
        return self.seeds[: self.tuning_seeds]

    def _head(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "question": self.question,
            "metric": self.metric,
            "mode": self.mode,
            "baseline": self.baseline,
            "against": self.against,
            "command": shlex.join(["nextconcept", *sys.argv[1:]]),
        }

    def _run(self, entry: str, candidate: Candidate, seed: int, budget: dict[str, float]) -> Run:
        settings = self.options | {f"budget.{kind}": amount for kind, amount in budget.items()}
        return make_run(entry, self.entries[entry], settings, candidate, seed, self.logs / self.name / entry)

    def _trials(self, candidates: Mapping[str, Sequence[Candidate]], budget: dict[str, float]) -> dict[str, list[Run]]:
        return {
            entry: [self._run(entry, one, seed, budget) for one in some for seed in self.tuned_with]
            for entry, some in candidates.items()
        }

    def _check_entries(self, trials: dict[str, list[Run]], results: ResultsFile, runner: Runner) -> None:
        """Check the entries, at each point of the grid, parts of which begin later than the rest.

        Raises:
            InputError: if one can't be run, or the runs that are finished lack the metric.
        """
        every = [run for runs in trials.values() for run in runs]
        for run in every:
            if run.key in results:
                self._check_metric(results[run.key]["final"])
        waiting = [run for run in every if run.key not in results]
        first: dict[tuple[str, str], Run] = {}
        for run in waiting:  # runs that differ in rate and seed alone begin alike
            first.setdefault((run.entry, str(run.candidate.options)), run)
        at_once = [run for run in waiting[: runner.jobs] if not run.growth]
        check_runs([run for run in first.values() if run not in at_once], runner)

    def _search(
        self, trials: dict[str, list[Run]], budget: dict[str, float], results: ResultsFile, runner: Runner
    ) -> None:
        """Make the trials, and further ones while the best rate of an entry is at an end."""
        waiting = trials
        for _ in range(1 + MOST_FURTHER_RATES):
            tried = [run for runs in waiting.values() for run in runs]
            for _ in self._finish(tried, results, runner, may_diverge=True):
                pass
            means = {entry: self._means(results, runs) for entry, runs in trials.items()}
            waiting = self._trials({entry: rates_beyond(values, self.mode) for entry, values in means.items()}, budget)
            if not any(waiting.values()):
                return
            for entry, runs in waiting.items():
                trials[entry] += runs
        cut = [entry for entry, runs in waiting.items() if runs]
        for entry in cut:  # the last ones were not made; those that diverged stay
            trials[entry] = trials[entry][: -len(waiting[entry])]
        print(f"the best learning rate of {', '.join(cut)} is still at an end of the range", flush=True)

    def _finish(
        self, runs: list[Run], results: ResultsFile, runner: Runner, may_diverge: bool = False
    ) -> Iterator[None]:
        """Train the runs that are not in the results yet, and print each as it ends."""
        for run, record in finish_runs(runs, results, runner, may_diverge):
            self._check_metric(record["final"])
            print(f"finished {run.title}: {self.metric} {record['final'][self.metric]:.4g}", flush=True)
            yield

    def _check_metric(self, final: Mapping[str, Any]) -> None:
        """Check that the final values of a run hold the metric.

        Raises:
            InputError: if they do not.
        """
        if self.metric not in final:
            raise InputError(f"the runs have not logged {self.metric}: they have {', '.join(final)}.")

    def _means(self, results: ResultsFile, runs: list[Run]) -> dict[Candidate, float]:
        """Return the mean of the metric over seeds, per candidate; the worst if one diverged.

        Raises:
            InputError: if no run logs the metric, or none has a number for it.
        """
        worst = math.inf if self.mode == "min" else -math.inf
        values: dict[Candidate, list[float]] = {}
        for run in runs:
            final = results[run.key]["final"] if run.key in results else {self.metric: worst}
            self._check_metric(final)
            value = final[self.metric]
            values.setdefault(run.candidate, []).append(worst if math.isnan(value) else value)
        means = {candidate: mean(some) for candidate, some in values.items()}
        if not any(map(math.isfinite, means.values())):
            raise InputError(
                f"no learning rate of {runs[0].entry} gives a finite {self.metric}: give smaller learning_rates."
            )
        return means


def _check_name(name: object) -> None:
    """Check that files can have the name of a comparison or of an entry.

    Raises:
        InputError: if they can't.
    """
    if not isinstance(name, str) or "\0" in name or not Path(name).name or name.endswith("/"):
        raise InputError(f"the names of a comparison and of its entries name files, which {name!r} does not.")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(
            f"the name {name!r} leads out of the folder of results: give a name within it, and another folder with "
            "--output or --logs."
        )


def _label(results: ResultsFile, runs: list[Run]) -> dict[str, list[str]]:
    """Return the names of the entries that each run belongs to, by its key.

    Records of finished runs get what they lack: the budget those of older versions, its new name an
    entry that was renamed.
    """
    names: dict[str, list[str]] = {}
    for run in runs:
        names.setdefault(run.key, []).append(run.entry)
    for run in runs:
        if run.key in results:
            record = results[run.key]
            record.setdefault("budget", run.budget)
            if record["entry"] not in names[run.key]:
                record["entry"] = run.entry
    return names
