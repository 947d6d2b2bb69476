"""Surprise: the sequential test of `harm`, on how little the champion thought of what came to pass."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from holdfast.monitoring._betting import REFERENCE, Array, Betting, bet
from holdfast.monitoring.base import Reading

if TYPE_CHECKING:
    from holdfast.data.stream import Window
    from holdfast.results import Json

_MOST = 5.0
"""Log loss of a row at most, in nats: surer than 150 to 1 and wrong costs no more than this."""
_ODDS = 3.0
"""What bets on errors must have won besides: a hint, and no proof. More would wait until errors alone can prove it."""


@final
class Surprise(Betting):
    """Bet against *labels surprise the champion no more than they did*, in log loss.

    An error says that a row was wrong, its log loss how wrong: of two champions that err alike, the one that drifts
    gives ever less to what happens. So a slow harm is seen before errors alone can prove it. There must be a hint that
    errors rose: the effect is the share of errors above the past's, and none where bets on errors do not stand at three
    to one at least. A champion that only became too sure may pass for harmed nevertheless: in up to a fifth of streams
    of 40 windows of 250 rows where the past has 1,000 rows, and in half of them where it has 20,000.
    """

    reference: ClassVar[str] = REFERENCE

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the log of the wealth."""
        before, now = log_loss(past), log_loss(window)
        stand = bet(now / _MOST, before / _MOST, memory)
        wrong, was = window.wrong.astype(np.float64), past.wrong.astype(np.float64)
        errors = bet(wrong, was, memory.get("errors", {}))
        risen = len(now) > 0 and errors.statistic >= math.log(_ODDS)
        loss = float(now.mean()) if len(now) else float(before.mean())
        return Reading(
            statistic=stand.statistic,
            effect=float(wrong.mean() - was.mean()) if risen else 0.0,
            effect_unit="share of rows wrong, above the past",
            e_value=math.exp(min(stand.statistic, 700.0)),
            details={
                "nats": loss,
                "past": float(before.mean()),
                "bound": stand.bound * _MOST,
                "errors": errors.statistic,
            },
            memory={**stand.memory, "errors": errors.memory},
        )


def log_loss(window: Window) -> Array:
    """Give the log loss (n,) of each row in nats, from 0 to ``_MOST``."""
    given = window.probabilities[np.arange(len(window)), window.matured]
    return np.minimum(-np.log(np.maximum(given, math.exp(-_MOST))), _MOST)
