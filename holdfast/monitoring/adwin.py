"""ADWIN: an adaptive window over errors on matured labels, cut where its two ends differ."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import numpy as np
from pydantic import Field
from scipy import stats

from holdfast.monitoring.base import Detector, Needs, Reading

if TYPE_CHECKING:
    from holdfast.data.stream import Array, Window
    from holdfast.results import About, Json

_KEPT = 8192
"""Errors carried from window to window, one bit each: what bounds the memory."""


@final
class Adwin(Detector):
    """Keep a window of errors as long as its parts agree; when it is cut, compare what is left with the past.

    River's state is not JSON, so the errors since the last cut are carried and played again.
    """

    needs: ClassVar[Needs] = "labels"
    about: ClassVar[About] = "harm"
    sequential: ClassVar[bool] = True
    reference: ClassVar[str] = (
        "Bifet and Gavalda 2007, SDM, theorem 3.1; the implementation is river's; signed root of the likelihood ratio, "
        "Barndorff-Nielsen and Cox 1994, Inference and Asymptotics, section 4.4"
    )

    delta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.002
    """Confidence of one cut."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read how surely errors since the last cut are above the past's, in standard errors; 0 before the first cut.

        A stream without change is cut some day, and what is left then stands beside the past by chance alone.
        """
        from river.drift import ADWIN  # noqa: PLC0415  params are checked without it

        before = past.wrong
        errors = np.concatenate([_unpack(memory), window.wrong])
        cuts = 0  # places after which river begins anew
        walk = update = None
        for place, error in enumerate(errors.astype(np.float64).tolist(), 1):
            if update is None:
                walk = ADWIN(delta=self.delta)  # type: ignore[no-untyped-call]  # river has no types
                update = walk._helper.update  # noqa: SLF001  around it river spends four times as long as in it
            if update(error):
                cuts, update = place, None
        cut = bool(memory.get("cut", False)) or cuts > 0
        width, total = (0, 0) if walk is None else (int(walk.width), round(float(walk.total)))
        rise = (total / width if width else 0.0) - float(before.mean())
        return Reading(
            statistic=_surprise(total, width, int(before.sum()), len(before)) if cut else 0.0,
            effect=rise,
            effect_unit="share of rows wrong, above the past",
            details={"width": width, "cut": cut},
            memory=_pack(errors[cuts:][-_KEPT:], cut=cut),
        )

    def threshold(self, level: float, past: Window, rows: int) -> float | None:
        """Give the normal quantile of the level: whether it was cut or not, what is left has the past's errors."""
        del past, rows
        return float(stats.norm.isf(level))


def _surprise(wrong: int, n: int, before: int, n_before: int) -> float:
    """Give the signed root of the likelihood ratio between two shares of errors, positive where the first is larger.

    It is standard normal where they are equal, also where errors are few.
    """
    if not n or not n_before:
        return 0.0
    pooled, found = (wrong + before) / (n + n_before), 0.0
    for count, size in ((wrong, n), (before, n_before)):
        share = count / size
        found += count * math.log(share / pooled) if count else 0.0
        found += (size - count) * math.log((1.0 - share) / (1.0 - pooled)) if count < size else 0.0
    return math.copysign(math.sqrt(max(2.0 * found, 0.0)), wrong / n - before / n_before)


def _pack(errors: Array, *, cut: bool) -> Json:
    return {"errors": base64.b64encode(np.packbits(errors).tobytes()).decode(), "n": len(errors), "cut": cut}


def _unpack(memory: Json) -> Array:
    """Give the errors (n,) bool that were carried."""
    packed = np.frombuffer(base64.b64decode(memory.get("errors", "")), dtype=np.uint8)
    return np.unpackbits(packed, count=int(memory.get("n", 0))).astype(bool)
