"""Auto-PGD on the cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self, final

from pydantic import Field

from holdfast.scenarios.attacks._apgd import climb
from holdfast.scenarios.attacks._batch import cross_entropy
from holdfast.scenarios.attacks.base import Attack

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise


@final
class ApgdCe(Attack):
    """Climb the cross-entropy with momentum and steps that are halved by themselves: nothing to tune."""

    reference: ClassVar[str] = "Croce and Hein 2020, arXiv:2003.01690, algorithm 1"

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
            climb(batch, batch.y, cross_entropy, noise.derive("start", restart), self.steps)
        return batch.adversarial
