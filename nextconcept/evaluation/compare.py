"""``nextconcept compare``: the same budget for every entry, several seeds, one table.

Each run is a process of its own, ``nextconcept fit`` followed by ``nextconcept validate``; what they logged is read back from
their event files.
"""

import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nextconcept.checkpoints.files import read_checkpoint
from nextconcept.core.errors import InputError
from nextconcept.evaluation.environment import machine, versions
from nextconcept.evaluation.report import write_report

__all__ = ["Entry", "Growth", "compare"]


@dataclass
class Growth:
    """A run that begins small and grows by a level between its stages.

    Args:
        config: configuration files of the stages after the first, whose model is the grown one.
        shares: parts of the budget, one per stage, that add up to 1.
        init: what stands in the new blocks; see :func:`~nextconcept.nn.growth.grow`.
        before: further settings of all stages but the last, as ``model.optimizer.min_lr_ratio: 1.0``.

    Raises:
        InputError: if the shares do not add up.
    """

    config: list[str]
    shares: list[float]
    init: Literal["copy", "random", "zeros"] = "copy"
    before: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.shares, default=0) <= 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise InputError(f"the shares of a growing entry must be positive and add up to 1, not {self.shares}.")


@dataclass
class Entry:
    """One line of a comparison.

    Args:
        config: configuration files of ``nextconcept fit``, later ones overriding earlier ones.
        options: further settings by their dotted names, as ``model.config.levels: 1``.
        growth: how the model grows, if it does; the configuration is that of the smallest one.
    """

    config: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    growth: Growth | None = None


@dataclass(frozen=True)
class _Run:
    entry: str
    learning_rate: float
    seed: int
    stages: tuple[tuple[str, ...], ...]
    init: str
    folder: Path

    @property
    def key(self) -> str:
        """Changes with anything that the run depends on but the code."""
        told = [argument for stage in self.stages for argument in stage]
        files = [Path(told[i + 1]).read_bytes() for i, argument in enumerate(told) if argument == "--config"]
        grown = [self.init.encode()] if len(self.stages) > 1 else []
        return hashlib.sha256(b"\0".join([*files, *(part.encode() for part in told), *grown])).hexdigest()[:16]


def compare(
    name: str,
    entries: dict[str, Entry],
    question: str = "",
    seeds: tuple[int, ...] = (0, 1, 2),
    learning_rates: tuple[float, ...] = (1e-3,),
    tuning_seeds: int = 1,
    metric: str = "val/loss/tokens",
    mode: Literal["min", "max"] = "min",
    baseline: str | None = None,
    flops: float | None = None,
    tokens: float | None = None,
    options: dict[str, Any] | None = None,
    jobs: int = 1,
    threads: int | None = None,
    output: str = "results",
    logs: str = "lightning_logs/compare",
) -> None:
    """Train every entry to the same budget with several seeds, and write ``OUTPUT/NAME.json``, ``.md`` and ``.png``.

    The learning rate is chosen for each entry alike: all of ``learning_rates`` are tried with the first ``tuning_seeds`` seeds, and the best
    mean goes on. Finished runs are kept in the JSON file: started again, the comparison goes on where it was stopped, inside a run too.

    Args:
        name: of the result files.
        entries: what is compared, by name.
        question: what the comparison is to answer, for the head of the table.
        seeds: of the runs.
        learning_rates: to choose from; of equally good ones the first counts.
        tuning_seeds: how many seeds choose; more than one where a run fails with one seed and not with another.
        metric: that is compared, as logged by ``nextconcept validate``.
        mode: whether less or more of it is better.
        baseline: an entry; the table then says with what share of its compute the others reach its final value.
        flops: training operations of each run.
        tokens: training tokens of each run; with neither budget the entries' own ``trainer.max_steps`` count.
        options: settings of all entries.
        jobs: runs at the same time; on GPUs each gets one.
        threads: of each run on a CPU; default: the cores over the jobs.
        output: folder of the results.
        logs: folder of the runs.

    Raises:
        InputError: if there is nothing to compare, an option is out of range, or a run fails.
    """
    if not entries or not seeds or not learning_rates or jobs < 1:
        raise InputError("a comparison needs entries, seeds, learning_rates, and jobs of 1 or more.")
    if not 1 <= tuning_seeds <= len(seeds):
        raise InputError(f"tuning_seeds must be between 1 and the number of seeds, {len(seeds)}, not {tuning_seeds}.")
    if baseline is not None and baseline not in entries:
        raise InputError(f"the baseline {baseline!r} is none of the entries {', '.join(entries)}.")
    if flops is not None and tokens is not None:
        raise InputError("give the budget of a comparison in flops or in tokens, not in both.")
    budget = {"budget.flops": flops, "budget.tokens": tokens}
    common = (options or {}) | {key: value for key, value in budget.items() if value is not None}
    path = Path(output) / f"{name}.json"
    head = {
        "name": name,
        "question": question,
        "metric": metric,
        "mode": mode,
        "baseline": baseline,
        "command": "nextconcept " + " ".join(sys.argv[1:]),
    }
    book = ResultsFile(path, head)

    def run(entry: str, rate: float, seed: int) -> _Run:
        growth, settings = entries[entry].growth, common | entries[entry].options
        stages = _stages(entries[entry], settings | {"seed_everything": seed, "model.optimizer.lr": rate})
        return _Run(entry, rate, seed, stages, growth.init if growth else "", Path(logs) / name / entry)

    workers = _Workers(jobs, threads, book)
    with _stoppable():
        trials = {
            entry: [run(entry, rate, seed) for rate in learning_rates for seed in seeds[:tuning_seeds]]
            for entry in entries
        }
        list(workers.do([one for runs in trials.values() for one in runs]))
        best = {entry: _best_rate(book, runs, metric, mode) for entry, runs in trials.items()}
        chosen = [run(entry, best[entry], seed) for entry in entries for seed in seeds]
        keys, tried = [one.key for one in chosen], [one.key for runs in trials.values() for one in runs]
        write_report(book.content, keys, tried, path.with_suffix(""))
        for _ in workers.do(chosen):
            write_report(book.content, keys, tried, path.with_suffix(""))  # as far as it has come
        book.save()  # with question and command of this time, if no run was left to make
    print(f"wrote {path}, {path.with_suffix('.md')} and {path.with_suffix('.png')}")


def _stages(entry: Entry, settings: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Arguments of ``nextconcept fit`` for each stage of an entry, of which there is one if it does not grow."""
    if entry.growth is None:
        return ((*_files(entry.config), *_to_cli_args(settings)),)
    budgets = [key for key in ("budget.flops", "budget.tokens") if key in settings]
    if not budgets:
        raise InputError("an entry that grows needs a budget of flops or tokens to share out.")
    stages, shares = [], entry.growth.shares
    for stage in range(len(shares)):
        files = _files(entry.growth.config if stage else entry.config)
        kept = {key: value for key, value in settings.items() if not (stage and key.startswith("model.config."))}
        part = {budgets[0]: settings[budgets[0]] * sum(shares[: stage + 1])}
        before = entry.growth.before if stage + 1 < len(shares) else {}
        stages.append((*files, *_to_cli_args(kept | before | part)))
    return tuple(stages)


def _files(config: list[str]) -> list[str]:
    missing = [file for file in config if not Path(file).is_file()]
    if missing or not config:
        raise InputError(f"an entry names the configuration {missing or 'nothing'}, which is no file.")
    return [part for file in config for part in ("--config", file)]


def _to_cli_args(settings: dict[str, Any]) -> list[str]:
    return [part for key, value in settings.items() for part in (f"--{key}", json.dumps(value).strip('"'))]


def _best_rate(book: "ResultsFile", runs: list[_Run], metric: str, mode: str) -> float:
    values: dict[float, list[float]] = {}
    for run in runs:
        final = book[run]["final"]
        if metric not in final:
            raise InputError(f"the runs have not logged {metric}: they have {', '.join(final)}.")
        values.setdefault(run.learning_rate, []).append(final[metric])
    return (min if mode == "min" else max)(values, key=lambda rate: mean(values[rate]))


class ResultsFile:
    """The JSON file with the finished runs, written whole after each of them."""

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self.path = path
        kept = json.loads(path.read_text()) if path.exists() else {"runs": []}
        # Files of earlier versions say once for all runs where they were made.
        where = {key: kept[key] for key in ("machine", "versions") if key in kept}
        self.content = head | {"runs": [where | record for record in kept["runs"]]}

    def __contains__(self, run: _Run) -> bool:
        return any(record["key"] == run.key for record in self.content["runs"])

    def __getitem__(self, run: _Run) -> dict[str, Any]:
        """The record of a finished run."""
        found: dict[str, Any] = next(record for record in self.content["runs"] if record["key"] == run.key)
        return found

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record."""
        self.content["runs"].append(record)
        self.content["runs"].sort(key=lambda one: (one["entry"], one["learning_rate"], one["seed"]))
        self.save()

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.content, indent=1) + "\n")
        partial.replace(self.path)


class _Workers:
    """Runs several processes at a time."""

    def __init__(self, jobs: int, threads: int | None, book: ResultsFile) -> None:
        self.book, self.jobs = book, jobs
        self.threads = threads or max(1, (os.cpu_count() or 1) // jobs)
        self.slots: queue.Queue[int] = queue.Queue()
        for slot in range(jobs):
            self.slots.put(slot)
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.stopped = False

    def do(self, runs: list[_Run]) -> Iterator[dict[str, Any]]:
        """Make the runs that are not finished, and yield the record of each."""
        waiting = [run for run in runs if run not in self.book]
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                for record in pool.map(self._one, waiting):
                    rate, seed = record["learning_rate"], record["seed"]
                    print(f"finished {record['entry']}, learning rate {rate:g}, seed {seed}", flush=True)
                    yield record
            except BaseException:  # also when we are to stop: runs save, and end with us
                self.stopped = True
                pool.shutdown(wait=False, cancel_futures=True)
                for process in tuple(self.processes):
                    process.terminate()
                raise

    def _one(self, run: _Run) -> dict[str, Any]:
        slot = self.slots.get()
        try:
            environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
            if torch.cuda.is_available() and self.jobs > 1:
                environment["CUDA_VISIBLE_DEVICES"] = str(slot % torch.cuda.device_count())
            record = self._train(run, environment)
            self.book.add(record)
            return record
        finally:
            self.slots.put(slot)

    def _train(self, run: _Run, environment: dict[str, str]) -> dict[str, Any]:
        folder = run.folder / run.key
        start: tuple[str, ...] = ()
        for stage, arguments in enumerate(run.stages):
            if stage:
                start = ("--model.init_from", str(self._grow(folder, stage, run.init, environment)))
            self._fit(folder, stage, [*arguments, *start], environment)
        newest, (*_, arguments) = _last_checkpoint(folder, len(run.stages) - 1), run.stages
        logger = ("--trainer.logger.init_args.save_dir", str(folder), "--trainer.logger.init_args.name", "final")
        assert newest is not None  # it has been fitted
        self._call("validate", [*arguments, *logger, "--ckpt_path", str(newest)], folder, environment)
        curves: dict[str, dict[int, float]] = {}
        for events in sorted(folder.glob("stage_*/version_*")):
            for tag, points in _scalars(events).items():
                curves.setdefault(tag, {}).update(points)
        finals: dict[str, float] = {}
        for events in sorted(folder.glob("final/version_*")):
            finals |= {tag: list(points.values())[-1] for tag, points in _scalars(events).items()}
        rates = curves.get("train/tokens_per_second", {0: 0.0}).values()  # a short run may log none
        shown = {tag: sorted(points.items()) for tag, points in curves.items() if _is_curve(tag)}
        costs = {tag: sorted(points.items()) for tag, points in curves.items() if tag.startswith("model/")}
        return {
            "entry": run.entry,
            "learning_rate": run.learning_rate,
            "seed": run.seed,
            "key": run.key,
            "machine": machine(),
            "versions": versions(),
            "arguments": list(arguments),
            "steps": read_checkpoint(newest)["global_step"],
            "parameters": int(costs["model/parameters"][-1][1]),
            "flops_per_token": costs["model/flops_per_token"][-1][1],
            "stages": [list(stage) for stage in costs["model/flops_per_step"]],
            "tokens_per_second": median(rates),
            "final": {tag: round(value, 6) for tag, value in finals.items() if tag.startswith("val/")},
            "curves": {tag: [[step, round(value, 6)] for step, value in points] for tag, points in shown.items()},
        }

    def _fit(self, folder: Path, stage: int, arguments: list[str], environment: dict[str, str]) -> None:
        """Train a stage, or what is left of it."""
        (folder / f"stage_{stage}").mkdir(parents=True, exist_ok=True)
        name = ("--trainer.logger.init_args.save_dir", str(folder), "--trainer.logger.init_args.name", f"stage_{stage}")
        earlier = _last_checkpoint(folder, stage)
        resumed = ("--ckpt_path", str(earlier)) if earlier else ()
        if not (folder / f"grown_{stage + 1}").exists():
            self._call("fit", [*arguments, *name, *resumed], folder, environment)

    def _grow(self, folder: Path, stage: int, init: str, environment: dict[str, str]) -> Path:
        """The model that a stage begins with, grown from the end of the stage before."""
        grown, partial = folder / f"grown_{stage}", folder / "partial"
        if not grown.exists():
            shutil.rmtree(partial, ignore_errors=True)
            source = ("--source", str(_last_checkpoint(folder, stage - 1)))
            self._call("grow", [*source, "--output", str(partial), "--init", init], folder, environment)
            partial.rename(grown)
        return grown

    def _call(self, command: str, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        log = folder / f"{command}.log"
        if self.stopped:
            raise InputError("the comparison was stopped.")
        with log.open("ab") as file:
            told = [sys.executable, "-m", "nextconcept", command, *arguments]
            with subprocess.Popen(told, stdout=file, stderr=subprocess.STDOUT, env=environment) as process:
                self.processes.add(process)
                process.wait()
                self.processes.remove(process)
        if process.returncode:
            said = [line for line in log.read_text(errors="replace").splitlines() if "error" in line.lower()]
            raise InputError(
                f"a run of the comparison failed, see {log}: {said[-1] if said else 'no error was printed'}"
            )


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that a comparison ends its runs with itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _last_checkpoint(folder: Path, stage: int) -> Path | None:
    """The furthest one: a process that outlived its comparison may have written after it."""
    found = folder.glob(f"stage_{stage}/version_*/checkpoints/last.ckpt")
    return max(found, key=lambda path: int(read_checkpoint(path)["global_step"]), default=None)


def _is_curve(tag: str) -> bool:
    """Whether a metric's whole course is kept, for pictures."""
    return tag.startswith("val/loss/tokens") or tag in ("val/path/exact", "val/path/first_branch")


def _scalars(folder: Path) -> dict[str, dict[int, float]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
