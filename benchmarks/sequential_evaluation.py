"""Claim: a sequential verdict is the full run's in 99 of 100 cases, for a fifth of the forward passes in the median.

Cases are drawn by a seed: a floor, and a true value within 15 points of it, at N = 10,000 points in random order. A
run stops at the first shard after which its floor is decided, the error shared out over ``--gates`` floors; the full
run's verdict is whether the low end of Wilson's interval of all points is at least the floor. Forward passes are in
proportion to the points drawn, for each point is attacked alike whichever others are. The curve is of the cost against
the gap between value and floor.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from holdfast.reporting.curves import curves
from holdfast.reporting.page import light_colours
from holdfast.results import Curve, CurvePoint, Finding, Provenance, Score
from holdfast.scenarios.attacks._shards import POINTS
from holdfast.statistics import decided, wilson

POPULATION = 10_000
APART = 0.15
WRONG = 0.01
BINS = 15
AGREE, COST = 0.99, 0.2


def main() -> int:
    """Draw the cases, print what they cost, draw the curve, and fail where the claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gates", type=int, default=1, help="floors among which the error is shared out")
    parser.add_argument("--figure", type=Path, help="SVG file for the curve of cost against gap")
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    rows = np.array([case(rng, WRONG / asked.gates) for _ in range(asked.cases)])
    gaps, drawn, agree = rows[:, 0], rows[:, 1] / POPULATION, rows[:, 2]
    print(f"{asked.cases} cases, seed {asked.seed}, N = {POPULATION}, shards of {POINTS}, {asked.gates} floor(s)\n")
    print("| gap, points | cases | points drawn, median | most |\n|---|---|---|---|")
    bounds = np.linspace(0.0, APART, 6)
    for low, high in pairwise(bounds):
        some = drawn[(abs(gaps) >= low) & (abs(gaps) < high)]
        if len(some):
            print(f"| {100 * low:.0f} to {100 * high:.0f} | {len(some)} | {np.median(some):.1%} | {some.max():.1%} |")
    claims = {
        f"{int(agree.sum())} of {asked.cases} verdicts are the full run's, at least {AGREE:.0%}": agree.mean() >= AGREE,
        f"{np.median(drawn):.1%} of the passes in the median (mean {drawn.mean():.1%}), at most {COST:.0%}":
            np.median(drawn) <= COST,
    }  # fmt: skip
    print("\n" + "\n".join(f"{'holds' if holds else 'FAILS'}: {claim}" for claim, holds in claims.items()))
    if asked.figure:
        asked.figure.write_text(drawing(gaps, drawn))
    return 0 if all(claims.values()) else 1


def case(rng: np.random.Generator, error: float) -> tuple[float, int, bool]:
    """Draw a case, and give its gap, the points drawn, and whether its verdict is the full run's."""
    floor, gap = rng.uniform(0.2, 0.8), rng.uniform(-APART, APART)
    count = round(POPULATION * (floor + gap))
    held = np.cumsum(rng.permutation(np.arange(POPULATION) < count))
    for n in range(POINTS, POPULATION + 1, POINTS):
        verdict = decided(int(held[n - 1]), n, POPULATION, floor, error)
        if verdict is not None:
            return gap, n, verdict == (wilson(count, POPULATION)[0] >= floor)
    raise AssertionError  # all points drawn leave nothing open


def drawing(gaps: np.ndarray, drawn: np.ndarray) -> str:
    """Draw the mean share of points drawn against the gap, with the range of its cases."""
    points = []
    edges = np.linspace(-APART, APART, BINS + 1)
    for low, high in pairwise(edges):
        some = drawn[(gaps >= low) & (gaps < high)]
        if len(some):
            score = Score(value=some.mean(), low=some.min(), high=some.max(), n=len(some), method="range of the cases")
            points.append(CurvePoint(at=50 * (low + high), score=score))
    curve = Curve(name="share of the points that are drawn", axis="value less floor, points", points=tuple(points))
    origin = Provenance(subject="cases", data="cases", role="test", seed=0, library="", versions={}, device="cpu")
    found = Finding(
        path="attacks/sequential", dimension="defence", family="evasion", settings={}, provenance=origin,
        score=points[-1].score, curves=(curve,),
    )  # fmt: skip
    (figure,) = curves([found])
    return figure.alone(light_colours())


if __name__ == "__main__":
    sys.exit(main())
