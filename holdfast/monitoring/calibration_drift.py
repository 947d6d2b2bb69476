"""Calibration drift: confidence on matured labels means less than it did."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, final

from holdfast.monitoring.base import Detector, Needs, Reading
from holdfast.statistics import expected_calibration_error

if TYPE_CHECKING:
    from holdfast.data.stream import Window
    from holdfast.results import About, Json


@final
class CalibrationDrift(Detector):
    """Compare the expected calibration error, 15 equal-mass bins, of the window with the past's."""

    needs: ClassVar[Needs] = "labels"
    about: ClassVar[About] = "confidence"
    reference: ClassVar[str] = "Naeini et al. 2015, AAAI; equal-mass bins as Nixon et al. 2019, arXiv:1904.01685"

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read how far the window's calibration error is above the past's."""
        del memory
        now, before = expected_calibration_error(window.confidence, ~window.wrong), _error(past)
        return Reading(
            # The difference: by the window's error alone, a champion that never was calibrated would be judged by
            # the few rows of the past and not by what changed.
            statistic=now - before,
            effect=now - before,
            effect_unit="calibration error, above the past's",
            details={"now": now, "past": before},
        )


@lru_cache(maxsize=4)  # a window is known by its identity: hundreds of windows are held against one past
def _error(past: Window) -> float:
    return expected_calibration_error(past.confidence, ~past.wrong)
