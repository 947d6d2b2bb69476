"""Missing at random: cells that are absent because of what another column of the row says."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.anomalies.base import Anomaly, above_median, some_cells, some_columns

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise
    from holdfast.space import Table


@final
class MissingAtRandom(Anomaly):
    """Lose 10, 20, 40, 70 and 100 % of a row's other cells where one number of it, its cause, is above its median.

    Which number is the cause is drawn by row; the median is that of the training rows. The cause stays, so what
    is absent follows from what is there; a cause that is missing itself causes nothing. About half of the rows
    have a high cause: of all cells about as many are lost as by ``missing_values`` at the same severity, and the
    difference between the two scores is the mechanism's.

    Source: Rubin 1976, Biometrika 63(3) (missing at random); Schelter, Rukat and Biessmann 2021, JENGA, EDBT.
    """

    reference: ClassVar[str] = "Rubin 1976, Inference and missing data, Biometrika 63(3) (missing at random)"
    shares: ClassVar[tuple[float, ...]] = (0.10, 0.20, 0.40, 0.70, 1.00)

    def columns(self, space: Table) -> list[int]:
        """All of them, where there is a number to be the cause and another column to be lost."""
        width = len(space.features)
        return list(range(width)) if space.columns("number") and width > 1 else []

    def derange(self, cells: Tensor, ids: Tensor, severity: int, noise: Noise, space: Table) -> Tensor:
        """Lose cells of the rows whose cause is high."""
        numbers = space.columns("number")
        chosen = some_columns(ids, len(numbers), 1, noise.derive("cause"))
        causes = (chosen & above_median(cells[:, numbers], space, numbers)).any(1, keepdim=True)
        cause = torch.zeros_like(cells, dtype=torch.bool)
        cause[:, numbers] = chosen
        lost = causes & ~cause & some_cells(ids, cells.shape[1], self.shares[severity - 1], noise)
        return torch.where(lost, torch.nan, cells)
