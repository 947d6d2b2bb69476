"""Expected quality: what the champion's own confidence says of its accuracy, before any label is there."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, final

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
    past, and the share of confidences beyond those of the past. An estimate that is void is told, and is no alarm.
    """

    needs: ClassVar[Needs] = "outputs"
    about: ClassVar[About] = "confidence"
    reference: ClassVar[str] = "Guillory et al. 2021, arXiv:2107.03315, section 3; Garg et al. 2022, arXiv:2201.04234"

    largest_error: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    """Calibration error of the past, and share of rows beyond it, above which the estimate is void."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read by how much the expected accuracy is below the past's."""
        del memory
        known = _known(past)
        expected = float(known.fitted.predict(window.confidence).mean()) if len(window) else 0.0
        beyond = float((window.confidence < known.least).mean()) if len(window) else 0.0
        void = []
        if known.error > self.largest_error:
            void.append(f"calibration error {known.error:.3f} of the past")
        if beyond > self.largest_error:
            void.append(f"{beyond:.3f} of rows less sure than any of the past")
        return Reading(
            statistic=known.right - expected,
            effect=known.right - expected,
            effect_unit="accuracy, expected loss",
            valid=not void,
            details={
                "expected": expected,
                "past": known.right,
                "calibration_error": known.error,
                "beyond": beyond,
                "valid": not void,
                "void": ", ".join(void),
            },
        )


class _Known(NamedTuple):
    """What the past says of confidence."""

    fitted: Any
    """Share right as a monotone function of confidence."""
    error: float
    """Calibration error of each half under the other half's fit, averaged."""
    right: float
    least: float
    """Smallest confidence."""


@lru_cache(maxsize=4)  # a window is known by its identity: hundreds of windows are held against one past
def _known(past: Window) -> _Known:
    if len(past) < 2 * _FEWEST:
        raise DataError(
            "reference rows", found=f"{len(past)} rows", expected=f"at least {2 * _FEWEST}",
            remedy="Give the calibration role more rows.",
        )  # fmt: skip
    confidence, right = past.confidence, ~past.wrong
    return _Known(
        _fit(confidence, right), _held_out_error(confidence, right), float(right.mean()), float(confidence.min())
    )


def _fit(confidence: Array, right: Array) -> Any:  # noqa: ANN401  scikit-learn has no types
    """Fit the share right as a monotone function of confidence (n,)."""
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415  params are checked without it

    return IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(confidence, right.astype(np.float64))


def _held_out_error(confidence: Array, right: Array) -> float:
    """Give the calibration error of each half of the past under the other half's fit, averaged."""
    halves = (np.arange(len(right)) % 2 == 0, np.arange(len(right)) % 2 == 1)
    errors = [
        expected_calibration_error(_fit(confidence[fit], right[fit]).predict(confidence[ask]), right[ask])
        for fit, ask in (halves, halves[::-1])
    ]
    return float(np.mean(errors))
