"""Settings and data that were given, where a checkpoint or a file has others."""

import dataclasses
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from nextconcept.checkpoints.files import COMPUTE, StoredRun
from nextconcept.checkpoints.hub import Export
from nextconcept.checkpoints.stored_model import StoredModel
from nextconcept.cli.linked_settings import SHAPE
from nextconcept.cli.parsers import options_of
from nextconcept.core.chunking import same_chunking
from nextconcept.core.config import OF_TRAINING, ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.core.experiments import read_yaml
from nextconcept.core.settings import flat
from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.training.warm_start import no_step_left

__all__ = [
    "GivenSettings",
    "adopt_checkpoint",
    "adopt_export",
    "adopt_stored_config",
    "check_chunk_size",
    "keep_seeds",
    "note_other_data",
]

CHANGEABLE = ("loss", "optimizer", "train_plan", "compile")
"""Settings that may change when a run goes on."""

CHANGEABLE_IN_MODEL = tuple(f"config.{name}" for name in OF_TRAINING)
"""Settings of its model that may change too."""


@dataclasses.dataclass
class GivenSettings:
    """Names of the settings of the model that the user has given, such as ``optimizer.lr``.

    Attributes:
        typed: those of the command line.
        in_files: those of the configuration files.
        data: whether data were given too.
    """

    typed: set[str]
    in_files: set[str]
    data: bool = False

    @classmethod
    def of(cls, arguments: list[str]) -> "GivenSettings":
        """Find the settings in ``arguments``, in which experiments are paths of files."""
        typed: set[str] = set()
        in_files: set[str] = set()
        data = False
        for option, value in options_of(arguments):
            if option in ("-c", "--config"):
                content = read_yaml(Path(value))
                in_files |= set(_leaves(content.get("model"))) if isinstance(content, dict) else set()
                data |= isinstance(content, dict) and "data" in content
            elif option == "--model" or option.startswith("--model."):
                content = read_yaml(value)
                if isinstance(content, str):  # a file of settings, perhaps
                    content = read_yaml(Path(content))
                prefix = option.removeprefix("--model").removeprefix(".").rstrip("+")
                # The terms of the loss are one setting, whose value is a dictionary.
                nested = isinstance(content, dict) and prefix != "loss.terms"
                typed |= set(_leaves(content, prefix)) if nested else {prefix}
            data |= option == "--data" or option.startswith("--data.")
        return cls(typed, in_files, data)

    @classmethod
    def of_mapping(cls, model: Any) -> "GivenSettings":
        """Find the settings in the part ``model`` of arguments that are no list of words."""
        return cls(set(_leaves(model.clone().as_dict() if isinstance(model, Namespace) else model)), set())


def adopt_checkpoint(options: Namespace, run: StoredRun, given: GivenSettings) -> list[str]:
    """Take the model's settings from a checkpoint, except for those that the user changes.

    Args:
        options: all options, changed in place.
        run: the run, as the checkpoint holds it.
        given: what the user has given; the rest of ``options.model`` are defaults.

    Returns:
        A sentence for each setting that is not that of the checkpoint, or not that of the user's
        files.

    Raises:
        InputError: if the command line asks for another model than that of the checkpoint, or the
            checkpoint names code that the user has not named.
    """
    stored = {name: _plain(value) for name, value in run.checkpoint.get("hyper_parameters", {}).items()}
    wanted = _plain(options.model)
    notes = _adopt_shape(options, run, given)
    start = stored.get("init_from")
    if wanted["init_from"] != start and "init_from" in given.typed:
        raise InputError(
            "a run goes on from --ckpt_path or begins with the weights of --model.init_from: leave one of them out."
        )
    options.model.init_from = start
    for group in CHANGEABLE:
        for name in _names(wanted, group):
            parts = [part for part in given.typed | given.in_files if _covers(part, name)]
            old, new = _get(stored, name), _get(wanted, name)
            if name == "loss.terms" and parts and all(part.startswith("loss.terms.") for part in parts):
                new = {**(old or {}), **{key: new[key] for part in parts if (key := part[11:]) in new}}
            if not parts and old is not None:
                new = old
            if new != old and old is not None:
                notes.append(f"model.{name} is {new} now; the checkpoint had {old}.")
            options.model[name] = new
    code = [name for name in options.model.loss.terms if "." in name and name not in wanted["loss"]["terms"]]
    if code or "encoder" in stored:
        raise InputError(
            f"the checkpoint {run.path} asks for code of its own, {(*code, stored.get('encoder'))[0]}: if "
            "you trust it, name it with the settings it was trained with, --model.loss.terms and --model.encoder."
        )
    return notes


def check_resumable(options: Namespace, run: StoredRun) -> str | None:
    """Check that training can go on from a checkpoint.

    Args:
        options: all options.
        run: the run, as the checkpoint holds it.

    Returns:
        A sentence if the run has made all its steps, so that training ends at once; None if not.

    Raises:
        InputError: if the checkpoint has weights alone.
    """
    path, checkpoint = run.path, run.checkpoint
    loops = checkpoint.get("loops", {}).get("fit_loop")
    if not checkpoint.get("optimizer_states") or loops is None:
        raise InputError(
            f"{path} has weights alone, so that training can't go on where it was: give a checkpoint with the "
            "optimizer's state, or begin a run with these weights by --model.init_from."
        )
    made = f"the run of {path} has made"
    if finished := no_step_left(checkpoint["global_step"], loops, *limits_of(options), made):
        return finished
    for unit in ("flops", "tokens"):
        budget, spent = options.budget.get(unit), checkpoint.get(COMPUTE, {}).get(unit, 0)
        if budget is not None and spent >= budget * (1 - 1e-8):  # steps are counted up to rounding
            return (
                f"the run of {path} has spent {spent:g} {unit}, so that a budget of {budget:g} leaves none: give a "
                f"larger --budget.{unit}."
            )
    return None


def limits_of(options: Namespace) -> tuple[int, int | None]:
    """Return the steps (-1 for no limit) and the epochs at which a fit ends, but for its budget."""
    trainer, budget = options.trainer, options.budget
    # A budget sets the number of steps.
    steps = -1 if any(budget.get(unit) is not None for unit in ("flops", "tokens")) else trainer.max_steps
    return steps, trainer.max_epochs


def keep_seeds(options: Namespace, run: StoredRun) -> None:
    """Put the seeds with which a run began, and goes on, into the settings that it stores.

    Args:
        options: all options, changed in place.
        run: the run that goes on.
    """
    seed = run.checkpoint.get("nextconcept_seed")
    if seed is not None and seed < 2**32:  # a larger one was drawn by a Trainer of the user's own
        options.seed_everything = seed
    loops = run.checkpoint.get("loops", {}).get("fit_loop", {})
    loaders = loops.get("state_dict", {}).get("combined_loader") or [{}]
    of_windows, data = loaders[0].get("seed"), options.data.get("init_args") or Namespace()
    if of_windows is not None and "seed" in data and (data.seed is not None or of_windows != seed):
        data.seed = of_windows


def adopt_export(options: Namespace, export: Export, given: GivenSettings) -> list[str]:
    """Take the model and its weights from an export, which is to be measured.

    Args:
        options: all options, changed in place.
        export: the export.
        given: what the user has given.

    Returns:
        A sentence for each setting that is not that of the user's files, and one where no data are
        given.

    Raises:
        InputError: if the command line asks for another model.
    """
    if options.model.init_from is not None:
        raise InputError("the model to measure is that of --ckpt_path or of --model.init_from: leave one of them out.")
    notes = _adopt_shape(options, export, given)
    options.model.init_from = str(export.path)
    if not given.data:
        notes.append(
            "an export does not say what data it was trained on, and these are the defaults: --config or --data names "
            "others."
        )
    return notes


def check_chunk_size(options: Namespace, given: GivenSettings) -> None:
    """Check that a chunk size on the command line is not one that rules of a file replace.

    Raises:
        InputError: if it is.
    """
    config = options.model.config
    if "config.chunk_size" in given.typed and config.chunking is not None and config.levels != 1:
        raise InputError(
            f"model.config.chunk_size {config.chunk_size} has no effect beside the chunking of the configuration: give "
            "--model.config.chunking, a number or a rule for each concept level, instead."
        )


def note_other_data(run: StoredRun, data: ConceptDataModule) -> str | None:
    """Say that a run was trained on other data than it is now given; None if it was not.

    Args:
        run: the run, which has no description of data that are no
            :class:`~nextconcept.data.datamodule.ConceptDataModule`.
        data: the data of this command.
    """
    before, now = (_plain(one) for one in (run.record().get("data", {}), data.describe()))
    if not isinstance(before, dict) or not before:
        return None
    # The model brings its tokenizer and its context along; digests are compared once data are read.
    own = ("tokenizer", "vocabulary", "context_length", "digest")
    names = [name for name in {**now, **before} if name not in own]
    other = next((name for name in names if before.get(name) != now.get(name)), None)
    if other is None:
        return None
    return (
        f"the data differ from those that the model was trained on: {other} is {now.get(other)}, not "
        f"{before.get(other)}."
    )


def adopt_stored_config(options: Namespace, start: StoredModel, given: GivenSettings) -> None:
    """Give model and data the shape of the model at ``model.init_from``.

    Args:
        options: all options, changed in place.
        start: that model.
        given: what the user has given; the rest of ``options.model`` are defaults.

    Raises:
        InputError: if another shape was asked for.
    """
    path, defaults = options.model.init_from, ModelConfig().to_dict()
    stored = start.config(options.model.encoder).to_dict()
    del stored["vocab_size"]  # follows from the data
    wanted = options.model.config.clone().as_dict()
    for name in CHANGEABLE_IN_MODEL:
        if any(_covers(part, name) for part in given.typed | given.in_files):
            _set({"config": stored}, name, _get({"config": wanted}, name))
    wanted["encoder"]["class_name"] = stored["encoder"]["class_name"]  # which nobody gives: the class itself is
    typed = {name.split(".")[1] for name in given.typed if name.startswith("config.")}
    other = [
        name
        for name, value in stored.items()
        if wanted[name] not in (None, value)
        and (wanted[name] != defaults[name] or name in typed)
        and not (name == "chunking" and same_chunking(wanted[name], value))
    ]
    if other:
        raise InputError(
            f"the model in {path} has {other[0]} {stored[other[0]]}, not {wanted[other[0]]}: with model.init_from "
            "leave out what differs of model.config, or take an experiment that has no model.config (grown, "
            "growth/grown), with the data of the model."
        )
    options.model.config = as_namespace(stored)
    for name in SHAPE:
        options.data.init_args[name] = stored.get(name)


def _adopt_shape(options: Namespace, trained: StoredModel, given: GivenSettings) -> list[str]:
    """Give model and data the shape of a trained model; return notes on what was not taken.

    Raises:
        InputError: if the command line asks for another shape or another encoder.
    """
    path, stored, wanted = trained.path, _plain(trained.config().to_dict()), _plain(options.model)
    own, chosen = stored["encoder"]["class_name"], _class_name(options.model.encoder)
    if chosen != (own or ConceptEncoder.__name__):
        advice = f"name that class with --model.encoder, as in my_module.{own}" if own else "leave --model.encoder out"
        raise InputError(
            f"the model in {path} has the encoder {own or ConceptEncoder.__name__}, not {chosen}: {advice}."
        )
    notes = []
    wanted = {**wanted, "config": _as_built(wanted["config"], stored)}
    for names, typed in ((given.typed, True), (given.in_files - given.typed, False)):
        for name in _names(wanted, "config"):
            new, old = _get(wanted, name), _get({"config": stored}, name)
            if new is None and name == "config.context_length":
                continue
            if not any(_covers(part, name) for part in names) or new == old:
                continue
            if name == "config.chunking" and same_chunking(new, old):
                continue
            if name in CHANGEABLE_IN_MODEL:
                _set({"config": stored}, name, new)
                notes.append(f"model.{name} is {new} now; the checkpoint had {old}.")
                continue
            if typed:
                raise InputError(
                    f"the model in {path} has model.{name} {old}, not {new}: leave out --model.{name}, or train such a "
                    "model from the beginning."
                )
            notes.append(f"model.{name} is that of the trained model, {old}, not {new} as in the configuration file.")
    options.model.config = as_namespace({name: value for name, value in stored.items() if name != "vocab_size"})
    for name in SHAPE:
        options.data.init_args[name] = stored.get(name)
    return notes


def _as_built(wanted: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """Return settings as a model has them that is built of them, or as they are if none can be.

    A model with one level, for example, has the first of two depths.
    """
    from_data = {name: stored[name] for name in ("vocab_size", "context_length") if wanted.get(name) is None}
    try:
        built: dict[str, Any] = _plain(ModelConfig.from_dict(wanted | from_data).to_dict())
    except (InputError, TypeError, AttributeError):
        return wanted
    return {name: built.get(name, value) for name, value in wanted.items()}


def _class_name(encoder: Any) -> str:
    return encoder.__qualname__ if isinstance(encoder, type) else str(encoder).rpartition(".")[2]


def _leaves(values: Any, prefix: str = "") -> list[str]:
    """Return the dotted names of the values in nested dictionaries."""
    return [name for name, _ in flat(values, prefix, whole=("loss.terms",)) if name]


def _names(values: dict[str, Any], group: str) -> list[str]:
    """Return the dotted names of the settings of a group."""
    return _leaves({group: values[group]})


def _covers(part: str, name: str) -> bool:
    """Whether what was given as ``part`` contains the setting ``name``, or belongs to it."""
    return part == name or not part or name.startswith(f"{part}.") or part.startswith(f"{name}.")


def _get(values: Any, name: str) -> Any:
    for key in name.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _set(values: dict[str, Any], name: str, value: Any) -> None:
    *groups, last = name.split(".")
    for group in groups:
        values = values[group]
    values[last] = value


def as_namespace(values: dict[str, Any]) -> Namespace:
    """Return settings as the command line's parser holds them, groups included."""
    return Namespace(
        **{name: as_namespace(value) if isinstance(value, dict) else value for name, value in values.items()}
    )


def _plain(value: Any) -> Any:
    """Return nested dictionaries and lists for namespaces, dataclasses and tuples."""
    if isinstance(value, Namespace):
        value = value.clone().as_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
