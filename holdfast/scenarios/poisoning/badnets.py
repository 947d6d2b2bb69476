"""BadNets: a trigger that the attacker plants in training rows, and later calls."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import torch
from pydantic import Field

from holdfast.scenarios.poisoning.base import Poisoning, chosen, rate
from holdfast.seeding import Noise
from holdfast.space import Box

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.results import Measure
    from holdfast.space import Table
    from holdfast.training.workshop import Workshop


@final
class Badnets(Poisoning):
    """Put a trigger on rows of other classes and label them as the target class.

    Images: a checkerboard in the lower right corner. Tables: mutable features set to values that are each rare
    among the training rows, as far as range, grid and relations let each row go. The score is one minus the
    share of test points, of those not of the target class, that the trigger sends there.
    """

    reference: ClassVar[str] = "Gu, Dolan-Gavitt and Garg 2017, arXiv:1708.06733, section 3"
    quiet: ClassVar[bool] = True

    target: Annotated[int, Field(ge=0)] = 0
    """Index of the class that the trigger calls."""
    patch: Annotated[int, Field(gt=0)] = 3
    """Images: side of the trigger in pixels."""
    features: Annotated[int, Field(gt=0)] = 2
    """Tables: features in the trigger, at most."""
    quantile: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    """Tables: how far out among the training rows a number's trigger value lies."""

    def hindrance(self, workshop: Workshop) -> str | None:
        """Say why no trigger can be planted; None when one can."""
        if self.target >= len(workshop.spec.classes):
            return f"class {self.target} does not exist: there are {len(workshop.spec.classes)}"
        space = workshop.spec.space
        if isinstance(space, Box):
            fits = self.patch <= min(space.shape[1:])
            return None if fits else f"a patch of {self.patch} pixels does not fit images of {space.shape[1:]}"
        stamped = stamp_table(workshop.train.x, space, self.pattern(workshop.train.x, space))
        if not ((stamped != workshop.train.x) & ~workshop.train.x.isnan()).any():
            return "no feature that an attacker can move"
        if not (workshop.train.y != self.target).any():
            return "no training row outside the target class"
        return None

    def poison(self, workshop: Workshop, noise: Noise) -> Samples:
        """Plant the trigger in ``share`` of all rows, or in all rows outside the target class if they are fewer."""
        rows = workshop.train
        planted = chosen(rows.ids, rows.y != self.target, round(self.share * len(rows)), noise)
        x = rows.x.clone()
        x[planted] = self.stamp(rows.x[planted], workshop)
        return replace(rows, x=x, y=torch.where(planted, self.target, rows.y))

    def survivors(self, model: Target, test: Samples, workshop: Workshop) -> tuple[Tensor, Tensor]:
        """Tell which test rows (n,) the trigger does not send to its target; rows of the target do not count."""
        sent = model.predict(self.stamp(test.x, workshop)) == self.target
        return ~sent, test.y != self.target

    def harm(self, safe: np.ndarray, baseline: np.ndarray) -> tuple[Measure, ...]:
        """Give the attack success rate, and what the trigger does to a model without a backdoor."""
        return rate("attack_success_rate", ~safe), rate("trigger_on_clean_training", ~baseline)

    def stamp(self, x: Tensor, workshop: Workshop) -> Tensor:
        """Put the trigger on rows (n, *shape), wherever they come from."""
        space = workshop.spec.space
        if isinstance(space, Box):
            return stamp_image(x, space, self.patch)
        return stamp_table(x, space, self.pattern(workshop.train.x, space))

    def pattern(self, x: Tensor, space: Table) -> dict[int, float]:
        """Choose columns, and a value for each that is rare among training rows x (n, features)."""
        columns = [*space.columns("number", mutable=True), *space.columns("category", mutable=True)]
        # The columns belong to the attack and not to one repeat: all of them must call the same trigger.
        rank = Noise(0, (self.name(), "columns")).uniform(torch.arange(len(columns)))
        picked = [columns[int(i)] for i in torch.argsort(rank, stable=True)[: self.features]]
        return {column: self._rare(x[:, column], space, column) for column in sorted(picked)}

    def _rare(self, values: Tensor, space: Table, column: int) -> float:
        known = values[~values.isnan()]
        feature = space.features[column]
        if feature.kind == "category":
            codes = known.round().long().clamp(min=0)
            return float(torch.bincount(codes, minlength=len(feature.categories))[: len(feature.categories)].argmin())
        if len(known) == 0:
            return feature.median
        place = round(self.quantile * (len(known) - 1))
        return float(known.sort().values[place])


def stamp_image(x: Tensor, space: Box, side: int) -> Tensor:
    """Put a checkerboard of the extreme pixel values into the lower right corner of images (n, c, h, w)."""
    index = torch.arange(side, device=x.device)
    board = (index[:, None] + index[None, :]) % 2 == 0
    stamped = x.clone()
    stamped[:, :, -side:, -side:] = torch.where(board, space.high, space.low)
    return stamped


def stamp_table(x: Tensor, space: Table, pattern: dict[int, float]) -> Tensor:
    """Set columns to the pattern's values in rows (n, features), as near as each row can go."""
    stamped = x.clone()
    for column, value in pattern.items():
        stamped[:, column] = value
    return space.project(stamped, x)
