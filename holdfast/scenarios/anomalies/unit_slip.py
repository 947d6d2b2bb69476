"""Unit slip: a number in another unit than the model learned, thousands for ones or months for years."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

import torch
from pydantic import Field

from holdfast.scenarios.anomalies.base import Anomaly, per_column, some_columns

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise
    from holdfast.space import Table

Factor = Annotated[float, Field(gt=0.0, le=1e6)]


@final
class UnitSlip(Anomaly):
    """Multiply 1 to 5 numbers of each row, by severity, each by a factor drawn from the list.

    The factors stand for thousands, percent and dozens (or months), and their inverses. Zeros and missing
    values stay what they are.

    Source: Schelter, Rukat and Biessmann 2021, JENGA, EDBT (scaling corruption).
    """

    reference: ClassVar[str] = "Schelter, Rukat and Biessmann 2021, JENGA, EDBT 2021 (scaling corruption)"
    factors: Annotated[tuple[Factor, ...], Field(min_length=1)] = (1000.0, 100.0, 12.0, 1 / 12, 1 / 100, 1 / 1000)

    def columns(self, space: Table) -> list[int]:
        """The numbers."""
        return space.columns("number")

    def derange(self, cells: Tensor, ids: Tensor, severity: int, noise: Noise, space: Table) -> Tensor:
        """Multiply as many numbers as the severity says."""
        del space
        width = cells.shape[1]
        slipped = some_columns(ids, width, severity, noise)
        factor = per_column(list(self.factors), cells)[
            noise.derive("factor").integers(ids, len(self.factors), (width,))
        ]
        return torch.where(slipped, cells * factor, cells)
