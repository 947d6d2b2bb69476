"""Label flipping: a share of the training rows gets a wrong label."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.poisoning.base import Poisoning, chosen

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.seeding import Noise
    from holdfast.training.workshop import Workshop


@final
class LabelFlip(Poisoning):
    """Give rows chosen at random another label, each other class being as likely.

    The score is the share of test points that the poisoned model has right; what clean rows would have given
    stands beside it. An attacker who chooses which rows to flip does more: the score is for random flips.
    """

    reference: ClassVar[str] = "Biggio, Nelson and Laskov 2011, ACML, section 3.1 (random label flips)"
    quiet: ClassVar[bool] = False

    def poison(self, workshop: Workshop, noise: Noise) -> Samples:
        """Flip the labels of ``share`` of the rows."""
        rows, classes = workshop.train, len(workshop.spec.classes)
        flipped = chosen(rows.ids, torch.ones_like(rows.y, dtype=torch.bool), round(self.share * len(rows)), noise)
        turn = 1 + noise.derive("label").integers(rows.ids, classes - 1)
        return replace(rows, y=torch.where(flipped, (rows.y + turn) % classes, rows.y))

    def survivors(self, model: Target, test: Samples, workshop: Workshop) -> tuple[Tensor, Tensor]:
        """Tell which test rows (n,) are right; all count."""
        del workshop
        right = model.predict(test.x) == test.y
        return right, torch.ones_like(right)
