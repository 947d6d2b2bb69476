"""Expected quality: what the champion's own confidence says of its accuracy, before any label is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

import numpy as np
from pydantic import Field

from holdfast.errors import DataError
from holdfast.monitoring.base import Detector, Needs, Reading
from holdfast.statistics import expected_calibration_error

if TYPE_CHECKING:
    from holdfast.data.stream import Array, Window
    from holdfast.results import About, Json

_FEWEST = 25


@final
class ExpectedQuality(Detector):
    """Confidence-based performance estimation: the mean of calibrated confidence is the expected accuracy.

    It holds where confidence means now what it meant in the past: under covariate shift that calibration survives,
    and not under concept drift. The condition that can be checked is checked: calibration on held-out halves of the
    past, and the share of confidences beyond those of the past.
    """

    needs: ClassVar[Needs] = "outputs"
    about: ClassVar[About] = "confidence"
    reference: ClassVar[str] = "Guillory et al. 2021, arXiv:2107.03315, section 3; Garg et al. 2022, arXiv:2201.04234"

    largest_error: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    """Calibration error of the past above which the estimate is not to be relied on."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read by how much the expected accuracy is below the past's."""
        del memory
        if len(past) < 2 * _FEWEST:
            raise DataError(
                "reference rows", found=f"{len(past)} rows", expected=f"at least {2 * _FEWEST}",
                remedy="Give the calibration role more rows.",
            )  # fmt: skip
        right = ~past.wrong
        expected = float(_calibrated(past.confidence, right, window.confidence).mean()) if len(window) else 0.0
        before = float(right.mean())
        error = _held_out_error(past.confidence, right)
        beyond = float((window.confidence < past.confidence.min()).mean()) if len(window) else 0.0
        valid = error <= self.largest_error and beyond <= self.largest_error
        return Reading(
            statistic=before - expected,
            effect=before - expected,
            effect_unit="accuracy, expected loss",
            details={
                "expected": expected,
                "past": before,
                "calibration_error": error,
                "beyond": beyond,
                "valid": valid,
            },
        )


def _calibrated(confidence: Array, right: Array, asked: Array) -> Array:
    """Fit the share right as a monotone function of confidence, and read it at other confidences (m,)."""
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415  params are checked without it

    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(confidence, right.astype(np.float64))
    return np.asarray(fitted.predict(asked))


def _held_out_error(confidence: Array, right: Array) -> float:
    """Give the calibration error of each half of the past under the other half's fit, averaged."""
    halves = (np.arange(len(right)) % 2 == 0, np.arange(len(right)) % 2 == 1)
    errors = [
        expected_calibration_error(_calibrated(confidence[fit], right[fit], confidence[ask]), right[ask])
        for fit, ask in (halves, halves[::-1])
    ]
    return float(np.mean(errors))
