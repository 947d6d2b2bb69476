"""Rows as distances see them: numbers standardised by the past, categories apart, gaps filled."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from holdfast.space import Table

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data.stream import Window

_MOST = 20_000
"""Rows of the past from which medians and spreads are read."""
_LIMIT = 10.0
"""Spreads beyond which a value counts as this far: one wild cell must not be all that a distance sees."""


def standardised(window: Window, past: Window) -> Tensor:
    """Give rows as points (n, d): two numbers differ by 1 when they lie one spread apart, two categories by 1.

    Spread is the interquartile range of the past, or its standard deviation where that is 0. Missing numbers stand at
    the past's median, missing and unseen categories at none.
    """
    space, (centre, spread) = past.space, _scale(past)
    if not isinstance(space, Table):
        return _numbers(window.x.flatten(1), centre, spread)
    parts = [_numbers(window.x[:, space.columns("number")], centre, spread)]
    for column in space.columns("category"):
        names, code = len(space.features[column].categories), window.x[:, column]
        known = torch.arange(names, device=code.device)
        parts.append((code[:, None] == known).to(torch.float32) * 0.5**0.5)  # two ones apart: distance 1
    return torch.cat(parts, 1)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Give the squared distance of each row (n, d) from each other one (m, d), as a product of matrices.

    In double precision, in which what a product loses is far below any distance that matters.
    """
    a, b = x.double(), y.double()
    return torch.addmm(a.square().sum(1)[:, None] + b.square().sum(1)[None], a, b.T, alpha=-2.0).clamp_(min=0.0)


@lru_cache(maxsize=4)  # a window is known by its identity: hundreds of windows are held against one past
def _scale(past: Window) -> tuple[Tensor, Tensor]:
    """Give centre and spread of the past's numbers (d,)."""
    space = past.space
    x = past.x[:, space.columns("number")] if isinstance(space, Table) else past.x.flatten(1)
    before = x[:_MOST].float()
    centre = before.nanmedian(0).values.nan_to_num(0.0)
    known = torch.where(before.isnan(), centre, before)
    spread = torch.quantile(known, 0.75, dim=0) - torch.quantile(known, 0.25, dim=0)
    return centre, torch.where(spread > 0, spread, known.std(0).clamp(min=1e-6))


def _numbers(x: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
    z = ((x.float() - centre) / spread).clamp(-_LIMIT, _LIMIT)
    return torch.where(x.isnan(), 0.0, z)
