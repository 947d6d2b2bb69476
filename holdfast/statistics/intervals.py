"""Shares with intervals that fit how the trials hang together: independent, clustered, or one per seed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import optimize, special, stats

from holdfast.errors import ScenarioError
from holdfast.results import Score

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Kind = Literal["measured", "upper_bound", "lower_bound"]
Side = Literal["both", "lower", "upper"]

CONFIDENCE = 0.95
_MIN_SEEDS = 2
_MATRIX = 2


def refuse(where: str, found: str, expected: str) -> ScenarioError:
    """Build the error for input that has no such statistic."""
    return ScenarioError(f"statistics.{where}", found=found, expected=expected, remedy="Report it as unscored.")


def finite(where: str, values: npt.ArrayLike, dimensions: int = 1) -> Floats:
    """Give the values as float64, or refuse: empty, of another shape, or not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0:
        raise refuse(where, f"an array of shape {array.shape}", f"{dimensions} dimension(s) and no empty one")
    if not np.isfinite(array).all():
        raise refuse(where, "values that are not finite", "finite values only")
    return array


def shares(where: str, values: npt.ArrayLike, dimensions: int = 1) -> Floats:
    """Give values in [0, 1] as float64; flags are the values 0 and 1."""
    array = finite(where, values, dimensions)
    if array.min() < 0.0 or array.max() > 1.0:
        raise refuse(where, f"values from {array.min():g} to {array.max():g}", "values in [0, 1]")
    return array


def flags_of(where: str, values: npt.ArrayLike, dimensions: int = 1) -> Floats:
    """Give flags as float64 of 0 and 1, and refuse any other value."""
    array = shares(where, values, dimensions)
    if ((array != 0.0) & (array != 1.0)).any():
        raise refuse(where, "values between 0 and 1", "flags: true or false")
    return array


def make_score(value: float, interval: tuple[float, float], n: int, method: str, kind: Kind = "measured") -> Score:
    """Build a score, its interval clipped to [0, 1] and never beside its value by rounding."""
    value = min(max(float(value), 0.0), 1.0)
    low, high = (min(max(float(end), 0.0), 1.0) for end in interval)
    return Score(value=value, low=min(low, value), high=max(high, value), n=n, method=method, kind=kind)


def quantile(confidence: float, *, two_sided: bool = True) -> float:
    """Normal quantile of a confidence in (0, 1), two-sided or one-sided."""
    if not 0.0 < confidence < 1.0:
        raise refuse("quantile", f"confidence {confidence}", "a confidence between 0 and 1")
    return float(special.ndtri((1.0 + confidence) / 2.0 if two_sided else confidence))


def wilson(successes: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided score interval of a share, (low, high).

    ``successes`` and ``n`` may be fractional: an effective sample size.

    Raises:
        ScenarioError: unless 0 <= successes <= n and n > 0.

    Source: Wilson 1927, JASA 22.
    """
    _check_counts("wilson", successes, n)
    z = quantile(confidence)
    p, z2 = successes / n, z * z / n
    centre = (p + z2 / 2.0) / (1.0 + z2)
    half = z * math.sqrt(p * (1.0 - p) / n + z2 / (4.0 * n)) / (1.0 + z2)
    return (0.0 if successes == 0 else max(centre - half, 0.0), 1.0 if successes == n else min(centre + half, 1.0))


def clopper_pearson(successes: int, n: int, confidence: float = CONFIDENCE, side: Side = "both") -> tuple[float, float]:
    """Exact interval of a share, (low, high); a one-sided limit leaves the other end at 0 or 1.

    Raises:
        ScenarioError: unless 0 <= successes <= n and n > 0.

    Source: Clopper and Pearson 1934, Biometrika 26.
    """
    _check_counts("clopper_pearson", successes, n)
    quantile(confidence)
    tail = (1.0 - confidence) / (2.0 if side == "both" else 1.0)
    no_low, no_high = side == "upper" or successes == 0, side == "lower" or successes == n
    low = 0.0 if no_low else float(special.betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if no_high else float(special.betaincinv(successes + 1, n - successes, 1.0 - tail))
    return low, high


def limit_ever(successes: float, n: float, prior: tuple[float, float], confidence: float) -> float:
    """Upper limit of a share that holds at every n at once: one may look after every trial, and keep the lowest.

    The largest share under which the trials are not 1 / (1 - confidence) times less likely than under a mixture of all
    shares. It holds whatever the mixture is, and is the lower the better that was guessed.

    Args:
        successes: of the trials.
        n: trials; with none the limit is 1.
        prior: both parameters of the Beta law of the mixture, chosen before the first trial.
        confidence: of the limit, in (0, 1).

    Raises:
        ScenarioError: unless 0 <= successes <= n and n > 0, or a confidence outside (0, 1).

    Source: Robbins 1970, Annals of Mathematical Statistics 41; Howard et al. 2021, arXiv:1810.08240, section 3.
    """
    quantile(confidence)
    if n == 0:
        return 1.0
    _check_counts("limit_ever", successes, n)
    failures, (a, b), most = n - successes, prior, -math.log(1.0 - confidence)
    mixture = float(special.betaln(successes + a, failures + b) - special.betaln(a, b))

    def beyond(p: float) -> float:
        return mixture - float(special.xlogy(successes, p) + special.xlog1py(failures, -p)) - most

    low, high = successes / n, 1.0 - 1e-12
    return float(optimize.brentq(beyond, low, high, xtol=1e-15)) if beyond(low) < 0.0 < beyond(high) else 1.0


def _check_counts(where: str, successes: float, n: float) -> None:
    if not (n > 0 and 0 <= successes <= n):
        raise refuse(where, f"{successes} of {n}", "0 <= successes <= n and n > 0")


def share(flags: npt.ArrayLike, kind: Kind = "measured") -> Score:
    """Share of true flags (n,) of independent points, one trial each, with Wilson's interval.

    Raises:
        ScenarioError: no flags, or values that are no flags.
    """
    array = flags_of("share", flags)
    right, n = int(array.sum()), array.size
    return make_score(right / n, wilson(right, n), n, "wilson", kind)


def clustered_share(flags: npt.ArrayLike, kind: Kind = "measured", *, two_way: bool = False) -> Score:
    """Share of true flags (clusters, trials) where the trials of one cluster hang together.

    One example at several severities is one cluster. With ``two_way`` the columns are clusters too (bit
    flips by examples). The variance is cluster-robust; Wilson's interval is taken at the effective sample
    size that it implies, with Student's quantile for few clusters. Where every trial agrees the data say
    nothing of the correlation and each cluster counts once. ``n`` is the number of clusters, the fewer of
    the two where both ways count.

    Raises:
        ScenarioError: not two-dimensional, empty, or values that are no flags.

    Source: Cameron, Gelbach and Miller 2011, J. Business and Economic Statistics 29, eq. 2.3 (two-way
    variance); Korn and Graubard 1998, Survey Methodology 24 (effective sample size).
    """
    array = flags_of("clustered_share", flags, _MATRIX)
    clusters = min(array.shape) if two_way else len(array)
    p = float(array.mean())
    variance = _clustered_variance(array - p, two_way=two_way)
    effective = _effective(p, variance, array.size, clusters)
    method = "wilson_two_way_clustered" if two_way else "wilson_clustered"
    return make_score(p, wilson(p * effective, effective), clusters, method, kind)


def grouped_share(flags: npt.ArrayLike, groups: npt.ArrayLike, kind: Kind = "measured") -> Score:
    """Share of true flags (n,) of rows that hang together in groups (n,) of unequal size; ``n`` counts groups.

    As `clustered_share`: cluster-robust variance of the ratio, Wilson's interval at the effective sample size that it
    implies, Student's quantile for few groups; where every row agrees each group counts once.

    Raises:
        ScenarioError: no flags, values that are no flags, or not one group for each.

    Source: Cameron, Gelbach and Miller 2011, J. Business and Economic Statistics 29; Korn and Graubard 1998, Survey
    Methodology 24.
    """
    array = flags_of("grouped_share", flags)
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    if len(member) != array.size:
        raise refuse("grouped_share", f"{len(member)} groups for {array.size} flags", "one for each")
    count, p = int(member.max()) + 1, float(array.mean())
    residuals = np.bincount(member, weights=array - p)
    variance = float(residuals @ residuals) * count / max(count - 1, 1) / array.size**2
    effective = _effective(p, variance, array.size, count)
    return make_score(p, wilson(p * effective, effective), count, "wilson_clustered", kind)


def _effective(p: float, variance: float, trials: int, clusters: int) -> float:
    """Say how many independent trials a share of this variance is worth, with Student's quantile for few clusters."""
    binomial = p * (1.0 - p)
    # Negative correlation within clusters is never believed, hence the upper limit of the number of trials.
    effective = min(binomial / variance, float(trials)) if variance > 0.0 and binomial > 0.0 else float(clusters)
    if clusters > 1:
        effective *= (quantile(CONFIDENCE) / float(stats.t.ppf((1.0 + CONFIDENCE) / 2.0, clusters - 1))) ** 2
    return effective


def _clustered_variance(residuals: Floats, *, two_way: bool) -> float:
    """Cluster-robust variance of the mean of residuals (rows, columns); 0 where it cannot be estimated."""
    rows = _mean_variance(residuals.mean(axis=1))
    if not two_way:
        return rows
    columns = _mean_variance(residuals.mean(axis=0))
    if min(rows, columns) == 0.0 and min(residuals.shape) == 1:
        return 0.0  # a single flip, or a single example, says nothing of the others
    both = rows + columns - _mean_variance(residuals.ravel())
    return max(rows, columns, both)  # the sum can fall below its parts by chance


def _mean_variance(means: Floats) -> float:
    return float(means.var(ddof=1) / len(means)) if len(means) > 1 else 0.0


def seeds_share(values: npt.ArrayLike, kind: Kind = "measured") -> Score:
    """Mean of one share per seed (seeds,), with Student's interval clipped to [0, 1]; ``n`` counts seeds.

    Raises:
        ScenarioError: fewer than two seeds, or values outside [0, 1].
    """
    array = shares("seeds_share", values)
    if len(array) < _MIN_SEEDS:
        raise refuse("seeds_share", "one seed", "two seeds or more: one has no interval")
    mean, error = float(array.mean()), float(array.std(ddof=1) / math.sqrt(len(array)))
    half = error * float(stats.t.ppf((1.0 + CONFIDENCE) / 2.0, len(array) - 1))
    return make_score(mean, (mean - half, mean + half), len(array), "student_by_seed", kind)


def expected_calibration_error(confidences: npt.ArrayLike, flags: npt.ArrayLike, bins: int = 15) -> float:
    """Mean distance in [0, 1] between confidence (n,) and share right (n,), over bins of equal mass.

    Points of equal confidence share one flag, their mean, so that the order of rows changes nothing.

    Raises:
        ScenarioError: unequal lengths, values outside [0, 1], or no bin.

    Source: Naeini, Cooper and Hauskrecht 2015, AAAI; equal-mass bins, Nixon et al. 2019, CVPR workshops.
    """
    confidence = shares("expected_calibration_error", confidences)
    right = flags_of("expected_calibration_error", flags)
    if len(confidence) != len(right) or bins < 1:
        raise refuse(
            "expected_calibration_error",
            f"{len(confidence)} confidences, {len(right)} flags, {bins} bins",
            "as many flags as confidences, and a bin",
        )
    _, group, size = np.unique(confidence, return_inverse=True, return_counts=True)
    right = (np.bincount(group, weights=right) / size)[group]
    order = np.argsort(confidence, kind="stable")
    parts: list[npt.NDArray[Any]] = np.array_split((right - confidence)[order], min(bins, len(order)))
    return float(sum(abs(part.sum()) for part in parts) / len(order))


def half_brier(probabilities: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """Give half of the Brier score of each row (n,), from 0 to 1, by probabilities (n, k) and labels (n,) of classes.

    Source: Brier 1950, Monthly Weather Review 78, 1.
    """
    truth = np.eye(probabilities.shape[1])[labels]
    return np.asarray(np.square(probabilities - truth).sum(axis=1) / 2.0)
