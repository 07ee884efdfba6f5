"""Runs that begin with trained weights, and the training state that comes with them.

A folder holds ``model.safetensors``, ``config.json`` and ``tokenizer.json``, as ``nextconcept
export`` writes them, and, if it was grown from a checkpoint, ``training.ckpt``: moments of the
optimizer, progress, and compute spent.
"""

import io
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from nextconcept.checkpoints.files import COMPUTE, load_run
from nextconcept.core.errors import InputError
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.growth import top_left
from nextconcept.nn.model import NextConceptModel

__all__ = ["TrainingState", "WarmStart", "load_warm_start", "no_step_left"]

FILE = "training.ckpt"


@dataclass
class TrainingState:
    """The state that a grown run continues from, beside the weights.

    Attributes:
        step: optimizer steps made.
        flops: floating-point operations spent.
        tokens: tokens seen.
        moments: per parameter, the state of its optimizer; new parameters have none.
        loops: Lightning's progress, with the position in the data.
        shapes: per old parameter, its shape before it grew.
    """

    step: int
    flops: float
    tokens: float
    moments: dict[str, dict[str, Tensor]]
    loops: dict[str, Any]
    shapes: dict[str, list[int]]

    @classmethod
    def of(cls, checkpoint: dict[str, Any], model: NextConceptModel, source: str | Path) -> "TrainingState":
        """Extract the state from a Lightning checkpoint of ``model``.

        Args:
            checkpoint: the checkpoint.
            model: its model.
            source: its file, for messages.

        Raises:
            InputError: if it has weights alone, or moments that are not of the parameters' shapes.
        """
        if not checkpoint.get("optimizer_states") or not checkpoint.get("loops", {}).get("fit_loop"):
            raise InputError(
                f"{source} has weights alone, so that training can't go on where it was: give a checkpoint with the "
                "optimizer's state, or export the model and grow the export."
            )
        named = list(model.named_parameters())  # the module numbers by position
        # After those of the model come the parameters of an objective.
        states = {
            number: one
            for number, one in checkpoint["optimizer_states"][0]["state"].items()
            if number in range(len(named))
        }
        for number, state in states.items():
            for value in state.values():
                if not isinstance(value, Tensor) or (value.dim() and value.shape != named[number][1].shape):
                    raise InputError(
                        f"{source} has an optimizer's state of {named[number][0]} that can't grow with it: export the "
                        "model and grow the export."
                    )
        spent = checkpoint.get(COMPUTE, {"flops": 0.0, "tokens": 0.0})
        return cls(
            checkpoint["global_step"],
            spent["flops"],
            spent["tokens"],
            {named[number][0]: state for number, state in states.items()},
            checkpoint["loops"]["fit_loop"],
            {name: list(parameter.shape) for name, parameter in named},
        )

    def grown(self, model: NextConceptModel) -> "TrainingState":
        """Return the state of the grown ``model``: zero moments for new blocks, old ones stay."""
        moments = {}
        for name, parameter in model.named_parameters():
            old = self.moments.get(name)
            if old is not None:
                moments[name] = {
                    key: value if value.dim() == 0 else _widened(value, parameter) for key, value in old.items()
                }
        return TrainingState(self.step, self.flops, self.tokens, moments, self.loops, self.shapes)

    def save(self, folder: Path) -> None:
        """Write the state into the folder of a model.

        Raises:
            OSError: if it can't be written.
        """
        buffer = io.BytesIO()  # torch tells of a full disk by an error of its own
        torch.save(asdict(self), buffer)
        (folder / FILE).write_bytes(buffer.getbuffer())

    def restore_optimizer(self, optimizer: Optimizer, model: NextConceptModel) -> None:
        """Give the optimizer the moments of the parameters of ``model``.

        Raises:
            InputError: if they are those of another optimizer, or damaged.
        """
        from nextconcept.training.optim import MuonWithAdamW, check_moments
        from nextconcept.training.sharding import shard_like  # loads FSDP, which growing a model does not need

        by_muon = {id(one) for group in optimizer.param_groups if "momentum" in group for one in group["params"]}
        for name, parameter in model.named_parameters():
            if name in self.moments:
                if ("momentum_buffer" in self.moments[name]) != (id(parameter) in by_muon):
                    raise InputError(
                        f"the grown model was trained with {'adamw' if by_muon else 'muon'}: continue with "
                        f"model.optimizer.optimizer {'adamw' if by_muon else 'muon'}."
                    )
                if type(optimizer) in (AdamW, MuonWithAdamW):
                    check_moments(self.moments[name], parameter, "the training state of the grown model")
                values = {key: value.to(parameter.device).clone() for key, value in self.moments[name].items()}
                optimizer.state[parameter] = {key: shard_like(value, parameter) for key, value in values.items()}


def _widened(moment: Tensor, like: Tensor) -> Tensor:
    result = moment.new_zeros(like.shape)
    result[top_left(moment.shape)] = moment
    return result


@dataclass
class WarmStart:
    """A trained model to begin with.

    Attributes:
        model: the model.
        tokenizer: its tokenizer.
        training: state of the training that made it, if the folder holds one.
        source: the folder or checkpoint.
    """

    model: NextConceptModel
    tokenizer: Tokenizer
    training: TrainingState | None
    source: str | Path

    def load_into(self, model: NextConceptModel) -> None:
        """Give ``model`` the weights.

        Raises:
            InputError: if it has another shape.
        """
        try:
            model.load_state_dict(self.model.state_dict())
        except RuntimeError:
            raise InputError(
                f"the model in {self.source} has another shape: use the configuration that is stored there."
            ) from None

    def check_limits(self, max_steps: int, max_epochs: int | None) -> None:
        """Refuse a fit that would end at once, because steps before growth count too.

        Raises:
            InputError: if the limits of the trainer leave no step.
        """
        if self.training is not None:
            made = f"the grown model in {self.source} has made"
            if reason := no_step_left(self.training.step, self.training.loops, max_steps, max_epochs, made):
                raise InputError(reason)


def no_step_left(step: int, loops: dict[str, Any], max_steps: int, max_epochs: int | None, made: str) -> str | None:
    """Say that a fit would end at once; return None if it would not.

    Args:
        step: optimizer steps that were made.
        loops: state of the fit loop.
        max_steps: limit of the trainer; -1 for none.
        max_epochs: the other limit of the trainer.
        made: how the sentence begins: what has made these steps.
    """
    epochs = loops["epoch_progress"]["current"]["completed"]
    for unit, count, allowed in (("steps", step, max_steps), ("epochs", epochs, max_epochs)):
        if allowed is not None and 0 <= allowed <= count:
            return (
                f"{made} {count} {unit} of training, which count too, so that max_{unit} {allowed} leaves none: set "
                f"trainer.max_{unit} above {count}."
            )
    return None


def load_warm_start(path: str | Path, encoder: type[ConceptEncoder] = ConceptEncoder) -> WarmStart:
    """Load a folder of ``nextconcept grow`` or ``export``, or the weights of a run or checkpoint.

    Args:
        path: the folder or checkpoint.
        encoder: class of the concept encoder, if the model has one of your own.

    Raises:
        InputError: if there is no model at ``path``, or its training state is broken.
    """
    model, tokenizer = load_run(path, encoder)
    file = Path(path) / FILE
    if not file.is_file():
        return WarmStart(model, tokenizer, None, path)
    try:
        training = TrainingState(**torch.load(file, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError, TypeError):
        training = None
    if training is None or not _well_formed(training):
        raise InputError(f"{file} is broken: grow the model again with nextconcept grow.")
    return WarmStart(model, tokenizer, training, path)


def _well_formed(state: TrainingState) -> bool:
    """Whether a state that was read has the types of one that was written."""
    numbers = isinstance(state.step, int) and all(isinstance(one, int | float) for one in (state.flops, state.tokens))
    try:
        epochs = state.loops["epoch_progress"]["current"]["completed"]
        moments = [moment for parameter in state.moments.values() for moment in parameter.values()]
        shapes = [size for shape in state.shapes.values() for size in shape]
    except (KeyError, TypeError, AttributeError):
        return False
    return (
        numbers
        and isinstance(epochs, int)
        and all(isinstance(moment, Tensor) for moment in moments)
        and all(isinstance(size, int) for size in shapes)
    )
