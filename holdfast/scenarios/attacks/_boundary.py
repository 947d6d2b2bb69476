"""Fast Adaptive Boundary: the walk along a boundary, towards its nearest point, that fab and fab_t share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from holdfast.scenarios.attacks._batch import fooled
from holdfast.scenarios.attacks._planes import lengths, shortest
from holdfast.scenarios.attacks.base import Attack

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise

    Facing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """Maps (rows, iterates) to the lead of the class that is walked to, and its gradient."""


class Boundary(Attack):
    """Settings and steps of FAB; a subclass says which class's boundary is walked to."""

    steps: Annotated[int, Field(gt=0)] = 100
    restarts: Annotated[int, Field(gt=0)] = 1
    """Runs; the first starts from the clean row, the others from half the radius away."""
    alpha_max: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    """Weight, at most, of the way from the clean row against the way from the iterate."""
    eta: Annotated[float, Field(ge=1.0)] = 1.05
    """How far beyond the boundary's tangent a step goes, in shares of the way to it."""
    beta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.9
    """Share of its distance that a row across the boundary keeps, when it goes back to look for a nearer one."""

    def walk(self, batch: Batch, facing: Facing, noise: Noise | None) -> None:
        """Walk once from the clean rows, or where there is noise from beside them; what breaks in the ball is booked.

        Args:
            batch: the points; only those that still stand are attacked.
            facing: gives the lead of the class that is walked to over the label (m,), and its gradient (m, *shape).
            noise: the start's.

        Source: Croce and Hein 2020, arXiv:1907.02044, algorithm 1. The one difference: a row that breaks its point
        within the radius ends the walk, since nothing here asks how much nearer another would be.
        """
        rows = batch.begin()
        z = batch.origin[rows] if noise is None else self._beside(batch, rows, noise)
        for _ in range(self.steps):
            if len(rows) == 0:
                return
            lead, gradient = facing(rows, z)
            keep = batch.standing(rows)
            rows, z = rows[keep], z[keep]
            z = self._step(batch, rows, z, lead[keep], gradient[keep])
            crossed = fooled(batch.query(rows, z, beyond=True), batch.y[rows])
            keep = batch.standing(rows)
            rows, z, crossed = rows[keep], z[keep], crossed[keep]
            origin = batch.origin[rows]
            z = torch.where(crossed.reshape(-1, *[1] * (z.dim() - 1)), origin + self.beta * (z - origin), z)

    def _beside(self, batch: Batch, rows: Tensor, noise: Noise) -> Tensor:
        shape, ids, origin = tuple(batch.x.shape[1:]), batch.ids[rows], batch.origin[rows]
        linf = batch.threat.norm == "linf"
        ends = batch.start(rows, noise.uniform(ids, shape, -1.0, 1.0) if linf else noise.normal(ids, shape))
        return origin + 0.5 * (ends - origin)

    def _step(self, batch: Batch, rows: Tensor, z: Tensor, lead: Tensor, gradient: Tensor) -> Tensor:
        """Go past the tangent of the boundary: mostly from the iterate, and a little from the clean row (eq. 9).

        On grids the tangent is laid through the iterate itself, as if rounding were no step: what it takes back is
        asked for again. There the clean row keeps its full weight, since features that wait for a whole step would
        else make the way from the iterate dwindle before it crosses.
        """
        scale, norm, origin = batch.space.scale(z.device), batch.threat.norm, batch.origin[rows]
        slope = (gradient * scale).flatten(1).double()  # a sum over many features: no float32, no dependence on others
        back = torch.where(z.isnan(), 0.0, (origin - z) / scale.clamp(min=1e-12)).flatten(1).double()
        here = shortest(norm, slope, -lead.double(), *_flat(batch.room(rows, z)))
        from_home = -lead.double() - (slope * back).sum(1)
        home = shortest(norm, slope, from_home, *_flat(batch.room(rows, origin)))
        near, far = (lengths(norm, way).clamp(min=1e-8) for way in (here, home))
        alpha = (near / (near + far)).clamp(max=self.alpha_max)[:, None]
        alpha = torch.full_like(alpha, self.alpha_max) if batch.gridded else alpha
        way = (1.0 - alpha) * self.eta * here + alpha * (back + self.eta * home)
        move = torch.where(scale > 0, way.reshape(z.shape).to(z.dtype) * scale, 0.0)
        return batch.confine(rows, z + move)


def _flat(rooms: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return rooms[0].flatten(1).double(), rooms[1].flatten(1).double()
