"""Challenger: a sequential test whether a model that learned the last windows would answer better."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import numpy as np
from pydantic import Field
from scipy import stats

from holdfast.monitoring._betting import Betting
from holdfast.monitoring.base import Reading
from holdfast.statistics import half_brier

if TYPE_CHECKING:
    from holdfast.data.stream import Array, Window
    from holdfast.results import Json

_BETS = np.array([0.05, 0.1, 0.2, 0.4, 0.6, 0.9])
"""Shares of the largest stake that keeps wealth above zero; the mixture over them needs no tuning."""
_FIRST = 4
"""Windows of a champion that say what its challenger is ahead by anyway, before any bet."""
_SURE = 0.99
"""Confidence of what a challenger is allowed."""
_ODDS = 3.0
"""What a bet on errors must have won besides: a hint, and no proof. More would wait until errors alone can prove it."""
_NOBODY: Json = {"windows": 0, "rows": 0, "sums": [0.0, 0.0], "squares": [0.0, 0.0]}
_NOTHING = -700.0
"""Log of a wealth that is as good as none; JSON has no infinite numbers."""


@final
class Challenger(Betting):
    """Bet against *a challenger is ahead of the champion by no more than it surely was, and a tolerance*.

    `harm` and `surprise` ask whether the champion got worse than it was. After a retraining that is a question of some
    hundred rows, which may have been hard ones, and a champion can fall far behind what could be had without falling
    below them. The challenger is the quick classifier that screens labels: before a window's labels are looked at it
    learned the pinned rows and the last clean windows. Both are scored on each row, so that what is hard for both
    cancels; by Brier scores, since of errors only rows on which one is right and the other wrong say anything. There
    must be a hint that errors are behind too, three to one that their lead is above what is allowed: a champion that
    only became too sure is not what a retraining is for.

    What it is ahead by anyway a retraining would not mend, and it is allowed: by its upper limit on rows of role
    calibration, all that the champion was made with, and by that on the champion's first four windows, which are of the
    present. So those four say nothing yet; nor is anything allowed by four of which no scores are on record. The limits
    are normal ones of a mean, and take rows for independent. A window of which no row was asked leaves the bets as they
    stand.
    """

    reference: ClassVar[str] = (
        "Bach and Maloof 2008, ICDM, Paired learners for concept drift; Brier 1950, Monthly Weather Review 78; Shin, "
        "Ramdas and Rinaldo 2024, arXiv:2203.03532, definition 2.2"
    )

    tolerance: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.01
    """Lead in score beyond what it is allowed, before it counts as harm."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the log of the wealth; the effect is the share of rows put right beyond what is allowed."""
        del past
        rows = np.zeros((0, 2)) if window.lead is None else window.lead[~np.isnan(window.lead).any(axis=1)]
        burn_in = memory.get("burn_in", {**_NOBODY, "windows": _FIRST if memory else 0})  # an older release was later
        wealth = np.array(memory.get("log_wealths", np.full((2, len(_BETS)), _NOTHING)), dtype=np.float64)
        bets = int(memory.get("bets", 0))
        limits = _limits(burn_in["rows"], np.array(burn_in["sums"]), np.array(burn_in["squares"]))
        if burn_in["windows"] < _FIRST:
            burn_in = {
                "windows": burn_in["windows"] + 1,
                "rows": burn_in["rows"] + len(rows),
                "sums": (np.array(burn_in["sums"]) + rows.sum(axis=0)).tolist(),
                "squares": (np.array(burn_in["squares"]) + np.square(rows).sum(axis=0)).tolist(),
            }
        elif len(rows):
            wealth, bets = _betted(wealth, rows, limits + np.array([self.tolerance, 0.0])), bets + 1
        score, errors = np.maximum(np.logaddexp.reduce(wealth, axis=1) - math.log(len(_BETS)), _NOTHING).tolist()
        behind = bets > 0 and len(rows) > 0 and errors - math.log(bets) >= math.log(_ODDS)
        return Reading(
            statistic=score,
            effect=float(rows[:, 1].mean() - limits[1]) if behind else 0.0,
            effect_unit="share of rows that a challenger puts right, beyond what it is allowed",
            e_value=math.exp(min(score, 700.0)),
            details={
                "rows": len(rows),
                "lead": float(rows[:, 0].mean()) if len(rows) else 0.0,
                "bound": float(limits[0]) + self.tolerance,
                "errors": errors,
            },
            memory={"log_wealths": np.maximum(wealth, _NOTHING).tolist(), "bets": bets, "burn_in": burn_in},
        )


def _betted(wealth: Array, rows: Array, bounds: Array) -> Array:
    """Give log wealths (2, bets) after leads (n, 2); a bet starts at each window (Shiryaev-Roberts).

    So a long quiet past costs no power. No lead is below -2: one of -1 may have an allowance of up to 1 taken off.
    """
    stakes = _BETS / (2.0 + bounds[:, None])
    won = np.log1p(stakes[:, :, None] * (rows.T - bounds[:, None])[:, None, :]).sum(axis=2)
    return np.asarray(np.logaddexp(wealth, 0.0) + won)


def _limits(n: int, sums: Array, squares: Array) -> Array:
    """Give the upper limits (2,) of mean leads by what n rows come to, 0 at least; of no row, 0."""
    if n == 0:
        return np.zeros(2)
    means = sums / n
    spread = np.sqrt(np.maximum(squares / n - means**2, 1.0 / n))
    return np.asarray(np.maximum(0.0, means + stats.norm.ppf(_SURE) * spread / math.sqrt(n)))


def losses(probabilities: Array, labels: Array) -> Array:
    """Score answers (n, classes) by labels (n,): half of each row's Brier score, and whether it is wrong (n, 2)."""
    return np.stack([half_brier(probabilities, labels), probabilities.argmax(axis=1) != labels], axis=1)


def allowed(lead: Array) -> Array:
    """Give what a challenger is allowed (2,): upper limits of its leads (n, 2) over a new champion, 0 at least."""
    return _limits(len(lead), lead.sum(axis=0), np.square(lead).sum(axis=0))
