"""What every table anomaly is: cells of a row that went wrong on the way in, more of them with each severity."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, cast, final

import torch

from holdfast.scenarios.disturbance import Disturbance
from holdfast.statistics import share

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.results import Score
    from holdfast.scenarios.disturbance import Flags
    from holdfast.seeding import Noise
    from holdfast.space import Box, Table


class Anomaly(Disturbance):
    """A fault of data entry or transport, which obeys no range, grid or relation of the space.

    Each row draws by its id which of its columns are hit. A real incident hits one set of columns in all rows;
    drawing by row averages over such incidents, and only then does the interval cover their choice. The slices
    give the accuracy of the rows in which each column was hit at severity 1.
    """

    family: ClassVar[str] = "anomalies"
    kinds: ClassVar[frozenset[str]] = frozenset({"table"})

    @abstractmethod
    def columns(self, space: Table) -> list[int]:
        """List the columns that can be hit; none, and the anomaly does not apply."""

    @abstractmethod
    def derange(self, cells: Tensor, ids: Tensor, severity: int, noise: Noise, space: Table) -> Tensor:
        """Disturb the cells (n, k) of the columns that can be hit, in raw units; NaN is missing."""

    @final
    def disturb(self, x: Tensor, ids: Tensor, severity: int, noise: Noise, space: Box | Table) -> Tensor:
        """Put the disturbed cells back among the others."""
        table = cast("Table", space)  # `kinds` admits no other
        columns = self.columns(table)
        disturbed = x.clone()
        disturbed[:, columns] = self.derange(x[:, columns], ids, severity, noise, table)
        return disturbed

    @final
    def slices(self, samples: Samples, flags: Flags, noise: Noise, space: Box | Table) -> dict[str, Score]:
        """Accuracy at severity 1 of the rows in which each column was hit."""
        table = cast("Table", space)
        after, before = self.apply(samples, 1, noise, table), samples.x
        hit = ((after != before) & ~(after.isnan() & before.isnan())).cpu().numpy()
        names = {i: table.names[i] for i in self.columns(table) if hit[:, i].any()}
        return {f"column={name}": share(flags[hit[:, i], 0]) for i, name in names.items()}

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why it means nothing here; also where no column can be hit."""
        if reason := super().inapplicable(target, samples):
            return reason
        return None if self.columns(cast("Table", target.space)) else "no column that it could hit"


def some_columns(ids: Tensor, width: int, count: int, noise: Noise) -> Tensor:
    """Choose ``count`` of ``width`` columns for each row, all where there are fewer: bool (n, width)."""
    rank = noise.uniform(ids, (width,)).argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    return rank < count


def some_cells(ids: Tensor, width: int, part: float, noise: Noise) -> Tensor:
    """Choose each cell with probability ``part``: bool (n, width)."""
    return noise.uniform(ids, (width,)) < part


def per_column(values: list[float], like: Tensor) -> Tensor:
    """Put one value for each column on the device of the cells."""
    return torch.tensor(values, dtype=like.dtype, device=like.device)


def above_median(cells: Tensor, space: Table, columns: list[int]) -> Tensor:
    """Tell which numbers (n, k) of these columns are above the column's median over the training rows: bool (n, k)."""
    return cells > per_column([space.features[i].median for i in columns], cells)
