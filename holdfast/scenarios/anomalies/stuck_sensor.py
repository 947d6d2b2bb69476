"""Stuck sensor: a number that stays at one reading, whatever happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.anomalies.base import Anomaly, per_column, some_columns

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise
    from holdfast.space import Feature, Table


@final
class StuckSensor(Anomaly):
    """Freeze 1 to 5 numbers of each row, by severity; each column is frozen at one reading for all rows.

    The reading is drawn once for each column, uniform within one interquartile range of the training median
    and inside the column's range and grid. It is not taken from the rows at hand, since what a row gets must
    not depend on which rows are read with it.

    Source: Ni et al. 2009, Sensor Network Data Fault Types, ACM TOSN 5(3), section 4.2.3 (stuck-at fault).
    """

    reference: ClassVar[str] = "Ni et al. 2009, ACM Transactions on Sensor Networks 5(3) (stuck-at fault)"

    def columns(self, space: Table) -> list[int]:
        """The numbers."""
        return space.columns("number")

    def derange(self, cells: Tensor, ids: Tensor, severity: int, noise: Noise, space: Table) -> Tensor:
        """Freeze as many numbers as the severity says."""
        stuck = some_columns(ids, cells.shape[1], severity, noise)
        features = [space.features[i] for i in self.columns(space)]
        return torch.where(stuck, per_column([reading(f, noise) for f in features], cells), cells)


def reading(feature: Feature, noise: Noise) -> float:
    """Draw the value that one column is stuck at, in raw units."""
    reach = feature.iqr or feature.std
    offset = reach * float(noise.derive("reading", feature.name).numpy().uniform(-1.0, 1.0))
    if feature.step:
        offset = round(offset / feature.step) * feature.step
    value = feature.median + offset
    value = value if feature.low is None else max(value, feature.low)
    return value if feature.high is None else min(value, feature.high)
