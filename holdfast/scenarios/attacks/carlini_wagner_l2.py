"""Carlini and Wagner's L2 attack: the nearest row across, by descent on distance and margin together."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, final

import torch
from pydantic import Field

from holdfast.scenarios.attacks._batch import fooled, margin
from holdfast.scenarios.attacks.base import Attack

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise

_DECAYS = (0.9, 0.999)
_INSIDE = 0.999999
"""The clean row is drawn this little towards grey: at the very bounds the change of variables has no inverse."""
_ALMIGHTY = 100.0
"""A weight of the margin beside which no distance in an image counts."""


@final
class CarliniWagnerL2(Attack):
    """Shorten the L2 distance while the margin stays negative; a binary search for each point weighs the two.

    As published: pixels are tanh of what is descended on, so that every iterate is an image; the objective, in pixels
    of [0, 1], is the squared distance and ``weight`` times the margin's positive part; Adam; the weight is multiplied
    by ten until a row is across, then halved in between. It knows no radius: what it finds counts where it lies within,
    in L-inf too, where it was not made for and ``fab`` is the one to ask.

    Ours: no descent stops for want of progress, which the published code asks of a whole batch; a row that breaks its
    point within the radius ends the search; and by default steps are 1,000 where the paper takes 10,000. Images alone:
    a table's ranges may have no end, and its whole steps no derivative.
    """

    reference: ClassVar[str] = "Carlini and Wagner 2017, arXiv:1608.04644, section VI.A and the code to it"
    kinds: ClassVar[frozenset[str]] = frozenset({"box"})

    norm: Literal["linf", "l2"] = "l2"
    epsilon: Annotated[float, Field(ge=0.0)] = 0.5
    """Radius in pixel values."""
    steps: Annotated[int, Field(gt=0)] = 1000
    """Steps for each weight, at most."""
    searches: Annotated[int, Field(gt=0)] = 9
    """Weights that are tried."""
    weight: Annotated[float, Field(gt=0.0)] = 1e-3
    """The first of them."""
    rate: Annotated[float, Field(gt=0.0)] = 0.01
    """Adam's."""

    @property
    def most_forwards(self) -> int:
        """Forwards of one point at most."""
        return self.searches * self.steps

    def longer(self) -> Self:
        """Give the same attack with twice the steps."""
        return self.model_copy(update={"steps": 2 * self.steps})

    def lighter(self) -> Self:
        """Give one descent in which the margin is all that counts, fast enough for black to become white."""
        fast = max(self.rate, 2.0 * math.atanh(_INSIDE) / self.steps)
        return self.model_copy(update={"searches": 1, "weight": _ALMIGHTY, "rate": fast})

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:  # noqa: ARG002  it starts from the clean row
        """Propose the first row within the radius, under any weight, that breaks the point."""
        low = torch.zeros(len(batch), dtype=torch.float64, device=batch.x.device)
        high, weight = torch.full_like(low, torch.inf), torch.full_like(low, self.weight)
        for _ in range(self.searches):
            rows = batch.begin()
            crossed = self._descend(batch, rows, weight[rows])
            high[rows] = torch.where(crossed, weight[rows], high[rows])
            low[rows] = torch.where(crossed, low[rows], weight[rows])
            weight = torch.where(high.isinf(), 10.0 * weight, (low + high) / 2)
        return batch.adversarial

    def _descend(self, batch: Batch, rows: Tensor, weight: Tensor) -> Tensor:
        """Descend once from the clean rows with these weights (m,); tell which of the rows (m,) came across."""
        crossed = torch.zeros_like(rows, dtype=torch.bool)
        w, _ = _opened(batch, rows)
        s = _Descent(
            at=torch.arange(len(rows), device=rows.device), rows=rows, weight=weight, start=w, w=w,
            mean=torch.zeros_like(w), square=torch.zeros_like(w),
        )  # fmt: skip
        for step in range(self.steps):
            if len(s.rows) == 0:
                break
            slope, across = self._slope(batch, s)
            crossed[s.at] |= across
            keep = batch.standing(s.rows)
            s, slope = s.take(keep), slope[keep]
            s.mean = _DECAYS[0] * s.mean + (1.0 - _DECAYS[0]) * slope
            s.square = _DECAYS[1] * s.square + (1.0 - _DECAYS[1]) * slope.square()
            grown = [1.0 - decay ** (step + 1) for decay in _DECAYS]
            s.w = s.w - self.rate * (s.mean / grown[0]) / ((s.square / grown[1]).sqrt() + 1e-8)
        return crossed

    def _slope(self, batch: Batch, s: _Descent) -> tuple[Tensor, Tensor]:
        """Give the objective's gradient in w (m, *shape), and which rows (m,) are across."""
        _, (middle, half) = _opened(batch, s.rows)
        tanh = s.w.tanh()
        moved = half * (tanh - s.start.tanh())
        z = batch.confine(s.rows, middle + half * tanh)
        lead, climb, logits = batch.gradient(s.rows, z, _minus_margin(batch.y[s.rows]), beyond=True)
        matters = s.weight * (lead < 0)
        slope = 2.0 * moved / (2.0 * half).square() - _column(matters, climb) * climb
        return slope * half * (1.0 - tanh.square()), fooled(logits, batch.y[s.rows])


@dataclass
class _Descent:
    """Where each point is: one row of every tensor for each."""

    at: Tensor
    """Its place among the rows that began."""
    rows: Tensor
    weight: Tensor
    start: Tensor
    w: Tensor
    mean: Tensor
    square: Tensor
    """Adam's moments."""

    def take(self, keep: Tensor) -> Self:
        """Keep some points."""
        return (
            self if bool(keep.all()) else replace(self, **{f.name: getattr(self, f.name)[keep] for f in fields(self)})
        )


def _opened(batch: Batch, rows: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Give clean rows in the unbounded variable (m, *shape), and the middle and half width of every pixel's range."""
    origin = batch.origin[rows]
    low, high = batch.space.limits(origin)
    middle, half = (low + high) / 2, (high - low) / 2
    return torch.atanh(_INSIDE * (origin - middle) / half), (middle, half)


def _minus_margin(y: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, at: -margin(logits, y[at])


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))
