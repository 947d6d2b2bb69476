"""Bets on matured labels, added up over windows: what `harm`, `surprise` and `challenger` share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from holdfast.monitoring.base import Detector, Needs
from holdfast.results import About, Json, Value
from holdfast.statistics import limit_ever, wilson

if TYPE_CHECKING:
    from holdfast.data.stream import Window

Array = np.ndarray[Any, np.dtype[Any]]
BETS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
"""Shares of the largest stake that keeps wealth above zero; the mixture over them needs no tuning."""
_SURE = 0.99
"""Confidence that the past's loss is no more than the hypothesis says: where it is, every window may alarm."""
REFERENCE = (
    "Shin, Ramdas and Rinaldo 2024, arXiv:2203.03532, definition 2.2; Waudby-Smith and Ramdas 2024, arXiv:2010.09686, "
    "section 4; Podkopaev and Ramdas 2022, arXiv:2110.06177"
)


class Betting(Detector):
    """A sequential test whose statistic is the log of a wealth that a clean stream does not multiply on average."""

    needs: ClassVar[Needs] = "labels"
    about: ClassVar[About] = "harm"
    sequential: ClassVar[bool] = True
    weight: ClassVar[int] = 5

    def threshold(self, level: float, past: Window, rows: int) -> float | None:
        """Give log(1 / level): clean streams alarm once in 1 / level windows at most, on average."""
        del past, rows
        return math.log(1.0 / level)


class Stand(Value):
    """How the bets stand after a window."""

    statistic: float
    """Log of the wealth, the mean over the bets."""
    bound: float
    """Mean loss that the hypothesis allowed the window."""
    memory: Json


def bet(losses: Array, past: Array, memory: Json, tolerance: float = 0.0) -> Stand:
    """Bet on *the mean loss is no more than it was, by more than a tolerance*, and add up the wealth.

    Each bet multiplies by 1 + s (loss - m) at every row, which under the hypothesis wins nothing on average whatever
    came before. A bet starts at each window (Shiryaev-Roberts), so a long quiet past costs no power. Wealth over
    1 / level comes once in 1 / level clean windows at most, however often one looks.

    Args:
        losses: of the window's rows (n,), each in [0, 1].
        past: losses (m,) of the champion's own time.
        memory: what the last bet left; empty at first.
        tolerance: rise that is no harm.
    """
    n, surely = len(losses), _limit(float(past.sum()), len(past), memory)
    bound = min(surely + tolerance, 0.999)
    stakes = np.array(BETS) / bound
    wealth = np.array(memory.get("log_wealth", [-math.inf] * len(BETS)), dtype=np.float64)
    wealth = np.logaddexp(wealth, 0.0) + np.log1p(stakes[:, None] * (losses - bound)).sum(axis=1)
    return Stand(
        statistic=float(np.logaddexp.reduce(wealth) - math.log(len(BETS))),
        bound=bound,
        memory={
            "log_wealth": wealth.tolist(),
            "limit": surely,
            "lost": _lost(memory) + float(losses.sum()),
            "rows": memory.get("rows", 0) + n,
        },
    )


def _limit(lost: float, rows: int, memory: Json) -> float:
    """Say what the champion loses at most, before a window is seen; that keeps the hypothesis true where it is.

    The past has few rows, after a retraining some hundred, and is sure of little. If losses are what they were, the
    windows since say how many that is; never fewer than the past shows, for as good as promised is no harm. Both limits
    are those of flags, which of all losses in [0, 1] with one mean scatter most.
    """
    past = (lost + 0.5, rows - lost + 0.5)
    served = limit_ever(_lost(memory), memory.get("rows", 0), past, _SURE)
    return max(lost / rows, min(wilson(lost, rows, _SURE)[1], served, float(memory.get("limit", 1.0))))


def _lost(memory: Json) -> float:
    """Read the losses so far; a champion that served before other losses than errors were bet on has them by that."""
    return float(memory["lost"] if "lost" in memory else memory.get("wrong", 0.0))
