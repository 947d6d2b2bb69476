"""Candidate against champion on the same points: difference, lower limit, power, and the points it would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from holdfast.errors import ScenarioError
from holdfast.statistics import (
    RANKING,
    clopper_pearson,
    needed_n,
    normal_needed_n,
    normal_power,
    paired_bootstrap,
    paired_power,
    tango,
)
from holdfast.statistics.intervals import quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from holdfast.results import PerExample

LEVEL = 0.05
"""One-sided level of every comparison."""
PLAUSIBLE = 0.8
"""Confidence of the upper limit of the discordance that power is computed at."""


class Comparison(NamedTuple):
    """What one paired test of non-inferiority says."""

    difference: float
    """Candidate minus champion."""
    low: float
    """Its lower one-sided 95 % limit."""
    high: float
    """Its upper one-sided 95 % limit."""
    power: float
    """Power of the test for an equal candidate."""
    needed: int
    """Points at which that power is the one asked for."""
    details: str


def by_flags(candidate: PerExample, champion: PerExample, margin: float, power: float) -> Comparison:
    """Compare shares of flags by Tango's limit.

    An equal candidate loses as many points as it wins, so its discordance is twice the share that it loses.
    That share is taken at its upper one-sided 80 % limit. Points that the candidate wins do not enter: a
    better candidate would otherwise have less power for being better.

    Args:
        candidate: flags of the candidate, (n,).
        champion: flags of the champion on the same points, (n,).
        margin: of non-inferiority, in (0, 0.5].
        power: asked for, in (0, 1).

    Source: Tango 1998, Statistics in Medicine 17; Browne 1995, Statistics in Medicine 14 (upper 80 % limit of a
    nuisance parameter).
    """
    right, before = candidate.unpack_flags(), champion.unpack_flags()
    won, lost, n = int((right & ~before).sum()), int((before & ~right).sum()), candidate.n
    low, high = tango(won, lost, n, confidence=1.0 - 2.0 * LEVEL)
    discordance = _plausible_discordance(lost, n)
    found = paired_power(discordance, n, margin, LEVEL)
    return Comparison(
        difference=(won - lost) / n,
        low=low,
        high=high,
        power=found,
        needed=n if found >= power else needed_n(discordance, margin, power, LEVEL),
        details=f"Tango; won {won}, lost {lost}; discordance at most {discordance:.4f}",
    )


def _plausible_discordance(lost: int, n: int) -> float:
    return min(2.0 * clopper_pearson(lost, n, PLAUSIBLE, side="upper")[1], 1.0)


def by_metric(
    metric: str,
    candidate: PerExample,
    champion: PerExample,
    margin: float,
    power: float,
    rng: np.random.Generator,
    costs: Sequence[Sequence[float]] | None = None,
) -> Comparison:
    """Compare a metric that is no share of flags by a paired bootstrap, stratified by label.

    The standard error behind the power is never less than what points not seen allow.

    Args:
        metric: one of ``holdfast.statistics.METRICS``.
        candidate: flags, labels and scores of the candidate, (n,).
        champion: those of the champion on the same points, (n,).
        margin: of non-inferiority, in (0, 0.5].
        power: asked for, in (0, 1).
        rng: generator of the bootstrap.
        costs: cost (true class, predicted class), for expected cost.

    Raises:
        ScenarioError: the points do not hold what the metric reads.
    """
    labels = candidate.unpack_labels()
    ours, theirs = values_of(metric, candidate), values_of(metric, champion)
    found = paired_bootstrap(metric, labels, ours, theirs, rng=rng, costs=costs, level=LEVEL)
    error = max(found.error, _least_error(metric, labels, ours != theirs))
    reached = normal_power(error, margin, LEVEL)
    return Comparison(
        difference=found.value,
        low=found.low,
        high=max(found.high, found.value + quantile(1.0 - LEVEL, two_sided=False) * error),
        power=reached,
        needed=len(labels) if reached >= power else normal_needed_n(error, len(labels), margin, power, LEVEL),
        details=f"{metric}, paired bootstrap; standard error {error:.4f}",
    )


def values_of(metric: str, points: PerExample) -> npt.NDArray[np.float64]:
    """Give what the metric reads of each point: ranking scores, predicted classes or flags."""
    flags, labels = points.unpack_flags(), points.unpack_labels()
    if metric in RANKING:
        scores = points.unpack_scores()
        if scores is None:
            raise _lacking(metric, "no ranking scores", "a ranking score for each point")
        return scores.astype(np.float64)
    if metric == "expected_cost":
        if not np.isin(labels, (0, 1)).all():
            raise _lacking(
                metric, "more than two classes, and flags that do not say which was predicted", "two classes"
            )
        return np.where(flags, labels, 1 - labels).astype(np.float64)
    return flags.astype(np.float64)


def _lacking(metric: str, found: str, expected: str) -> ScenarioError:
    return ScenarioError(f"comparison by {metric}", found=found, expected=expected, remedy="Choose another metric.")


def _least_error(metric: str, labels: npt.NDArray[np.int16], differs: npt.NDArray[np.bool_]) -> float:
    """Standard error that could stay unseen: that of the plausible discordance of classes in which none was lost.

    A bootstrap of two models that agree on a handful of points has no error at all; this has. Each class has
    the weight 2 / classes, twice that of balanced accuracy, since one point can move a rank by all of its class.
    Ranking scores that differ show their error themselves: there only classes of which every score agrees count.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    silent = [metric not in RANKING or not differs[labels == each].any() for each in classes]
    unseen = np.where(silent, [_plausible_discordance(0, int(size)) for size in sizes], 0.0)
    return float(np.sqrt(np.sum(unseen / sizes)) * min(2.0 / len(sizes), 1.0))
