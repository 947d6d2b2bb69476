"""Challenger: a sequential test whether a model that learned all windows up to now would answer better."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import numpy as np
from pydantic import Field

from holdfast.monitoring._betting import Betting
from holdfast.monitoring.base import Reading
from holdfast.statistics import tango

if TYPE_CHECKING:
    from holdfast.data.stream import Array, Window
    from holdfast.results import Json

_BETS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.9)
"""Shares of the largest stake that keeps wealth above zero; the mixture over them needs no tuning."""
_MOST_ALLOWED = 0.5
"""Lead that a challenger of a new champion is allowed at most: with more, another network is what is needed."""
_SURE = 0.98
"""Two-sided confidence of the lead that a challenger is allowed: its upper end is a 99 % limit."""


@final
class Challenger(Betting):
    """Bet against *a challenger is ahead of the champion by no more than it always was, and a tolerance*.

    `harm` and `surprise` ask whether the champion got worse than it was. After a retraining that is a question of some
    hundred rows, which may have been hard ones, and a champion can fall far behind what could be had without falling
    below them. The challenger is the quick classifier that screens labels: before a window's labels are looked at it
    learned the pinned rows and the last windows that were found clean. Only rows on which one is right and the other
    wrong say anything, so few windows tell. What it was ahead by on rows of the champion's own time, at the upper 99 %
    limit, it is allowed: that much a retraining would not mend.

    A window of which no row was asked leaves the bets as they stand.
    """

    reference: ClassVar[str] = (
        "Bach and Maloof 2008, ICDM, Paired learners for concept drift; Shin, Ramdas and Rinaldo 2024, "
        "arXiv:2203.03532, definition 2.2"
    )

    tolerance: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.015
    """Share of rows that a challenger may put right beyond what it always did, before it counts as harm."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the log of the wealth; the effect is the challenger's lead beyond what it is allowed."""
        del past
        lead = np.zeros(0) if window.lead is None else window.lead[~np.isnan(window.lead)]
        stakes = np.array(_BETS) / (1.0 + _MOST_ALLOWED + self.tolerance)
        wealth = np.array(memory.get("log_wealth", [-math.inf] * len(_BETS)), dtype=np.float64)
        if len(lead):  # a bet starts at each window (Shiryaev-Roberts), so a long quiet past costs no power
            wealth = np.logaddexp(wealth, 0.0) + np.log1p(stakes[:, None] * (lead - self.tolerance)).sum(axis=1)
        statistic = float(np.logaddexp.reduce(wealth) - math.log(len(_BETS)))
        ahead = float(lead.mean()) if len(lead) else 0.0
        return Reading(
            statistic=max(statistic, _NOTHING),
            effect=ahead,
            effect_unit="share of rows that a challenger puts right, beyond what it is allowed",
            e_value=math.exp(min(statistic, 700.0)),
            details={"rows": len(lead), "lead": ahead},
            memory={"log_wealth": np.maximum(wealth, _NOTHING).tolist()},
        )


def allowed(its: Array, right: Array) -> float:
    """Give the lead that a challenger is allowed over a new champion: 0 at least, or the upper limit of what it has.

    Args:
        its: rows (n,) bool that neither learned from, and that the challenger gets right.
        right: those that the champion gets right.
    """
    limit = tango(int((its & ~right).sum()), int((right & ~its).sum()), len(its), _SURE)[1]
    return float(np.clip(limit, 0.0, _MOST_ALLOWED))


def lead(its: Array, right: Array, allowed: float) -> Array:
    """Give a challenger's lead (n,) over a champion, of whether each is right on rows (n,), less what it is allowed."""
    return np.asarray(its.astype(np.float64) - right.astype(np.float64) - allowed)


_NOTHING = -700.0
"""Log of a wealth that is as good as none; JSON has no infinite numbers."""
