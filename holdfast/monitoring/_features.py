"""Rows as distances see them: numbers standardised by the past, categories apart, gaps filled."""

from __future__ import annotations

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
    space = past.space
    if not isinstance(space, Table):
        return _numbers(window.x.flatten(1), past.x.flatten(1))
    numbers = space.columns("number")
    parts = [_numbers(window.x[:, numbers], past.x[:, numbers])]
    for column in space.columns("category"):
        names, code = len(space.features[column].categories), window.x[:, column]
        known = torch.arange(names, device=code.device)
        parts.append((code[:, None] == known).to(torch.float32) * 0.5**0.5)  # two ones apart: distance 1
    return torch.cat(parts, 1)


def _numbers(x: Tensor, past: Tensor) -> Tensor:
    before = past[:_MOST].float()
    centre = before.nanmedian(0).values.nan_to_num(0.0)
    known = torch.where(before.isnan(), centre, before)
    spread = torch.quantile(known, 0.75, dim=0) - torch.quantile(known, 0.25, dim=0)
    spread = torch.where(spread > 0, spread, known.std(0).clamp(min=1e-6))
    z = ((x.float() - centre) / spread).clamp(-_LIMIT, _LIMIT)
    return torch.where(x.isnan(), 0.0, z)
