"""A unit slip: a column comes in another unit than before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, final

import numpy as np
import pandas as pd
from pydantic import Field

from holdfast.drills.events.base import Batch, RowEvent, Scene, column
from holdfast.errors import DataError

if TYPE_CHECKING:
    from holdfast.seeding import Noise


@final
class UnitSlip(RowEvent):
    """Multiply a numeric column of the whole window: thousands where units were meant."""

    feature: str
    """Name of the column."""
    factor: Annotated[float, Field(gt=0)] = 1000.0

    def strike(self, batch: Batch, scene: Scene, noise: Noise) -> Batch:
        """Multiply it; whole numbers stay whole."""
        del scene, noise
        frame = batch.frame(self.name())
        held = column(frame, self.feature, self.name())
        if not pd.api.types.is_numeric_dtype(held.dtype):
            raise DataError(
                "drill event unit_slip", found=f"{self.feature} of type {held.dtype}", expected="a numeric column",
                remedy="Name another in the incident's settings.",
            )  # fmt: skip
        slipped = (held * self.factor).astype(held.dtype)
        rows = frame.assign(**{self.feature: slipped})
        return replace(batch, rows=rows, touched=np.ones(len(batch), dtype=bool))
