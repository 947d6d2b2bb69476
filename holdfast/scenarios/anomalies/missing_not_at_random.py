"""Missing not at random: numbers that are absent because of what they would have been."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.anomalies.base import Anomaly, above_median, some_cells

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise
    from holdfast.space import Table


@final
class MissingNotAtRandom(Anomaly):
    """Lose 10, 20, 40, 70 and 100 % of the numbers that are above their column's median over the training rows.

    High values are withheld, as incomes are in surveys and readings beyond a gauge's range. About half of the
    numbers are high: of all about as many are lost as by ``missing_values`` at the same severity, and the
    difference between the two scores is the mechanism's. Where most rows have one value, fewer are above it.
    Categories have no high end and stay.

    Source: Little and Rubin 2002, Statistical Analysis with Missing Data, section 1.3 (not missing at random);
    Schelter, Rukat and Biessmann 2021, JENGA, EDBT.
    """

    reference: ClassVar[str] = "Little and Rubin 2002, Statistical Analysis with Missing Data, section 1.3 (NMAR)"
    shares: ClassVar[tuple[float, ...]] = (0.10, 0.20, 0.40, 0.70, 1.00)

    def columns(self, space: Table) -> list[int]:
        """The numbers."""
        return space.columns("number")

    def derange(self, cells: Tensor, ids: Tensor, severity: int, noise: Noise, space: Table) -> Tensor:
        """Lose high numbers with the share of this severity."""
        high = above_median(cells, space, self.columns(space))
        return torch.where(high & some_cells(ids, cells.shape[1], self.shares[severity - 1], noise), torch.nan, cells)
