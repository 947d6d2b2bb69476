"""Stuck values: a column of the feed no longer changes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, final

import numpy as np

from holdfast.drills.events.base import Batch, RowEvent, Scene, column

if TYPE_CHECKING:
    from holdfast.seeding import Noise


@final
class StuckValues(RowEvent):
    """Repeat the first row's value of a column through the whole window."""

    feature: str
    """Name of the column."""

    def strike(self, batch: Batch, scene: Scene, noise: Noise) -> Batch:
        """Repeat it."""
        del scene, noise
        frame = batch.frame(self.name())
        first = column(frame, self.feature, self.name()).iloc[0]
        rows = frame.assign(**{self.feature: first}).astype(frame.dtypes.to_dict())
        return replace(batch, rows=rows, touched=np.ones(len(batch), dtype=bool))
