"""Counts of a finite set of points, read while they are drawn one after the other: one may look at every draw."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from holdfast.statistics.intervals import CONFIDENCE, Kind, make_score, refuse, wilson

if TYPE_CHECKING:
    import numpy.typing as npt

    from holdfast.results import Score


def count_ever(successes: int, drawn: int, population: int, error: float) -> tuple[int, int]:
    """Limits of how many of all points are successes, (least, most), from some that were drawn without replacement.

    They hold at every draw at once with probability 1 - ``error``, and after the last draw they are the count itself.
    A count is ruled out once the draws are 1 / error times less likely under it than under a mixture that gives every
    count the same weight: a martingale under the count that is true.

    Args:
        successes: of the points drawn.
        drawn: points drawn so far; every order of all points was equally likely.
        population: all points.
        error: chance of ever being wrong, in (0, 1).

    Raises:
        ScenarioError: unless 0 <= successes <= drawn <= population and population > 0, or an error outside (0, 1).

    Source: Waudby-Smith and Ramdas 2020, arXiv:2006.04347, theorem 1 (prior-posterior ratio), with a uniform prior.
    """
    if not (0 <= successes <= drawn <= population and population > 0 and 0.0 < error < 1.0):
        raise refuse(
            "count_ever", f"{successes} of {drawn} of {population}, error {error}",
            "0 <= successes <= drawn <= population, and an error between 0 and 1",
        )  # fmt: skip
    counts = np.arange(successes, successes + population - drawn + 1)  # no other agrees with the draws
    # Of this very order: under one count C(N - n, K - k) / C(N, K), under the mixture 1 / ((n + 1) C(n, k)).
    likely = _log_choose(population - drawn, counts - successes) - _log_choose(population, counts)
    mixture = -math.log(drawn + 1) - float(_log_choose(drawn, np.array(successes)))
    held = counts[mixture - likely < -math.log(error)]
    return int(held[0]), int(held[-1])


def sequential_share(flags: npt.ArrayLike, population: int, error: float, kind: Kind = "measured") -> Score:
    """Share of true flags (n,) of points drawn without replacement, with the interval that all points would give.

    Wilson's interval of the whole set, at the least and at the most count that the draws leave (`count_ever`): its low
    end is at least a floor only where that of the full run would be, but for ``error``. With all points drawn it is
    Wilson's own.

    Raises:
        ScenarioError: no flags, values that are no flags, or more of them than points.
    """
    found = np.asarray(flags, dtype=bool)
    if found.ndim != 1 or found.size == 0:
        raise refuse("sequential_share", f"an array of shape {found.shape}", "flags (n,)")
    right, n = int(found.sum()), len(found)
    least, most = count_ever(right, n, population, error)
    interval = wilson(least, population)[0], wilson(most, population)[1]
    return make_score(right / n, interval, n, "wilson" if n == population else f"sequential_of_{population}", kind)


def decided(successes: int, drawn: int, population: int, minimum: float, error: float) -> bool | None:
    """Tell whether the low end of Wilson's interval of all points is at least a minimum; None where it is open yet.

    The verdict is the full run's but for ``error``, however often one looked.

    Raises:
        ScenarioError: as `count_ever`.
    """
    least, most = count_ever(successes, drawn, population, error)
    if wilson(least, population, CONFIDENCE)[0] >= minimum:
        return True
    return None if wilson(most, population, CONFIDENCE)[0] >= minimum else False


def _log_choose(n: int, k: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[Any] = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return found
