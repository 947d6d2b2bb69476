"""Calibration: whether the model is right as often as it says it is, clean and under shift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

import numpy as np
from pydantic import Field

from holdfast.results import Dimension, Measure, Score
from holdfast.scenarios.anomalies.missing_values import MissingValues
from holdfast.scenarios.answers import Answers, answer
from holdfast.scenarios.base import OnModel, Outcome
from holdfast.scenarios.corruptions.gaussian_noise import GaussianNoise
from holdfast.statistics import expected_calibration_error

if TYPE_CHECKING:
    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.scenarios.base import Context
    from holdfast.seeding import Noise

_NORMAL = 1.959964


@final
class Calibration(OnModel):
    """One minus the expected calibration error over bins of equal mass.

    Under shift it is measured on the same points: images with Gaussian noise, tables with missing values, both
    at severity 3. The interval is the bootstrap's standard error around the value; its percentiles would add
    the upward bias of the error a second time.

    Source: Naeini, Cooper and Hauskrecht 2015, AAAI; Nixon et al. 2019, CVPR workshops (equal mass);
    Ovadia et al. 2019, arXiv:1906.02530 (under shift).
    """

    dimension: ClassVar[Dimension] = "robustness"
    family: ClassVar[str] = "calibration"
    reference: ClassVar[str] = "Naeini et al. 2015, AAAI; Ovadia et al. 2019, arXiv:1906.02530"

    bins: Annotated[int, Field(gt=1)] = 15
    draws: Annotated[int, Field(ge=100)] = 500
    """Bootstrap resamples."""

    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Compare confidence and accuracy bin by bin."""
        del context
        shift = GaussianNoise() if target.space.kind == "box" else MissingValues()
        shifted = shift.apply(samples, 3, noise.derive("shift"), target.space)
        clean, moved = answer(target, samples), answer(target, samples, shifted)
        error, half = self._error(clean, noise.derive("clean"))
        value = 1.0 - error
        return Outcome(
            score=Score(
                value=value, low=max(value - half, 0.0), high=min(value + half, 1.0), n=len(samples), method="bootstrap"
            ),
            measures=(
                _measure("calibration_error", error, half, len(samples)),
                _measure("calibration_error_under_shift", *self._error(moved, noise.derive("shifted")), len(samples)),
            ),
            details={"shift": f"{shift.name()} at severity 3"},
        )

    def _error(self, answers: Answers, noise: Noise) -> tuple[float, float]:
        """Expected calibration error, and half its 95 % interval."""
        confidences, right, n = answers.confidences, answers.right, len(answers.labels)
        rng = noise.numpy()
        resampled = [
            expected_calibration_error(confidences[index], right[index], self.bins)
            for index in rng.integers(0, n, (self.draws, n))
        ]
        # Where every row agrees resamples do too, and say nothing of what n rows cannot show: Wilson's end does.
        unseen = _NORMAL**2 / (n + _NORMAL**2)
        return expected_calibration_error(confidences, right, self.bins), max(
            _NORMAL * float(np.std(resampled)), unseen
        )


def _measure(name: str, error: float, half: float, n: int) -> Measure:
    return Measure(
        name=name, value=error, unit="probability", better="lower", method="bootstrap",
        low=max(error - half, 0.0), high=min(error + half, 1.0), n=n,
    )  # fmt: skip
