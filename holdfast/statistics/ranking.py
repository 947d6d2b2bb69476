"""Areas under curves, and what membership inference reads from them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from holdfast.statistics.intervals import CONFIDENCE, clopper_pearson, finite, make_score, quantile, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from holdfast.results import Score
    from holdfast.statistics.intervals import Floats

    Ints = npt.NDArray[np.intp]

DRAWS = 2000
_CHUNK = 200  # draws at once: keeps the resampled counts of 3,000 points near 5 MB a matrix
_PER_FPR = 10  # a rate is read only where this many non-members are expected above the threshold
_HALF = 0.5
_TWO_CLASSES = 2


class Area(NamedTuple):
    """An area under the ROC curve with its 95 % interval, all in [0, 1]."""

    value: float
    low: float
    high: float
    method: str


class Rate(NamedTuple):
    """A true positive rate with its exact 95 % interval, and the false positive rate it was read at."""

    value: float
    low: float
    high: float
    fpr: float


def auroc(positives: npt.ArrayLike, negatives: npt.ArrayLike) -> Area:
    """Area under the ROC curve of the scores of positives (m,) and negatives (n,); ties count one half.

    The interval is DeLong's on the logit scale. Where the estimated variance is zero (perfect separation,
    one point of a class) it is Newcombe's score interval, which does not shrink to a point.

    Raises:
        ScenarioError: a class without points, or scores that are not finite.

    Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44, computed as Sun and Xu 2014, IEEE Signal
    Processing Letters 21; Newcombe 2006, Statistics in Medicine 25, method 5.
    """
    x, y = finite("auroc", positives), finite("auroc", negatives)
    m, n = len(x), len(y)
    ranks = stats.rankdata(np.concatenate([x, y]))
    above = (ranks[:m] - stats.rankdata(x)) / n  # share of negatives below each positive
    below = 1.0 - (ranks[m:] - stats.rankdata(y)) / m
    area = float(above.mean())
    variance = float(above.var(ddof=1) / m + below.var(ddof=1) / n) if min(m, n) > 1 else 0.0
    if variance > 0.0 and 0.0 < area < 1.0:
        half = quantile(CONFIDENCE) * math.sqrt(variance) / (area * (1.0 - area))
        low, high = special.expit(special.logit(area) + np.array([-half, half]))
        return Area(area, float(low), float(high), "delong_logit")
    return Area(area, _newcombe_low(area, m, n), 1.0 - _newcombe_low(1.0 - area, m, n), "newcombe")


def _newcombe_low(area: float, m: int, n: int) -> float:
    if area <= 0.0:
        return 0.0
    z, pairs = quantile(CONFIDENCE), (m + n) / 2.0 - 1.0

    def gap(theta: float) -> float:
        spread = 1.0 + pairs * ((1.0 - theta) / (2.0 - theta) + theta / (1.0 + theta))
        return area - theta - z * math.sqrt(theta * (1.0 - theta) * spread / (m * n))

    return float(optimize.brentq(gap, 0.0, area - 1e-12, xtol=1e-12))


def two_classes(where: str, labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Split scores (n,) by labels (n,) in {0, 1}: those of the positives, those of the negatives.

    Raises:
        ScenarioError: unequal lengths, other labels, a class without points, scores not finite.
    """
    y, s = finite(where, labels), finite(where, scores)
    if len(y) != len(s) or not np.isin(y, (0, 1)).all() or len(np.unique(y)) != _TWO_CLASSES:
        raise refuse(
            where,
            f"{len(y)} labels from {np.unique(y)[:5].tolist()} and {len(s)} scores",
            "labels 0 and 1, both present, and as many scores",
        )
    return s[y == 1], s[y == 0]


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike, rng: np.random.Generator) -> Score:
    """Average precision in [0, 1] for labels (n,) in {0, 1} and scores (n,), stratified bootstrap by label.

    A perfect ranking stays perfect in every resample; its low end is then the value with two positives
    added at the bottom and two negatives at the top, in the manner of Agresti and Coull 1998.

    Raises:
        ScenarioError: see :func:`two_classes`.

    Source: Davis and Goadrich 2006, ICML (no interpolation); Boyd, Eng and Page 2013, ECML (bootstrap).
    """
    x, y = two_classes("average_precision", labels, scores)
    value = area_of("average_precision", x, y)
    draws = resample_areas("average_precision", [(x, y)], rng)[0]
    low, high = np.quantile(draws, [(1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0])
    if value == 1.0:
        worst, best = min(x.min(), y.min()) - 1.0, max(x.max(), y.max()) + 1.0
        low = area_of("average_precision", np.append(x, [worst] * 2), np.append(y, [best] * 2))
    return make_score(value, (low, high), len(x) + len(y), "bootstrap_stratified")


def area_of(metric: str, positives: Floats, negatives: Floats) -> float:
    """One area, ``auroc`` or ``average_precision``, from the scores of positives and negatives."""
    groups_x, groups_y, total = _groups(positives, negatives)
    counts = (np.bincount(groups_x, minlength=total)[None], np.bincount(groups_y, minlength=total)[None])
    return float(_areas(metric, *counts)[0])


def resample_areas(
    metric: str, models: Sequence[tuple[Floats, Floats]], rng: np.random.Generator, draws: int = DRAWS
) -> list[Floats]:
    """Resample the areas of models on the *same* resampled points, stratified by label: (draws,) for each."""
    m, n = len(models[0][0]), len(models[0][1])
    groups = [_groups(*model) for model in models]
    areas: list[list[Floats]] = [[] for _ in models]
    for start in range(0, draws, _CHUNK):
        size = min(_CHUNK, draws - start)
        picked = rng.integers(0, m, (size, m)), rng.integers(0, n, (size, n))
        for (groups_x, groups_y, total), found in zip(groups, areas, strict=True):
            counts = _count(groups_x[picked[0]], total), _count(groups_y[picked[1]], total)
            found.append(_areas(metric, *counts))
    return [np.concatenate(found) for found in areas]


def _groups(positives: Floats, negatives: Floats) -> tuple[Ints, Ints, int]:
    """Rank of each score among the distinct scores, highest first."""
    _, rank = np.unique(-np.concatenate([positives, negatives]), return_inverse=True)
    return rank[: len(positives)], rank[len(positives) :], int(rank.max()) + 1


def _count(groups: Ints, total: int) -> Ints:
    """Histogram each row of (draws, points): (draws, total)."""
    rows = len(groups)
    flat = (groups + total * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * total).reshape(rows, total)


def _areas(metric: str, positives: Ints, negatives: Ints) -> Floats:
    """Areas (draws,) from counts (draws, groups), highest scores first."""
    false = negatives.cumsum(axis=1)
    m = positives.sum(axis=1)
    if metric == "auroc":
        n = false[:, -1:]
        won = n - false + _HALF * negatives
        return np.asarray((positives * won).sum(axis=1) / (m * n[:, 0]), dtype=np.float64)
    true = positives.cumsum(axis=1)
    precision = true / np.maximum(true + false, 1)
    return np.asarray((positives * precision).sum(axis=1) / m, dtype=np.float64)


def membership_auc(members: npt.ArrayLike, nonmembers: npt.ArrayLike) -> Area:
    """Area under the ROC curve of a membership attack: higher scores (m,) claim membership.

    Raises:
        ScenarioError: no members, no non-members, or scores that are not finite.

    Source: Carlini et al. 2022, IEEE S&P, arXiv:2112.03570.
    """
    return auroc(members, nonmembers)


def membership_score(members: npt.ArrayLike, nonmembers: npt.ArrayLike) -> Score:
    """1 - 2 max(0, AUC - 1/2), an upper bound of privacy: 1 where the attack is no better than chance.

    An attack that came out worse than chance is no surer than one at chance: its interval is as wide as there.
    """
    area = membership_auc(members, nonmembers)
    up = max(0.0, _HALF - area.value)
    value, low, high = (1.0 - 2.0 * max(0.0, end - _HALF) for end in (area.value, area.high + up, area.low))
    n = np.size(members) + np.size(nonmembers)
    return make_score(value, (low, high), n, area.method, "upper_bound")


def tpr_at_fpr(members: npt.ArrayLike, nonmembers: npt.ArrayLike, fpr: float = 0.001) -> Rate:
    """True positive rate of members (m,) at a false positive rate of non-members (n,), Clopper-Pearson.

    Read at ``fpr`` only where n >= 10 / fpr, else at 10 / n, the smallest rate that n supports; the rate
    used is in the answer.

    Raises:
        ScenarioError: fewer than 20 non-members, no members, or ``fpr`` outside (0, 1).

    Source: Carlini et al. 2022, IEEE S&P, arXiv:2112.03570, section IV.
    """
    x, y = finite("tpr_at_fpr", members), finite("tpr_at_fpr", nonmembers)
    if not 0.0 < fpr < 1.0 or len(y) < _PER_FPR / _HALF:
        raise refuse("tpr_at_fpr", f"fpr {fpr} and {len(y)} non-members", "fpr in (0, 1), 20 non-members or more")
    rate = max(fpr, _PER_FPR / len(y))
    allowed = math.floor(rate * len(y) + 1e-9)  # 0.1 * 30 is not quite 3
    threshold = np.partition(y, len(y) - allowed - 1)[len(y) - allowed - 1]
    hits = int((x > threshold).sum())
    return Rate(hits / len(x), *clopper_pearson(hits, len(x)), rate)
