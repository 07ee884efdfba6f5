"""The search for settings."""

import pytest

from nextconcept import InputError
from nextconcept.evaluation.search import Candidate, best_candidate, make_candidates, rates_beyond

GRID = {"depth": [1, 2, 3], "width": [32, [64, 128]]}


def test_make_candidates__each_combination_with_each_rate():
    found = make_candidates((1e-3, 2e-3), GRID)
    assert len(found) == len(set(found)) == 12
    assert {one.rate for one in found} == {1e-3, 2e-3}
    assert {"depth": 2, "width": [64, 128]} in [one.options for one in found]
    assert make_candidates((1e-3,), {}) == [Candidate(1e-3)]
    assert len(make_candidates((1e-3, 1e-3), {"depth": [1, 1]})) == 1
    assert len(make_candidates((1e-3,), {str(option): list(range(9)) for option in range(99)}, draws=3)) == 3


def test_make_candidates__draws_are_different_and_repeatable():
    found = make_candidates((1e-3, 2e-3), GRID, draws=4)
    assert len(set(found)) == 8
    assert found == make_candidates((1e-3, 2e-3), GRID, draws=4)
    assert set(found) < set(make_candidates((1e-3, 2e-3), GRID))
    assert len(make_candidates((1e-3,), GRID, draws=99)) == 6


@pytest.mark.parametrize("values", [[], 3, "abc"])
def test_make_candidates__no_list(values: object):
    with pytest.raises(InputError, match="gives depth the values"):
        make_candidates((1e-3,), {"depth": values})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("losses", "following"),
    [
        ({1e-3: 1.0, 3e-3: 2.0}, 3.33e-4),  # as the next rate of the best one
        ({1e-3: 1.0, 2e-3: 2.0, 8e-3: 3.0}, 5e-4),
        ({1e-3: 3.0, 4e-3: 2.0, 8e-3: 1.0}, 1.6e-2),
        ({1e-3: 1.0, 1.1e-3: 2.0}, 5e-4),  # at least half or twice
        ({1e-3: 2.0, 1.1e-3: 1.0}, 2.2e-3),
        ({1e-3: 1.0, 1e-2: 2.0}, 2.5e-4),  # at most a quarter or four times
        ({1e-3: 2.0, 1e-2: 1.0}, 4e-2),
        ({1e-3: 2.0, 2e-3: 1.0, 4e-3: 2.0}, None),
        ({1e-3: 1.0}, None),
    ],
)
def test_rates_beyond__the_step_is_that_of_the_rates_within_limits(losses: dict[float, float], following: float | None):
    found = rates_beyond({Candidate(rate): loss for rate, loss in losses.items()}, "min")
    assert [one.rate for one in found] == ([] if following is None else [following])


def test_rates_beyond__goes_on_with_the_options_of_the_best_alone():
    deep, flat = '{"depth": 2}', '{"depth": 1}'
    results = {Candidate(rate, flat): 5.0 for rate in (1e-3, 2e-3, 4e-3)}
    results |= {Candidate(1e-3, deep): 4.0, Candidate(2e-3, deep): 3.0}
    assert best_candidate(results, "min") == Candidate(2e-3, deep)
    assert rates_beyond(results, "min") == [Candidate(4e-3, deep)]
    results[Candidate(4e-3, deep)] = 4.0
    assert rates_beyond(results, "min") == []
    assert best_candidate(results, "max") == Candidate(2e-3, flat)  # one between two rates
