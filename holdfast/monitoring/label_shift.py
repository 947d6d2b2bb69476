"""Label shift: the champion's answers have another mix of classes, and what that says of the true mix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

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
        k = past.probabilities.shape[1]
        now, before = np.bincount(window.predicted, minlength=k), np.bincount(past.predicted, minlength=k)
        seen = (now + before) > 0
        table = np.stack([now, before])[:, seen]
        if table.shape[1] > 1 and len(window):
            found = stats.chi2_contingency(table, correction=False)
            statistic, p_value = float(found.statistic), float(found.pvalue)
        else:
            statistic, p_value = 0.0, 1.0
        mix, why = self._mix(window, past, k)
        share = np.bincount(past.labels if past.labels is not None else past.predicted, minlength=k) / max(len(past), 1)
        moved = now / max(len(window), 1) - before / max(len(past), 1) if mix is None else mix - share
        unit = "share of a class, largest change" + (" among answers" if mix is None else "")
        return Reading(
            statistic=statistic,
            effect=float(np.abs(moved).max()),
            effect_unit=unit,
            p_value=p_value,
            details={"mix": None if mix is None else mix.tolist(), "no_mix": why, "past": share.tolist()},
        )

    def _mix(self, window: Window, past: Window, k: int) -> tuple[Array | None, str]:
        """Solve confusion times mix = answers for the mix (k,), or say why it cannot be."""
        if past.labels is None or len(window) == 0:
            return None, "no labels of the past, or no rows"
        counts = np.bincount(past.labels, minlength=k)
        if (counts == 0).any():
            return None, "a class has no rows in the past"
        confusion = np.zeros((k, k))
        np.add.at(confusion, (past.predicted, past.labels), 1.0)
        confusion /= counts
        condition = float(np.linalg.cond(confusion))
        if not condition <= self.largest_condition:
            return None, f"the confusion matrix has condition {condition:.3g}"
        solved = np.linalg.solve(confusion, np.bincount(window.predicted, minlength=k) / len(window)).clip(0.0)
        return solved / max(solved.sum(), 1e-12), ""
