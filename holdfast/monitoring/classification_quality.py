"""Classification quality on matured labels: the F1 of each class as Evidently reads it, against the past's."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from holdfast.monitoring.base import Detector, Needs, Reading
from holdfast.monitoring.evidently import f1_by_class

if TYPE_CHECKING:
    from holdfast.data.stream import Window
    from holdfast.results import About, Json


@final
class ClassificationQuality(Detector):
    """Compare the mean F1 of the window's classes with that of the same classes in the past.

    A share of wrong answers hides a small class that is lost; the mean of its classes' F1 does not.
    """

    needs: ClassVar[Needs] = "labels"
    about: ClassVar[About] = "harm"
    reference: ClassVar[str] = (
        "van Rijsbergen 1979, Information Retrieval, chapter 7; the implementation is Evidently's"
    )

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read by how much the mean F1 is below the past's."""
        return self._reading(f1_by_class(window), past, memory)

    def replay(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the same by counting, without Evidently's report."""
        return self._reading(_counted(window), past, memory)

    def _reading(self, now: dict[int, float], past: Window, memory: Json) -> Reading:
        before = _past(past)
        # A class that the past never had is no fall: there is nothing to fall from.
        both = sorted(set(now) & set(before))
        fall = float(np.mean([before[each] - now[each] for each in both])) if both else 0.0
        return Reading(
            statistic=fall,
            effect=fall,
            effect_unit="mean F1 of the classes, below the past's",
            details={"now": {str(each): now[each] for each in both}, "past": {str(e): before[e] for e in both}},
            memory=memory,
        )


def _counted(window: Window) -> dict[int, float]:
    """Give the F1 of each class that labels or answers name."""
    labels, k = window.matured, window.probabilities.shape[1]
    right = np.bincount(labels[~window.wrong], minlength=k)
    named = np.bincount(labels, minlength=k) + np.bincount(window.predicted, minlength=k)
    return {int(each): float(2.0 * right[each] / named[each]) for each in np.flatnonzero(named)}


@lru_cache(maxsize=4)  # a window is known by its identity: hundreds of windows are held against one past
def _past(past: Window) -> dict[int, float]:
    return _counted(past)
