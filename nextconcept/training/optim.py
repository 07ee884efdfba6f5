"""Muon for the matrices of blocks and AdamW for all else, with one schedule.

One learning rate serves models of any width. A step of Muon changes a matrix by a multiple of an
orthogonal one, whose effect does not depend on the width. A step of AdamW changes every entry by
about the rate, whose effect grows with the number of columns: its rate for a matrix is therefore
divided by them (Yang et al., 2021, Tensor Programs V). So is that of embeddings, which is a choice
of ours; from width 64 to 512 the best rate stays (``comparisons/widths``).
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from nextconcept.core.errors import InputError
from nextconcept.core.settings import check_types
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.transformer import Block
from nextconcept.training.batched_muon import BatchedMuon, newton_schulz_flops
from nextconcept.training.lightning_compat import allow_clipping

__all__ = [
    "Group",
    "MuonWithAdamW",
    "OptimizerConfig",
    "apply_settings",
    "check_groups",
    "make_optimizer",
    "make_schedule",
    "number_by_position",
    "optimizer_flops",
    "parameter_groups",
]

BASE_WIDTH = 64
"""Inputs of a matrix outside the blocks up to which its rate is ``lr`` as it stands."""


@dataclass
class OptimizerConfig:
    """The optimizer, and a schedule with linear warm-up and decay.

    ``muon`` trains the matrices of transformer blocks with ``torch.optim.Muon`` (Jordan et al.,
    2024) at ``muon_ratio * lr``, and the rest with AdamW (Loshchilov & Hutter, 2019): norms, gates,
    start vectors and the token prior at ``lr``, embeddings, heads and compositions at
    ``lr * 64 / n`` for n inputs of the lowest level, and at most at ``lr``. ``adamw`` trains
    everything with AdamW at ``lr``.

    Args:
        optimizer: ``muon`` or ``adamw``.
        lr: peak learning rate.
        muon_ratio: peak learning rate of Muon over ``lr``.
        weight_decay: of matrices; norms, gates and start vectors are not decayed.
        betas: decay rates of AdamW's moments, each at least 0 and below 1.
        momentum: of Muon, at least 0 and below 1.
        warmup_steps: optimizer steps until the peak.
        decay: shape of the decay after the warm-up, half a ``cosine`` or ``linear``.
        min_lr_ratio: learning rate after the last step over the peak; 1 for no decay.

    Raises:
        InputError: if a number is out of range.
    """

    optimizer: Literal["muon", "adamw"] = "muon"
    lr: float = 8e-3
    muon_ratio: float = 2.5
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = 0.95
    warmup_steps: int = 100
    decay: Literal["cosine", "linear"] = "cosine"
    min_lr_ratio: float = 0.1

    def __post_init__(self) -> None:
        check_types(self, "optimizer.")
        # Written so that NaN fails each condition.
        positive, rest = 0 < self.lr < math.inf, 0 <= self.weight_decay < math.inf and self.warmup_steps >= 0
        if not (positive and rest and 0 <= self.min_lr_ratio <= 1):
            raise InputError(
                f"optimizer settings are out of range: lr {self.lr} must be positive, weight_decay {self.weight_decay} "
                f"and warmup_steps {self.warmup_steps} at least 0, min_lr_ratio {self.min_lr_ratio} between 0 and 1."
            )
        if not (0 < self.muon_ratio < math.inf and 0 <= self.momentum < 1):
            raise InputError(
                f"optimizer settings are out of range: muon_ratio {self.muon_ratio} must be positive, momentum "
                f"{self.momentum} at least 0 and below 1."
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"the optimizer's betas must be two numbers from 0 to below 1, not {list(self.betas)}.")


@dataclass
class Group:
    """Parameters that are trained alike.

    Attributes:
        parameters: by name.
        muon: whether Muon trains them.
        ratio: their learning rate over ``OptimizerConfig.lr``.
        decays: whether they are decayed.
    """

    parameters: dict[str, nn.Parameter]
    muon: bool
    ratio: float
    decays: bool

    def settings(self, config: OptimizerConfig) -> dict[str, Any]:
        """Return what an optimizer's group holds of the configuration."""
        rates = {"lr": config.lr * self.ratio, "weight_decay": config.weight_decay if self.decays else 0.0}
        return rates | ({"momentum": config.momentum} if self.muon else {"betas": tuple(config.betas)})


def parameter_groups(
    config: OptimizerConfig, model: NextConceptModel, objective: nn.Module | None = None
) -> list[Group]:
    """Divide the parameters of a model and of its objective into groups, none of them empty.

    The order is that in which the optimizer numbers them.
    """
    named = _named_parameters(model, objective)
    parts = [model] if objective is None else [model, objective]
    blocks = [block for part in parts for block in part.modules() if isinstance(block, Block)]
    in_blocks = {id(parameter) for block in blocks for parameter in block.parameters()}
    groups: dict[tuple[bool, float, bool], Group] = {}
    for name, parameter in named.items():
        matrix = parameter.dim() >= 2 and ".gates." not in name
        muon = config.optimizer == "muon" and matrix and parameter.dim() == 2 and id(parameter) in in_blocks
        scaled = matrix and config.optimizer == "muon"
        ratio = config.muon_ratio if muon else _rate_ratio(model, name, parameter) if scaled else 1.0
        group = groups.setdefault((muon, ratio, matrix), Group({}, muon, ratio, matrix))
        group.parameters[name] = parameter
    return sorted(groups.values(), key=lambda group: (not group.muon, not group.decays))


def _named_parameters(model: NextConceptModel, objective: nn.Module | None) -> dict[str, nn.Parameter]:
    """Return the parameters by name, those of the model first."""
    own = {} if objective is None else {f"objective.{name}": one for name, one in objective.named_parameters()}
    return dict(model.named_parameters()) | own


def _rate_ratio(model: NextConceptModel, name: str, parameter: Tensor) -> float:
    """Return AdamW's rate over ``lr`` for a matrix: 64 over the inputs of an output, at most 1."""
    config = model.config
    # All axes but that of the outputs; the maps of a plan head are one matrix per step.
    inputs = parameter.shape[-1] if name.endswith("head.maps") else parameter.numel() // parameter.shape[-2]
    if name == "encoder.embedding.weight":
        inputs = config.widths[0]
    elif name.startswith("encoder.compositions.") and config.sharing == "nested":
        inputs = inputs * config.widths[1] // max(config.widths)
    return min(1.0, BASE_WIDTH / max(1, inputs))


class MuonWithAdamW(Optimizer):
    """``torch.optim.Muon`` and ``torch.optim.AdamW`` as one optimizer, each with groups of its own.

    Args:
        muon: groups for Muon.
        adamw: groups for AdamW.
    """

    def __init__(self, muon: list[dict[str, Any]], adamw: list[dict[str, Any]]) -> None:
        self._make_parts(muon, adamw)
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {})

    def _make_parts(self, muon: list[dict[str, Any]], adamw: list[dict[str, Any]]) -> None:
        self.muon, self.adamw = BatchedMuon(muon), AdamW(adamw, fused=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy, which holds groups and states alone."""
        super().__setstate__(state)
        self._make_parts(*self._groups())

    def _groups(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the groups of Muon, and those of AdamW."""
        by_muon = [group for group in self.param_groups if "momentum" in group]
        return by_muon, [group for group in self.param_groups if "momentum" not in group]

    def step(self, closure: Any = None) -> Any:
        """Let both make a step, and return what ``closure`` returns."""
        loss = None if closure is None else closure()
        # Loading a state makes new groups and a new dictionary of states.
        self.muon.param_groups, self.adamw.param_groups = self._groups()
        parts: tuple[Any, ...] = (self.muon, self.adamw)  # torch's type of Muon.step is incomplete
        for part in parts:
            part.state = self.state
            part.step()
        return loss


def make_optimizer(config: OptimizerConfig, model: NextConceptModel, objective: nn.Module | None = None) -> Optimizer:
    """Return the optimizer of the groups of :func:`parameter_groups`."""
    groups = parameter_groups(config, model, objective)
    muon, adamw = (
        [
            {"params": list(group.parameters.values())} | group.settings(config)
            for group in groups
            if group.muon == wanted
        ]
        for wanted in (True, False)
    )
    optimizer = MuonWithAdamW(muon, adamw) if muon else AdamW(adamw, fused=True)
    allow_clipping(optimizer)
    return optimizer


def optimizer_flops(config: OptimizerConfig, model: NextConceptModel, objective: nn.Module | None = None) -> float:
    """Count the operations of the matrix products of an optimizer's step, which Muon alone has.

    They depend on the parameters and not on the tokens of a step.
    """
    groups = [group for group in parameter_groups(config, model, objective) if group.muon]
    return sum(newton_schulz_flops(*matrix.shape) for group in groups for matrix in group.parameters.values())


def number_by_position(
    states: list[dict[str, Any]],
    config: OptimizerConfig,
    model: NextConceptModel,
    objective: nn.Module | None = None,
) -> None:
    """Renumber parameters in saved optimizer states by their position among all parameters.

    An optimizer numbers parameters group by group, and loads them in that order whatever their
    numbers. Strategies that shard parameters number them by position, and expect that when they
    load.

    Args:
        states: states of optimizers of :func:`make_optimizer`, changed in place.
        config: configuration of the optimizers.
        model: the model that the optimizers train, whose parameters come first.
        objective: its objective, if that has parameters.
    """
    positions = {name: position for position, name in enumerate(_named_parameters(model, objective))}
    order = [positions[name] for group in parameter_groups(config, model, objective) for name in group.parameters]
    for state in states:
        groups = state.get("param_groups", ())  # empty on a process that does not save
        olds = [old for group in groups for old in group["params"]]
        number = dict(zip(olds, order[: len(olds)], strict=True))
        for group in groups:
            group["params"] = [number[old] for old in group["params"]]
        state["state"] = {number[old]: values for old, values in state.get("state", {}).items()}


def check_moments(state: dict[str, Any], parameter: Tensor, source: str) -> None:
    """Check that a saved state is all that Muon or AdamW need to continue with a parameter.

    Args:
        state: the state of the parameter by name.
        parameter: the parameter.
        source: what holds the state, for the message.

    Raises:
        InputError: if it is not.
    """
    names = ("momentum_buffer",) if "momentum_buffer" in state else ("exp_avg", "exp_avg_sq")
    moments = [state.get(name) for name in names]
    whole = len(names) == 1 or isinstance(state.get("step"), Tensor)
    if not whole or not all(isinstance(one, Tensor) and one.shape == parameter.shape for one in moments):
        raise InputError(
            f"{source} is damaged: the optimizer's state of a parameter is incomplete or of another shape. Give "
            "another checkpoint, or begin with its weights by --model.init_from."
        )


def check_groups(states: list[dict[str, Any]], config: OptimizerConfig, model: NextConceptModel) -> None:
    """Check that saved optimizer states are those of the optimizer that is to continue.

    Args:
        states: saved states of optimizers of :func:`make_optimizer`.
        config: configuration of the optimizer that continues.
        model: the model that it trains.

    Raises:
        InputError: if they are those of another optimizer, or damaged.
    """
    parameters = list(model.parameters())  # by whose positions states are numbered
    wanted = any(group.muon for group in parameter_groups(config, model))
    for state in states:
        if any("momentum" in group for group in state.get("param_groups", ())) != wanted:
            other = "adamw" if wanted else "muon"
            raise InputError(
                f"the checkpoint was trained with another optimizer than {config.optimizer}: resume with "
                f"--model.optimizer.optimizer {other}, or give its weights alone, with --model.init_from."
            )
        for number, moments in state.get("state", {}).items():
            if number in range(len(parameters)):  # those of an objective follow
                check_moments(moments, parameters[number], "the checkpoint")


def make_schedule(config: OptimizerConfig, optimizer: Optimizer, steps: int | float) -> LambdaLR:
    """Return a schedule: linear warm-up, then decay down to ``min_lr_ratio`` at ``steps``.

    Args:
        config: peak, warm-up, shape of the decay and minimum.
        optimizer: the optimizer to schedule.
        steps: optimizer steps of the training; if infinite, the rate stays at its peak.
    """

    def factor(step: int) -> float:
        """Return the rate of a step over the peak rate."""
        if step < config.warmup_steps:
            return (step + 1) / (config.warmup_steps + 1)
        if math.isinf(steps):
            return 1.0
        progress = min(1.0, (step - config.warmup_steps) / max(1, steps - config.warmup_steps))
        if config.decay == "linear":
            return config.min_lr_ratio + (1 - config.min_lr_ratio) * (1 - progress)
        return config.min_lr_ratio + (1 - config.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def apply_settings(
    config: OptimizerConfig,
    model: NextConceptModel,
    optimizer: Optimizer,
    schedule: LambdaLR,
    objective: nn.Module | None = None,
) -> None:
    """Give a restored optimizer and its schedule these settings in place of the stored ones.

    Where the settings are those that were stored, nothing changes.

    Args:
        config: the settings.
        model: the model that the optimizer trains.
        optimizer: an optimizer of :func:`make_optimizer`.
        schedule: its schedule, of :func:`make_schedule`.
        objective: the objective of the model, if that has parameters.
    """
    settings = [group.settings(config) for group in parameter_groups(config, model, objective)]
    factor, peaks = schedule.lr_lambdas[0](schedule.last_epoch), [values["lr"] for values in settings]
    rates = [peak * factor for peak in peaks]
    for group, values, peak, rate in zip(optimizer.param_groups, settings, peaks, rates, strict=True):
        group |= values | {"initial_lr": peak, "lr": rate}
    schedule.load_state_dict(schedule.state_dict() | {"base_lrs": peaks, "_last_lr": rates})
