"""The entries of a comparison, and the runs that they ask for."""

import glob
import hashlib
import json
import math
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from nextconcept.core.chunking import RuleEntry, parse_chunking
from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.core.experiments import find_experiment, read_yaml
from nextconcept.core.settings import flat
from nextconcept.evaluation.search import Candidate
from nextconcept.nn.growth import grown_config

__all__ = ["Entry", "Growth", "Run", "check_given", "make_run"]


def check_given(settings: Any, owner: str) -> None:
    """Check that no setting is null that can't be, as one is whose name stands alone in a file.

    Args:
        settings: a dataclass.
        owner: what the settings are of, for the message.

    Raises:
        InputError: if one is.
    """
    for one in fields(settings):
        if getattr(settings, one.name) is None and one.default is not None:
            raise InputError(f"{one.name} of {owner} has no value: give one, or leave the name out.")


@dataclass
class Growth:
    """How an entry grows: its run begins small and gains a level between its stages.

    Args:
        config: configuration files of the stages after the first; the model is the grown one.
        shares: shares of the budget, one per stage, that add up to 1.
        init: content of the new blocks; see :func:`~nextconcept.nn.growth.grow`.
        rules: chunking rules of the levels that the later stages add, one per stage; empty for
            chunks of ``chunk_size`` elements.
        new_levels: settings of the levels that the later stages add which differ from those of the
            level below, one dictionary per stage; see :func:`~nextconcept.nn.growth.grown_config`.
        before: further settings of all stages but the last, such as
            ``model.optimizer.min_lr_ratio: 1.0``.

    Raises:
        InputError: if a value is missing, the shares are not positive or do not add up to 1, or
            there is not a rule, or settings of the new level, for each later stage.
    """

    config: list[str]
    shares: list[float]
    init: Literal["copy", "random", "zeros"] = "copy"
    rules: list[RuleEntry] = field(default_factory=list)
    new_levels: list[dict[str, Any]] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_given(self, "growth")
        if not (min(self.shares, default=0) > 0 and abs(sum(self.shares) - 1) <= 1e-6):  # also if one is NaN
            raise InputError(f"the shares of a growing entry must be positive and add up to 1, not {self.shares}.")
        parse_chunking(self.rules)
        for name in ("rules", "new_levels"):
            if getattr(self, name) and len(getattr(self, name)) != len(self.shares) - 1:
                raise InputError(
                    f"a growing entry of {len(self.shares)} stages takes {len(self.shares) - 1} {name}, one for each "
                    f"level that is added, not {len(getattr(self, name))}."
                )

    def arguments(self, stage: int) -> list[str]:
        """Return arguments of ``nextconcept grow`` before a stage, counted from 0."""
        return _to_cli_args({"init": self.init} | self._added(stage))

    def check(self, model: dict[str, Any]) -> None:
        """See whether a model can grow through all stages.

        Args:
            model: the configuration of the model of the first stage, as plain values.

        Raises:
            InputError: if it can't.
        """
        config = ModelConfig.from_dict(model)
        for stage in range(1, len(self.shares)):
            config = grown_config(config, **self._added(stage))

    def _added(self, stage: int) -> dict[str, Any]:
        """Return what :func:`~nextconcept.nn.growth.grow` is told of the level of a stage."""
        lists: dict[str, list[Any]] = {"rule": self.rules, "new_level": self.new_levels}
        return {name: given[stage - 1] for name, given in lists.items() if given}


@dataclass
class Entry:
    """One line of a comparison.

    Args:
        config: configuration files of ``nextconcept fit``; later ones override earlier ones.
        options: further settings by their dotted names, such as ``model.config.levels: 1``.
        growth: how the model grows, or None; ``config`` is then that of the smallest model.
        grid: values to try for options of this entry, by their dotted names.
        learning_rates: of this entry, in place of those of the comparison; one alone is taken as it
            is.

    Raises:
        InputError: if a value is missing.
    """

    config: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    growth: Growth | None = None
    grid: dict[str, list[Any]] = field(default_factory=dict)
    learning_rates: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_given(self, "an entry")


@dataclass(frozen=True)
class Run:
    """One training of an entry.

    Attributes:
        entry: name of the entry.
        candidate: learning rate of the run, and its options on the grid of the comparison.
        seed: seed of the run.
        stages: arguments of ``nextconcept fit`` for each stage; a run that does not grow has one.
        growth: how the model grows between stages, or None.
        folder: folder of the run's files.
    """

    entry: str
    candidate: Candidate
    seed: int
    stages: tuple[tuple[str, ...], ...]
    growth: Growth | None
    folder: Path

    @property
    def learning_rate(self) -> float:
        """Learning rate of the run."""
        return self.candidate.rate

    @property
    def budget(self) -> dict[str, float]:
        """Budget of the run in ``flops`` or ``tokens``; empty where its steps are given."""
        settings = dict(zip(self.stages[-1][::2], self.stages[-1][1::2], strict=True))
        names = {kind: f"--budget.{kind}" for kind in ("flops", "tokens")}
        return {kind: float(settings[name]) for kind, name in names.items() if name in settings}

    @property
    def title(self) -> str:
        """The run in words: entry, learning rate, budget, options on the grid, and seed."""
        parts = [self.entry, f"learning rate {self.learning_rate:g}"]
        parts += [f"{amount:g} {kind}" for kind, amount in self.budget.items()]
        parts += [f"{name} {value}" for name, value in self.candidate.options.items()]
        return ", ".join([*parts, f"seed {self.seed}"])

    @cached_property
    def key(self) -> str:
        """Hash of all that the run depends on except the code.

        Covered are the settings, those in configuration files among them (but not comments and
        paths), and the content of the files and folders that the run reads: its data and what it
        starts from.
        """
        digest = hashlib.sha256(self.growth.init.encode() if self.growth else b"")
        for given in (self.growth.rules, self.growth.new_levels) if self.growth else ():
            if given:
                digest.update(json.dumps(given, sort_keys=True).encode())
        for stage in self.stages:
            digest.update(b"\0stage\0")
            settings: dict[str, Any] = {}
            for name, value in zip(stage[::2], stage[1::2], strict=True):
                if name == "--config":
                    found = read_yaml(find_experiment(value))
                    digest.update(yaml.safe_dump(found).encode() + b"\0")
                    settings |= dict(flat(found, lists=True))
                else:
                    digest.update(f"{name}\0{value}\0".encode())
                    settings[name.removeprefix("--")] = value
            for file in sorted(_input_files(settings)):
                digest.update(_hash_file(file, file.stat().st_mtime_ns, file.stat().st_size))
        return digest.hexdigest()[:16]


def _input_files(settings: dict[str, Any]) -> set[Path]:
    """Return the files that settings of data and ``model.init_from`` name, as path or pattern."""
    found: set[Path] = set()
    for name, value in settings.items():
        reads = (name.startswith("data.") and not name.endswith("cache_dir")) or name == "model.init_from"
        if not reads or not isinstance(value, str) or "\0" in value or len(value) > 1000:
            continue
        if not any(map(str.isalnum, value)):
            continue  # a separator such as "." or "/", which is no path of data
        for path in map(Path, glob.glob(value, recursive=True)):
            found |= {file for file in path.rglob("*") if file.is_file()} if path.is_dir() else {path}
    return found


@lru_cache(maxsize=4096)
def _hash_file(path: Path, modified: int, size: int) -> bytes:
    """Hash a file; time and size of it make a changed file another entry of the cache."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


def make_run(name: str, entry: Entry, settings: dict[str, Any], candidate: Candidate, seed: int, folder: Path) -> Run:
    """Turn an entry into a run.

    Args:
        name: name of the entry.
        entry: the entry.
        settings: settings of all entries, the budget among them.
        candidate: learning rate of the run, and its options on the grid of the comparison.
        seed: seed of the run.
        folder: folder of the entry's files.

    Raises:
        InputError: if the entry names a configuration that does not exist, or grows without a
            budget.
    """
    settings = settings | entry.options | candidate.options
    settings |= {"seed_everything": seed, "model.optimizer.lr": candidate.rate}
    return Run(name, candidate, seed, _stages(entry, settings), entry.growth, folder)


def _stages(entry: Entry, settings: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    if entry.growth is None:
        return ((*_config_args(entry.config), *_to_cli_args(settings)),)
    budgets = [key for key in ("budget.flops", "budget.tokens") if key in settings]
    if not budgets:
        raise InputError("an entry that grows needs a budget of flops or tokens to divide among its stages.")
    stages, shares = [], entry.growth.shares
    for stage in range(len(shares)):
        files = _config_args(entry.growth.config if stage else entry.config)
        # The later stages' files describe the grown model.
        options = {key: value for key, value in settings.items() if not (stage and key.startswith("model.config."))}
        before = entry.growth.before if stage + 1 < len(shares) else {}
        whole = stage + 1 == len(shares)  # whose sum may miss 1 by a rounding error
        budget = {budgets[0]: settings[budgets[0]] * (1.0 if whole else math.fsum(shares[: stage + 1]))}
        stages.append((*files, *_to_cli_args(options | before | budget)))
    return tuple(stages)


def _config_args(config: list[str]) -> list[str]:
    if not config:
        raise InputError("an entry names the configuration nothing, which is no file.")
    for name in config:
        find_experiment(name)  # so that a missing one is reported before any run
    # By name, so that the key of a run does not depend on where the package is installed.
    return [argument for name in config for argument in ("--config", name)]


def _to_cli_args(settings: dict[str, Any]) -> list[str]:
    """Return options whose values the command line reads as they are."""
    return [
        argument
        for key, value in settings.items()
        for argument in (f"--{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    ]
