"""Gradients estimated from answers alone: differences of a loss along random directions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field

from holdfast.scenarios.attacks.base import Attack
from holdfast.space import Box

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise

    Loss = Callable[[Tensor, Tensor], Tensor]
    """Maps logits (k, classes) and labels (k,) to losses (k,), to be climbed."""
    Draw = Callable[[Noise, Tensor, tuple[int, ...]], Tensor]
    """Draws numbers (m, *shape) for the ids (m,)."""

_HELD = 1 << 15
"""Elements of one point's rows asked about at a time: bounds memory, and being no batch's affair changes no result."""
_MOST = 32


def packets(count: int, shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Cut so many draws of one shape into packets; give the number of each packet and its draws."""
    size = min(max(_HELD // math.prod(shape), 1), _MOST)
    for number, start in enumerate(range(0, count, size)):
        yield number, min(size, count - start)


class Estimator(Attack):
    """Settings and the estimate of attacks that climb by differences; a subclass says how it steps.

    Images alone: the whole steps of a table swallow small differences.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"box"})
    white_box: ClassVar[bool] = False
    counts_queries: ClassVar[bool] = True

    queries: Annotated[int, Field(gt=0)] = 5000
    samples: Annotated[int, Field(gt=1)] = 50
    """Queries of one estimate: pairs of a random direction and its opposite."""

    @property
    def most_forwards(self) -> int:
        """Forwards of one point at most."""
        return self.queries

    @property
    def pairs(self) -> int:
        """Directions of one estimate: no more than the queries allow."""
        return max(min(self.samples, self.queries - 1) // 2, 1)

    @property
    def rounds(self) -> int:
        """Steps that the queries allow: an estimate, and a look at where it led."""
        return self.queries // (2 * self.pairs + 1)

    def width(self, batch: Batch) -> float:
        """Give the range of pixel values."""
        space = batch.space
        return space.high - space.low if isinstance(space, Box) else 1.0

    def estimate(
        self, batch: Batch, rows: Tensor, z: Tensor, loss: Loss, draw: Draw, reach: float, noise: Noise
    ) -> Tensor:
        """Estimate a loss's gradient (m, *shape) at iterates (m, *shape); what a query breaks in the ball is booked.

        It is the mean of (loss(z + reach v) - loss(z - reach v)) / (2 reach) times v over directions v. Queries may lie
        outside the ball, and are drawn back where pixels end: there the estimate comes out smaller, not turned round.
        For points that break on the way it means nothing.

        Args:
            batch: the points.
            rows: row numbers (m,).
            z: iterates.
            loss: what is to be climbed.
            draw: draws directions.
            reach: how far along a direction is asked, in pixel values.
            noise: the directions'.
        """
        total = torch.zeros_like(z, dtype=torch.float64)
        live, shape = torch.arange(len(rows), device=z.device), tuple(z.shape[1:])
        for number, size in packets(self.pairs, shape):
            live = live[batch.standing(rows[live])]
            if len(live) == 0:
                break
            here = rows[live]
            v = draw(noise.derive(number), batch.ids[here], (size, *shape))
            asked = z[live, None] + reach * torch.cat([v, -v], 1)
            every = here.repeat_interleave(2 * size)
            asked = batch.confine(every, asked.flatten(0, 1)).reshape(asked.shape)
            logits = batch.query_each(here, asked, beyond=True)
            found = loss(logits.flatten(0, 1).double(), batch.y[every]).reshape(len(here), 2, size)
            rise = (found[:, 0] - found[:, 1]) / (2.0 * reach)
            total[live] += (rise.reshape(*rise.shape, *[1] * len(shape)) * v).sum(1)
        return (total / self.pairs).to(z.dtype)
