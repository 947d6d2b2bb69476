"""DeepFool: straight to the nearest of the tangent boundaries, until one is crossed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self, final

import torch
from pydantic import Field

from holdfast.scenarios.attacks._batch import fooled
from holdfast.scenarios.attacks._planes import shortest
from holdfast.scenarios.attacks.base import Attack

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise


@final
class Deepfool(Attack):
    """Walk over the tangents of all classes' boundaries to a first row across, which is seldom the nearest.

    It knows no radius: what it finds counts where it lies within. ``fab`` begins so too, and then goes on along the
    boundary: it finds more. Where features move in whole steps the last one may end beyond the radius what a shorter
    one would have broken within it. A step takes one forward and one backward for each class, and one forward more.
    """

    reference: ClassVar[str] = "Moosavi-Dezfooli et al. 2016, arXiv:1511.04599, algorithm 2"

    steps: Annotated[int, Field(gt=0)] = 50
    overshoot: Annotated[float, Field(ge=0.0)] = 0.02
    """How far beyond the tangent a step goes, in shares of the way to it."""

    @property
    def most_forwards(self) -> int:
        """Forwards of one point at most."""
        return 2 * self.steps

    def longer(self) -> Self:
        """Give the same attack with twice the steps."""
        return self.model_copy(update={"steps": 2 * self.steps})

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:  # noqa: ARG002  it starts from the clean row
        """Propose the first row across a boundary, where it lies within the radius."""
        rows = batch.begin()
        z = batch.origin[rows]
        for _ in range(self.steps):
            if len(rows) == 0:
                break
            lead, gradient = batch.nearest(rows, z)
            keep = batch.standing(rows)
            rows = rows[keep]
            z = self._step(batch, rows, z[keep], lead[keep], gradient[keep])
            crossed = fooled(batch.query(rows, z, beyond=True), batch.y[rows])
            rows, z = rows[~crossed], z[~crossed]
        return batch.adversarial

    def _step(self, batch: Batch, rows: Tensor, z: Tensor, lead: Tensor, gradient: Tensor) -> Tensor:
        """Go past the tangent the shortest way, as if the space had no end; then back into it."""
        scale = batch.space.scale(z.device)
        slope = (gradient * scale).flatten(1).double()  # a sum over many features: no float32, no dependence on others
        endless = torch.full_like(slope, torch.inf)
        way = (1.0 + self.overshoot) * shortest(batch.threat.norm, slope, -lead.double(), endless, endless)
        move = torch.where(scale > 0, way.reshape(z.shape).to(z.dtype) * scale, 0.0)
        return batch.confine(rows, z + move)
