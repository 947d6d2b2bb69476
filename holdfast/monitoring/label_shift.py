"""Label shift: the champion's answers have another mix of classes, and what that says of the true mix."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple, final

import numpy as np
from pydantic import Field
from scipy import stats

from holdfast.monitoring.base import Detector, Needs, Reading

if TYPE_CHECKING:
    from holdfast.data.stream import Array, Window
    from holdfast.results import About, Json


@final
class LabelShift(Detector):
    """Black-box shift estimation: compare counts of answers, and solve for the mix of classes behind them.

    The estimate supposes that rows of one class look as they did; the test supposes nothing.
    """

    needs: ClassVar[Needs] = "outputs"
    about: ClassVar[About] = "shift"
    reference: ClassVar[str] = "Lipton, Wang and Smola 2018, arXiv:1802.03916, section 3"

    largest_condition: Annotated[float, Field(gt=1.0)] = 100.0
    """Condition number of the confusion matrix above which no mix is estimated."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the chi-square of the answers' counts; the effect is the largest change of a class's share."""
        del memory
        known = _known(past, self.largest_condition)
        now = np.bincount(window.predicted, minlength=len(known.answers))
        seen = (now + known.answers) > 0
        table = np.stack([now, known.answers])[:, seen]
        if table.shape[1] > 1 and len(window):
            found = stats.chi2_contingency(table, correction=False)
            statistic, p_value = float(found.statistic), float(found.pvalue)
        else:
            statistic, p_value = 0.0, 1.0
        answered = now / max(len(window), 1)
        mix, why = (None, known.why or "no rows") if known.why or not len(window) else (_solve(known, answered), "")
        moved = answered - known.answers / max(len(past), 1) if mix is None else mix - known.share
        unit = "share of a class, largest change" + (" among answers" if mix is None else "")
        return Reading(
            statistic=statistic,
            effect=float(np.abs(moved).max()),
            effect_unit=unit,
            p_value=p_value,
            details={"mix": None if mix is None else mix.tolist(), "no_mix": why, "past": known.share.tolist()},
        )

    def least(self, level: float) -> float:
        """Give the chi-square quantile of two classes: replays of few rows, all answered alike, show nothing."""
        return float(stats.chi2.isf(level, 1))


class _Known(NamedTuple):
    """What the past says of answers and classes."""

    answers: Array
    """Count of each answer (k,)."""
    share: Array
    """Share of each class (k,); of each answer where the past has no labels."""
    confusion: Array
    """P(answer | class) (k, k)."""
    why: str
    """Why no mix of classes can be solved for; empty where one can."""


@lru_cache(maxsize=4)  # a window is known by its identity: hundreds of windows are held against one past
def _known(past: Window, largest_condition: float) -> _Known:
    k = past.probabilities.shape[1]
    answers = np.bincount(past.predicted, minlength=k)
    confusion = np.zeros((k, k))
    if past.labels is None:
        return _Known(answers, answers / max(len(past), 1), confusion, "no labels of the past")
    counts = np.bincount(past.labels, minlength=k)
    share = counts / max(len(past), 1)
    if (counts == 0).any():
        return _Known(answers, share, confusion, "a class has no rows in the past")
    np.add.at(confusion, (past.predicted, past.labels), 1.0)
    confusion /= counts
    condition = float(np.linalg.cond(confusion))
    return _Known(
        answers, share, confusion,
        "" if condition <= largest_condition else f"the confusion matrix has condition {condition:.3g}",
    )  # fmt: skip


def _solve(known: _Known, answered: Array) -> Array:
    """Solve confusion times mix = shares of answers for the mix (k,)."""
    solved = np.linalg.solve(known.confusion, answered).clip(0.0)
    return np.asarray(solved / max(solved.sum(), 1e-12))
