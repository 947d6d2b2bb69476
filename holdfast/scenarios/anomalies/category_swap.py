"""Category swap: a category that is another than it should be, or one that nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

import torch
from pydantic import Field

from holdfast.scenarios.anomalies.base import Anomaly, per_column, some_cells

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise
    from holdfast.space import Table


@final
class CategorySwap(Anomaly):
    """Replace 5, 10, 20, 35 and 50 % of the categories by another known one or by an unknown one.

    A category with no other known one becomes unknown, an unknown one becomes known, a missing one stays missing.

    Source: Schelter, Rukat and Biessmann 2021, JENGA, EDBT (swapped values, encoding errors).
    """

    reference: ClassVar[str] = "Schelter, Rukat and Biessmann 2021, JENGA, EDBT 2021 (swapped values)"
    shares: ClassVar[tuple[float, ...]] = (0.05, 0.10, 0.20, 0.35, 0.50)
    unknown: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    """Share of the swaps that give a category not seen in training."""

    def columns(self, space: Table) -> list[int]:
        """The categories."""
        return [i for i in space.columns("category") if space.features[i].categories]

    def derange(self, cells: Tensor, ids: Tensor, severity: int, noise: Noise, space: Table) -> Tensor:
        """Swap each category with the share of this severity."""
        width = cells.shape[1]
        known = per_column([float(len(space.features[i].categories)) for i in self.columns(space)], cells)
        strange = cells >= known
        # Another known code: skip 1 to k - 1 places round the circle; an unknown one has no place and draws any.
        place = noise.derive("place").uniform(ids, (width,))
        skip = 1.0 + (place * (known - 1.0)).floor().clamp(max=(known - 2.0).clamp(min=0.0))
        other = torch.remainder(cells + skip, known)
        any_known = (place * known).floor().minimum(known - 1.0)
        unseen = ~strange & ((noise.derive("unknown").uniform(ids, (width,)) < self.unknown) | (known == 1.0))
        swapped = torch.where(strange, any_known, torch.where(unseen, known, other))
        hit = some_cells(ids, width, self.shares[severity - 1], noise) & ~cells.isnan()
        return torch.where(hit, swapped, cells)
