"""The momentum iterative fast gradient sign method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self, final

import torch
from pydantic import Field

from holdfast.scenarios.attacks._batch import cross_entropy
from holdfast.scenarios.attacks.base import Attack

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise


@final
class MiFgsm(Attack):
    """Climb the cross-entropy from the clean row along a sum of all gradients so far, each of L1 length 1.

    As published in both norms: steps of epsilon / ``steps``, so that all together reach the boundary of the ball. Made
    to find what other models fall to as well; on the model itself ``pgd`` finds more. Ours: a table's gradients are
    taken in each feature's unit.
    """

    reference: ClassVar[str] = "Dong et al. 2018, arXiv:1710.06081, algorithm 1 and eq. 8; tables ours"
    curve_points: ClassVar[int] = 200

    steps: Annotated[int, Field(gt=0)] = 10
    decay: Annotated[float, Field(ge=0.0)] = 1.0
    """Share of the sum that is left after a step."""

    @property
    def most_forwards(self) -> int:
        """Forwards of one point at most."""
        return self.steps + 1

    def longer(self) -> Self:
        """Give the same attack with twice the steps, each half as long."""
        return self.model_copy(update={"steps": 2 * self.steps})

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:  # noqa: ARG002  it starts from the clean row
        """Propose the first row that breaks the point."""
        rows, stride = batch.begin(), batch.threat.epsilon / self.steps
        if len(rows) == 0:
            return batch.adversarial
        z = batch.origin[rows]
        total = torch.zeros_like(z)
        for _ in range(self.steps):
            _, gradient, _ = batch.gradient(rows, z, cross_entropy(batch.y[rows]))
            total = self.decay * total + self._normed(batch, gradient)
            keep = batch.standing(rows)
            rows, total = rows[keep], total[keep]
            if len(rows) == 0:
                return batch.adversarial
            z = batch.ascend(rows, z[keep], total, stride)
        batch.query(rows, z)
        return batch.adversarial

    def _normed(self, batch: Batch, gradient: Tensor) -> Tensor:
        slope = (gradient * batch.space.scale(gradient.device)).flatten(1).double()  # no dependence on other rows
        length = slope.abs().sum(1).to(gradient.dtype).clamp(min=torch.finfo(gradient.dtype).tiny)
        return gradient / length.reshape(-1, *[1] * (gradient.dim() - 1))
