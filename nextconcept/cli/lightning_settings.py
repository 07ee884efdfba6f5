"""Settings of the trainer that are refused, and what Lightning refuses, in one sentence each."""

import re
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException

from nextconcept.core.errors import InputError, own_error

__all__ = ["check_mesh", "check_trainer", "damage_told", "input_error", "is_refusal"]


LIMITS = {
    "fit": "limit_train_batches",
    "validate": "limit_val_batches",
    "test": "limit_test_batches",
    "predict": "limit_predict_batches",
}
"""The setting of the trainer that says how many batches a command reads."""


def check_trainer(options: Namespace, command: str) -> None:
    """Let validation count batches over epochs where its interval is a number of batches.

    Lightning counts them within an epoch by default, and then refuses more than an epoch has.

    Raises:
        InputError: if an interval is not positive, by which Lightning divides, the norm to which
            gradients are clipped is negative, which would turn them around, or not a number, or the
            command would read no batch.
    """
    limit = LIMITS[command]
    if options[limit] == 0:
        raise InputError(f"with trainer.{limit} 0, nextconcept {command} would do nothing: leave this setting out.")
    for name in ("val_check_interval", "check_val_every_n_epoch", "accumulate_grad_batches"):
        if isinstance(options[name], (int, float)) and not options[name] > 0:
            raise InputError(f"trainer.{name} must be above 0, not {options[name]}.")
    if options.log_every_n_steps is not None and options.log_every_n_steps < 0:
        raise InputError(f"trainer.log_every_n_steps must be 0 or more, not {options.log_every_n_steps}.")
    if options.gradient_clip_val is not None and not options.gradient_clip_val >= 0:
        raise InputError(f"trainer.gradient_clip_val must be 0 or more, not {options.gradient_clip_val}.")
    interval = options.val_check_interval
    if type(interval) is int and options.check_val_every_n_epoch == 1:
        options.check_val_every_n_epoch = None
    elif type(interval) is float and options.check_val_every_n_epoch is None:
        options.check_val_every_n_epoch = 1


def check_mesh(strategy: Any, processes: int) -> None:
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


def is_refusal(error: Exception) -> bool:
    """Whether Lightning itself has raised the error, which is then about its settings."""
    if isinstance(error, MisconfigurationException):
        return True
    frames = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not frames[-1].startswith("lightning."):
        return False
    # Errors of torch, out of memory among them, are RuntimeErrors too, in the frame that called it.
    line = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return not isinstance(error, RuntimeError) or line.startswith("raise")


@contextmanager
def damage_told(checkpoint: str | None) -> Iterator[None]:
    """Tell in a sentence that the state of training in a checkpoint can't be restored.

    What a checkpoint says of its model has been checked; of the rest, Lightning, optimizers and
    callbacks have formats of their own.

    Args:
        checkpoint: the checkpoint that is being used, if one is.

    Raises:
        InputError: in place of an error that restoring raises.
    """
    try:
        yield
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        restoring = any(
            frame.filename.endswith("checkpoint_connector.py") or frame.name in ("load_state_dict", "restore_loaders")
            for frame in frames
        )
        if checkpoint is None or not restoring:
            raise
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...").rstrip(".!")
        raise InputError(
            f"{checkpoint} is damaged, or of other code than this: its state can't be restored ({reason}). Give "
            "another checkpoint, or begin with its weights by --model.init_from."
        ) from error


def input_error(error: BaseException) -> InputError:
    """Return our own error behind an error that settings caused, or one that quotes it."""
    if own := own_error(error):
        return own
    message = _reason_in(str(error))
    reason = textwrap.shorten(message, 600, placeholder=" ...").rstrip(".!")
    return InputError(f"these settings can't be used: {reason}.")


def _reason_in(message: str) -> str:
    """Return what is wrong, out of what jsonargparse or Lightning report at length."""
    if "`callback.state_key` must be unique" in message:
        return (
            "two callbacks of one type have the same settings, so that a checkpoint can't hold the state of both; for "
            "a ModelCheckpoint like the one that keeps the best, set --best.save_top_k"
        )
    _, union, errors = message.partition("\nErrors:")
    if not union or "any of the Union subtypes" not in message:
        return message
    reasons = errors.partition("\nGiven value type:")[0].split("\n  - ")[1:]
    wrong = next((one for one in reasons if not one.startswith(("Expected a", "Not a valid subclass"))), message)
    return re.sub(r"Problem with given class_path '[\w.]*?(\w+)':\s*", r"\1 can't be made: ", wrong)
