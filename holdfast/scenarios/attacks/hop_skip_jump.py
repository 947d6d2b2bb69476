"""HopSkipJump: along the boundary towards the clean row, by decisions alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Self, final

import torch
from pydantic import Field

from holdfast.scenarios.attacks._batch import fooled
from holdfast.scenarios.attacks._estimates import packets
from holdfast.scenarios.attacks.base import Attack
from holdfast.space import Box

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise

_TINY = 1e-12


@final
class HopSkipJump(Attack):
    """Start at a random image of another class, and shorten its distance: what needs no more than the decision.

    As published, for each point by itself: a bisection to the boundary; there a gradient estimate from the decisions
    about ``samples`` rows (times the root of the step's number) around; a step along it, halved until it is across; and
    so on until the queries are spent. It knows no radius: what it finds counts where it lies within.

    Ours: the last estimate is made of half the queries that are left, and a point whose random images all have its own
    class is left standing. Images alone: a random row of a table's endless ranges means nothing.
    """

    reference: ClassVar[str] = "Chen, Jordan and Wainwright 2020, arXiv:1904.02144, algorithms 1 and 2, and its code"
    kinds: ClassVar[frozenset[str]] = frozenset({"box"})
    white_box: ClassVar[bool] = False
    counts_queries: ClassVar[bool] = True

    queries: Annotated[int, Field(gt=0)] = 5000
    samples: Annotated[int, Field(gt=0)] = 100
    """Queries of the first estimate."""
    starts: Annotated[int, Field(gt=0)] = 100
    """Random images that are tried for one of another class."""

    @property
    def most_forwards(self) -> int:
        """Forwards of one point at most."""
        return self.queries

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:
        """Propose the first query within the radius that breaks the point."""
        s = self._bisect(batch, self._begin(batch, batch.begin(), noise.derive("start")))
        step = 0
        while len(s.rows):
            step += 1
            s = self._bisect(batch, self._jump(batch, self._turn(batch, s, step, noise.derive("step", step)), step))
        return batch.adversarial

    def _begin(self, batch: Batch, rows: Tensor, noise: Noise) -> _Walk:
        """Draw images until one has another class; give the points that found one."""
        z, found = batch.origin[rows], torch.zeros_like(rows, dtype=torch.bool)
        low, high = batch.space.limits(z)
        for start in range(self.starts):
            live = torch.nonzero(~found & self._goes_on(batch, rows)).flatten()
            if len(live) == 0:
                break
            unit = noise.derive(start).uniform(batch.ids[rows[live]], tuple(z.shape[1:]))
            z[live] = low[live] + (high - low)[live] * unit
            found[live] = self._across(batch, rows[live], z[live])
        none = torch.zeros(len(rows), dtype=torch.float64, device=z.device)
        walk = _Walk(rows=rows, z=z, way=torch.zeros_like(z), spread=none, distance=none)
        return walk.take(found & self._goes_on(batch, rows))

    def _bisect(self, batch: Batch, s: _Walk) -> _Walk:
        """Bring rows across back to the boundary: on the line to the clean row, in L-inf cut off about it."""
        linf, d = batch.threat.norm == "linf", math.prod(s.z.shape[1:])
        s.spread = self._distance(batch, s)
        high = s.spread if linf else torch.ones_like(s.spread)
        close = high.clamp(max=_width(batch)) / d**2 if linf else high / d**1.5
        hop, ends = s.z, torch.stack([torch.zeros_like(high), high], 1)
        apart = torch.nonzero(ends[:, 1] - ends[:, 0] > close).flatten()
        while len(apart):
            rows, middle = s.rows[apart], ends[apart].mean(1)
            z = _between(batch, rows, hop[apart], middle)
            across = self._across(batch, rows, z)
            ends[apart, across.long()] = middle
            s.z[apart[across]] = z[across]
            still = self._goes_on(batch, s.rows) & (ends[:, 1] - ends[:, 0] > close)
            apart = torch.nonzero(still).flatten()
        s.distance = self._distance(batch, s)
        return s.take(self._goes_on(batch, s.rows))

    def _turn(self, batch: Batch, s: _Walk, step: int, noise: Noise) -> _Walk:
        """Estimate the way across from decisions; where queries run short, on half of what is left."""
        left = self.queries - batch.asked[s.rows]
        wanted = int(self.samples * math.sqrt(step))
        counts = torch.where(left > wanted, wanted, left // 2)
        for count in sorted(set(counts.tolist())):
            some = torch.nonzero(counts == count).flatten()
            s.way[some] = self._estimate(batch, s.take(some), step, count, noise)
        return s.take(self._goes_on(batch, s.rows))

    def _estimate(self, batch: Batch, s: _Walk, step: int, count: int, noise: Noise) -> Tensor:
        """Give steepest ways across (m, *shape) of length one, from so many decisions (eqs. 9 and 16)."""
        linf, shape = batch.threat.norm == "linf", tuple(s.z.shape[1:])
        reach = torch.full_like(s.spread, 0.1 * _width(batch)) if step == 1 else s.spread / math.prod(shape)
        length = _column(reach, s.z)[:, None]
        signed, plain = (torch.zeros_like(s.z, dtype=torch.float64) for _ in range(2))
        balance = torch.zeros_like(s.spread)
        for number, size in packets(count, shape):
            draw, ids = noise.derive(number), batch.ids[s.rows]
            u = draw.uniform(ids, (size, *shape), -1.0, 1.0) if linf else draw.normal(ids, (size, *shape))
            u = u / _column(u.flatten(2).double().norm(dim=2), u)
            every = s.rows.repeat_interleave(size)
            z = batch.confine(every, (s.z[:, None] + length * u).flatten(0, 1)).reshape(u.shape)
            u = ((z - s.z[:, None]) / length.clamp(min=_TINY)).double()  # what the pixels' ends have left of it
            said = self._across(batch, s.rows, z).double() * 2.0 - 1.0
            signed += (said.reshape(*said.shape, *[1] * len(shape)) * u).sum(1)
            plain += u.sum(1)
            balance += said.sum(1)
        same = balance.abs() == count
        way = signed - _column(torch.where(same, 0.0, balance / max(count, 1)), plain) * plain
        if linf:
            return way.sign().to(s.z.dtype)
        return (way / _column(way.flatten(1).norm(dim=1).clamp(min=_TINY), way)).to(s.z.dtype)

    def _jump(self, batch: Batch, s: _Walk, step: int) -> _Walk:
        """Go along the estimate by the distance over the root of the step's number, or a half, a quarter ... of it."""
        stride, ahead = s.distance / math.sqrt(step), s.z.clone()
        waiting = torch.arange(len(s.rows), device=s.z.device)
        while len(waiting):
            rows = s.rows[waiting]
            z = batch.confine(rows, s.z[waiting] + _column(stride[waiting], s.z) * s.way[waiting])
            across = self._across(batch, rows, z)
            ahead[waiting[across]] = z[across]
            stride[waiting] /= 2.0
            waiting = waiting[~across & self._goes_on(batch, rows)]
        s.z = ahead
        return s.take(self._goes_on(batch, s.rows))

    def _across(self, batch: Batch, rows: Tensor, z: Tensor) -> Tensor:
        """Ask for the decision at rows (m, *shape) or (m, k, *shape): whether it is another class than the label."""
        if z.dim() == batch.x.dim():
            return fooled(batch.query(rows, z, beyond=True), batch.y[rows])
        logits = batch.query_each(rows, z, beyond=True)
        return fooled(logits.flatten(0, 1), batch.y[rows].repeat_interleave(z.shape[1])).reshape(logits.shape[:2])

    def _goes_on(self, batch: Batch, rows: Tensor) -> Tensor:
        """Tell which points (m,) stand and have queries left."""
        return batch.standing(rows) & (batch.asked[rows] < self.queries)

    def _distance(self, batch: Batch, s: _Walk) -> Tensor:
        return batch.threat.distance(s.z, batch.x[s.rows], batch.space).double()


@dataclass
class _Walk:
    """Where each point is: one row of every tensor for each."""

    rows: Tensor
    z: Tensor
    """A row across."""
    way: Tensor
    """Where it goes from the boundary."""
    spread: Tensor
    """Distance from the clean row before the last bisection."""
    distance: Tensor
    """Distance after it."""

    def take(self, keep: Tensor) -> Self:
        """Give some points, by mask or by number."""
        return replace(self, **{f.name: getattr(self, f.name)[keep] for f in fields(self)})


def _between(batch: Batch, rows: Tensor, z: Tensor, part: Tensor) -> Tensor:
    """Go back from z towards the clean rows: to a share of the way in L2, to a distance in L-inf."""
    origin, part = batch.origin[rows], _column(part, z)
    if batch.threat.norm == "linf":
        return batch.confine(rows, torch.minimum(torch.maximum(z, origin - part), origin + part))
    return batch.confine(rows, (1.0 - part) * origin + part * z)


def _width(batch: Batch) -> float:
    return batch.space.high - batch.space.low if isinstance(batch.space, Box) else 1.0


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Shape values so that they broadcast over what has their leading dimensions, and its type."""
    return values.to(like.dtype).reshape(*values.shape, *[1] * (like.dim() - values.dim()))
