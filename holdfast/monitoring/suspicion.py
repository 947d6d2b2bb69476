"""Suspicion: traces that an attack leaves in rows and answers, and that ordinary drift does not."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final, get_args

import numpy as np
import torch
from pydantic import Field
from scipy import stats

from holdfast.errors import DataError
from holdfast.monitoring._features import squared_distances, standardised
from holdfast.monitoring.base import Asks, Detector, Needs, Reading
from holdfast.seeding import Noise

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data.stream import Array, Window
    from holdfast.results import About, Json

Trace = Literal["off_data", "boundary", "sudden", "probing", "inconsistent"]
_NEIGHBOURS = 5
_TAIL = 0.99
"""Rows farther from the past than this share of the past's own rows are strange."""
_SURE = 0.5
"""Probability from which a class is answered surely: it is more than all others have."""
_LEAST = 1e-9
"""Probability, and distance of answers, below which less makes no difference."""
_LOST = 1e-9
"""What a squared distance may lose as a product of matrices."""
_FREE = frozenset[Trace]({"off_data", "boundary", "sudden", "probing"})
"""Traces that ask the champion for nothing: they are told of beside those that count."""


@final
class Suspicion(Detector):
    """Traces of an attack, each as an excess over the past in standard errors; the statistic is the largest.

    *Off the data*: rows farther from their nearest neighbours in the past than the past's own rows. *At the
    boundary*: answers whose two likeliest classes are close. *Sudden*: rows answered surely by a class that their
    nearest neighbours in the past are given hardly any probability of. *Probing*: rows that differ from others of the
    window in almost nothing, as queries of a search do. *Inconsistent*: rows whose answer moves when they lose their
    detail, by more than all but a hundredth of the past's; the champion is asked again for it.
    """

    needs: ClassVar[Needs] = "outputs"
    about: ClassVar[About] = "attack"
    reference: ClassVar[str] = (
        "local density, and labels of neighbours: Papernot and McDaniel 2018, arXiv:1803.04765; query patterns: Chen, "
        "Carlini and Wagner 2019, arXiv:1907.05587, section 4; feature squeezing: Xu, Evans and Qi 2018, "
        "arXiv:1704.01155, section V"
    )

    rows: Annotated[int, Field(ge=50)] = 1000
    """Rows of the window and of the past that are looked at, at most."""
    traces: Annotated[tuple[Trace, ...], Field(min_length=1)] = ("off_data", "boundary", "probing")
    """Traces that count. Where the world is known to drift, rows that are strange, unsure or unsteady are no sign of
    attack: name ``probing`` alone."""
    margin: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Difference of the two largest probabilities below which an answer is at the boundary."""

    def asks(self, part: Asks) -> bool:
        """Tell whether it reads this part of a window: answers to squeezed rows only where that trace counts."""
        return super().asks(part) or (part == "squeezed" and "inconsistent" in self.traces)

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the largest excess of a trace; the effect is the largest excess as a share of rows.

        Raises:
            DataError: the champion was not asked about squeezed rows, and that trace counts.
        """
        seen: tuple[Trace, ...] = get_args(Trace)
        return self._read(window, past, memory, tuple(each for each in seen if each in self.traces or each in _FREE))

    def replay(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the traces that count, and no others."""
        return self._read(window, past, memory, self.traces)

    def least(self, level: float) -> float:
        """Give the normal quantile: a trace that clean windows never show is no certain sign when it comes once."""
        return float(stats.norm.isf(level))

    def _read(self, window: Window, past: Window, memory: Json, asked: tuple[Trace, ...]) -> Reading:
        sight = _Sight(window.resample(min(self.rows, len(window)), Noise(0, ("suspicion",))), past, self.rows)
        found, shares = dict[Trace, float](), dict[Trace, float]()
        for trace in asked:
            flags, base = self._flags(trace, sight)
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

    def _flags(self, trace: Trace, sight: _Sight) -> tuple[Array, float]:
        """Tell which rows (n,) show a trace, and the share of the past's rows that do."""
        now, past = sight.now, sight.past
        if trace == "boundary":
            return _margin(now) < self.margin, float((_margin(_sample(past, self.rows)) < self.margin).mean())
        if trace == "inconsistent":
            scale, most, base = _unsteady(past, self.rows)
            return (_moved(now) / scale).max(1) > most, base
        if trace == "probing":
            near, base = _near(past, self.rows)
            return _nearly_same(sight.points, squared_distances(sight.points, sight.points), near), base
        distance, support = sight.neighbours
        if trace == "sudden":
            most, base = _alone(past, self.rows)
            return _leap(now, support) > most, base
        return distance > _far(past, self.rows), 1.0 - _TAIL


class _Sight:
    """A window as it lies among the past: what traces share is computed once, and only where one asks."""

    def __init__(self, now: Window, past: Window, rows: int) -> None:
        self.now, self.past, self._rows = now, past, rows

    @cached_property
    def points(self) -> Tensor:
        """Its rows as points (n, d)."""
        return standardised(self.now, _sample(self.past, self._rows))

    @cached_property
    def neighbours(self) -> tuple[Array, Array]:
        """Give what `_among` finds of its rows among the past's."""
        points, _ = _distances(self.past, self._rows)
        sample = _sample(self.past, self._rows)
        return _among(squared_distances(self.points, points), sample.probabilities, self.now.predicted)


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
def _known(past: Window, rows: int) -> tuple[Array, Array]:
    """Give what `_among` finds of the past's rows among the others."""
    _, squared = _distances(past, rows)
    sample = _sample(past, rows)
    return _among(squared.clone(), sample.probabilities, sample.predicted)


def _far(past: Window, rows: int) -> float:
    """Give the distance from the past beyond which a row is strange."""
    return float(np.quantile(_known(past, rows)[0], _TAIL))


def _alone(past: Window, rows: int) -> tuple[float, float]:
    """Give the leap beyond which an answer is sudden, and the share of the past's that are."""
    leaps = _leap(_sample(past, rows), _known(past, rows)[1])
    most = float(np.quantile(leaps, _TAIL))
    return most, float((leaps > most).mean())


@lru_cache(maxsize=4)
def _unsteady(past: Window, rows: int) -> tuple[Array, float, float]:
    """Give the scale of each way to squeeze (ways,), the move beyond which a row is inconsistent, and the past's share.

    One way may move many answers by much and another few by little: each is held to its own scale.
    """
    moved = _moved(_sample(past, rows))
    scale = np.maximum(np.quantile(moved, _TAIL, axis=0), _LEAST)
    largest = (moved / scale).max(1)
    most = float(np.quantile(largest, _TAIL))
    return scale, most, float((largest > most).mean())


@lru_cache(maxsize=4)
def _near(past: Window, rows: int) -> tuple[float, float]:
    """Give the distance from each other below which rows are nearly the same, and the share of the past's that are."""
    points, squared = _distances(past, rows)
    near = 0.01 * float(squared.amin(1).sqrt().median())
    return near, float(_nearly_same(points, squared, near).mean())


def _among(squared: Tensor, probabilities: Array, classes: Array) -> tuple[Array, Array]:
    """Give how far rows are from the past, and what the past says there of their classes, by squared distances (n, m).

    That is the distance (n,) to the nearest but four, and the mean probability (n,) of the row's class among those no
    farther: rows that are as far as the last of them count too, so that no order decides. The distances are used up.

    Args:
        squared: from the past's rows; overwritten.
        probabilities: of the past's rows (m, classes).
        classes: of the rows asked about (n,).
    """
    near = squared.topk(min(_NEIGHBOURS, squared.shape[1]), largest=False).values[:, -1:]
    beside = squared.le_(near + _LOST)
    told = (beside @ torch.from_numpy(probabilities).to(beside)) / beside.sum(1, keepdim=True)
    support = told.gather(1, torch.from_numpy(classes)[:, None])
    return np.asarray(near[:, 0].sqrt().numpy()), np.asarray(support[:, 0].numpy())


def _leap(window: Window, support: Array) -> Array:
    """Give how much surer rows (n,) are of their class than those beside them, in nats; 0 for those that are unsure."""
    sure = window.confidence >= _SURE
    return np.where(sure, np.log(np.maximum(window.confidence, _LEAST) / np.maximum(support, _LEAST)), 0.0)


def _moved(window: Window) -> Array:
    """Give how far answers move for each way to squeeze (n, ways)."""
    if window.squeezed is None:
        raise DataError(
            f"window {window.position}", found="no answers to squeezed rows", expected="the champion's",
            remedy="Ask the champion for them when the window is built, or leave out suspicion's trace inconsistent.",
        )  # fmt: skip
    return window.squeezed


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
