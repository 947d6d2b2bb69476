"""ADWIN: an adaptive window over errors on matured labels, cut where its two ends differ."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import numpy as np
from pydantic import Field

from holdfast.monitoring.base import Detector, Needs, Reading

if TYPE_CHECKING:
    from holdfast.data.stream import Array, Window
    from holdfast.results import About, Json

_KEPT = 8192
"""Errors carried from window to window, one bit each: what bounds the memory."""


@final
class Adwin(Detector):
    """Keep a window of errors as long as its parts agree; when it is cut, compare what is left with the past.

    River's state is not JSON, so the errors of the last rows are carried and played again.
    """

    needs: ClassVar[Needs] = "labels"
    about: ClassVar[About] = "harm"
    sequential: ClassVar[bool] = True
    reference: ClassVar[str] = "Bifet and Gavalda 2007, SDM, theorem 3.1; the implementation is river's"

    delta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.002
    """Confidence of one cut."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read by how much errors are above the past's after a cut; 0 while nothing was ever cut."""
        from river.drift import ADWIN  # noqa: PLC0415  params are checked without it

        wrong, before = window.wrong, float(past.wrong.mean())
        carried = _unpack(memory)
        walk = ADWIN(delta=self.delta)  # type: ignore[no-untyped-call]  # river has no types
        cut = bool(memory.get("cut", False))
        for error in carried.tolist():
            walk.update(float(error))  # type: ignore[no-untyped-call]  # as above
        for error in wrong.tolist():
            walk.update(float(error))  # type: ignore[no-untyped-call]  # as above
            cut |= bool(walk.drift_detected)
        rise = float(walk.estimation) - before
        return Reading(
            statistic=max(rise, 0.0) if cut else 0.0,
            effect=rise,
            effect_unit="share of rows wrong, above the past",
            details={"width": int(walk.width), "cut": cut},
            memory=_pack(np.concatenate([carried, wrong])[-_KEPT:], cut=cut),
        )


def _pack(errors: Array, *, cut: bool) -> Json:
    return {"errors": base64.b64encode(np.packbits(errors).tobytes()).decode(), "n": len(errors), "cut": cut}


def _unpack(memory: Json) -> Array:
    """Give the errors (n,) bool that were carried."""
    packed = np.frombuffer(base64.b64decode(memory.get("errors", "")), dtype=np.uint8)
    return np.unpackbits(packed, count=int(memory.get("n", 0))).astype(bool)
