"""The search for an entry's settings: learning rates, and options on a grid."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nextconcept.core.errors import InputError

__all__ = ["Candidate", "best_candidate", "make_candidates", "rates_beyond"]


@dataclass(frozen=True)
class Candidate:
    """Settings that a comparison tries for an entry.

    Attributes:
        rate: learning rate.
        values: values of the options on the grid, as a JSON object.
    """

    rate: float
    values: str = "{}"

    @property
    def options(self) -> dict[str, Any]:
        """Values of the options on the grid by their dotted names."""
        found: dict[str, Any] = json.loads(self.values)
        return found


def make_candidates(
    rates: Sequence[float], grid: Mapping[str, Sequence[Any]], draws: int | None = None
) -> list[Candidate]:
    """Combine learning rates with the values of options.

    Args:
        rates: learning rates.
        grid: values to try, per option.
        draws: number of combinations of options to draw at random, always the same ones, each then
            tried with all learning rates; None for all combinations.

    Raises:
        InputError: if an option has no values.
    """
    for name, values in grid.items():
        if not isinstance(values, (list, tuple)) or not values:
            raise InputError(f"the grid gives {name} the values {values!r}: give a list of one value or more.")
    count = math.prod(len(values) for values in grid.values())
    generator, drawn = random.Random(0), dict.fromkeys(() if draws is not None and draws < count else range(count))
    while len(drawn) < min(count, draws or count):
        drawn[generator.randrange(count)] = None
    candidates = [Candidate(rate, json.dumps(_combination(grid, index))) for index in drawn for rate in rates]
    return list(dict.fromkeys(candidates))  # a value or a rate may be given twice


def _combination(grid: Mapping[str, Sequence[Any]], index: int) -> dict[str, Any]:
    """Return one combination of the grid, of which there may be too many to list."""
    options = {}
    for name, values in grid.items():
        index, place = divmod(index, len(values))
        options[name] = values[place]
    return options


def best_candidate(results: Mapping[Candidate, float], mode: Literal["min", "max"]) -> Candidate:
    """Return the candidate with the best result; of equally good ones one between two rates."""
    best = (min if mode == "min" else max)(results.values())
    equal = sorted((one for one, value in results.items() if value == best), key=lambda one: one.rate)

    def between(one: Candidate) -> bool:
        """Whether rates on both sides of a candidate's were tried."""
        rates = _rates(results, one)
        return rates[0] < one.rate < rates[-1]

    return next((one for one in equal if between(one)), equal[0])


def rates_beyond(results: Mapping[Candidate, float], mode: Literal["min", "max"]) -> list[Candidate]:
    """Return the candidate to try next: beyond the end of the rates at which the best one lies."""
    best = best_candidate(results, mode)
    rates = _rates(results, best)
    if len(rates) == 1 or best.rate not in (rates[0], rates[-1]):
        return []
    step = best.rate / (rates[1] if best.rate == rates[0] else rates[-2])
    # At least half as large or twice as large again, so that a narrow range gets an end.
    step = min(max(step, 0.25), 0.5) if best.rate == rates[0] else max(min(step, 4.0), 2.0)
    return [Candidate(float(f"{best.rate * step:.3g}"), best.values)]


def _rates(results: Mapping[Candidate, float], one: Candidate) -> list[float]:
    """Return the learning rates that were tried with the options of a candidate."""
    return sorted({other.rate for other in results if other.values == one.values})
