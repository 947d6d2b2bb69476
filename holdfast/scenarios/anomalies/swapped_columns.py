"""Swapped columns: two columns of a kind that stand in each other's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.anomalies.base import Anomaly, some_columns

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise
    from holdfast.space import Table


@final
class SwappedColumns(Anomaly):
    """Exchange the values of 1 to 5 pairs of each row's columns, by severity; all pairs where there are fewer.

    A number changes places with a number and a category with a category: anything else is refused when it is read.
    A category is read by its name: one that its new column knows gets that column's code, any other is unseen.

    Source: Schelter, Rukat and Biessmann 2021, JENGA, EDBT (swapped values).
    """

    reference: ClassVar[str] = "Schelter, Rukat and Biessmann 2021, JENGA, EDBT 2021 (swapped values)"

    def columns(self, space: Table) -> list[int]:
        """The numbers, and after them the categories, where there are two or more of them."""
        numbers, categories = space.columns("number"), space.columns("category")
        return (numbers if len(numbers) > 1 else []) + (categories if len(categories) > 1 else [])

    def derange(self, cells: Tensor, ids: Tensor, severity: int, noise: Noise, space: Table) -> Tensor:
        """Exchange as many pairs as the severity says."""
        columns = self.columns(space)
        numbers = sum(space.features[i].kind == "number" for i in columns)
        partner = _partners(ids, [numbers, len(columns) - numbers], severity, noise)
        swapped = cells.gather(1, partner)
        if numbers < len(columns):
            coded = _by_name(cells[:, numbers:], partner[:, numbers:] - numbers, space, columns[numbers:])
            swapped = torch.cat([swapped[:, :numbers], coded], dim=1)
        return swapped


def _partners(ids: Tensor, widths: list[int], count: int, noise: Noise) -> Tensor:
    """Say for each cell which cell of the row takes its place, its own where it stays: int64 (n, sum of widths).

    Each kind's columns, ``widths`` of them, are paired in an order that the row draws; then ``count`` pairs of all are
    chosen.
    """
    chosen = some_columns(ids, sum(width // 2 for width in widths), count, noise.derive("pair"))
    blocks, first, pairs = [], 0, 0
    for width in widths:
        order = noise.derive("order", first).uniform(ids, (width,)).argsort(dim=1, stable=True)
        block = torch.arange(width, device=ids.device).repeat(len(ids), 1)
        for pair in range(width // 2):
            one, other = order[:, 2 * pair, None], order[:, 2 * pair + 1, None]
            hit = chosen[:, pairs + pair, None]
            block.scatter_(1, torch.where(hit, one, other), other).scatter_(1, torch.where(hit, other, one), one)
        blocks.append(block + first)
        first, pairs = first + width, pairs + width // 2
    return torch.cat(blocks, dim=1)


def _by_name(cells: Tensor, partner: Tensor, space: Table, columns: list[int]) -> Tensor:
    """Read categories (n, k) in the place of others: the name's code in its new column, the unseen one if it has none.

    Args:
        cells: codes as each column has them.
        partner: for each cell the place, 0 to k - 1, of the column that its name comes from.
        space: the names of the codes.
        columns: places of these columns in the space.
    """
    known = [space.features[i].categories for i in columns]
    names = {name: place for place, name in enumerate(sorted({name for each in known for name in each}))}
    unseen, most = len(names), max(map(len, known))
    named = torch.full((len(known), most + 1), unseen, dtype=torch.int64)
    coded = torch.zeros((len(known), unseen + 1))
    for column, categories in enumerate(known):
        places = torch.tensor([names[name] for name in categories], dtype=torch.int64)
        named[column, : len(categories)] = places
        coded[column] = len(categories)
        coded[column, places] = torch.arange(len(categories), dtype=coded.dtype)
    code = cells.gather(1, partner)
    name = named.to(cells.device)[partner, code.nan_to_num(float(most)).clamp(0, most).long()]
    read = coded.to(cells)[torch.arange(len(known), device=cells.device), name]
    return torch.where(code.isnan(), torch.nan, read)
