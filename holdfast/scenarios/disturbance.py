"""What every graded disturbance is: inputs made worse in five severities, and the accuracy that is left."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
import torch

from holdfast.errors import ScenarioError
from holdfast.results import Curve, CurvePoint, Dimension, Measure, PerExample, Score
from holdfast.scenarios.answers import answer, metric_score, undefined
from holdfast.scenarios.base import OnModel, Outcome
from holdfast.statistics import clustered_share, share

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.scenarios.base import Context
    from holdfast.seeding import Noise
    from holdfast.space import Box, Table

    Flags = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]

SEVERITIES = (1, 2, 3, 4, 5)
_CHUNK = 4  # micro-batches disturbed at once: bounds memory, and changes no row


class Disturbance(OnModel):
    """Accuracy under a disturbance that an environment, not an attacker, causes.

    The subclass gives the disturbed inputs of one severity; this base classifies them. The score is the mean
    accuracy over severities 1 to 5 with the interval clustered by example; the curve keeps each severity, with
    the clean accuracy at 0, and a second one the user's metric where that is not accuracy; ``retained`` is the
    score over the clean accuracy. For paired comparison a point
    counts as right when it is right at three or more of the five severities.
    """

    dimension: ClassVar[Dimension] = "robustness"

    @abstractmethod
    def disturb(self, x: Tensor, ids: Tensor, severity: int, noise: Noise, space: Box | Table) -> Tensor:
        """Disturb inputs x (n, *shape) by one severity, 1 to 5; each row by itself, drawing by its id."""

    def slices(self, samples: Samples, flags: Flags, noise: Noise, space: Box | Table) -> dict[str, Score]:
        """Give scores of parts, from flags (n, 5) of each severity; none unless a family has parts."""
        del samples, flags, noise, space
        return {}

    @final
    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Classify clean and at each severity."""
        clean = answer(target, samples)
        graded = [answer(target, samples, self.apply(samples, s, noise, target.space)) for s in SEVERITIES]
        flags = np.stack([answers.right for answers in graded], axis=1)
        curves = [curve("accuracy", [share(answers.right) for answers in (clean, *graded)])]
        if context.metric != "accuracy" and not undefined(context, clean):
            # One stream for all severities: equal answers have equal intervals.
            rng = noise.derive("metric")
            curves.append(
                curve(context.metric, [metric_score(context, answers, rng.numpy()) for answers in (clean, *graded)])
            )
        return Outcome(
            score=clustered_share(flags),
            measures=retained(flags.mean(axis=1), clean.right.astype(np.float64)),
            curves=tuple(curves),
            slices=self.slices(samples, flags, noise, target.space),
            per_example=PerExample.pack(clean.ids, flags.sum(axis=1) > len(SEVERITIES) // 2, clean.labels),
        )

    def apply(self, samples: Samples, severity: int, noise: Noise, space: Box | Table) -> Tensor:
        """Disturb all rows and check what came out.

        Raises:
            ScenarioError: another shape or type came out, or a pixel that is not finite.
        """
        size = _CHUNK * space.micro_batch
        pieces = zip(torch.split(samples.x, size), torch.split(samples.ids, size), strict=True)
        derived = noise.derive("severity", severity)
        disturbed = [self.disturb(x, ids, severity, derived, space) for x, ids in pieces]
        for after, before in zip(disturbed, torch.split(samples.x, size), strict=True):
            self._check(after, before, space)
        return torch.cat(disturbed)

    def _check(self, after: Tensor, before: Tensor, space: Box | Table) -> None:
        same = after.shape == before.shape and after.dtype == before.dtype
        sound = same and (not after.isinf().any() if space.kind == "table" else bool(after.isfinite().all()))
        if not sound:
            raise ScenarioError(
                self.name(),
                found=f"{tuple(after.shape)} {after.dtype}, or values that are not finite",
                expected=f"finite {before.dtype} of shape {tuple(before.shape)}",
                remedy="Mend disturb(), or the rows it was given.",
            )


def curve(name: str, scores: list[Score]) -> Curve:
    """Draw scores over severities, the clean one at 0."""
    points = tuple(CurvePoint(at=float(severity), score=score) for severity, score in enumerate(scores))
    return Curve(name=name, axis="severity", points=points)


def retained(disturbed: Floats, clean: Floats) -> tuple[Measure, ...]:
    """Give the ratio of two means over the same points (n,); nothing where no clean point is right.

    The standard error is that of the ratio estimator (Cochran 1977, Sampling Techniques, chapter 6).
    """
    n, base = len(clean), float(clean.mean())
    if base == 0.0:
        return ()
    ratio = float(disturbed.mean()) / base
    spread = float(np.square(disturbed - ratio * clean).sum()) / max(n - 1, 1)
    half = 1.959964 * math.sqrt(spread / n) / base
    return (
        Measure(
            name="retained", value=ratio, unit="share of clean accuracy", better="higher",
            low=max(ratio - half, 0.0), high=ratio + half, n=n, method="ratio_estimator",
        ),
    )  # fmt: skip
