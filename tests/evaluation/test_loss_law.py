"""The law of the loss, on losses whose law is known."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nextconcept import InputError
from nextconcept.evaluation.law_points import Point, read_points
from nextconcept.evaluation.loss_law import LossLaw, describe_crossing, fit_loss_law, gaps_at_budgets
from tests.helpers import run_record

BUDGETS = (1e12, 3e12, 1e13, 3e13, 1e14)
TRIED = (1e12, 1e14)


def points(
    scale: float, exponent: float, noise: float = 0.0, seed: int = 0, budgets: Sequence[float] = BUDGETS
) -> list[Point]:
    """Losses of three seeds of ``0.7 + scale (C / 1e13)^-exponent``."""
    draws = noise * np.random.default_rng(seed).standard_normal((len(budgets), 3))
    losses = [0.7 + scale * (budget / 1e13) ** -exponent + row for budget, row in zip(budgets, draws, strict=True)]
    return [Point(budget, tuple(row.tolist())) for budget, row in zip(budgets, losses, strict=True)]


def test_fit_loss_law__finds_the_law_behind_exact_losses():
    law = fit_loss_law({"gpt": points(0.4, 0.15), "bars": points(0.5, 0.25)}, draws=5)
    assert law.floor == pytest.approx(0.7, abs=1e-3)
    assert law.exponents.tolist() == pytest.approx([0.15, 0.25], abs=1e-3)
    assert law.predict("gpt", 1e18)[0] == pytest.approx(0.7 + 0.4 * 1e5**-0.15, abs=1e-3)
    # 0.4 x^-0.15 = 0.5 x^-0.25
    assert law.crossing("gpt", "bars").flops == pytest.approx(1e13 * 1.25**10, rel=0.01)


@pytest.fixture(scope="module")
def noisy() -> LossLaw:
    """Three families, of which the first two cross at 1e13 FLOPs, with the noise of text runs."""
    families = {
        "gpt": points(0.4, 0.15, 0.005, 1),
        "bars": points(0.4, 0.22, 0.005, 2),
        "worse": points(0.6, 0.15, 0.005, 3),
    }
    return fit_loss_law(families, draws=60)


def test_crossing__the_interval_holds_the_truth(noisy: LossLaw):
    found = noisy.crossing("gpt", "bars")
    assert found.flops is not None
    assert found.low < 1e13 < found.high
    assert found.low < found.flops < found.high
    assert 1 < found.high / found.low < 3
    assert noisy.crossing("bars", "gpt") == found
    low, high = noisy.predict("gpt", 1e13)[1:]
    assert low < 1.1 < high


def test_fit_loss_law__draws_follow_the_seed_and_count_used_parameters(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nextconcept.evaluation.loss_law.ZOOMS", 3)  # is fast, and exact enough

    def width(losses: int, seed: int = 0) -> float:
        family = [Point(one.flops, one.losses[:1] * losses) for one in points(0.4, 0.15, 0.005)]
        _, low, high = fit_loss_law({"gpt": family}, draws=120, seed=seed).predict("gpt", 1e13)
        return high - low

    assert width(1) != width(1, seed=1)
    # A fit of three parameters leaves two of five losses, twelve of fifteen.
    assert width(1) / width(3) == pytest.approx((5 / 2) ** 0.5 / (15 / 12) ** 0.5, rel=0.2)


def test_loss_law__intervals_hold_their_share_of_the_draws():
    """Of 101 draws whose floors and scales rise evenly; the second family falls with the first."""
    even = np.linspace(0, 1, 101)
    scales, exponents = np.stack((even, 0 * even), 1), np.stack((0.5 + 0 * even, 0.5 * (even > 0.405)), 1)
    law = LossLaw(("one", "other"), 0.5, scales[50], np.array([0.5, 0.25]), even, scales, exponents, 0.9)
    assert law.predict("other", 1.0) == pytest.approx((1.5, 1.05, 1.95))
    ends = (np.exp(0.5) - 1, np.exp(0.05) - 1, np.exp(0.95) - 1)
    assert law.difference("one", "other", 1.0) == pytest.approx((*ends, 0.0))
    found = law.crossing("one", "other")
    assert found.flops == pytest.approx(np.exp(0.5 / 0.25))
    assert found.share == pytest.approx(41 / 101)  # the others are parallel
    assert (found.low, found.high) == pytest.approx((np.exp(2 * 0.02), np.exp(2 * 0.38)))


def test_difference__is_sure_far_from_the_crossing(noisy: LossLaw):
    assert noisy.difference("bars", "gpt", 1e12)[3] == 0
    gap, low, high, share = noisy.difference("bars", "gpt", 1e14)
    assert low < gap < high < 0
    assert share == 1


def test_difference__of_families_with_a_floor_of_their_own():
    lower = [Point(point.flops, tuple(loss - 0.1 for loss in point.losses)) for point in points(0.4, 0.2)]
    laws = {"gpt": points(0.4, 0.2), "lower": lower}
    together, alone = fit_loss_law(laws, 5), {family: fit_loss_law({family: laws[family]}, 5) for family in laws}
    assert alone["lower"].difference("lower", "gpt", 1e18, of=alone["gpt"])[0] == pytest.approx(-0.1, abs=1e-3)
    assert abs(together.difference("lower", "gpt", 1e18)[0]) < 0.09


def test_fit_loss_law__what_it_misses_alike_in_all_families_sets_none_apart():
    """A bend that is shared makes the law uncertain, but not the difference of the families."""
    bend = dict(zip(BUDGETS, (0.05, -0.05, 0.05, -0.05, 0.05), strict=True))
    families = {
        name: [Point(point.flops, tuple(loss + bend[point.flops] for loss in point.losses)) for point in points(s, 0.2)]
        for name, s in (("gpt", 0.4), ("bars", 0.38))
    }
    law = fit_loss_law(families, draws=30)
    _, low, high = law.predict("gpt", 1e13)
    assert high - low > 0.04
    gap, low, high, _ = law.difference("bars", "gpt", 1e13)
    assert gap == pytest.approx(-0.02, abs=2e-3)
    assert high - low < 0.01


def test_gaps_at_budgets__those_that_both_have():
    one = [Point(1e12, (2.0, 2.2)), Point(1.01e13, (1.5,)), Point(1e15, (1.0,))]
    other = [Point(1.02e12, (2.0,)), Point(1e13, (1.7,)), Point(3e13, (1.2,))]
    assert gaps_at_budgets(one, other).tolist() == pytest.approx([0.1, -0.2])


def test_describe_crossing__within_the_data_or_not(noisy: LossLaw):
    assert describe_crossing(noisy, "gpt", "bars", TRIED).endswith("; beyond, that of bars is lower.")
    assert "cross at 1e+13 FLOPs (90% interval " in describe_crossing(noisy, "gpt", "bars", TRIED)
    apart = describe_crossing(noisy, "worse", "gpt", TRIED)
    assert apart.startswith(
        "The fits of worse and gpt do not cross within the data, 1e+12 to 1e+14 FLOPs: that of gpt is "
    )
    assert "that of bars is the lower one. They meet at" in describe_crossing(noisy, "bars", "worse", TRIED)
    same = fit_loss_law({"one": points(0.4, 0.15), "other": points(0.5, 0.15)}, draws=5)
    assert "that of one is the lower one. They are all but parallel" in describe_crossing(same, "other", "one", TRIED)


@pytest.mark.parametrize(
    ("families", "message"),
    [
        ({"gpt": points(0.4, 0.1, budgets=BUDGETS[:3])}, "needs 4 budgets or more, but of gpt there are 3: compare"),
        ({"gpt": [Point(budget, (np.nan,)) for budget in BUDGETS]}, "a loss of gpt is not finite"),
        ({}, "there is no family"),
    ],
)
def test_fit_loss_law__what_it_refuses(families: dict, message: str):
    with pytest.raises(InputError, match=message):
        fit_loss_law(families)


def test_read_points__the_chosen_settings_at_each_budget(tmp_path: Path):
    """Those that all seeds have, although others were better on the seed that chose."""

    def run(entry: str, seed: int, loss: float, budget: float, rate: float = 1e-3) -> dict:
        record = run_record(entry, seed, loss) | {"learning_rate": rate, "stages": [[0, budget / 10]]}
        return record | {"budget": {"flops": budget}}

    runs = [run("gpt", seed, 2.0 + seed, budget) for budget in (1e13, 1e12) for seed in (0, 1)]
    runs += [run("gpt", 0, 1.0, 1e12, rate=2e-3), run("other", 0, 9.0, 1e12)]
    paths = [tmp_path / "first.json", tmp_path / "second.json"]
    paths[0].write_text(json.dumps({"runs": runs}))
    del (older := run("gpt", 0, 1.5, 1e14))["budget"]  # as earlier versions wrote it
    paths[1].write_text(json.dumps({"runs": [older]}))
    found = read_points(paths, ["gpt"])
    assert found == {"gpt": [Point(1e12, (2.0, 3.0)), Point(1e13, (2.0, 3.0)), Point(1e14, (1.5,))]}
    with pytest.raises(InputError, match=r"second.json has none of the entries other"):
        read_points(paths, ["other"])
    paths[1].write_text("[]")
    with pytest.raises(InputError, match=r"second.json is not the results file"):
        read_points(paths, ["gpt"])


@pytest.mark.parametrize(
    ("count", "metric", "message"),
    [(2, "val/loss/tokens", "two runs of gpt with seed 0"), (1, "val/answer/exact", "has no val/answer/exact")],
)
def test_read_points__says_what_is_wrong_with_a_results_file(count: int, metric: str, message: str, tmp_path: Path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"runs": count * [run_record("gpt", 0, 2.0) | {"budget": {"flops": 1e12}}]}))
    with pytest.raises(InputError, match=message):
        read_points([path], ["gpt"], metric)
