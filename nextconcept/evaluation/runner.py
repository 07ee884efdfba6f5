"""Training the runs of a comparison, each in processes of its own.

A run is ``nextconcept fit`` followed by ``nextconcept validate``; a run that grows has several
stages, with ``nextconcept grow`` between them. Metrics are read from the event files of the runs.
"""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import IO, Any, Protocol

import torch

from nextconcept.checkpoints.files import COMPUTE, read_checkpoint
from nextconcept.core.errors import InputError, TrainingError
from nextconcept.core.experiments import read_yaml
from nextconcept.evaluation.entries import Run
from nextconcept.evaluation.environment import machine, versions
from nextconcept.evaluation.metrics import is_curve
from nextconcept.evaluation.results_file import ResultsFile

__all__ = ["ProcessRunner", "Runner", "check_runs", "finish_runs"]


class Runner(Protocol):
    """Trains runs.

    Attributes:
        jobs: number of runs that may be trained at the same time.
    """

    jobs: int

    def check(self, run: Run) -> None:
        """See whether a run can begin; called from several threads.

        Raises:
            InputError: if it can't.
        """
        ...

    def train(self, run: Run) -> dict[str, Any]:
        """Train and validate a run, and return its record; called from several threads."""
        ...

    def stop(self) -> None:
        """Stop all runs; they save what they have."""
        ...


def check_runs(runs: list[Run], runner: Runner) -> None:
    """See whether runs can begin.

    Raises:
        InputError: if one can't.
    """
    if runs:
        print(f"checking {', '.join(dict.fromkeys(run.entry for run in runs))}: a step each", flush=True)
    with ThreadPoolExecutor(runner.jobs) as pool:
        try:
            list(pool.map(runner.check, runs))
        except BaseException:
            runner.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def finish_runs(
    runs: list[Run], results: ResultsFile, runner: Runner, may_diverge: bool = False
) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Train the runs that are not in the results yet, and add their records.

    Args:
        runs: the runs.
        results: the finished runs.
        runner: trains a run.
        may_diverge: leave out runs whose training diverges; otherwise they are an error, once the
            other runs are finished.

    Yields:
        Each run and its record, once the results file has it.

    Raises:
        InputError: if a run fails.
        TrainingError: if one diverged.
    """
    # Entries with the same settings share their runs.
    waiting, writing = {run.key: run for run in reversed(runs) if run.key not in results}, threading.Lock()
    diverged: list[TrainingError] = []
    stopped = threading.Event()  # set where a run fails, for its thread takes the next one at once

    def finish(run: Run) -> tuple[Run, dict[str, Any]] | None:
        """Train a run and store its record; None if it diverged or another has failed."""
        if stopped.is_set():
            return None
        print(f"training {run.title}, in {run.folder / run.key}", flush=True)
        try:
            record = runner.train(run) | {"budget": run.budget}
        except TrainingError as error:
            diverged.append(error)
            print(f"diverged: {run.title}: {error}", flush=True)
            return None
        except BaseException:
            stopped.set()
            raise
        with writing:
            results.add(record)
        return run, record

    with ThreadPoolExecutor(runner.jobs) as pool:
        try:
            for done in as_completed([pool.submit(finish, run) for run in reversed(waiting.values())]):
                if (finished := done.result()) is not None:
                    yield finished
        except BaseException:  # also SystemExit and KeyboardInterrupt: the runs end with the comparison
            stopped.set()
            runner.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if diverged and not may_diverge:
        raise diverged[0]


class ProcessRunner:
    """Trains each run in processes of its own.

    Args:
        jobs: number of runs at the same time; on GPUs each gets one.
        threads: threads of each run on a CPU; default: the cores divided by ``jobs``.

    Raises:
        InputError: if ``jobs`` or ``threads`` is below 1.
    """

    def __init__(self, jobs: int = 1, threads: int | None = None) -> None:
        if jobs < 1:
            raise InputError(f"a comparison takes 1 job or more at the same time, not {jobs}.")
        if threads is not None and threads < 1:
            raise InputError(f"each run needs 1 thread or more, not {threads}.")
        self.jobs = jobs
        self.threads = threads or max(1, _cores() // jobs)
        self._slots: queue.Queue[int] = queue.Queue()
        for slot in range(jobs):
            self._slots.put(slot)
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopped, self._starting = False, threading.Lock()

    def check(self, run: Run) -> None:
        """Make one step of a run and keep nothing of it.

        Of later stages only the settings are read, and whether the model can grow to them. A run
        that has begun is taken to be sound.

        Raises:
            InputError: if a process fails, the model can't grow or the runner was stopped.
        """
        folder, (first, *later) = run.folder / run.key, run.stages
        if _last_checkpoint(folder, 0) is not None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        with self._environment() as environment, suppress(TrainingError):  # which train() finds again
            self._call("fit", [*first, "--trainer.fast_dev_run", "1"], folder, environment, "check")
            for stage in later:
                self._call("fit", [*stage, "--print_config"], folder, environment, "check")
            if run.growth:
                printed = folder / "check.yaml"
                with printed.open("wb") as file:
                    self._call("fit", [*first, "--print_config"], folder, environment, "check", file)
                model = read_yaml(printed)["model"]
                if not model["init_from"]:  # or its configuration would be that of another model
                    run.growth.check(model["config"])

    def train(self, run: Run) -> dict[str, Any]:
        """Train and validate a run in the folder ``run.folder / run.key``, and return its record.

        A run that was interrupted continues from its last checkpoint.

        Raises:
            InputError: if a process fails or the runner was stopped.
            TrainingError: if the training diverges.
        """
        with self._environment() as environment:
            return self._train(run, run.folder / run.key, environment)

    def stop(self) -> None:
        """Terminate the processes, which save first, and start no more."""
        with self._starting:
            self._stopped = True
        for process in tuple(self._processes):
            process.terminate()

    @contextmanager
    def _environment(self) -> Iterator[dict[str, str]]:
        """Wait for a slot, and yield the environment of its processes."""
        slot = self._slots.get()
        try:
            environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
            if torch.cuda.is_available() and self.jobs > 1:
                environment["CUDA_VISIBLE_DEVICES"] = _gpu_of(slot)
            yield environment
        finally:
            self._slots.put(slot)

    def _train(self, run: Run, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
        start: tuple[str, ...] = ()
        for stage, arguments in enumerate(run.stages):
            if run.growth and stage:
                grown = self._grow(folder, stage, run.growth.arguments(stage), environment)
                start = ("--model.init_from", str(grown))
            self._fit(folder, stage, [*arguments, *start], environment)
        newest, arguments = _last_checkpoint(folder, len(run.stages) - 1), run.stages[-1]
        assert newest is not None  # fit has written it
        self._call("validate", [*arguments, *_logger(folder, "final"), "--ckpt_path", str(newest)], folder, environment)
        return _record(run, folder, newest)

    def _fit(self, folder: Path, stage: int, arguments: list[str], environment: dict[str, str]) -> None:
        """Train a stage, or what is left of it."""
        (folder / f"stage_{stage}").mkdir(parents=True, exist_ok=True)
        earlier = _last_checkpoint(folder, stage)
        resume = ("--ckpt_path", str(earlier)) if earlier else ()
        if not (folder / f"grown_{stage + 1}").exists():
            self._call("fit", [*arguments, *_logger(folder, f"stage_{stage}"), *resume], folder, environment)

    def _grow(self, folder: Path, stage: int, arguments: list[str], environment: dict[str, str]) -> Path:
        """Grow the model at the end of the previous stage, and return the folder of the result."""
        grown = folder / f"grown_{stage}"
        if not grown.exists():
            source = ("--source", str(_last_checkpoint(folder, stage - 1)))
            self._call("grow", [*source, "--output", str(grown), *arguments], folder, environment)
        return grown

    def _call(
        self,
        command: str,
        arguments: list[str],
        folder: Path,
        environment: dict[str, str],
        name: str | None = None,
        output: IO[bytes] | None = None,
    ) -> None:
        """Run a command; its log takes what it prints, or errors alone if there is an output."""
        log = folder / f"{name or command}.log"
        call = [sys.executable, "-m", "nextconcept", command, *arguments]
        with log.open("ab") as file:
            earlier = file.tell()  # attempts, whose errors do not count
            with self._starting:  # or a process could begin after all were stopped
                if self._stopped:
                    raise InputError("the comparison was stopped.")
                process = subprocess.Popen(call, stdout=output or file, stderr=file, env=environment)
                self._processes.add(process)
            with process:
                process.wait()
            self._processes.remove(process)
        if process.returncode:
            lines = log.read_bytes()[earlier:].decode(errors="replace").splitlines()
            if process.returncode == 1 and lines and lines[-1].startswith("nextconcept: "):  # and no traceback
                raise TrainingError(f"see {log}: {lines[-1]}")
            errors = [line for line in lines if "error" in line.lower()] or ["no error was printed"]
            if process.returncode < 0:
                errors = [f"signal {-process.returncode} ended it"]
            raise InputError(f"a run of the comparison failed, see {log}: {errors[-1]}")


def _gpu_of(slot: int) -> str:
    """Return the name of a GPU among those that the user lets this process see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[: torch.cuda.device_count()]
    names = [name.strip() for name in visible if name.strip()] or [str(i) for i in range(torch.cuda.device_count())]
    return names[slot % len(names)]


def _logger(folder: Path, name: str) -> tuple[str, ...]:
    return ("--trainer.logger.init_args.save_dir", str(folder), "--trainer.logger.init_args.name", name)


def _last_checkpoint(folder: Path, stage: int) -> Path | None:
    """Return the checkpoint with the most steps.

    That need not be the newest: a process that outlived its comparison may have written later.
    """
    found = folder.glob(f"stage_{stage}/version_*/checkpoints/last.ckpt")
    return max(found, key=lambda path: int(read_checkpoint(path)["global_step"]), default=None)


def _record(run: Run, folder: Path, newest: Path) -> dict[str, Any]:
    """Collect what a finished run logged."""
    curves: dict[str, dict[int, float]] = {}
    for events in sorted(folder.glob("stage_*/version_*"), key=_age):
        for tag, points in _scalars(events).items():
            curves.setdefault(tag, {}).update(points)
    finals: dict[str, float] = {}
    for events in sorted(folder.glob("final/version_*"), key=_age):
        finals |= {tag: list(points.values())[-1] for tag, points in _scalars(events).items()}
    rates = curves.get("train/tokens_per_second", {0: 0.0}).values()  # a short run may log none
    costs = {tag: sorted(points.items()) for tag, points in _costs(folder, curves).items()}
    kept = {tag: sorted(points.items()) for tag, points in curves.items() if is_curve(tag)}
    return {
        "entry": run.entry,
        "learning_rate": run.learning_rate,
        "grid": run.candidate.options,
        "seed": run.seed,
        "key": run.key,
        "machine": machine(),
        "versions": versions(),
        "arguments": list(run.stages[-1]),
        "steps": read_checkpoint(newest)["global_step"],
        "parameters": int(costs["model/parameters"][-1][1]),
        "flops_per_token": costs["model/flops_per_token"][-1][1],
        "stages": [list(stage) for stage in costs["model/flops_per_step"]],
        "tokens_per_second": median(rates),
        "final": {tag: round(value, 6) for tag, value in finals.items() if tag.startswith("val/")},
        "curves": {tag: [[step, round(value, 6)] for step, value in points] for tag, points in kept.items()},
    }


def _cores() -> int:
    """Return the number of cores that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _age(version: Path) -> tuple[int, ...]:
    """Return the numbers of stage and version, the tenth of which comes after the second."""
    return tuple(int(number) for name in version.parts[-2:] for number in name.split("_")[1:])


def _costs(folder: Path, curves: dict[str, dict[int, float]]) -> dict[str, dict[int, float]]:
    """Return what a model costs, by the step at which it begins.

    Runs of earlier versions logged it as curves; later ones have it in their checkpoints.
    """
    costs = {tag: dict(points) for tag, points in curves.items() if tag.startswith("model/")}
    for stage in range(len(list(folder.glob("stage_*")))):
        last = _last_checkpoint(folder, stage)
        compute = read_checkpoint(last).get(COMPUTE, {}) if last is not None else {}
        for tag, value in compute.get("costs", {}).items():
            costs.setdefault(tag, {})[compute["first_step"]] = value
    return costs


def _scalars(folder: Path) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
