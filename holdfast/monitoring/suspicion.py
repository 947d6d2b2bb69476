"""Suspicion: traces that an attack leaves in rows and answers, and that ordinary drift does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

import numpy as np
import torch
from pydantic import Field

from holdfast.monitoring._features import standardised
from holdfast.monitoring.base import Detector, Needs, Reading
from holdfast.seeding import Noise

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data.stream import Array, Window
    from holdfast.results import Json

_NEIGHBOURS = 5
_TAIL = 0.99
"""Rows farther from the past than this share of the past's own rows are strange."""


@final
class Suspicion(Detector):
    """Three traces, each as an excess over the past in standard errors; the statistic is the largest.

    *Off the data*: rows farther from their nearest neighbours in the past than the past's own rows. *At the
    boundary*: answers whose two likeliest classes are close. *Probing*: rows that differ from others of the window in
    almost nothing, as queries of a search do.
    """

    needs: ClassVar[Needs] = "outputs"
    reference: ClassVar[str] = (
        "local density: Papernot and McDaniel 2018, arXiv:1803.04765; query patterns: Chen, Carlini and Wagner 2019, "
        "arXiv:1907.05587, section 4"
    )

    rows: Annotated[int, Field(ge=50)] = 1000
    """Rows of the window and of the past that are looked at, at most."""
    margin: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Difference of the two largest probabilities below which an answer is at the boundary."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the largest excess of a trace; the effect is the largest excess as a share of rows."""
        now, before = (each.resample(min(self.rows, len(each)), Noise(0, ("suspicion",))) for each in (window, past))
        traces = {
            "off_data": _strange(now, before),
            "boundary": (_margin(now) < self.margin, float((_margin(before) < self.margin).mean())),
            "probing": (_nearly_same(now, before), float(_nearly_same(before, before).mean())),
        }
        found = {name: _excess(flags, base, len(before)) for name, (flags, base) in traces.items()}
        shares = {name: float(flags.mean()) - base for name, (flags, base) in traces.items()}
        worst = max(found, key=lambda name: found[name])
        return Reading(
            statistic=found[worst],
            effect=shares[worst],
            effect_unit=f"share of rows, {worst.replace('_', ' ')}, above the past",
            details={"z": found, "excess": shares},
            memory=memory,
        )


def _strange(now: Window, before: Window) -> tuple[Array, float]:
    """Tell which rows (n,) lie farther from the past than nearly all of the past lies from itself."""
    x, reference = standardised(now, before), standardised(before, before)
    own = torch.cdist(reference, reference).topk(min(_NEIGHBOURS + 1, len(reference)), largest=False).values[:, -1]
    limit = torch.quantile(own, _TAIL)
    far = torch.cdist(x, reference).topk(min(_NEIGHBOURS, len(reference)), largest=False).values[:, -1] > limit
    return np.asarray(far.numpy()), 1.0 - _TAIL


def _margin(window: Window) -> Array:
    """Give the difference of the two largest probabilities (n,)."""
    top = np.sort(window.probabilities, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0])


def _nearly_same(window: Window, past: Window) -> Array:
    """Tell which rows (n,) have another of the window closer than nearly all rows of the past have."""
    x, reference = standardised(window, past), standardised(past, past)
    nearest = _nearest(reference)
    limit = 0.01 * float(nearest.median())
    distances = _nearest(x)
    # Copies of one row are duplicates, which integrity knows; probes differ, and hardly.
    return np.asarray(((distances > 0) & (distances <= limit)).numpy())


def _nearest(x: Tensor) -> Tensor:
    """Give the distance of each row (n, d) to its nearest other; by differences, since products lose small ones."""
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(x, x, compute_mode=exact).fill_diagonal_(torch.inf).amin(1)


def _excess(flags: Array, base: float, n_base: int) -> float:
    """Give how many standard errors the share of flags (n,) is above a base rate read on n_base rows."""
    n = len(flags)
    if n == 0:
        return 0.0
    pooled = (float(flags.sum()) + base * n_base + 1.0) / (n + n_base + 2.0)
    return (float(flags.mean()) - base) / float(np.sqrt(pooled * (1.0 - pooled) * (1.0 / n + 1.0 / max(n_base, 1))))
