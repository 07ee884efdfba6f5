"""``nextconcept fit``, ``validate``, ``test`` and ``predict``: the commands that need a Trainer."""

import sys
import warnings
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, LearningRateFinder, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only

from nextconcept.checkpoints.files import StoredRun, fetch_export, find_checkpoint, find_model
from nextconcept.checkpoints.stored_model import StoredModel
from nextconcept.cli.lightning_settings import check_mesh, check_trainer, damage_told, input_error, is_refusal
from nextconcept.cli.linked_settings import SHAPE, check_linked
from nextconcept.cli.parsers import OneLineErrors, options_of, resolve_experiments
from nextconcept.cli.run_folders import folder_of_run, logger_settings, newest_checkpoint, own_run_folders
from nextconcept.cli.stored_settings import (
    GivenSettings,
    adopt_checkpoint,
    adopt_export,
    adopt_stored_config,
    check_chunk_size,
    check_resumable,
    keep_seeds,
    limits_of,
    note_other_data,
)
from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.data.hub import HubDataModule
from nextconcept.data.text import TextDataModule
from nextconcept.tasks.accuracy import TaskAccuracy
from nextconcept.tasks.countdown import Countdown
from nextconcept.tasks.datamodule import TaskDataModule
from nextconcept.tasks.lines import LinesTask
from nextconcept.tasks.maze import Maze
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
from nextconcept.training.lightning_compat import callback_keys, hide_tips
from nextconcept.training.module import ConceptModule

__all__ = ["ConceptCLI", "run"]


def run(arguments: list[str]) -> None:
    """Run the command that ``arguments`` begin with.

    Raises:
        InputError: if Lightning refuses the settings.
    """
    try:
        ConceptCLI(arguments)
    except (MisconfigurationException, RuntimeError, ValueError, TypeError, ImportError) as error:
        if not is_refusal(error):
            raise
        raise input_error(error) from error


class TrainerParser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser with errors in one sentence."""

    # Known by their short names because they are imported here.
    classes = tuple(
        cls.__name__ for cls in (TextDataModule, HubDataModule, TaskDataModule, StarGraph, Countdown, Maze, LinesTask)
    )


class SaveRunConfig(SaveConfigCallback):
    """Writes ``config.yaml``, with which ``nextconcept fit`` trains the run anew."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file when training starts; evaluation leaves the folder as it is."""
        if stage != "fit" or not (trainer.loggers or self.config.trainer.default_root_dir):
            return
        self.config = self.config.clone()
        for settings in logger_settings(self.config.trainer.logger):
            settings.version = None  # the folder of this run is not that of the next
            if "purge_step" in settings:
                settings.purge_step = None
        super().setup(trainer, pl_module, stage)


class ConceptCLI(LightningCLI):
    """LightningCLI with our model and data, linked so that each setting is given once.

    Args:
        args: command and options; default: those of the process.
    """

    def __init__(self, args: ArgsType = None) -> None:
        # Every run has a folder of its own, so a checkpoint always comes out of another one.
        warnings.filterwarnings("ignore", message="The dirpath has changed")
        # A run that is resumed goes on in its own folder.
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        # Validation metrics are averaged over all processes already.
        warnings.filterwarnings("ignore", message=".*sync_dist=True")
        # Lightning's own use of a deprecated class; users can't change it.
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
        hide_tips()
        self._given = sys.argv[1:2] if args is None else args[:1] if isinstance(args, list) else list(args)
        super().__init__(
            ConceptModule,
            ConceptDataModule,
            seed_everything_default=0,
            parser_class=TrainerParser,
            parser_kwargs={"prog": "nextconcept"},
            save_config_callback=SaveRunConfig,
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

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the command that is given: each takes a third of a second to make a parser for."""
        known = super().subcommands()
        return {name: skipped for name, skipped in known.items() if name in self._given} or known

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
        """Note the context length of the data that was built; return the size of its vocabulary.

        A trained model brings its tokenizer and its vocabulary along.
        """
        self._context_length = data.context_length
        vocabulary = None if self._trained is None else self._trained.vocabulary()
        if vocabulary is None:
            return data.vocab_size
        data.use_tokenizer(vocabulary[0])
        return vocabulary[1]

    def _build_config(self, cls: type[ModelConfig], *args: Any, **kwargs: Any) -> ModelConfig:
        """Build the model's configuration, which the link above lets wait for the data."""
        return cls(*args, **kwargs | {"context_length": self._context_length})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments, and check the checkpoint before anything else reads it.

        Raises:
            InputError: if an experiment, the seed or the checkpoint can't be used, or the settings
                of the model contradict the checkpoint.
        """
        arguments = sys.argv[1:] if args is None else args
        if isinstance(arguments, list):  # not by super(), which warns about arguments of our own
            assert isinstance(parser, TrainerParser)
            parser.command = arguments[0] if arguments else ""
            given_arguments = resolve_experiments(arguments, parser.setting_groups())
            check_linked(given_arguments)
            self.config = parser.parse_args(given_arguments)
            given = GivenSettings.of(given_arguments)
            names = [name for name, _ in options_of(given_arguments)]
            configured = "-c" in names or "--config" in names
            logs = any(name.startswith("--trainer.logger") for name in names)
        else:
            self.config = parser.parse_object(arguments)
            part = arguments.get(self.config.subcommand) or {}
            given = GivenSettings.of_mapping(part.get("model"))
            configured = True
            logs = "logger" in (part.get("trainer") or {})
        options = self.config[self.config.subcommand]
        seed = options.get("seed_everything")
        if type(seed) is int and not 0 <= seed < 2**32:
            raise InputError(f"seed_everything must be from 0 to {2**32 - 1}, not {seed}.")
        check_trainer(options.trainer, self.config.subcommand)
        self._run: StoredRun | None = None
        self._trained: StoredModel | None = None
        self._continues, export = False, None
        if options.get("ckpt_path") == "":
            raise InputError("--ckpt_path is empty: give a run or a checkpoint, or leave it out.")
        if options.get("ckpt_path"):
            if self.config.subcommand != "fit":
                export = fetch_export(options.ckpt_path)
            if export is None:
                self._run = self._find_run(options)
            # instantiate_classes gives the checkpoint to the trainer; config.yaml leaves it out.
            options.ckpt_path = None
        if export is not None:
            _say(f"{self.config.subcommand} measures {export.path}.")
            for note in adopt_export(options, export, given):
                _say(note)
        elif self._run is not None:
            if self.config.subcommand == "fit" and (said := check_resumable(options, self._run)):
                _say(said)
            for note in adopt_checkpoint(options, self._run, given):
                _say(note)
        else:
            check_chunk_size(options, given)
            if self.config.subcommand == "fit" and not configured:
                _say("without --config, the defaults are trained; nextconcept experiments lists what it takes.")
            elif self.config.subcommand != "fit" and options.model.init_from is None:
                _say(f"{self.config.subcommand} measures untrained weights: --ckpt_path names a run or an export.")
        self._given_settings, self._trained = given, export or self._run
        if self.config.subcommand != "fit" and not logs:
            # What evaluation finds is printed; a logger would begin a run of its own.
            options.trainer.logger = False
            if options.trainer.default_root_dir is None and self._run is not None:
                options.trainer.default_root_dir = str(folder_of_run(self._run.path))

    def _find_run(self, options: Namespace) -> StoredRun | None:
        """Find the checkpoint of ``--ckpt_path`` and say which one it is; None to begin a run.

        Training goes on from the last checkpoint, and evaluation takes the best one. With ``last``,
        a run continues in its own folder, where what was logged after the checkpoint is dropped, so
        that curves have no overlap.

        Raises:
            InputError: if there is none, or the logger has no folder.
        """
        fits = self.config.subcommand == "fit"
        if options.ckpt_path not in ("last", "best"):
            names = ("last.ckpt", "best.ckpt") if fits else ("best.ckpt", "last.ckpt")
            run = StoredRun(find_checkpoint(options.ckpt_path, names))
        else:
            loggers = logger_settings(options.trainer.logger)
            newest, folder = newest_checkpoint(loggers, f"{options.ckpt_path}.ckpt")
            if newest is None:
                begins = fits and options.ckpt_path == "last" and (loggers[0].version is None or not folder.exists())
                if begins or not _is_first():  # the first process may have made the folder just now
                    return None
                raise InputError(
                    f"there is no {options.ckpt_path}.ckpt of a run in {folder}: give the checkpoint's path, or train "
                    "with nextconcept fit in another folder."
                )
            run = StoredRun(newest)
            if fits and options.ckpt_path == "last":
                self._continues = True
                for settings in loggers:
                    settings.version = newest.parents[1].name
                    if "purge_step" in settings:
                        settings.purge_step = run.checkpoint["global_step"]
        _say(f"{self.config.subcommand} {'goes on from' if fits else 'measures'} {run.path}.")
        return run

    def instantiate_classes(self) -> None:
        """Build data, model and trainer from the settings.

        Raises:
            InputError: if one of them refuses its settings.
        """
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, ImportError, MisconfigurationException) as error:
            raise input_error(error) from error
        except RuntimeError as error:
            if not is_refusal(error):
                raise
            raise input_error(error) from error
        if self.subcommand == "fit" and self._run is None and self.model.start is not None:
            self.model.start.check_limits(*limits_of(self.config.fit))  # before there is a folder of the run
        if self._run is not None:
            if note := note_other_data(self._run, self.datamodule):
                _say(note)
            self.config_init[self.config.subcommand].ckpt_path = str(self._run.path)
            # Where the run began, which its checkpoints and its config.yaml keep.
            self.config[self.config.subcommand].model.init_from = self._init_from
            if self.subcommand == "fit":
                keep_seeds(self.config.fit, self._run)
            self.model.hparams["init_from"] = self._init_from
        self._run = self._trained = None  # files that training replaces

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, with our progress bar and summary unless these are switched off.

        Without a folder, or with ``enable_checkpointing: false``, there are no checkpoints.

        Raises:
            InputError: if a callback or the strategy can't be used with these models.
        """
        options, keys = self.config[self.subcommand], callback_keys(self)
        for switch, kind in (("enable_progress_bar", ConceptProgressBar), ("enable_model_summary", LevelSummary)):
            if options.trainer[switch] is False:
                callbacks = self.trainer_defaults["callbacks"]
                self.trainer_defaults["callbacks"] = [one for one in callbacks if not isinstance(one, kind)]
        homeless = options.trainer.logger is False and options.trainer.default_root_dir is None
        for name in ("best", "last"):
            if options.trainer.enable_checkpointing is False or (homeless and not options[name].get("dirpath")):
                keys.remove(name)
        if homeless and "best" not in keys:
            kwargs["enable_checkpointing"] = False
            if self.subcommand == "fit" and options.trainer.enable_checkpointing is not False:
                _say("without a logger a run has no folder and keeps nothing: --trainer.default_root_dir gives it one.")
        callbacks = self.config_init[self.subcommand].trainer.callbacks
        if isinstance(callbacks, Callback):
            raise InputError(
                f"trainer.callbacks takes a list, not one {type(callbacks).__name__}: --trainer.callbacks+ adds one."
            )
        for callback in callbacks or []:
            if isinstance(callback, BatchSizeFinder | LearningRateFinder):
                raise InputError(
                    f"{type(callback).__name__} changes settings behind the schedule and the data of a run: try values "
                    "in short runs instead, with nextconcept compare or --trainer.max_steps."
                )
        trainer = super().instantiate_trainer(**kwargs)
        check_mesh(options.trainer.strategy, trainer.world_size)
        return trainer

    def fit(self, **kwargs: Any) -> None:
        """Train, as the only process that writes into the folder of the run.

        Raises:
            InputError: if the folder belongs to another run.
        """
        with own_run_folders(self.trainer, self._continues), damage_told(kwargs.get("ckpt_path")):
            self.trainer.fit(**kwargs)

    def validate(self, **kwargs: Any) -> None:
        """Measure a model on the validation split."""
        with damage_told(kwargs.get("ckpt_path")):
            self.trainer.validate(**kwargs)

    def test(self, **kwargs: Any) -> None:
        """Measure a model on the test split."""
        with damage_told(kwargs.get("ckpt_path")):
            self.trainer.test(**kwargs)

    def predict(self, **kwargs: Any) -> None:
        """Write what a model finds in each token."""
        with damage_told(kwargs.get("ckpt_path")):
            self.trainer.predict(**kwargs)

    def before_instantiate_classes(self) -> None:
        """Take the shape of the model from ``model.init_from`` and from the data."""
        options = self.config[self.config.subcommand]
        self._init_from = options.model.init_from
        if self._run is not None:
            options.model.init_from = None  # the checkpoint has gone on from it
        if options.model.init_from is not None:
            self._trained = self._trained or find_model(options.model.init_from)
            adopt_stored_config(options, self._trained, self._given_settings)
        with warnings.catch_warnings():
            # LightningCLI uses this deprecated method too, and does not pass what replaces it.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.parser.add_instantiator(self._build_config, ModelConfig)


def _say(sentence: str) -> None:
    """Tell the user what was chosen, once per run."""
    if _is_first():
        print(f"nextconcept: {sentence}", file=sys.stderr)


def _is_first() -> bool:
    """Whether this is the first of the processes of a run."""
    return not getattr(rank_zero_only, "rank", 0)
