"""The law of the loss: how the final loss of families of models falls with training compute.

Each family, such as a GPT or a model with two levels, has ``L(C) = E + A C^-alpha`` (Kaplan et al.,
2020; Hoffmann et al., 2022) for its best model at each budget of C FLOPs. E, what no model can
predict of the data, is shared by all families; A and alpha are those of a family.

Shapes: F families, R draws of the bootstrap, N points of a family.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nextconcept.core.errors import InputError
from nextconcept.evaluation.law_points import Point

__all__ = ["MIN_BUDGETS", "Crossing", "LossLaw", "describe_crossing", "fit_loss_law", "gaps_at_budgets"]

MIN_BUDGETS = 4
"""Budgets that each family needs: one more than a family alone has parameters."""

SAME_BUDGET = 1.1
"""Ratio below which FLOPs are of one budget, which whole steps never spend exactly."""

STEEPEST, GRID, ZOOMS = 1.0, 15, 8

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Crossing:
    """Where the fits of two families meet.

    Attributes:
        flops: training FLOPs at which they meet; None if the fits are all but parallel.
        low: lower end of the interval, over the draws that meet.
        high: upper end.
        share: share of the draws of the bootstrap whose fits meet at all.
    """

    flops: float | None
    low: float
    high: float
    share: float


@dataclass(frozen=True)
class LossLaw:
    """The fit, and its draws of the bootstrap.

    Attributes:
        families: names of the families.
        floor: E.
        scales: (F,) logarithms of A.
        exponents: (F,) alpha.
        floors: (R,) E of each draw.
        drawn_scales: (R, F) logarithms of A.
        drawn_exponents: (R, F) alpha.
        confidence: share of the draws that an interval holds.
    """

    families: tuple[str, ...]
    floor: float
    scales: Array
    exponents: Array
    floors: Array
    drawn_scales: Array
    drawn_exponents: Array
    confidence: float

    def predict(self, family: str, flops: float) -> tuple[float, float, float]:
        """Return the loss of a family at a budget, and the ends of its interval."""
        loss, drawn = self.losses(family, flops)
        return loss, *self._interval(drawn)

    def losses(self, family: str, flops: float) -> tuple[float, Array]:
        """Return the loss of a family at a budget, and that of each draw, (R,)."""
        index, log = self.families.index(family), np.log(flops)
        loss = self.floor + np.exp(self.scales[index] - self.exponents[index] * log)
        return float(loss), self.floors + np.exp(self.drawn_scales[:, index] - self.drawn_exponents[:, index] * log)

    def difference(
        self, family: str, other: str, flops: float, of: "LossLaw | None" = None
    ) -> tuple[float, float, float, float]:
        """Return the loss of a family less that of another at a budget.

        Args:
            family: name of a family.
            other: name of another.
            flops: the budget.
            of: the law of the other family, where each has been fitted on its own, with an E of its
                own, by equal numbers of draws.

        Returns:
            The difference, the ends of its interval, and the share of the draws in which it is
            below zero.
        """
        (loss, drawn), (other_loss, other_drawn) = self.losses(family, flops), (of or self).losses(other, flops)
        gaps = drawn - other_drawn
        return loss - other_loss, *self._interval(gaps), float((gaps < 0).mean())

    def crossing(self, family: str, other: str) -> Crossing:
        """Return the budget at which two families have the same loss.

        With one E for both, ``C = (A_1 / A_2)^(1 / (alpha_1 - alpha_2))``: there is one, unless the
        exponents are equal, but it may be far from any budget that was tried.
        """
        first, second = self.families.index(family), self.families.index(other)

        def meet(scales: Array, exponents: Array) -> Array:
            """Return the logarithm of the budget at which both families meet, NaN far away."""
            with np.errstate(divide="ignore", invalid="ignore"):
                found: Array = (scales[..., first] - scales[..., second]) / (
                    exponents[..., first] - exponents[..., second]
                )
            return np.where(np.abs(found) < 300, found, np.nan)  # about 1e130: none that could matter

        log = float(meet(self.scales, self.exponents))
        drawn = meet(self.drawn_scales, self.drawn_exponents)
        meeting = drawn[np.isfinite(drawn)]
        low, high = self._interval(np.exp(meeting)) if len(meeting) else (np.nan, np.nan)
        return Crossing(float(np.exp(log)) if np.isfinite(log) else None, low, high, len(meeting) / len(drawn))

    def _interval(self, values: Array) -> tuple[float, float]:
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(values, (tail, 1 - tail))
        return float(low), float(high)


def fit_loss_law(
    points: Mapping[str, Sequence[Point]], draws: int = 500, confidence: float = 0.9, seed: int = 0
) -> LossLaw:
    """Fit the law to the points of all families together, by least squares of the losses.

    The uncertainty is that of a wild bootstrap by budgets (Cameron, Gelbach and Miller, 2008): each
    draw adds to the fitted losses the residuals of their own budget, times a random number that is
    the same for all families and seeds of this budget, and enlarged for the parameters that the fit
    has used up. The numbers are the six of Webb (2023), which suit few budgets. So what the law
    misses alike in all families counts as that; that the law holds beyond the budgets that were
    tried is assumed.

    Args:
        points: points of each family, by name.
        draws: R, draws of the bootstrap.
        confidence: share of the draws that an interval holds.
        seed: seed of the draws.

    Raises:
        InputError: if a family has too few budgets, or a loss is not finite.
    """
    data = {}
    for family, found in points.items():
        budgets = {point.flops for point in found}
        if len(budgets) < MIN_BUDGETS:
            raise InputError(
                f"a law with three parameters needs {MIN_BUDGETS} budgets or more, but of {family} there are "
                f"{len(budgets)}: compare at further budgets."
            )
        logs = np.log([point.flops for point in found for _ in point.losses])
        losses = np.array([loss for point in found for loss in point.losses])
        if not np.isfinite(losses).all():
            raise InputError(f"a loss of {family} is not finite: leave out the run that diverged.")
        data[family] = logs, losses
    if not data:
        raise InputError("there is no family to fit: name entries that the results have.")
    logs_of = [logs for logs, _ in data.values()]
    floor, scales, exponents = _fit(logs_of, [losses[None] for _, losses in data.values()])
    factors, drawn = _factors(logs_of, draws, np.random.default_rng(seed)), []
    for index, (logs, losses) in enumerate(data.values()):
        fitted = floor + np.exp(scales[:, index] - exponents[:, index] * logs)
        used = min(2 + 1 / len(data), len(losses) - 1)
        residuals = (losses - fitted) * np.sqrt(len(losses) / (len(losses) - used))
        drawn.append(fitted + residuals * factors[index])
    floors, drawn_scales, drawn_exponents = _fit(logs_of, drawn)
    return LossLaw(
        tuple(data), float(floor[0]), scales[0], exponents[0], floors, drawn_scales, drawn_exponents, confidence
    )


def _factors(logs: Sequence[Array], draws: int, generator: np.random.Generator) -> list[Array]:
    """Draw a number for each budget, and return those of the losses of each family, (R, N)."""
    ordered = np.unique(np.concatenate(list(logs)))
    budgets = np.append(0, np.cumsum(np.diff(ordered) > np.log(SAME_BUDGET)))
    size = (draws, int(budgets[-1]) + 1)
    numbers = generator.choice([-1.0, 1.0], size) * np.sqrt(generator.choice([0.5, 1.0, 1.5], size))
    return [numbers[:, budgets[np.searchsorted(ordered, one)]] for one in logs]


def gaps_at_budgets(points: Sequence[Point], others: Sequence[Point]) -> Array:
    """Return the mean loss of a family less that of another at each budget that both have."""
    return np.array(
        [
            np.mean(point.losses) - np.mean(other.losses)
            for point in points
            for other in others
            if 1 / SAME_BUDGET < point.flops / other.flops < SAME_BUDGET
        ]
    )


def describe_crossing(law: LossLaw, family: str, other: str, tried: tuple[float, float]) -> str:
    """Say in a sentence or two where the curves of two families cross.

    Args:
        law: the fit.
        family: name of a family.
        other: name of another.
        tried: the smallest and the largest budget that both were trained with, in FLOPs.
    """
    found, (least, most) = law.crossing(family, other), tried
    data, sure = f"{least:.2g} to {most:.2g} FLOPs", f"{law.confidence:.0%} interval"
    interval = f"{sure} {found.low:.2g} to {found.high:.2g}"
    if found.share < 1:
        interval += f", of the {found.share:.0%} of draws that meet at all"
    if found.flops is not None and least <= found.flops <= most:
        ahead = family if law.difference(family, other, most)[0] < 0 else other
        where = f"cross at {found.flops:.2g} FLOPs ({interval})"
        return f"The fits of {family} and {other} {where}; beyond, that of {ahead} is lower."
    ahead = family if law.difference(family, other, (least * most) ** 0.5)[0] < 0 else other
    says = f"The fits of {family} and {other} do not cross within the data, {data}: that of {ahead} is the lower one."
    if found.flops is None:
        return f"{says} They are all but parallel."
    return f"{says} They meet at {found.flops:.2g} FLOPs ({interval}), which nobody has tried."


def _fit(logs: Sequence[Array], losses: Sequence[Array]) -> tuple[Array, Array, Array]:
    """Fit R data sets at once.

    For given E and alpha, A has a closed form, so that a search over a grid of E, and for each E
    over grids of the alphas, is left; each zoom has grids around the best values of the one before.

    Args:
        logs: (N,) logarithms of C, per family.
        losses: (R, N) losses, per family.

    Returns:
        E (R,), logarithms of A (R, F), alpha (R, F).
    """
    lowest = np.min([values.min(1) for values in losses], 0)
    low, high = np.zeros_like(lowest), lowest
    for _ in range(ZOOMS):
        floors = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, GRID)
        errors = sum(_fit_family(one, values, floors)[0] for one, values in zip(logs, losses, strict=True))
        best = np.take_along_axis(floors, np.asarray(errors).argmin(1)[:, None], 1)[:, 0]
        width = (high - low) * 3 / (GRID - 1)
        low, high = np.clip(best - width, 0, lowest), np.clip(best + width, 0, lowest)
    fits = [_fit_family(one, values, best[:, None]) for one, values in zip(logs, losses, strict=True)]
    scales, exponents = (np.stack([fit[part][:, 0] for fit in fits], 1) for part in (1, 2))
    return best, scales, exponents


def _fit_family(logs: Array, losses: Array, floors: Array) -> tuple[Array, Array, Array]:
    """Return error, logarithm of A and alpha of a family, (R, K) each, for floors (R, K)."""
    centre = logs.mean()
    above = losses[:, None] - floors[..., None]  # (R, K, N)
    low, high = np.zeros_like(floors), np.full_like(floors, STEEPEST)
    for _ in range(ZOOMS):
        exponents = low[..., None] + (high - low)[..., None] * np.linspace(0, 1, GRID)
        curves = np.exp(-exponents[..., None] * (logs - centre))  # (R, K, GRID, N)
        scales = np.einsum("rkn,rkgn->rkg", above, curves) / np.square(curves).sum(-1)
        errors = np.square(above[:, :, None] - scales[..., None] * curves).sum(-1)
        place = errors.argmin(-1)[..., None]
        error, scale, best = (np.take_along_axis(part, place, -1)[..., 0] for part in (errors, scales, exponents))
        width = (high - low) * 1.5 / (GRID - 1)
        low, high = np.clip(best - width, 0, None), best + width
    return error, np.log(np.maximum(scale, 1e-300)) + best * centre, best
