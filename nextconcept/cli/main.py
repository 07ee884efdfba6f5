"""The command line: ``nextconcept fit | validate | test | predict | generate | plan | export | grow | compare``."""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ActionYesNo, ArgumentParser, Namespace, auto_cli
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from nextconcept.checkpoints.files import find_checkpoint, read_checkpoint
from nextconcept.cli import commands
from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError, TrainingError
from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.evaluation.compare import compare
from nextconcept.tasks.accuracy import TaskAccuracy
from nextconcept.training.callbacks import (
    ComputeBudget,
    ConceptProgressBar,
    FiniteGradients,
    GrowthWarmup,
    InterventionTable,
    LastCheckpoint,
    LevelSummary,
    PlanView,
    StoreModelMetadata,
    SurprisalWriter,
    TensorBoardLayout,
    WritingSamples,
)
from nextconcept.tasks.accuracy import TaskAccuracy
from nextconcept.training.module import ConceptModule
from nextconcept.training.warm_start import read_config

__all__ = ["ConceptCLI", "main"]

COMMANDS: dict[str, Callable[..., None]] = {
    "generate": commands.generate,
    "plan": commands.plan,
    "export": commands.export,
    "grow": commands.grow,
    "compare": compare,
}
"""Commands that need no Trainer."""


class OneLineErrors(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Report a bad argument in one sentence and exit with code 2."""
        text = " ".join(line.strip(" -") for line in message.split("\n") if line.strip()).rstrip(".")
        prog = self.prog.split(" [")[0]
        print(f"nextconcept: error: {text}; {prog} --help lists what is accepted.", file=sys.stderr)
        sys.exit(2)

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse; a class that is named but can't be imported is a bad argument too."""
        try:
            return super().parse_args(*args, **kwargs)
        except (ImportError, AttributeError) as error:
            self.error(f"a name that was given can't be imported: {error}")


class _TrainerParser(OneLineErrors, LightningArgumentParser):
    pass


class _CommandParser(OneLineErrors):
    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """Make switches of booleans: ``--stream`` as well as ``--stream true``."""
        if kwargs.get("type") is bool:
            kwargs.pop("type")
            kwargs |= {"action": ActionYesNo, "nargs": "?"}
        return super().add_argument(*args, **kwargs)


class ConceptCLI(LightningCLI):
    """LightningCLI with the model and the data of this project, linked so that each setting is given once.

    Args:
        args: arguments instead of those of the process.
    """

    def __init__(self, args: ArgsType = None) -> None:
        # Every run has a folder of its own, so a checkpoint always comes out of another one.
        warnings.filterwarnings("ignore", message="The dirpath has changed")
        # What validation logs is the mean over all processes already.
        warnings.filterwarnings("ignore", message=".*sync_dist=True")
        # Inside Lightning, and nothing that a user could change.
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
        super().__init__(
            ConceptModule,
            ConceptDataModule,
            seed_everything_default=0,
            parser_class=_TrainerParser,
            parser_kwargs={
                "prog": "nextconcept",
                "description": "Train and evaluate next-concept models. See also: " + ", ".join(COMMANDS) + ".",
            },
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "callbacks": [
                    ConceptProgressBar(),
                    TaskAccuracy(),
                    InterventionTable(),
                    LevelSummary(),
                    TensorBoardLayout(),
                    StoreModelMetadata(),
                    SurprisalWriter(),
                    FiniteGradients(),
                ],
                "plugins": {"class_path": "nextconcept.checkpoints.atomic.AtomicCheckpointIO"},
            },
            auto_configure_optimizers=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the checkpoints and the writing sample, and link data to model."""
        parser.add_lightning_class_args(ModelCheckpoint, "best")
        parser.set_defaults(
            {
                "best.monitor": "val/loss/tokens",
                "best.filename": "best",
                "best.auto_insert_metric_name": False,
                "best.enable_version_counter": False,
                "best.save_on_train_epoch_end": False,
            }
        )
        parser.add_lightning_class_args(LastCheckpoint, "last")
        parser.add_lightning_class_args(WritingSamples, "sample")
        parser.add_lightning_class_args(PlanView, "plan_view")
        parser.add_lightning_class_args(ComputeBudget, "budget")
        parser.add_lightning_class_args(GrowthWarmup, "grown")
        for name in ("levels", "chunk_size", "context_length"):
            parser.link_arguments(f"model.config.{name}", f"data.{name}")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, and check a checkpoint before anything reads it."""
        super().parse_arguments(parser, args)
        options = self.config[self.config.subcommand]
        seed = options.get("seed_everything")
        if type(seed) is int and not 0 <= seed < 2**32:
            raise InputError(f"seed_everything must be from 0 to {2**32 - 1}, not {seed}.")
        if options.get("ckpt_path") == "last":
            _go_on_with_last(options)
        if options.get("ckpt_path") and options.ckpt_path not in ("best", "hpc"):
            options.ckpt_path = str(find_checkpoint(options.ckpt_path))
            _check_imports(read_checkpoint(options.ckpt_path), options)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer out of the settings.

        Raises:
            InputError: if one of them refuses what it is given.
        """
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise _input_error(error) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, with our progress bar unless there is to be none."""
        if self._get(self.config, "trainer.enable_progress_bar") is False:
            kept = [one for one in self.trainer_defaults["callbacks"] if not isinstance(one, ConceptProgressBar)]
            self.trainer_defaults["callbacks"] = kept
        trainer = super().instantiate_trainer(**kwargs)
        _check_shares(self.config[self.config.subcommand].trainer.strategy, trainer.world_size)
        return trainer

    def before_instantiate_classes(self) -> None:
        """Shape the model like the one that it begins with."""
        options = self.config[self.config.subcommand]
        if options.get("ckpt_path") not in (None, "best", "hpc"):
            options.model.init_from = None  # whatever it was, the checkpoint has gone on from it
        if options.model.init_from is not None:
            _adopt_config(options)


def _check_shares(strategy: Any, processes: int) -> None:
    """Refuse a number of shares that Lightning would refuse in the middle of the start.

    Raises:
        InputError: if it is not the number of processes.
    """
    if not str(getattr(strategy, "class_path", "")).endswith(".ModelParallelStrategy"):
        return
    told = strategy.init_args
    if (told.data_parallel_size, told.tensor_parallel_size) != (processes, 1):
        raise InputError(
            "parameters are shared out among all processes, and within no matrix: set trainer.strategy.init_args.data_parallel_size to "
            f"{processes} (devices times nodes) and tensor_parallel_size to 1; they are {told.data_parallel_size} and "
            f"{told.tensor_parallel_size}."
        )


def _check_imports(checkpoint: dict[str, Any], options: Namespace) -> None:
    """Let a checkpoint name no code that the user has not named: Lightning takes over the settings in it, and these two are imported.

    Raises:
        InputError: if it does.
    """
    told = checkpoint.get("hyper_parameters", {})
    terms = [
        name for name in told.get("loss", {}).get("terms", {}) if "." in name and name not in options.model.loss.terms
    ]
    if terms or "encoder" in told:
        raise InputError(
            f"the checkpoint {options.ckpt_path} asks for code of its own, {(*terms, told.get('encoder'))[0]}: if you trust it, name it "
            "with the settings it was trained with, --model.loss.terms and --model.encoder."
        )


def _go_on_with_last(options: Namespace) -> None:
    """Make ``--ckpt_path last`` mean the newest ``last.ckpt`` of the runs of this name; if there is none yet, begin.

    The run goes on in its own folder, where what was logged after the checkpoint is dropped, so that curves have no overlap.

    Raises:
        InputError: if the logger has no folder.
    """
    logger = options.trainer.logger
    told = getattr(logger, "init_args", None)
    if told is None or told.get("save_dir") is None or told.get("name") is None:
        raise InputError(
            "--ckpt_path last looks for the newest run under the logger's save_dir and name: give a logger that has both, as the "
            "experiments do, or the checkpoint's path."
        )
    found = Path(told.save_dir, told.name).glob("version_*/checkpoints/last.ckpt")
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    options.ckpt_path = None if newest is None else str(newest)
    if newest is not None:
        told.version = newest.parents[1].name
        if "TensorBoardLogger" in logger.class_path:
            told.purge_step = read_checkpoint(newest)["global_step"]


def _adopt_config(options: Namespace) -> None:
    """Shape model and data like the model that they begin with.

    Raises:
        InputError: if another shape was asked for.
    """
    path, defaults = options.model.init_from, ModelConfig().to_dict()
    stored = read_config(path, options.model.encoder).to_dict()
    given = {name: getattr(options.model.config, name) for name in stored}
    other = [name for name, value in given.items() if value not in (defaults[name], stored[name])]
    if other:
        raise InputError(
            f"the model in {path} has {other[0]} {stored[other[0]]}, not {given[other[0]]}: leave out model.config with "
            "model.init_from."
        )
    options.model.config.update(Namespace(**stored))
    for name in ("levels", "chunk_size", "context_length"):
        options.data[name] = stored[name]


def _input_error(error: BaseException) -> InputError:
    """What is to be said about an error that came of settings: our own sentence if there is one behind it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return InputError(f"these settings can't be used: {' '.join(str(error).split())[:600].rstrip('.')}.")


def main(args: list[str] | None = None) -> None:
    """Run a command.

    Args:
        args: arguments instead of those of the process.

    Raises:
        SystemExit: with code 2 and one sentence on standard error if something that the user gave is wrong.
    """
    given = sys.argv[1:] if args is None else args
    try:
        if given and given[0] in COMMANDS:
            prog = f"nextconcept {given[0]}"
            auto_cli(COMMANDS[given[0]], args=given[1:], as_positional=False, parser_class=_CommandParser, prog=prog)
        else:
            ConceptCLI(args)
    except InputError as error:
        print(f"nextconcept: error: {error}", file=sys.stderr)
        sys.exit(2)
    except MisconfigurationException as error:
        print(f"nextconcept: error: {_input_error(error)}", file=sys.stderr)
        sys.exit(2)
    except TrainingError as error:
        print(f"nextconcept: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # whoever reads our output has seen enough, as in "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
