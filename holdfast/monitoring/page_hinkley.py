"""Page-Hinkley: errors on matured labels add up above their running mean."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, final

from pydantic import Field

from holdfast.monitoring.base import Detector, Needs, Reading

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
    """Add up how far errors lie above their running mean; the statistic is the rise above the lowest point."""

    needs: ClassVar[Needs] = "labels"
    about: ClassVar[About] = "harm"
    sequential: ClassVar[bool] = True
    reference: ClassVar[str] = "Page 1954, Biometrika 41; the implementation is river's"

    delta: Annotated[float, Field(ge=0.0)] = 0.005
    """Rise of the error rate that is let pass."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the largest rise within the window; the effect is the share of errors above the past's."""
        walk = _opened()(delta=self.delta, threshold=float("inf"), mode="up")
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
