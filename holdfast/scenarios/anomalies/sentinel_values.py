"""Sentinel values: cells that never arrived, disguised as a number that nobody declared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

import torch
from pydantic import Field

from holdfast.scenarios.anomalies.base import Anomaly, some_cells

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise
    from holdfast.space import Feature, Table

Code = Annotated[float, Field(ge=-1e9, le=1e9)]


@final
class SentinelValues(Anomaly):
    """Write a code for *unknown* over 5, 10, 20, 35 and 50 % of the numbers, each drawn from the list.

    The shares are those of ``missing_values``: what the two differ by is that here the model is not told. A code
    that the column declares as missing is read as missing. A number that was missing before gets a code as any other.

    Source: Pearson 2006, The Problem of Disguised Missing Data, SIGKDD Explorations 8(1).
    """

    reference: ClassVar[str] = "Pearson 2006, The Problem of Disguised Missing Data, SIGKDD Explorations 8(1)"
    shares: ClassVar[tuple[float, ...]] = (0.05, 0.10, 0.20, 0.35, 0.50)
    codes: Annotated[tuple[Code, ...], Field(min_length=1)] = (-999.0, -1.0, 0.0, 9999.0)
    """What stands for *unknown* in the feed, in the column's own unit."""

    def columns(self, space: Table) -> list[int]:
        """The numbers."""
        return space.columns("number")

    def derange(self, cells: Tensor, ids: Tensor, severity: int, noise: Noise, space: Table) -> Tensor:
        """Disguise each number with the share of this severity."""
        width = cells.shape[1]
        read = [[_as_read(code, space.features[i]) for code in self.codes] for i in self.columns(space)]
        table = torch.tensor(read, dtype=cells.dtype, device=cells.device)
        drawn = noise.derive("code").integers(ids, len(self.codes), (width,))
        disguised = table[torch.arange(width, device=cells.device), drawn]
        return torch.where(some_cells(ids, width, self.shares[severity - 1], noise), disguised, cells)


def _as_read(code: float, feature: Feature) -> float:
    """Read a code as a column does that may have declared it."""
    return torch.nan if code in [each for each in feature.missing if not isinstance(each, str)] else code
