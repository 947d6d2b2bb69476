"""Auto-PGD on the untargeted difference-of-logits ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self, final

from pydantic import Field

from holdfast.scenarios.attacks._apgd import climb
from holdfast.scenarios.attacks._batch import margin
from holdfast.scenarios.attacks.base import Attack

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise

_DLR_CLASSES = 3


@final
class ApgdDlr(Attack):
    """Climb away from the label on a loss that the scale of logits cannot flatten, towards whichever class is nearest.

    With label y and logits sorted as z(1) >= z(2) >= ..., the loss is -(z_y - max over i != y of z_i) / (z(1) - z(3)).
    It needs three classes. With two the loss is the difference alone, for the reason that ``apgd_t`` gives: between
    two classes there is nothing to divide by but the difference itself, whose ratio would be constant.
    """

    reference: ClassVar[str] = "Croce and Hein 2020, arXiv:2003.01690, section 4.1, eq. 6; with 2 classes ours"

    steps: Annotated[int, Field(gt=0)] = 100
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
        for restart in range(self.restarts):
            climb(batch, batch.y, dlr, noise.derive("start", restart), self.steps)
        return batch.adversarial


def dlr(y: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Build the difference-of-logits ratio (k,) for labels (m,); with two classes the difference."""

    def loss(logits: Tensor, at: Tensor) -> Tensor:
        lead = -margin(logits, y[at])
        if logits.shape[1] < _DLR_CLASSES:
            return lead
        top = logits.topk(_DLR_CLASSES, dim=1).values
        return lead / (top[:, 0] - top[:, 2] + 1e-12)

    return loss
