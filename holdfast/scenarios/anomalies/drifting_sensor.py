"""Drifting sensor: a number that strays further from the truth the longer nobody calibrates what reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.anomalies.base import Anomaly, per_column, some_cells

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise
    from holdfast.space import Table


@final
class DriftingSensor(Anomaly):
    """Add a bias that has grown in proportion to the time since calibration, to about half of each row's numbers.

    A drift that has run its course is off by 0.25, 0.5, 1, 1.5 and 2 units: by 1 a middling reading passes for a
    quartile's, by 2 for one that training hardly saw. The unit of a column is that of epsilon, its interquartile
    range for most. A row meets the drift at a moment of its course that it draws by its id, one for all its sensors,
    and each sensor to a side of its own. Rows are of one period and do not say where in it a calibration lapsed,
    and what a row gets must not depend on which rows are read with it: the score is the mean over the drift's
    course.

    Source: Ni et al. 2009, Sensor Network Data Fault Types, ACM TOSN 5(3) (calibration fault: drift).
    """

    reference: ClassVar[str] = "Ni et al. 2009, ACM Transactions on Sensor Networks 5(3) (calibration fault: drift)"
    ends: ClassVar[tuple[float, ...]] = (0.25, 0.5, 1.0, 1.5, 2.0)

    def columns(self, space: Table) -> list[int]:
        """The numbers that have a unit; a constant has none."""
        return [i for i in space.columns("number") if space.features[i].unit]

    def derange(self, cells: Tensor, ids: Tensor, severity: int, noise: Noise, space: Table) -> Tensor:
        """Add the bias of the row's moment."""
        width = cells.shape[1]
        unit = per_column([space.features[i].unit for i in self.columns(space)], cells)
        moment = noise.derive("moment").uniform(ids)[:, None]
        side = 2 * noise.derive("side").integers(ids, 2, (width,)) - 1
        bias = self.ends[severity - 1] * moment * side * unit
        return torch.where(some_cells(ids, width, 0.5, noise), cells + bias, cells)
