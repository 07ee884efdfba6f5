"""AdamW with two groups of weight decay, and a schedule with warm-up and decay."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from nextconcept.core.errors import InputError
from nextconcept.training.lightning_compat import allow_clipping

__all__ = [
    "OptimizerConfig",
    "apply_settings",
    "make_optimizer",
    "make_schedule",
    "number_by_position",
    "parameter_groups",
]


@dataclass
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter, 2019) with linear warm-up, then decay.

    Args:
        lr: peak learning rate.
        weight_decay: of matrices; norms, gates and start vectors are not decayed.
        betas: decay rates of the moments, each at least 0 and below 1.
        warmup_steps: optimizer steps until the peak.
        decay: shape of the decay after the warm-up, half a ``cosine`` or ``linear``.
        min_lr_ratio: learning rate at the last step over the peak; 1 for no decay.

    Raises:
        InputError: if a number is out of range.
    """

    lr: float = 1e-3
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_steps: int = 100
    decay: Literal["cosine", "linear"] = "cosine"
    min_lr_ratio: float = 0.1

    def __post_init__(self) -> None:
        # Written so that NaN fails each condition.
        positive, rest = 0 < self.lr < math.inf, 0 <= self.weight_decay < math.inf and self.warmup_steps >= 0
        if not (positive and rest and 0 <= self.min_lr_ratio <= 1):
            raise InputError(
                f"optimizer settings are out of range: lr {self.lr} must be positive, weight_decay {self.weight_decay} "
                f"and warmup_steps {self.warmup_steps} at least 0, min_lr_ratio {self.min_lr_ratio} between 0 and 1."
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"the optimizer's betas must be two numbers from 0 to below 1, not {list(self.betas)}.")


def parameter_groups(model: nn.Module) -> list[dict[str, nn.Parameter]]:
    """Return the parameters by name in two groups: decayed (matrices), then not decayed.

    The order is that in which the optimizer numbers them.
    """
    decayed: dict[str, nn.Parameter] = {}
    rest: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        (decayed if parameter.dim() >= 2 and ".gates." not in name else rest)[name] = parameter
    return [decayed, rest]


def make_optimizer(config: OptimizerConfig, model: nn.Module) -> AdamW:
    """Return AdamW over the two groups of :func:`parameter_groups`."""
    decays = (config.weight_decay, 0.0)
    groups = [
        {"params": list(group.values()), "weight_decay": decay}
        for group, decay in zip(parameter_groups(model), decays, strict=True)
        if group
    ]
    optimizer = AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
    allow_clipping(optimizer)
    return optimizer


def number_by_position(states: list[dict[str, Any]], model: nn.Module) -> None:
    """Renumber parameters in saved optimizer states by their position in ``model.parameters()``.

    An optimizer numbers parameters group by group, and loads them in that order whatever their
    numbers. Strategies that shard parameters number them by position, and expect that when they
    load.

    Args:
        states: states of optimizers of :func:`make_optimizer`, changed in place.
        model: the model that the optimizers train.
    """
    positions = {name: position for position, (name, _) in enumerate(model.named_parameters())}
    order = [positions[name] for group in parameter_groups(model) for name in group]
    for state in states:
        groups = state.get("param_groups", ())  # empty on a process that does not save
        olds = [old for group in groups for old in group["params"]]
        number = dict(zip(olds, order[: len(olds)], strict=True))
        for group in groups:
            group["params"] = [number[old] for old in group["params"]]
        state["state"] = {number[old]: values for old, values in state.get("state", {}).items()}


def make_schedule(config: OptimizerConfig, optimizer: AdamW, steps: int | float) -> LambdaLR:
    """Return a schedule: linear warm-up, then decay down to ``min_lr_ratio`` at ``steps``.

    Args:
        config: peak, warm-up, shape of the decay and minimum.
        optimizer: the optimizer to schedule.
        steps: optimizer steps of the training; if infinite, the rate stays at its peak.
    """

    def factor(step: int) -> float:
        if step < config.warmup_steps:
            return (step + 1) / (config.warmup_steps + 1)
        if math.isinf(steps):
            return 1.0
        progress = min(1.0, (step - config.warmup_steps) / max(1, steps - config.warmup_steps))
        if config.decay == "linear":
            return config.min_lr_ratio + (1 - config.min_lr_ratio) * (1 - progress)
        return config.min_lr_ratio + (1 - config.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def apply_settings(config: OptimizerConfig, optimizer: Optimizer, schedule: LambdaLR) -> None:
    """Give a restored optimizer and its schedule these settings in place of the stored ones.

    Where the settings are those that were stored, nothing changes.

    Args:
        config: the settings.
        optimizer: an optimizer of :func:`make_optimizer`.
        schedule: its schedule, of :func:`make_schedule`.
    """
    rate = config.lr * schedule.lr_lambdas[0](schedule.last_epoch)
    decays = (config.weight_decay, 0.0)  # there is always a matrix, so that the first group is the decayed one
    for group, decay in zip(optimizer.param_groups, decays, strict=False):
        group |= {"weight_decay": decay, "betas": tuple(config.betas), "initial_lr": config.lr, "lr": rate}
    count = len(optimizer.param_groups)
    schedule.load_state_dict(schedule.state_dict() | {"base_lrs": [config.lr] * count, "_last_lr": [rate] * count})
