"""Page-Hinkley: errors on matured labels add up above their running mean."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, final

from pydantic import Field
from scipy import optimize

from holdfast.monitoring.base import Detector, Needs, Reading
from holdfast.statistics import wilson

if TYPE_CHECKING:
    from holdfast.data.stream import Window
    from holdfast.results import About, Json


@cache
def _opened() -> type[Any]:
    """Give river's detector, with what it holds against its threshold in the open, and a state that is JSON."""
    from river import stats  # noqa: PLC0415  params are checked without it
    from river.drift import PageHinkley as Original  # noqa: PLC0415  as above

    class Open(Original):
        def excess(self) -> float:
            return float(self._sum_increase - self._min_increase)

        def state(self) -> Json:
            return {
                "n": self._x_mean.n, "mean": self._x_mean.get(), "sum": self._sum_increase, "least": self._min_increase,
            }  # fmt: skip

        def load(self, state: Json) -> None:
            if state:
                self._x_mean = stats.Mean._from_state(state["n"], state["mean"])  # noqa: SLF001  its only constructor
                self._sum_increase, self._min_increase = state["sum"], state["least"]

    return Open


@final
class PageHinkley(Detector):
    """Add up how far errors lie above their running mean; the statistic is the rise above the lowest point.

    Nothing is forgotten: river's default forgets the sum and not its lowest point, and so alarms on every long stream.
    """

    needs: ClassVar[Needs] = "labels"
    about: ClassVar[About] = "harm"
    sequential: ClassVar[bool] = True
    reference: ClassVar[str] = (
        "Page 1954, Biometrika 41; the implementation is river's; the threshold by Lundberg's inequality, Asmussen "
        "2003, Applied Probability and Queues, theorem XIII.5.1"
    )

    delta: Annotated[float, Field(gt=0.0)] = 0.005
    """Rise of the error rate that is let pass."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the largest rise within the window; the effect is the share of errors above the past's."""
        walk = _opened()(delta=self.delta, alpha=1.0, threshold=float("inf"), mode="up")
        walk.load(memory)
        wrong, most = window.wrong, 0.0
        for error in wrong.tolist():
            walk.update(float(error))
            most = max(most, walk.excess())
        before = float(past.wrong.mean())
        return Reading(
            statistic=most,
            effect=float(wrong.mean()) - before if len(window) else 0.0,
            effect_unit="share of rows wrong, above the past",
            memory=walk.state(),
        )

    def threshold(self, level: float, past: Window, rows: int) -> float | None:
        """Give the rise that a stream without change reaches in a window with at most ``level``, however long it runs.

        Errors above their mean, less ``delta`` a row, are a walk that falls; from any lowest point it rises by h with
        at most exp(-theta h), theta the positive root of E exp(theta step) = 1. A window has the point that it begins
        from, and as many new ones as the walk falls through.
        """
        wrong = past.wrong
        rate = wilson(int(wrong.sum()), len(wrong))[1]  # more errors, and the walk scatters more
        if rate + self.delta >= 1.0:
            return float(rows)  # nothing can rise
        root = _lundberg(rate, self.delta)
        lowest = 1.0 + rows * self.delta / ((1.0 - rate) * (rate + self.delta))
        return math.log(lowest / level) / root


def _lundberg(rate: float, delta: float) -> float:
    """Give the positive root of E exp(theta step) = 1, a step being an error's excess over its rate, less delta."""

    def excess(theta: float) -> float:
        return math.log1p(rate * math.expm1(theta)) - theta * (rate + delta)

    high = 1.0
    while excess(high) <= 0.0:
        high *= 2.0
    return float(optimize.brentq(excess, 1e-9 * high, high))
