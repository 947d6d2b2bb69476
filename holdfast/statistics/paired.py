"""Two models, or two attacks, on the same points: difference, limits, power, excess."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from holdfast.statistics.intervals import flags_of, quantile, refuse
from holdfast.statistics.quality import RANKING, class_means
from holdfast.statistics.ranking import DRAWS, area_of, resample_areas, two_classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from holdfast.statistics.intervals import Floats

    Counts = npt.NDArray[np.int64]

LEVEL = 0.05
POWER = 0.8
_TAIL = 1e-12  # totals of discordant pairs rarer than this add nothing to a power
_CHUNK = 200


class Difference(NamedTuple):
    """A paired difference, its lower and its upper one-sided limit, and its standard error."""

    value: float
    low: float
    high: float
    error: float


class Excess(NamedTuple):
    """How much more often the first flags are true, the one-sided p value, and whether the check fails."""

    excess: float
    p_value: float
    fails: bool


def tango(b: int, c: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval (low, high) of a paired difference of shares, (b - c) / n, in [-1, 1].

    Args:
        b: pairs of which only the first is right.
        c: pairs of which only the second is right.
        n: all pairs.
        confidence: two-sided; the low end of 0.90 is the lower one-sided 95 % limit.

    Raises:
        ScenarioError: negative counts, b + c > n, or n = 0.

    Source: Tango 1998, Statistics in Medicine 17, 891-908, eq. 6 and appendix.
    """
    if n <= 0 or min(b, c) < 0 or b + c > n:
        raise refuse("tango", f"b = {b}, c = {c}, n = {n}", "counts with b + c <= n and n > 0")
    z = quantile(confidence)
    return _tango_low(b, c, n, z), -_tango_low(c, b, n, z)


def _tango_low(b: int, c: int, n: int, z: float) -> float:
    if c == n:
        return -1.0

    def gap(delta: float) -> float:
        return float(_tango_z(b, c, n, delta)) - z

    edge = -1.0 + 1e-12
    if gap(edge) <= 0.0:
        return -1.0
    return float(optimize.brentq(gap, edge, (b - c) / n, xtol=1e-12))


def _tango_z(b: npt.ArrayLike, c: npt.ArrayLike, n: int, delta: float) -> Floats:
    """Score statistic of the difference ``delta``, the nuisance share at its restricted maximum likelihood."""
    x, y = np.asarray(b, dtype=np.float64), np.asarray(c, dtype=np.float64)
    linear = -x - y + (2.0 * n - x + y) * delta
    constant = -y * delta * (1.0 - delta)
    share = (np.sqrt(np.maximum(linear**2 - 8.0 * n * constant, 0.0)) - linear) / (4.0 * n)
    variance = n * (2.0 * share + delta * (1.0 - delta))
    return np.asarray((x - y - n * delta) / np.sqrt(np.maximum(variance, 1e-300)), dtype=np.float64)


_NEVER = 1e-12
"""A share of which no number of pairs shows one; quantiles overflow far below it."""


def paired_power(discordance: float, n: int, margin: float, level: float = LEVEL) -> float:
    """Power in [0, 1] of Tango's one-sided non-inferiority test for an equal candidate, exact.

    Sums over the trinomial of (only first right, only second right, neither) with both shares
    ``discordance / 2``: no approximation, whatever n.

    Args:
        discordance: share of pairs on which the two differ, in [0, 1].
        n: pairs.
        margin: of non-inferiority, in (0, 1).
        level: of the one-sided test.

    Raises:
        ScenarioError: an argument out of range.
    """
    if not (0.0 <= discordance <= 1.0 and n > 0 and 0.0 < margin < 1.0):
        raise refuse(
            "paired_power", f"discordance {discordance}, n {n}, margin {margin}", "0..1, n > 0, 0 < margin < 1"
        )
    z = quantile(1.0 - level, two_sided=False)
    total = stats.binom(n, discordance if discordance > _NEVER else 0.0)
    totals: Counts = np.arange(max(int(total.ppf(_TAIL)), 0), int(total.isf(_TAIL)) + 1)
    needed = _fewest_wins(totals, n, margin, z)
    power = float(np.sum(total.pmf(totals) * stats.binom.sf(needed - 1, totals, 0.5)))
    return min(power, 1.0)


def _fewest_wins(totals: Counts, n: int, margin: float, z: float) -> Counts:
    """For each total of discordant pairs, give the fewest won by the candidate that pass; total + 1 where none do."""
    low, high = np.zeros_like(totals), totals + 1
    while (low < high).any():
        middle = (low + high) // 2
        passes = (_tango_z(middle, totals - middle, n, -margin) > z) | (middle > totals)
        low, high = np.where(passes, low, middle + 1), np.where(passes, middle, high)
        low = np.minimum(low, high)
    return high


def needed_n(discordance: float, margin: float, power: float = POWER, level: float = LEVEL) -> int:
    """Pairs at which Tango's one-sided non-inferiority test has this power for an equal candidate.

    Exact power climbs in saw teeth; the answer has the power, and its neighbourhood below has not.

    Raises:
        ScenarioError: an argument out of range.
    """
    if not 0.0 < power < 1.0:
        raise refuse("needed_n", f"power {power}", "a power between 0 and 1")
    low, high = 0, 16
    while paired_power(discordance, high, margin, level) < power:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = paired_power(discordance, middle, margin, level) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def paired_bootstrap(
    metric: str,
    labels: npt.ArrayLike,
    candidate: npt.ArrayLike,
    champion: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    costs: npt.ArrayLike | None = None,
    level: float = LEVEL,
) -> Difference:
    """Candidate's metric minus champion's on the same points, resampled together and stratified by label.

    Args:
        metric: one of ``holdfast.statistics.METRICS``.
        labels: class of each point, (n,).
        candidate: what the metric reads of the candidate, (n,): ranking scores for AUROC and average
            precision, predicted classes for expected cost, flags otherwise.
        champion: the same of the champion.
        rng: generator of the bootstrap.
        costs: non-negative cost (true class, predicted class); for expected cost.
        level: the limits are the percentiles at ``level`` and 1 - ``level``, each one-sided.

    Raises:
        ScenarioError: what the metric needs is missing or malformed, or the two differ in length.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3 (percentile limits).
    """
    if np.shape(candidate) != np.shape(champion):
        raise refuse("paired_bootstrap", f"{np.shape(candidate)} and {np.shape(champion)}", "one value for each point")
    if metric in RANKING:
        models = [two_classes(metric, labels, scores) for scores in (candidate, champion)]
        value = area_of(metric, *models[0]) - area_of(metric, *models[1])
        first, second = resample_areas(metric, models, rng)
        draws = first - second
    else:
        value, draws = _resample_means(metric, labels, (candidate, champion), costs, rng)
    low, high = np.quantile(draws, (level, 1.0 - level))
    return Difference(value, float(low), float(high), float(draws.std(ddof=1)))


def _resample_means(
    metric: str,
    labels: npt.ArrayLike,
    models: Sequence[npt.ArrayLike],
    costs: npt.ArrayLike | None,
    rng: np.random.Generator,
) -> tuple[float, Floats]:
    """Difference of two sums of class means, and its resamples (draws,)."""
    if metric == "expected_cost":
        ours, theirs = (class_means(metric, labels, np.zeros(np.size(m)), m, costs) for m in models)
    else:
        ours, theirs = (class_means(metric, labels, model) for model in models)
    difference = ours.credit - theirs.credit
    draws = np.zeros(DRAWS)
    for index, weight in enumerate(ours.weights):
        inside = difference[ours.classes == index]
        for start in range(0, DRAWS, _CHUNK):
            size = min(_CHUNK, DRAWS - start)
            picked = rng.integers(0, len(inside), (size, len(inside)))
            draws[start : start + size] += weight * inside[picked].mean(axis=1)
    return ours.value() - theirs.value(), draws


def normal_power(error: float, margin: float, level: float = LEVEL) -> float:
    """Power of a one-sided non-inferiority test for an equal candidate whose difference has this standard error."""
    if error <= 0.0:
        return 1.0
    return float(special.ndtr(margin / error - quantile(1.0 - level, two_sided=False)))


def normal_needed_n(error: float, n: int, margin: float, power: float = POWER, level: float = LEVEL) -> int:
    """Points at which that test has this power, the standard error at n points falling as 1 / sqrt(n)."""
    reach = quantile(1.0 - level, two_sided=False) + quantile(power, two_sided=False)
    return math.ceil(n * (reach * error / margin) ** 2)


def excess(flags_a: npt.ArrayLike, flags_b: npt.ArrayLike, threshold: float = 0.02, level: float = 0.01) -> Excess:
    """Whether flags a (n,) are true more often than flags b (n,) of the same points: more than chance, and enough.

    The test is McNemar's exact one-sided test. The check fails when p < level *and* the excess is over
    the threshold.

    Raises:
        ScenarioError: unequal lengths, or values that are no flags.

    Source: McNemar 1947, Psychometrika 12.
    """
    a, b = flags_of("excess", flags_a), flags_of("excess", flags_b)
    if len(a) != len(b):
        raise refuse("excess", f"{len(a)} and {len(b)} flags", "flags of the same points")
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    p_value = float(stats.binom.sf(only_a - 1, only_a + only_b, 0.5))
    return _excess((only_a - only_b) / len(a), p_value, threshold, level)


def excess_unpaired(
    successes_a: int, n_a: int, successes_b: int, n_b: int, threshold: float = 0.02, level: float = 0.01
) -> Excess:
    """Whether one share is above another of *other* points: Fisher's exact one-sided test, and the threshold.

    Raises:
        ScenarioError: counts out of range.

    Source: Fisher 1935, J. Royal Statistical Society 98.
    """
    if not (0 <= successes_a <= n_a and 0 <= successes_b <= n_b and min(n_a, n_b) > 0):
        raise refuse("excess_unpaired", f"{successes_a} of {n_a} and {successes_b} of {n_b}", "successes <= n, n > 0")
    p_value = float(stats.hypergeom.sf(successes_a - 1, n_a + n_b, successes_a + successes_b, n_a))
    return _excess(successes_a / n_a - successes_b / n_b, p_value, threshold, level)


def _excess(value: float, p_value: float, threshold: float, level: float) -> Excess:
    p_value = min(p_value, 1.0)
    return Excess(value, p_value, p_value < level and value > threshold)
