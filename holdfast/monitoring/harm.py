"""Harm: a sequential test on matured labels that may be looked at after every window."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import numpy as np
from pydantic import Field

from holdfast.monitoring.base import Detector, Needs, Reading
from holdfast.statistics import limit_ever, wilson

if TYPE_CHECKING:
    from holdfast.data.stream import Window
    from holdfast.results import About, Json

_BETS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
"""Shares of the largest stake that keeps wealth above zero; the mixture over them needs no tuning."""
_SURE = 0.99
"""Confidence that the past's errors are no more than the hypothesis says: where they are, every window may alarm."""


@final
class Harm(Detector):
    """Bet against *the champion errs no more than it did, by more than a tolerance*, and add up the wealth.

    Each bet multiplies by 1 + s (error - m) at every row, which under the hypothesis wins nothing on average
    whatever came before. A bet starts at each window (Shiryaev-Roberts), so a long quiet past costs no power.
    Wealth over 1 / level comes once in 1 / level clean windows at most, however often one looks.
    """

    needs: ClassVar[Needs] = "labels"
    about: ClassVar[About] = "harm"
    sequential: ClassVar[bool] = True
    reference: ClassVar[str] = (
        "Shin, Ramdas and Rinaldo 2024, arXiv:2203.03532, definition 2.2; Waudby-Smith and Ramdas 2024, "
        "arXiv:2010.09686, section 4; Podkopaev and Ramdas 2022, arXiv:2110.06177"
    )

    tolerance: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of rows by which errors may rise, above what they surely were, before it counts as harm."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the log of the wealth; the effect is the share of errors above the past's."""
        before = past.wrong
        n, wrong = len(window), int(window.wrong.sum())
        surely = _limit(int(before.sum()), len(before), memory)
        bound = min(surely + self.tolerance, 0.999)
        wealth = np.array(memory.get("log_wealth", [-math.inf] * len(_BETS)), dtype=np.float64)
        stakes = np.array(_BETS) / bound
        gain = wrong * np.log1p(stakes * (1.0 - bound)) + (n - wrong) * np.log1p(-stakes * bound)
        wealth = np.logaddexp(wealth, 0.0) + gain
        statistic = float(np.logaddexp.reduce(wealth) - math.log(len(_BETS)))
        rate = wrong / n if n else float(before.mean())
        return Reading(
            statistic=statistic,
            effect=rate - float(before.mean()),
            effect_unit="share of rows wrong, above the past",
            e_value=math.exp(min(statistic, 700.0)),
            details={"errors": wrong, "rate": rate, "past": float(before.mean()), "bound": bound},
            memory={
                "log_wealth": wealth.tolist(),
                "limit": surely,
                "wrong": memory.get("wrong", 0) + wrong,
                "rows": memory.get("rows", 0) + n,
            },
        )

    def threshold(self, level: float, past: Window, rows: int) -> float | None:
        """Give log(1 / level): clean streams alarm once in 1 / level windows at most, on average."""
        del past, rows
        return math.log(1.0 / level)


def _limit(wrong: int, rows: int, memory: Json) -> float:
    """Say how often the champion errs at most, before a window is seen; that keeps the hypothesis true where it is.

    The past has few rows, after a retraining some hundred, and is sure of little. If errors are what they were, the
    windows since say how many that is; never fewer than the past shows, for as good as promised is no harm.
    """
    past = (wrong + 0.5, rows - wrong + 0.5)
    served = limit_ever(memory.get("wrong", 0), memory.get("rows", 0), past, _SURE)
    return max(wrong / rows, min(wilson(wrong, rows, _SURE)[1], served, float(memory.get("limit", 1.0))))
