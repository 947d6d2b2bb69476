"""Missing values: cells that never arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.anomalies.base import Anomaly, some_cells

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise
    from holdfast.space import Table


@final
class MissingValues(Anomaly):
    """Set cells of any column to missing, completely at random: 5, 10, 20, 35 and 50 % of them.

    Source: Little and Rubin 2002, Statistical Analysis with Missing Data, section 1.3 (missing completely at random).
    """

    reference: ClassVar[str] = "Little and Rubin 2002, Statistical Analysis with Missing Data, section 1.3 (MCAR)"
    shares: ClassVar[tuple[float, ...]] = (0.05, 0.10, 0.20, 0.35, 0.50)

    def columns(self, space: Table) -> list[int]:
        """All of them."""
        return list(range(len(space.features)))

    def derange(self, cells: Tensor, ids: Tensor, severity: int, noise: Noise, space: Table) -> Tensor:
        """Lose each cell with the share of this severity."""
        del space
        lost = some_cells(ids, cells.shape[1], self.shares[severity - 1], noise)
        return torch.where(lost, torch.nan, cells)
