"""Projected gradient descent from random starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self, final

from pydantic import Field

from holdfast.scenarios.attacks._batch import cross_entropy
from holdfast.scenarios.attacks.base import Attack

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise


@final
class Pgd(Attack):
    """Climb the cross-entropy by steepest steps of a fixed length, from random starts in the ball."""

    reference: ClassVar[str] = "Madry et al. 2018, arXiv:1706.06083, section 2.1"
    curve_points: ClassVar[int] = 200

    steps: Annotated[int, Field(gt=0)] = 20
    restarts: Annotated[int, Field(gt=0)] = 1

    @property
    def most_forwards(self) -> int:
        """Forwards of one point at most."""
        return self.restarts * (self.steps + 1)

    def longer(self) -> Self:
        """Give the same attack with twice the steps."""
        return self.model_copy(update={"steps": 2 * self.steps})

    def lighter(self) -> Self:
        """Give the same attack from one start."""
        return self.model_copy(update={"restarts": 1})

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:
        """Propose the first row of any restart that breaks the point."""
        stride = 2.5 * batch.threat.epsilon / self.steps  # can cross the ball and still settle
        for restart in range(self.restarts):
            rows = batch.begin()
            if len(rows) == 0:
                break
            z = batch.threat.start(batch.origin[rows], batch.ids[rows], noise.derive("start", restart), batch.space)
            for _ in range(self.steps):
                _, gradient, _ = batch.gradient(rows, z, cross_entropy(batch.y[rows]))
                keep = batch.standing(rows)
                rows = rows[keep]
                if len(rows) == 0:
                    break
                z = batch.ascend(rows, z[keep], gradient[keep], stride)
            if len(rows):
                batch.query(rows, z)
        return batch.adversarial
