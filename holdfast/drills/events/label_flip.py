"""Flipped labels: some rows of a window are told as another class."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, final

import numpy as np
from pydantic import Field

from holdfast.drills.events.base import Batch, RowEvent, Scene, column, drawn

if TYPE_CHECKING:
    from holdfast.seeding import Noise


@final
class LabelFlip(RowEvent):
    """Tell another class, drawn evenly, for a share of the window's rows."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Of all rows of the window."""
    feature: str | None = None
    """Column by which rows are chosen; any row where None."""
    values: tuple[str | int | float, ...] = ()
    """Values of that column in whose slice the flips lie."""

    def strike(self, batch: Batch, scene: Scene, noise: Noise) -> Batch:
        """Flip the labels of the drawn rows; what is true stays true."""
        among = None
        if self.feature is not None:
            among = column(batch.frame(self.name()), self.feature, self.name()).isin(self.values).to_numpy()
        rows = drawn(len(batch), round(self.share * len(batch)), noise.derive("rows"), among)
        classes = len(scene.data.classes)
        told, touched = batch.told.copy(), batch.touched.copy()
        told[rows] = (told[rows] + noise.derive("class").numpy().integers(1, classes, len(rows))) % classes
        touched[rows] = True
        return replace(batch, told=told, touched=np.asarray(touched))
