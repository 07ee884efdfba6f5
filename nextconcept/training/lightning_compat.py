"""All uses of Lightning's private members, in one place.

Each function says which members are used and why no public one will do. ``setup.cfg`` allows only
the releases of Lightning whose members were checked; ``tests/training/test_lightning_compat.py``
fails where one of them is missing.
"""

import csv
import logging
import warnings
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loops.progress import _ProcessedTracker
from torch.optim import Optimizer

from nextconcept.checkpoints.complete_files import complete
from nextconcept.data.windows import WindowLoader

__all__ = [
    "TokenProgressBar",
    "accumulates",
    "allow_clipping",
    "attached_trainer",
    "callback_keys",
    "cut_csv_curves",
    "fix_version",
    "fixed_version",
    "hide_tips",
    "keep_csv_curves",
    "leave_out_epochs",
    "may_save",
    "next_version",
    "restore_loaders",
    "save",
    "shows_step",
    "stops_early",
    "validates_next",
]

TIPS = ("💡 Tip", "Trainer already configured with model summary")
"""Beginnings of what Lightning says of itself at every start."""


def hide_tips() -> None:
    """Keep the log of a run free of advertisements for other products of Lightning's makers.

    Uses the name of the logger behind ``rank_zero_info``: no setting of the trainer hides them.
    """
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(TIPS)


def attached_trainer(module: L.LightningModule) -> L.Trainer | None:
    """Return the trainer that runs a module, none where it is used alone.

    Uses ``LightningModule._trainer``: the public property raises where there is none.
    """
    return module._trainer


def callback_keys(cli: Any) -> list[str]:
    """Return the names of the callbacks that the subcommand of a ``LightningCLI`` always has.

    Uses ``LightningCLI._parser``: the public ``parser`` is the one above the subcommands.
    """
    keys: list[str] = cli._parser(cli.subcommand).callback_keys
    return keys


def restore_loaders(trainer: L.Trainer) -> None:
    """Set the training loaders of a resumed run to the place that its checkpoint says.

    Uses ``_FitLoop._combined_loader_states_to_load`` and ``CombinedLoader._load_state_dicts``.
    Lightning does this when it makes the loaders, but a schedule that asks for the number of steps
    has them made before a checkpoint is read, where epochs are limited; and it does not where the
    checkpoint is of the end of an epoch. Where they have been set already, nothing happens.

    Uses ``_FitLoop._combined_loader`` and ``_TrainingEpochLoop.batch_progress`` too: Lightning
    counts an epoch in batches, which are others after a change of batch size or processes.
    """
    loop, loaders = trainer.fit_loop, trainer.fit_loop._combined_loader
    if loaders is None:
        return
    if loop._combined_loader_states_to_load:
        loaders._load_state_dicts(loop._combined_loader_states_to_load)
        loop._combined_loader_states_to_load = []
    progress, most = loop.epoch_loop.batch_progress, trainer.num_training_batches
    batches = cast(_ProcessedTracker, progress.current)
    for loader in loaders.flattened:
        if not isinstance(loader, WindowLoader):
            continue
        made = loader.regroup(trainer.current_epoch, trainer.accumulate_grad_batches, batches.processed, most)
        if made is not None:
            pending = batches.processed - batches.completed  # a checkpoint may be saved in between
            batches.ready = batches.started = batches.processed = made
            batches.completed, progress.is_last_batch = made - pending, made >= most


def shows_step(trainer: L.Trainer) -> bool:
    """Whether loggers get the values of the current training step, as ``log_every_n_steps`` says.

    Uses ``_LoggerConnector.should_update_logs``: to log a value that no logger shows takes as long
    as to log one that it does.
    """
    return trainer._logger_connector.should_update_logs or bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def validates_next(trainer: L.Trainer) -> bool:
    """Whether validation follows the training batch that just ended.

    Uses ``FitLoop._data_fetcher`` and ``_TrainingEpochLoop._should_check_val_fx``: the decision
    depends on six settings, and Lightning publishes only the settings.
    """
    fetcher = trainer.fit_loop._data_fetcher
    return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def accumulates(trainer: L.Trainer) -> bool:
    """Whether the latest training batch made no optimizer step, so that gradients are pending.

    Uses ``_TrainingEpochLoop._should_accumulate``, which knows that the last batch of an epoch
    makes a step in any case.
    """
    return trainer.fit_loop.epoch_loop._should_accumulate()


def stops_early(trainer: L.Trainer) -> bool:
    """Whether training ends after this batch because ``trainer.should_stop`` is set.

    Uses ``FitLoop._can_stop_early``, which holds the stop back until ``min_steps`` and
    ``min_epochs`` are reached.
    """
    return trainer.should_stop and trainer.fit_loop._can_stop_early


def may_save(callback: ModelCheckpoint, trainer: L.Trainer) -> bool:
    """Whether ``callback`` may save: inside a fit, and once per optimizer step.

    Uses ``ModelCheckpoint._should_skip_saving_checkpoint``, which knows the step saved last.
    """
    return not callback._should_skip_saving_checkpoint(trainer)


def save(callback: ModelCheckpoint, trainer: L.Trainer) -> None:
    """Save a checkpoint now, by the rules of ``callback`` for names and for how many are kept.

    Uses ``ModelCheckpoint._save_topk_checkpoint`` and ``_monitor_candidates``: publicly, the
    callback saves only at the moments that its own settings name.
    """
    callback._save_topk_checkpoint(trainer, callback._monitor_candidates(trainer))


def allow_clipping(optimizer: Optimizer) -> None:
    """Let Lightning clip gradients of a fused optimizer under mixed precision.

    Sets ``Optimizer._step_supports_amp_scaling`` of torch to False. A fused step can undo the
    scaling of gradients itself; where torch says so, Lightning refuses to clip, even in bfloat16,
    which scales nothing (Lightning issue 21435). Otherwise gradients are unscaled first and clipped
    then.
    """
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]


def fixed_version(logger: TensorBoardLogger | CSVLogger) -> int | str | None:
    """Return the version that a logger was given, if any.

    Uses ``_version`` of the loggers: reading ``version`` chooses one.
    """
    return logger._version


def next_version(logger: TensorBoardLogger | CSVLogger) -> int:
    """Return the number after the highest one that has a folder, by ``_get_next_version``."""
    return logger._get_next_version()


def fix_version(logger: TensorBoardLogger | CSVLogger, version: int | str) -> None:
    """Give a logger its version.

    Sets ``_version`` of the loggers: by themselves they choose a version when they first log
    something, and two runs that begin at the same instant choose one version.
    """
    logger._version = version


def leave_out_epochs(logger: TensorBoardLogger) -> None:
    """Leave the curve ``epoch`` out of TensorBoard, which says nothing of a training in steps.

    Replaces ``add_scalar`` of the logger's writer: Lightning adds an ``epoch`` to whatever is
    logged without a step, and has no option against it.
    """
    add_scalar = logger.experiment.add_scalar
    if getattr(add_scalar, "without_epochs", False):  # at a second fit or test
        return

    def add(tag: str, *args: Any, **kwargs: Any) -> None:
        """Add a scalar, unless it is the epoch."""
        if tag != "epoch":
            add_scalar(tag, *args, **kwargs)

    add.without_epochs = True  # type: ignore[attr-defined]
    logger.experiment.add_scalar = add


def keep_csv_curves(trainer: L.Trainer) -> list[CSVLogger]:
    """Begin each ``CSVLogger`` without losing the curves in its folder, and return those with any.

    A ``CSVLogger`` deletes ``metrics.csv`` where it finds one, before Lightning tells whether the
    run is resumed, so it is put aside; a process that dies meanwhile leaves it there, for the next
    one. :func:`cut_csv_curves` then drops the rows that the run writes anew. Uses
    ``CSVLogger._experiment``, and ``metrics_keys`` of the writer, which knows no file but its own.
    """
    kept = []
    for logger in trainer.loggers if trainer.is_global_zero else ():
        if not isinstance(logger, CSVLogger) or logger._experiment is not None:
            continue
        path = _curves_of(logger)
        aside = path.with_name(f".{path.name}.kept")
        if path.is_file():
            path.replace(aside)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Experiment logs directory .* exists")
            writer = logger.experiment
        if aside.is_file():
            aside.replace(path)
            with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                writer.metrics_keys = next(csv.reader(file), [])
            kept.append(logger)
    return kept


def cut_csv_curves(logger: CSVLogger, step: int) -> None:
    """Drop the rows of ``metrics.csv`` from ``step`` on; at step 0 the file as a whole."""
    path = _curves_of(logger)
    if step == 0:
        path.unlink(missing_ok=True)
        logger.experiment.metrics_keys = []
        return
    # Rows that a dying process has damaged are no reason to lose the others.
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    with complete(path) as partial, partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.DictWriter(file, logger.experiment.metrics_keys, extrasaction="ignore")
        table.writeheader()
        table.writerows(row for row in rows if (row["step"] or "").isdigit() and int(row["step"]) < step)


def _curves_of(logger: CSVLogger) -> Path:
    return Path(logger.log_dir, "metrics.csv")


class TokenProgressBar(RichProgressBar):
    """Lightning's rich progress bar, for trainings that count steps instead of epochs.

    Overrides ``RichProgressBar._get_train_description``, which shows "0/-2" without a number of
    epochs.
    """

    def _get_train_description(self, current_epoch: int) -> str:
        unbounded = self.trainer.max_epochs == -1
        return f"Epoch {current_epoch}" if unbounded else super()._get_train_description(current_epoch)
