"""Auto-PGD: the climb that apgd_ce and apgd_t share."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise

_MOMENTUM = 0.75
_RISES = 0.75
"""rho: with at most this share of rising steps between two checkpoints, the step is halved."""


@dataclass
class _Climb:
    """Where each standing point is: one row of every tensor for each."""

    rows: Tensor
    labels: Tensor
    z: Tensor
    before: Tensor
    gradient: Tensor
    loss: Tensor
    step: Tensor
    top: Tensor
    top_gradient: Tensor
    top_loss: Tensor
    checked_loss: Tensor
    halved: Tensor
    rises: Tensor

    def take(self, keep: Tensor) -> Self:
        """Keep some points."""
        return (
            self if bool(keep.all()) else replace(self, **{f.name: getattr(self, f.name)[keep] for f in fields(self)})
        )


def checkpoints(steps: int) -> Iterator[int]:
    """Give the steps after which the step size is reviewed: gaps of 22 % of all steps, 3 % less each, 6 % at least.

    Source: Croce and Hein 2020, section 3.1 and their published schedule.
    """
    gap, least, less = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    at = gap
    while at <= steps:
        yield at
        gap = max(gap - less, least)
        at += gap


def climb(batch: Batch, labels: Tensor, loss: Callable[[Tensor], Callable[[Tensor, Tensor], Tensor]],
          noise: Noise, steps: int) -> None:  # fmt: skip
    """Climb once from a random boundary point; the points it breaks are booked in the batch.

    Args:
        batch: the points; only those that still stand are attacked.
        labels: whatever the loss needs of each point (n, ...).
        loss: maps the labels of some points to their loss, as ``Batch.gradient`` wants it.
        noise: the start's.
        steps: gradient steps.

    Source: Croce and Hein 2020, arXiv:2003.01690, algorithm 1.
    """
    rows = batch.begin()
    if len(rows) == 0:
        return
    shape = tuple(batch.x.shape[1:])
    ids = batch.ids[rows]
    linf = batch.threat.norm == "linf"
    z = batch.start(rows, noise.uniform(ids, shape, -1.0, 1.0) if linf else noise.normal(ids, shape))
    value, gradient, _ = batch.gradient(rows, z, loss(labels[rows]))
    none = torch.zeros_like(value)
    state = _Climb(
        rows=rows, labels=labels[rows], z=z, before=z, gradient=gradient, loss=value,
        step=torch.full_like(value, 2.0 * batch.threat.epsilon), top=z, top_gradient=gradient, top_loss=value,
        checked_loss=value, halved=none + 1, rises=none,
    )  # fmt: skip
    last, reviews = 0, set(checkpoints(steps))
    for done in range(1, steps + 1):
        state = state.take(batch.standing(state.rows))
        if len(state.rows) == 0:
            return
        _advance(batch, state, loss, momentum=_MOMENTUM if done > 1 else 1.0)
        if done in reviews:
            _review(state, gap=done - last)
            last = done


def _advance(
    batch: Batch, s: _Climb, loss: Callable[[Tensor], Callable[[Tensor, Tensor], Tensor]], momentum: float
) -> None:
    ahead = batch.ascend(s.rows, s.z, s.gradient, s.step)
    moved = batch.project(s.rows, s.z + momentum * (ahead - s.z) + (1.0 - momentum) * (s.z - s.before))
    s.before, s.z = s.z, moved
    value, s.gradient, _ = batch.gradient(s.rows, s.z, loss(s.labels))
    s.rises = s.rises + (value > s.loss)
    s.loss = value
    better = value > s.top_loss
    column = better.reshape(-1, *[1] * (s.z.dim() - 1))
    s.top = torch.where(column, s.z, s.top)
    s.top_gradient = torch.where(column, s.gradient, s.top_gradient)
    s.top_loss = torch.where(better, value, s.top_loss)


def _review(s: _Climb, gap: int) -> None:
    """Halve the step and go back to the best point where few steps rose, or where nothing changed since last time."""
    halve = (s.rises <= _RISES * gap) | ((s.halved == 0) & (s.checked_loss >= s.top_loss))
    s.halved, s.checked_loss, s.rises = halve.to(s.loss.dtype), s.top_loss, torch.zeros_like(s.rises)
    s.step = torch.where(halve, s.step / 2, s.step)
    column = halve.reshape(-1, *[1] * (s.z.dim() - 1))
    s.z, s.gradient = torch.where(column, s.top, s.z), torch.where(column, s.top_gradient, s.gradient)
