"""Challenger: a sequential test whether a model that learned the last windows would answer better."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import numpy as np
from pydantic import Field
from scipy import stats

from holdfast.monitoring._betting import Betting
from holdfast.monitoring.base import Reading
from holdfast.statistics import tango

if TYPE_CHECKING:
    from holdfast.data.stream import Array, Window
    from holdfast.results import Json

_BETS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.9)
"""Shares of the largest stake that keeps wealth above zero; the mixture over them needs no tuning."""
_FIRST = 4
"""Windows of a champion that say what its challenger is ahead by anyway, before any bet."""
_SURE = 0.99
"""Confidence of what a challenger is allowed."""
_NOTHING = -700.0
"""Log of a wealth that is as good as none; JSON has no infinite numbers."""


@final
class Challenger(Betting):
    """Bet against *a challenger is ahead of the champion by no more than it surely was, and a tolerance*.

    `harm` and `surprise` ask whether the champion got worse than it was. After a retraining that is a question of some
    hundred rows, which may have been hard ones, and a champion can fall far behind what could be had without falling
    below them. The challenger is the quick classifier that screens labels: before a window's labels are looked at it
    learned the pinned rows and the last clean windows. Only rows on which one is right and the other wrong say
    anything, so few windows tell.

    What it is ahead by anyway a retraining would not mend, and it is allowed: by its upper limit on rows of role
    calibration, all that the champion was made with, and by that on the champion's first four windows, which are of the
    present. So those four say nothing yet. A window of which no row was asked leaves the bets as they stand.
    """

    reference: ClassVar[str] = (
        "Bach and Maloof 2008, ICDM, Paired learners for concept drift; Shin, Ramdas and Rinaldo 2024, "
        "arXiv:2203.03532, definition 2.2"
    )

    tolerance: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.01
    """Share of rows that a challenger may put right beyond what it surely did, before it counts as harm."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the log of the wealth; the effect is the challenger's lead beyond what it is allowed."""
        del past
        lead = np.zeros(0) if window.lead is None else window.lead[~np.isnan(window.lead)]
        first = memory.get("first", {"windows": 0, "rows": 0, "sum": 0.0, "squares": 0.0})
        wealth = np.array(memory.get("log_wealth", [_NOTHING] * len(_BETS)), dtype=np.float64)
        bound = self.tolerance + _limit(first)
        if len(lead) and first["windows"] < _FIRST:
            first = {
                "windows": first["windows"] + 1, "rows": first["rows"] + len(lead),
                "sum": first["sum"] + float(lead.sum()), "squares": first["squares"] + float(np.square(lead).sum()),
            }  # fmt: skip
        elif len(lead):  # a bet starts at each window (Shiryaev-Roberts), so a long quiet past costs no power
            stakes = np.array(_BETS) / (2.0 + bound)
            wealth = np.logaddexp(wealth, 0.0) + np.log1p(stakes[:, None] * (lead - bound)).sum(axis=1)
        statistic = max(float(np.logaddexp.reduce(wealth) - math.log(len(_BETS))), _NOTHING)
        return Reading(
            statistic=statistic,
            effect=float(lead.mean()) - bound + self.tolerance if len(lead) else 0.0,
            effect_unit="share of rows that a challenger puts right, beyond what it is allowed",
            e_value=math.exp(min(statistic, 700.0)),
            details={"rows": len(lead), "bound": bound},
            memory={"log_wealth": np.maximum(wealth, _NOTHING).tolist(), "first": first},
        )


def _limit(first: Json) -> float:
    """Give the upper limit of the lead in a champion's first windows, 0 at least."""
    n = int(first["rows"])
    if n == 0:
        return 0.0
    mean = float(first["sum"]) / n
    spread = math.sqrt(max(float(first["squares"]) / n - mean**2, 1.0 / n))
    return max(0.0, mean + float(stats.norm.ppf(_SURE)) * spread / math.sqrt(n))


def allowed(its: Array, right: Array) -> float:
    """Give the lead that a challenger is allowed over a new champion: the upper limit of what it has, 0 at least.

    Args:
        its: rows (n,) bool that neither learned from, and that the challenger gets right.
        right: those that the champion gets right.
    """
    limit = tango(int((its & ~right).sum()), int((right & ~its).sum()), len(its), 2.0 * _SURE - 1.0)[1]
    return max(0.0, limit)


def lead(its: Array, right: Array, less: float) -> Array:
    """Give a challenger's lead (n,) over a champion, of whether each is right on rows (n,), less what it is allowed."""
    return np.asarray(its.astype(np.float64) - right.astype(np.float64) - less)
