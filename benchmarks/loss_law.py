"""The law of the loss of families of models, from the results of comparisons at several budgets.

    python benchmarks/loss_law.py --results+ results/law/tunes.json --families gpt,bars

Fits L(C) = E + A C^-alpha to the best of each family at each budget, E in common, and prints the
fits, where each two of them cross, and what they say of a larger budget, with an E of its own for
each family too. How far such a fit can be trusted is shown by fits without the largest budget,
beside what was measured there. The picture has the points with their spread over seeds, the fits
with their interval, and a dotted line from where they are extrapolated.
"""

from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nextconcept.cli.scripts import run_script
from nextconcept.core.errors import InputError
from nextconcept.evaluation.law_points import Point, read_points
from nextconcept.evaluation.loss_law import MIN_BUDGETS, LossLaw, describe_crossing, fit_loss_law, gaps_at_budgets
from nextconcept.evaluation.records import spread


def main(
    results: list[str],
    families: str,
    at: float = 1e18,
    draws: int = 500,
    confidence: float = 0.9,
    output: str = "results/loss_law.png",
) -> None:
    """Print the law, and draw it.

    Args:
        results: JSON files of comparisons.
        families: names of entries, separated by commas.
        at: training FLOPs at which to extrapolate.
        draws: draws of the bootstrap.
        confidence: share of the draws that an interval holds.
        output: the picture.
    """
    if not 0 < confidence < 1 or draws < 1 or not 0 < at < float("inf"):
        raise InputError(
            f"confidence {confidence} must be between 0 and 1, draws {draws} 1 or more, and at {at} positive."
        )
    points = read_points([Path(path) for path in results], families.split(","))
    law = fit_loss_law(points, draws, confidence)
    alone = {family: fit_loss_law({family: found}, draws, confidence) for family, found in points.items()}
    print("L(C) = E + A (C / 1e13)^-alpha, C in training FLOPs, L in nats per token")
    for index, (family, found) in enumerate(points.items()):
        ends = np.quantile(law.drawn_exponents[:, index], ((1 - confidence) / 2, (1 + confidence) / 2))
        scale = np.exp(law.scales[index] - law.exponents[index] * np.log(1e13))
        print(
            f"{family}: E {law.floor:.3f}, A {scale:.3f}, alpha {law.exponents[index]:.3f} ({ends[0]:.3f} to "
            f"{ends[1]:.3f}); {len(found)} budgets, {sum(len(point.losses) for point in found)} runs"
        )
    for first, second in combinations(points, 2):
        both = [(found[0].flops, found[-1].flops) for found in (points[first], points[second])]
        tried = max(least for least, _ in both), min(most for _, most in both)
        print(describe_crossing(law, first, second, tried))
        gaps = gaps_at_budgets(points[second], points[first])
        mean, deviation = spread(gaps)
        print(
            f"measured at {len(gaps)} budgets: {second} less {first} {mean:+.4f} nats on average, standard error "
            f"{deviation / max(1, len(gaps)) ** 0.5:.4f}; {second} ahead at {(gaps < 0).sum()} of them"
        )
        for kind, one, other in (("E in common", law, law), ("an E each", alone[second], alone[first])):
            gap, low, high, share = one.difference(second, first, at, of=other)
            print(
                f"at {at:.2g} FLOPs, extrapolated with {kind}: {second} less {first} {gap:+.4f} nats ({low:+.4f} to "
                f"{high:+.4f}); {second} ahead in {share:.0%} of the draws"
            )
    if min(map(len, points.values())) > MIN_BUDGETS:
        before = fit_loss_law({family: found[:-1] for family, found in points.items()}, draws, confidence)
        for family, found in points.items():
            loss, low, high = before.predict(family, found[-1].flops)
            print(
                f"{family} at {found[-1].flops:.2g} FLOPs, fitted without it: {loss:.3f} ({low:.3f} to {high:.3f}); "
                f"measured {np.mean(found[-1].losses):.3f}"
            )
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    draw_law(law, points, at).savefig(output, dpi=110)
    print(f"wrote {output}")


def draw_law(law: LossLaw, points: dict[str, list[Point]], at: float) -> Figure:
    """Draw points and fits up to a budget."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for index, (family, found) in enumerate(points.items()):
        color, flops = f"C{index}", [point.flops for point in found]
        means, spreads = zip(*(spread(point.losses) for point in found), strict=True)
        axes.errorbar(flops, means, spreads, fmt="o", color=color, capsize=3, markersize=4)
        inside, beyond = np.geomspace(flops[0], flops[-1], 40), np.geomspace(flops[-1], max(at, flops[-1]), 40)
        for places, style in ((inside, "-"), (beyond, ":")):
            fits, lows, highs = zip(*(law.predict(family, place) for place in places), strict=True)
            axes.plot(places, fits, style, color=color, label=family if style == "-" else None)
            axes.fill_between(places, lows, highs, color=color, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_xlabel("training FLOPs (dotted: extrapolated)")
    axes.set_ylabel("validation cross-entropy (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    run_script(main)
