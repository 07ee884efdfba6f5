"""What a model learns about tokens: the next one, or what an objective asks for instead.

Shapes: B batch, T tokens, V vocabulary.
"""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept.checkpoints.files import KEY, OBJECTIVE
from nextconcept.core.errors import InputError
from nextconcept.inference.generate import generate
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.model_output import ModelOutput

__all__ = ["Objective", "check_objective", "masked_mean", "token_loss", "token_losses"]


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the cross-entropy of each token in nats.

    Args:
        logits: (B, T, V).
        targets: (B, T) int64.

    Returns:
        (B, T) cross-entropies in float32.
    """
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none").view_as(targets)


def token_loss(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean cross-entropy of the tokens that are to be learnt.

    Args:
        logits: (B, T, V).
        tokens: (B, T + 1) int64, of which the last T are predicted.
        mask: (B, T + 1) bool.
    """
    return masked_mean(token_losses(logits, tokens[:, 1:]), mask[:, 1:])


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the values where ``mask`` holds, 0 if it holds nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


class Objective(nn.Module):
    """Next-token prediction, and the base class of other objectives.

    A subclass returns from :meth:`forward` the terms that it minimises. It may have parameters,
    which are trained together with the model's and stored in the checkpoints of the run, beside the
    model. Its operations count in a budget of compute. It is made after the model, so that a seed
    draws the same model for all objectives:

    .. code-block:: python

        class ZLoss(Objective):
            names = ("next", "normaliser")

            def forward(self, model, output, tokens, mask):
                normaliser = 1e-4 * output.logits.logsumexp(-1).square().mean()
                return {"next": token_loss(output.logits, tokens, mask), "normaliser": normaliser}

    Args:
        model: the model that is trained with the objective. An objective gets the model with each
            call and keeps no reference to it.

    Attributes:
        names: names of the terms, which are logged as ``train/loss/NAME`` and ``STAGE/loss/NAME``,
            beside the cross-entropy of the next token, ``loss/tokens``.
        writes_alone: whether the model writes without the objective, as ``nextconcept generate``
            lets it. If not, runs can only be trained and measured.
        one_level: whether the objective is for models without concepts alone.

    Raises:
        InputError: if the model has concepts and the objective is not for these.
    """

    names: tuple[str, ...] = ()
    writes_alone: ClassVar[bool] = True
    one_level: ClassVar[bool] = False

    def __init__(self, model: NextConceptModel) -> None:
        super().__init__()
        if self.one_level and model.config.levels > 1:
            raise InputError(
                f"{type(self).__name__} is an objective for a model with one level, not {model.config.levels}: set "
                "model.config.levels to 1."
            )

    def describe(self) -> dict[str, Any]:
        """Return what a checkpoint stores of the objective as plain values; nothing of this one.

        Settings are the public attributes that are numbers or text.
        """
        kind = type(self)
        if kind is Objective:
            return {}
        values = {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "training"}
        settings = {name: value for name, value in values.items() if isinstance(value, bool | int | float | str)}
        name = f"{kind.__module__}.{kind.__qualname__}"
        return {"name": name, "writes_alone": self.writes_alone, "settings": settings}

    def inputs(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the tokens that the model reads, in training and where losses are measured.

        Args:
            tokens: (B, T + 1) int64.
            mask: (B, T + 1) bool, False for tokens that are not to be learnt.

        Returns:
            (B, T) int64; the output at position t is held against token t + 1.
        """
        return tokens[:, :-1]

    def forward(self, model: NextConceptModel, output: ModelOutput, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Compute the terms of the loss.

        Args:
            model: the model.
            output: its output for :meth:`inputs`.
            tokens: (B, T + 1) int64.
            mask: (B, T + 1) bool, False for tokens that are not to be learnt.

        Returns:
            Scalars by :attr:`names`, each with its weight, whose sum is minimised; with no term,
            the mean cross-entropy of the next token.
        """
        return {}

    def write(self, model: NextConceptModel, prompts: Tensor, length: int) -> Tensor:
        """Write answers greedily.

        Args:
            model: the model, in eval mode.
            prompts: (B, T) int64.
            length: tokens of an answer.

        Returns:
            (B, ``length``) token ids.
        """
        return generate(model, prompts, length, temperature=0.0)[:, prompts.shape[1] :]


def check_names(objective: Objective) -> None:
    """Check the names of an objective's terms.

    Raises:
        InputError: if one is that of another part of the loss, or occurs twice.
    """
    for name in objective.names:
        if name == "tokens" or name.startswith("concepts_l") or list(objective.names).count(name) > 1:
            raise InputError(
                f"the term {name!r} of {type(objective).__name__} has the name of another part of the loss: choose "
                "another name."
            )


def check_terms(objective: Objective, terms: dict[str, Tensor]) -> None:
    """Check what an objective returns.

    Raises:
        InputError: if its terms are not scalars by the names that it declares.
    """
    wrong = [name for name, term in terms.items() if not (isinstance(term, Tensor) and term.dim() == 0)]
    if wrong or set(terms) != set(objective.names):
        raise InputError(
            f"{type(objective).__name__} must return a scalar tensor for each of its names, "
            f"{', '.join(objective.names) or 'of which it has none'}: "
            + (f"{wrong[0]!r} is none." if wrong else f"it returned {', '.join(terms) or 'nothing'}.")
        )


def check_objective(checkpoint: dict[str, Any], objective: Objective) -> None:
    """Check that a checkpoint was trained with an objective of the same class, settings and shape.

    Args:
        checkpoint: a Lightning checkpoint.
        objective: the objective that is to continue or to be measured.

    Raises:
        InputError: if it was trained with another one.
    """
    found = checkpoint.get(KEY, {}).get(OBJECTIVE, {}), objective.describe()
    stored, own = (described.get("name", "next-token prediction") for described in found)
    weights = checkpoint.get("state_dict", {})
    shapes = {name: value.shape for name, value in weights.items() if name.startswith("objective.")}
    wanted = {f"objective.{name}": value.shape for name, value in objective.state_dict().items()}
    # Older checkpoints hold no settings.
    old, new = (described.get("settings", {}) for described in found)
    changed = [f"{name} {old[name]}, not {new[name]}" for name in old.keys() & new.keys() if old[name] != new[name]]
    if stored != own or changed or (weights and shapes != wanted):
        what = f"other settings of the objective {own}"
        if stored != own:
            what = f"the objective {stored}, not {own}"
        elif changed:
            what += f" ({'; '.join(sorted(changed))})"
        raise InputError(
            f"the checkpoint was trained with {what}: give the objective and the settings of its training, as "
            "model.objective or by the experiment of the run."
        )
