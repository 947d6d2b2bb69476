"""Later years: how a model fares on each period after the one it was trained on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import numpy as np
from pydantic import Field

from holdfast.results import Curve, CurvePoint, Dimension, Measure, PerExample, Score
from holdfast.scenarios.answers import answer, metric_score, undefined
from holdfast.scenarios.base import OnModel, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.scenarios.answers import Answers
    from holdfast.scenarios.base import Context
    from holdfast.seeding import Noise


@final
class LaterYears(OnModel):
    """The user's metric on each period after the training cutoff; the score is the mean over periods.

    Every period has the same weight, so that a large year does not hide a bad one. The periods are those that
    there are; their rows are a sample, and the intervals of the periods are combined by MOVER.

    Source: Yao et al. 2022, Wild-Time, NeurIPS (mean and worst over the periods after the cutoff);
    Zou and Donner 2008, Statistics in Medicine 27 (MOVER).
    """

    dimension: ClassVar[Dimension] = "robustness"
    family: ClassVar[str] = "shift"
    reference: ClassVar[str] = "Yao et al. 2022, arXiv:2211.14238, section 3 (Eval-Fix)"
    period: ClassVar[Literal["training", "later"]] = "later"

    points: Annotated[int, Field(gt=0)] = 20_000
    """Rows of later periods at most."""
    length: Annotated[float, Field(gt=0.0)] = 1.0
    """Length of a period in units of the time column: one year, where it counts years."""
    min_rows: Annotated[int, Field(gt=0)] = 50
    """Periods with fewer rows are left out, and named in the details."""

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why it means nothing here; also where rows have no time."""
        if (reason := super().inapplicable(target, samples)) or samples.time is not None:
            return reason
        return "the rows have no time"

    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Score each period by the user's metric."""
        answers = answer(target, samples)
        scores: dict[float, Score] = {}
        left_out: dict[str, str] = {}
        for start, part in self._periods(samples, answers):
            reason = f"{len(part.labels)} rows" if len(part.labels) < self.min_rows else undefined(context, part)
            if reason:
                left_out[f"{start:g}"] = reason
            else:
                scores[start] = metric_score(context, part, noise.derive("period", start).numpy())
        if not scores:
            return Outcome(score=None, unscored=_nothing(self.length, left_out))
        worst = min(scores, key=lambda start: scores[start].value)
        points = tuple(CurvePoint(at=start, score=score) for start, score in scores.items())
        return Outcome(
            score=_mean(list(scores.values())),
            measures=(_named("worst_period", scores[worst]),),
            curves=(Curve(name=context.metric, axis="time", points=points),),
            per_example=PerExample.pack(answers.ids, answers.right, answers.labels, answers.margins),
            details={"worst_period": worst, "left_out": left_out},
        )

    def _periods(self, samples: Samples, answers: Answers) -> Iterator[tuple[float, Answers]]:
        """Cut the answers by time, in order; rows without a time belong to no period."""
        assert samples.time is not None  # noqa: S101  `inapplicable` refused rows without time
        number = np.floor(samples.time.cpu().numpy() / self.length)
        for period in np.unique(number[np.isfinite(number)]):
            yield float(period) * self.length, answers.take(number == period)


def _mean(scores: list[Score]) -> Score:
    """Mean of independent scores, equally weighted; the interval combines theirs (MOVER)."""
    k = len(scores)
    value = sum(score.value for score in scores) / k
    down = math.sqrt(sum((score.value - score.low) ** 2 for score in scores)) / k
    up = math.sqrt(sum((score.high - score.value) ** 2 for score in scores)) / k
    n = sum(score.n for score in scores)
    return Score(value=value, low=max(value - down, 0.0), high=min(value + up, 1.0), n=n, method="mover")


def _named(name: str, score: Score) -> Measure:
    return Measure(
        name=name, value=score.value, unit="share", better="higher",
        low=score.low, high=score.high, n=score.n, method=score.method,
    )  # fmt: skip


def _nothing(length: float, left_out: dict[str, str]) -> str:
    some = "; ".join(f"{start}: {reason}" for start, reason in list(left_out.items())[:3]) or "no row has a time"
    return f"no period of length {length:g} can be scored ({some})"
