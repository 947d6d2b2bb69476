"""The fast gradient sign method: one step to the boundary of the ball."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from holdfast.scenarios.attacks._batch import single_step
from holdfast.scenarios.attacks.base import Attack

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise


@final
class Fgsm(Attack):
    """Take one steepest step of the cross-entropy, as long as the threat allows, from the clean row.

    Weak by design: a model that holds here and falls to many steps was trained against one step only. In L2 the
    step goes along the gradient itself.
    """

    reference: ClassVar[str] = "Goodfellow et al. 2015, arXiv:1412.6572, section 4"
    curve_points: ClassVar[int] = 200

    @property
    def most_forwards(self) -> int:
        """Forwards of one point at most."""
        return 2

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:  # noqa: ARG002  a single step draws nothing
        """Propose the boundary point along the gradient."""
        single_step(batch)
        return batch.adversarial
