"""Calibration drift: confidence on matured labels means less than it did."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, NamedTuple, final

import numpy as np

from holdfast.monitoring.base import Detector, Needs, Reading
from holdfast.statistics import expected_calibration_error

if TYPE_CHECKING:
    from holdfast.data.stream import Array, Window
    from holdfast.results import About, Json

_BINS = 15


@final
class CalibrationDrift(Detector):
    """Compare the squared calibration error, 15 equal-mass bins, of the window with the past's.

    The error of few rows is large by chance alone, and the past has more of them: what chance adds is taken off.
    """

    needs: ClassVar[Needs] = "labels"
    about: ClassVar[About] = "confidence"
    reference: ClassVar[str] = (
        "Kumar, Liang and Ma 2019, arXiv:1909.10155, section 5; equal-mass bins as Nixon et al. 2019, arXiv:1904.01685"
    )

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read how far the squared error is above the past's, as a root; the effect is that of the expected error."""
        del memory
        now, before = _errors(window.confidence, ~window.wrong), _past(past)
        above = now.squared - before.squared
        return Reading(
            statistic=math.copysign(math.sqrt(abs(above)), above),
            effect=now.expected - before.expected,
            effect_unit="calibration error, above the past's",
            details={"now": now.expected, "past": before.expected},
        )


class _Errors(NamedTuple):
    expected: float
    squared: float


@lru_cache(maxsize=4)  # a window is known by its identity: hundreds of windows are held against one past
def _past(past: Window) -> _Errors:
    return _errors(past.confidence, ~past.wrong)


def _errors(confidence: Array, right: Array) -> _Errors:
    return _Errors(expected_calibration_error(confidence, right), squared_error(confidence, right))


def squared_error(confidence: Array, right: Array) -> float:
    """Give the mean squared distance of the share right from confidence (n,) over bins, without what chance adds.

    A bin's gap is the mean of n differences; its square is too large by their variance over n, which is estimated.
    Rows of equal confidence share a bin, so that their order changes nothing.
    """
    if not len(confidence):
        return 0.0
    edges = np.unique(np.quantile(confidence, np.arange(1, _BINS) / _BINS))
    place, gaps = np.searchsorted(edges, confidence), right - confidence
    n, total, squares = (np.bincount(place, each) for each in (np.ones(len(gaps)), gaps, gaps**2))
    n, total, squares = (each[n > 1] for each in (n, total, squares))
    mean = total / n
    variance = (squares - n * mean**2) / (n - 1)
    return float((n * (mean**2 - variance / n)).sum() / len(confidence))
