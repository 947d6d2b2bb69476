"""Calibration drift: confidence on matured labels means less than it did."""

from __future__ import annotations

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
        """Read the window's calibration error; the effect is how far it is above the past's."""
        del memory
        now = expected_calibration_error(window.confidence, ~window.wrong)
        before = expected_calibration_error(past.confidence, ~past.wrong)
        return Reading(
            statistic=now,
            effect=now - before,
            effect_unit="calibration error, above the past's",
            details={"now": now, "past": before},
        )
