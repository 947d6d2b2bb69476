"""The fast gradient sign method after a random step: RAND+FGSM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

import torch
from pydantic import Field

from holdfast.scenarios.attacks._batch import cross_entropy
from holdfast.scenarios.attacks.base import Attack

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise


@final
class RFgsm(Attack):
    """Take a random step, and then one steepest step of the cross-entropy for what is left of the radius.

    As published in L-inf: the random step goes by a share of the radius in every feature, its sign a normal draw's. It
    leaves the bend beside the clean row that training against ``fgsm`` makes. Ours: in L2 both steps are vectors of
    these lengths, the first of the normal draw itself; on tables lengths are in each feature's unit.
    """

    reference: ClassVar[str] = "Tramer et al. 2018, arXiv:1705.07204, section 3.4, eq. 7; L2 and tables ours"
    curve_points: ClassVar[int] = 200

    share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    """The random step's share of the radius."""

    @property
    def most_forwards(self) -> int:
        """Forwards of one point at most."""
        return 2

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:
        """Propose the row after both steps."""
        rows = batch.begin()
        if len(rows) == 0:
            return batch.adversarial
        z, epsilon = batch.origin[rows], batch.threat.epsilon
        draw = noise.derive("start").normal(batch.ids[rows], tuple(z.shape[1:]))
        scale = batch.space.scale(z.device)
        direction = torch.where(scale > 0, draw / scale.clamp(min=1e-12), 0.0)  # a step is taken in units of the scale
        z = batch.ascend(rows, z, direction, self.share * epsilon)
        _, gradient, _ = batch.gradient(rows, z, cross_entropy(batch.y[rows]))
        keep = batch.standing(rows)
        if bool(keep.any()):
            batch.query(rows[keep], batch.ascend(rows[keep], z[keep], gradient[keep], (1.0 - self.share) * epsilon))
        return batch.adversarial
