"""Targeted Auto-PGD on the difference-of-logits ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self, final

import torch
from pydantic import Field

from holdfast.scenarios.attacks._apgd import climb
from holdfast.scenarios.attacks._batch import likeliest
from holdfast.scenarios.attacks.base import Attack

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise

_DLR_CLASSES = 4


@final
class ApgdT(Attack):
    """Climb towards each of the likeliest wrong classes in turn, on a loss that the scale of logits cannot flatten.

    With label y, target t and logits sorted as z(1) >= z(2) >= ..., the loss is
    (z_t - z_y) / (z(1) - (z(3) + z(4)) / 2). It needs four classes. With two or three the loss is z_t - z_y:
    steps follow the sign or direction of a gradient and compare losses of one point only, so a positive factor
    for each point would change nothing, and a difference of logits saturates nowhere.
    """

    reference: ClassVar[str] = "Croce and Hein 2020, arXiv:2003.01690, section 4.1, eq. 7; below 4 classes ours"

    steps: Annotated[int, Field(gt=0)] = 100
    targets: Annotated[int, Field(gt=0)] = 9
    """Wrong classes tried, the likeliest first; never more than there are."""

    @property
    def most_forwards(self) -> int:
        """Forwards of one point at most."""
        return 1 + self.targets * (self.steps + 1)

    def longer(self) -> Self:
        """Give twice the steps, towards the likeliest class alone: steps are in question here, and not targets."""
        return self.model_copy(update={"steps": 2 * self.steps, "targets": 1})

    def lighter(self) -> Self:
        """Give the same attack towards the likeliest class alone."""
        return self.model_copy(update={"targets": 1})

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:
        """Propose the first row of any target that breaks the point."""
        order = likeliest(batch)
        classes = order.shape[1]
        loss = targeted_dlr if classes >= _DLR_CLASSES else targeted_margin
        for rank in range(min(self.targets, classes - 1)):
            pairs = torch.stack([batch.y, order[:, rank]], 1)
            climb(batch, pairs, loss, noise.derive("target", rank), self.steps)
        return batch.adversarial


def targeted_dlr(pairs: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Build the targeted difference-of-logits ratio (k,) for (label, target) pairs (m, 2); four classes or more."""

    def loss(logits: Tensor, at: Tensor) -> Tensor:
        top = logits.sort(1, descending=True).values
        spread = top[:, 0] - 0.5 * (top[:, 2] + top[:, 3])
        return targeted_margin(pairs)(logits, at) / (spread + 1e-12)

    return loss


def targeted_margin(pairs: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Build the target's logit less the label's (k,) for (label, target) pairs (m, 2)."""

    def loss(logits: Tensor, at: Tensor) -> Tensor:
        label, target = logits.gather(1, pairs[at]).unbind(1)
        return target - label

    return loss
