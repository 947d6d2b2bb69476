"""Suspicion: traces that an attack leaves in rows and answers, and that ordinary drift does not."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final, get_args

import numpy as np
import torch
from pydantic import Field
from scipy import stats

from holdfast.monitoring._features import squared_distances, standardised
from holdfast.monitoring.base import Detector, Needs, Reading
from holdfast.seeding import Noise

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data.stream import Array, Window
    from holdfast.results import About, Json

Trace = Literal["off_data", "boundary", "probing"]
_NEIGHBOURS = 5
_TAIL = 0.99
"""Rows farther from the past than this share of the past's own rows are strange."""


_LOST = 1e-9
"""What a squared distance may lose as a product of matrices."""


@final
class Suspicion(Detector):
    """Three traces, each as an excess over the past in standard errors; the statistic is the largest.

    *Off the data*: rows farther from their nearest neighbours in the past than the past's own rows. *At the
    boundary*: answers whose two likeliest classes are close. *Probing*: rows that differ from others of the window in
    almost nothing, as queries of a search do.
    """

    needs: ClassVar[Needs] = "outputs"
    about: ClassVar[About] = "attack"
    reference: ClassVar[str] = (
        "local density: Papernot and McDaniel 2018, arXiv:1803.04765; query patterns: Chen, Carlini and Wagner 2019, "
        "arXiv:1907.05587, section 4"
    )

    rows: Annotated[int, Field(ge=50)] = 1000
    """Rows of the window and of the past that are looked at, at most."""
    traces: Annotated[tuple[Trace, ...], Field(min_length=1)] = ("off_data", "boundary", "probing")
    """Traces that count. Where the world is known to drift, rows off the data and unsure answers are no sign of attack:
    name ``probing`` alone."""
    margin: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Difference of the two largest probabilities below which an answer is at the boundary."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the largest excess of a trace; the effect is the largest excess as a share of rows."""
        return self._read(window, past, memory, get_args(Trace))

    def replay(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the traces that count, and no others."""
        return self._read(window, past, memory, self.traces)

    def least(self, level: float) -> float:
        """Give the normal quantile: a trace that clean windows never show is no certain sign when it comes once."""
        return float(stats.norm.isf(level))

    def _read(self, window: Window, past: Window, memory: Json, asked: tuple[Trace, ...]) -> Reading:
        now = window.resample(min(self.rows, len(window)), Noise(0, ("suspicion",)))
        found, shares = dict[Trace, float](), dict[Trace, float]()
        for trace in asked:
            flags, base = self._flags(trace, now, past)
            found[trace] = _excess(flags, base, min(self.rows, len(past)))
            shares[trace] = float(flags.mean()) - base
        worst = max(self.traces, key=lambda name: found[name])
        return Reading(
            statistic=found[worst],
            effect=shares[worst],
            effect_unit=f"share of rows, {worst.replace('_', ' ')}, above the past",
            details={"z": found, "excess": shares},
            memory=memory,
        )

    def _flags(self, trace: Trace, now: Window, past: Window) -> tuple[Array, float]:
        """Tell which rows (n,) show a trace, and the share of the past's rows that do."""
        if trace == "boundary":
            return _margin(now) < self.margin, float((_margin(_sample(past, self.rows)) < self.margin).mean())
        x = standardised(now, _sample(past, self.rows))
        if trace == "probing":
            near, base = _near(past, self.rows)
            return _nearly_same(x, squared_distances(x, x), near), base
        points, far = _far(past, self.rows)
        return np.asarray((_neighbour(squared_distances(x, points), _NEIGHBOURS) > far).numpy()), 1.0 - _TAIL


# A window is known by its identity: hundreds of windows are held against one past.
@lru_cache(maxsize=4)
def _sample(past: Window, rows: int) -> Window:
    return past.resample(min(rows, len(past)), Noise(0, ("suspicion",)))


@lru_cache(maxsize=4)
def _distances(past: Window, rows: int) -> tuple[Tensor, Tensor]:
    """Give the past's points (m, d) and their squared distances (m, m), infinite from themselves."""
    sample = _sample(past, rows)
    points = standardised(sample, sample)
    return points, squared_distances(points, points).fill_diagonal_(torch.inf)


@lru_cache(maxsize=4)
def _far(past: Window, rows: int) -> tuple[Tensor, float]:
    """Give the past's points (m, d), and the distance from them beyond which a row is strange."""
    points, squared = _distances(past, rows)
    return points, float(torch.quantile(_neighbour(squared, _NEIGHBOURS), _TAIL))


@lru_cache(maxsize=4)
def _near(past: Window, rows: int) -> tuple[float, float]:
    """Give the distance from each other below which rows are nearly the same, and the share of the past's that are."""
    points, squared = _distances(past, rows)
    near = 0.01 * float(squared.amin(1).sqrt().median())
    return near, float(_nearly_same(points, squared, near).mean())


def _neighbour(squared: Tensor, k: int) -> Tensor:
    """Give the distance of each row to its k-th nearest, or to the farthest where there are fewer."""
    return squared.topk(min(k, squared.shape[1]), largest=False).values[:, -1].sqrt()


def _margin(window: Window) -> Array:
    """Give the difference of the two largest probabilities (n,)."""
    top = np.sort(window.probabilities, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0])


def _nearly_same(x: Tensor, squared: Tensor, near: float) -> Array:
    """Tell which points (n, d) have another closer than nearly all points of the past have."""
    close = (squared.fill_diagonal_(torch.inf).amin(1) <= near**2 + _LOST).nonzero().flatten()
    # Copies of one row are duplicates, which integrity knows; probes differ, and hardly: a product would lose that.
    exact = torch.cdist(x[close], x, compute_mode="donot_use_mm_for_euclid_dist")
    exact[torch.arange(len(close)), close] = torch.inf
    nearest = exact.amin(1)
    flags = torch.zeros(len(x), dtype=torch.bool)
    flags[close] = (nearest > 0) & (nearest <= near)
    return np.asarray(flags.numpy())


def _excess(flags: Array, base: float, n_base: int) -> float:
    """Give how many standard errors the share of flags (n,) is above a base rate read on n_base rows."""
    n = len(flags)
    if n == 0:
        return 0.0
    pooled = (float(flags.sum()) + base * n_base + 1.0) / (n + n_base + 2.0)
    return (float(flags.mean()) - base) / float(np.sqrt(pooled * (1.0 - pooled) * (1.0 / n + 1.0 / max(n_base, 1))))
