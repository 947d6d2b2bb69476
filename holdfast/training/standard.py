"""Standard training: cross-entropy on the rows as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch
from torch.nn.functional import cross_entropy

from holdfast.training.base import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from holdfast.seeding import Noise
    from holdfast.space import Box, Table


@final
class Standard(Recipe):
    """Descend the cross-entropy of the training rows."""

    reference: ClassVar[str] = "Goodfellow, Bengio and Courville 2016, Deep Learning, section 6.2"

    def loss(self, network: nn.Module, x: Tensor, perturbed: Tensor, y: Tensor) -> Tensor:
        """Give the cross-entropy (n,) in nats."""
        del x
        return cross_entropy(network(perturbed), y, reduction="none", label_smoothing=self.label_smoothing)

    @torch.no_grad()
    def validation_flags(
        self, network: nn.Module, x: Tensor, y: Tensor, ids: Tensor, noise: Noise, space: Box | Table
    ) -> Tensor:
        """Tell which rows (n,) are right."""
        del ids, noise, space
        flags: Tensor = network(x).argmax(1) == y
        return flags
