"""Targeted Fast Adaptive Boundary: the nearest row across one class's boundary at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self, final

import torch
from pydantic import Field

from holdfast.scenarios.attacks._batch import likeliest
from holdfast.scenarios.attacks._boundary import Boundary
from holdfast.scenarios.attacks.apgd_t import targeted_margin

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise


@final
class FabT(Boundary):
    """Walk along the boundary to each of the likeliest wrong classes in turn, whatever other class is met there."""

    reference: ClassVar[str] = "Croce and Hein 2020, arXiv:1907.02044, algorithm 1; targets: arXiv:2003.01690"

    targets: Annotated[int, Field(gt=0)] = 9
    """Wrong classes tried, the likeliest first; never more than there are."""

    @property
    def most_forwards(self) -> int:
        """Forwards of one point at most."""
        return 1 + 2 * self.targets * self.restarts * self.steps

    def longer(self) -> Self:
        """Give twice the steps, towards the likeliest class alone: steps are in question here, and not targets."""
        return self.model_copy(update={"steps": 2 * self.steps, "targets": 1})

    def lighter(self) -> Self:
        """Give the same attack towards the likeliest class alone, from the clean rows."""
        return self.model_copy(update={"restarts": 1, "targets": 1})

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:
        """Propose the first row within the radius, towards any target, that breaks the point."""
        order = likeliest(batch)
        for rank in range(min(self.targets, order.shape[1] - 1)):
            pairs = torch.stack([batch.y, order[:, rank]], 1)

            def facing(rows: Tensor, z: Tensor, pairs: Tensor = pairs) -> tuple[Tensor, Tensor]:
                return batch.gradient(rows, z, targeted_margin(pairs[rows]), beyond=True)[:2]

            for restart in range(self.restarts):
                self.walk(batch, facing, noise.derive("start", rank, restart) if restart else None)
        return batch.adversarial
