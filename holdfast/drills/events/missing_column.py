"""A missing column: the feed comes without one of its fields."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, final

import numpy as np

from holdfast.drills.events.base import Batch, RowEvent, Scene, column

if TYPE_CHECKING:
    from holdfast.seeding import Noise


@final
class MissingColumn(RowEvent):
    """Drop a column from the whole window."""

    feature: str
    """Name of the column."""

    def strike(self, batch: Batch, scene: Scene, noise: Noise) -> Batch:
        """Drop it."""
        del scene, noise
        frame = batch.frame(self.name())
        column(frame, self.feature, self.name())
        return replace(batch, rows=frame.drop(columns=self.feature), touched=np.ones(len(batch), dtype=bool))
