"""``nextconcept fit``, ``validate``, ``test`` and ``predict``: the commands that need a Trainer."""

import sys
import warnings
from pathlib import Path
from typing import Any

from jsonargparse import Namespace, dict_to_namespace, namespace_to_dict
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from nextconcept.checkpoints.files import find_checkpoint, read_checkpoint
from nextconcept.cli.linked_settings import SHAPE, check_linked
from nextconcept.cli.parsers import OneLineErrors, resolve_experiments
from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.data.hub import HubDataModule
from nextconcept.data.text import TextDataModule
from nextconcept.tasks.accuracy import TaskAccuracy
from nextconcept.tasks.datamodule import TaskDataModule
from nextconcept.tasks.lines import LinesTask
from nextconcept.tasks.star_graph import StarGraph
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
from nextconcept.training.module import ConceptModule
from nextconcept.training.warm_start import read_config

__all__ = ["ConceptCLI", "run"]


def run(arguments: list[str]) -> None:
    """Run the command that ``arguments`` begin with.

    Raises:
        InputError: if Lightning refuses the settings.
    """
    try:
        ConceptCLI(arguments)
    except MisconfigurationException as error:
        raise _input_error(error) from error


class TrainerParser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser with errors in one sentence."""

    # Known by their short names because they are imported here.
    classes = tuple(cls.__name__ for cls in (TextDataModule, HubDataModule, TaskDataModule, StarGraph, LinesTask))


class ConceptCLI(LightningCLI):
    """LightningCLI with our model and data, linked so that each setting is given once.

    Args:
        args: command and options; default: those of the process.
    """

    def __init__(self, args: ArgsType = None) -> None:
        # Every run has a folder of its own, so a checkpoint always comes out of another one.
        warnings.filterwarnings("ignore", message="The dirpath has changed")
        # Validation metrics are averaged over all processes already.
        warnings.filterwarnings("ignore", message=".*sync_dist=True")
        # Lightning's own use of a deprecated class; users can't change it.
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
        super().__init__(
            ConceptModule,
            ConceptDataModule,
            seed_everything_default=0,
            parser_class=TrainerParser,
            parser_kwargs={"prog": "nextconcept"},
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
            subclass_mode_data=True,
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
        parser.add_class_arguments(WritingSamples, "sample", skip={"prompt"}, sub_configs=True)
        parser.add_argument("--sample.prompt", type=str, help="the text to continue, as typed")  # not YAML
        parser.callback_keys.append("sample")
        parser.add_lightning_class_args(PlanView, "plan_view")
        parser.add_lightning_class_args(ComputeBudget, "budget")
        parser.add_lightning_class_args(GrowthWarmup, "grown")
        parser.set_defaults({"data": {"class_path": "nextconcept.data.TextDataModule"}})
        # The default instance of ModelConfig has a number, but None leaves the choice to the data.
        parser.set_defaults({"model.config.context_length": None})
        for name in SHAPE:
            parser.link_arguments(f"model.config.{name}", f"data.init_args.{name}")
        parser.link_arguments("data", "model.config.vocab_size", compute_fn=self._follow_data, apply_on="instantiate")

    def _follow_data(self, data: ConceptDataModule) -> int:
        """Note the context length of the data that was built; return the size of its vocabulary."""
        self._context_length = data.context_length
        return data.vocab_size

    def _build_config(self, cls: type[ModelConfig], *args: Any, **kwargs: Any) -> ModelConfig:
        """Build the model's configuration, which the link above lets wait for the data."""
        return cls(*args, **kwargs | {"context_length": self._context_length})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments, and check the checkpoint before anything else reads it.

        Raises:
            InputError: if an experiment, the seed or the checkpoint can't be used.
        """
        arguments = sys.argv[1:] if args is None else args
        if isinstance(arguments, list):  # not by super(), which warns about arguments of our own
            assert isinstance(parser, TrainerParser)
            parser.command = arguments[0] if arguments else ""
            arguments = resolve_experiments(arguments)
            check_linked(arguments)
            self.config = parser.parse_args(arguments)
        else:
            self.config = parser.parse_object(arguments)
        options = self.config[self.config.subcommand]
        seed = options.get("seed_everything")
        if type(seed) is int and not 0 <= seed < 2**32:
            raise InputError(f"seed_everything must be from 0 to {2**32 - 1}, not {seed}.")
        if options.get("ckpt_path") == "last":
            _resume_last(options)
        if options.get("ckpt_path") and options.ckpt_path not in ("best", "hpc"):
            options.ckpt_path = str(find_checkpoint(options.ckpt_path))
            _check_imports(read_checkpoint(options.ckpt_path), options)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer from the settings.

        Raises:
            InputError: if one of them refuses its settings.
        """
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise _input_error(error) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, with our progress bar and summary unless these are switched off."""
        for switch, kind in (("enable_progress_bar", ConceptProgressBar), ("enable_model_summary", LevelSummary)):
            if self._get(self.config, f"trainer.{switch}") is False:
                callbacks = self.trainer_defaults["callbacks"]
                self.trainer_defaults["callbacks"] = [one for one in callbacks if not isinstance(one, kind)]
        trainer = super().instantiate_trainer(**kwargs)
        _check_sharding(self.config[self.config.subcommand].trainer.strategy, trainer.world_size)
        return trainer

    def before_instantiate_classes(self) -> None:
        """Take the shape of the model from ``model.init_from`` and from the data."""
        options = self.config[self.config.subcommand]
        if options.get("ckpt_path") not in (None, "best", "hpc"):
            options.model.init_from = None  # the checkpoint has gone on from it
        if options.model.init_from is not None:
            _adopt_config(options)
        with warnings.catch_warnings():
            # LightningCLI uses this deprecated method too, and does not pass what replaces it.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.parser.add_instantiator(self._build_config, ModelConfig)


def _check_sharding(strategy: Any, processes: int) -> None:
    """Refuse a mesh of processes that Lightning would refuse in the middle of the start.

    Raises:
        InputError: if it does not shard all parameters over all processes.
    """
    if not str(getattr(strategy, "class_path", "")).endswith(".ModelParallelStrategy"):
        return
    options = strategy.init_args
    if (options.data_parallel_size, options.tensor_parallel_size) != (processes, 1):
        raise InputError(
            "parameters are sharded over all processes, and no matrix is split: set "
            f"trainer.strategy.init_args.data_parallel_size to {processes} (devices times nodes) and "
            f"tensor_parallel_size to 1; they are {options.data_parallel_size} and {options.tensor_parallel_size}."
        )


def _check_imports(checkpoint: dict[str, Any], options: Namespace) -> None:
    """Refuse a checkpoint that names code which the user has not named.

    Lightning takes over the settings in a checkpoint, and imports the loss terms and the encoder
    that they name.

    Raises:
        InputError: if it does.
    """
    stored = checkpoint.get("hyper_parameters", {})
    terms = [
        name for name in stored.get("loss", {}).get("terms", {}) if "." in name and name not in options.model.loss.terms
    ]
    if terms or "encoder" in stored:
        raise InputError(
            f"the checkpoint {options.ckpt_path} asks for code of its own, {(*terms, stored.get('encoder'))[0]}: if "
            "you trust it, name it with the settings it was trained with, --model.loss.terms and --model.encoder."
        )


def _resume_last(options: Namespace) -> None:
    """Resolve ``--ckpt_path last``: the newest ``last.ckpt`` of the runs of this name, if any.

    The run continues in its own folder, where what was logged after the checkpoint is dropped, so
    that curves have no overlap.

    Raises:
        InputError: if the logger has no folder.
    """
    logger = options.trainer.logger
    settings = getattr(logger, "init_args", None)
    if settings is None or settings.get("save_dir") is None or settings.get("name") is None:
        raise InputError(
            "--ckpt_path last looks for the newest run under the logger's save_dir and name: give a logger that has "
            "both, as the experiments do, or the checkpoint's path."
        )
    checkpoints = Path(settings.save_dir, settings.name).glob("version_*/checkpoints/last.ckpt")
    newest = max(checkpoints, key=lambda path: path.stat().st_mtime, default=None)
    options.ckpt_path = None if newest is None else str(newest)
    if newest is not None:
        settings.version = newest.parents[1].name
        if "TensorBoardLogger" in logger.class_path:
            settings.purge_step = read_checkpoint(newest)["global_step"]


def _adopt_config(options: Namespace) -> None:
    """Give model and data the shape of the model at ``model.init_from``.

    Raises:
        InputError: if another shape was asked for.
    """
    path, defaults = options.model.init_from, ModelConfig().to_dict()
    stored = read_config(path, options.model.encoder).to_dict()
    del stored["vocab_size"]  # follows from the data
    given = namespace_to_dict(options.model.config)
    other = [name for name, value in stored.items() if given[name] not in (None, defaults[name], value)]
    if other:
        raise InputError(
            f"the model in {path} has {other[0]} {stored[other[0]]}, not {given[other[0]]}: leave out model.config "
            "with model.init_from."
        )
    options.model.config = dict_to_namespace(stored)
    for name in SHAPE:
        options.data.init_args[name] = stored[name]


def _input_error(error: BaseException) -> InputError:
    """Return our own error behind an error that settings caused, or one that quotes it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return InputError(f"these settings can't be used: {' '.join(str(error).split())[:600].rstrip('.')}.")
