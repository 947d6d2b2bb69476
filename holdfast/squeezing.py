"""Feature squeezing: rows without their detail, and how far answers move when it goes.

What an attack adds is detail, which is gone when the row is squeezed; what the row shows is still there.

Source: Xu, Evans and Qi 2018, arXiv:1704.01155, sections II and III.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import pad

from holdfast.space import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from holdfast.space import Box

Array = np.ndarray[Any, np.dtype[Any]]
_BITS = 3
"""Of a squeezed pixel. What few levels hide of grey pictures, they spoil in coloured ones: there the median tells."""
_SIDE = 2
"""Of the square whose median a squeezed pixel is."""
_SLICES = 16
"""Slices of the past, of equally many rows, in each of which all values of a number become one."""
_PIECE = 256
"""Images whose neighbourhoods are in memory at a time."""


def unsteadiness(answer: Callable[[Tensor], Array], x: Tensor, past: Tensor, space: Box | Table) -> Array:
    """Give how far answers move when rows are squeezed (n, ways): in L1, from 0 to 2, for each way to squeeze.

    Args:
        answer: gives probabilities (n, classes) for inputs (n, *shape).
        x: inputs (n, *shape).
        past: inputs (m, *shape) that tell which values of a number are usual.
        space: what the inputs are.
    """
    told = answer(x)
    moved = np.stack([np.abs(answer(each) - told).sum(1) for each in squeezed(x, past, space)], axis=1)
    # A row that has no answer once it is squeezed is as unsteady as can be.
    return np.asarray(np.nan_to_num(moved, nan=2.0))


def squeezed(x: Tensor, past: Tensor, space: Box | Table) -> tuple[Tensor, ...]:
    """Give rows (n, *shape) without their detail, for each way to take it away.

    Images: in few levels of brightness; and with the median of each pixel and its neighbours. Tables: each number as
    the middle one of its slice of the past. Categories and what is missing stay.
    """
    if not isinstance(space, Table):
        return _in_few_levels(x, space), _smoothed(x)
    moved = x.clone()
    for column in space.columns("number"):
        known = past[:, column][~past[:, column].isnan()].numpy()
        if len(known):
            moved[:, column] = _to_nearest(x[:, column], known)
    return (moved,)


def _in_few_levels(x: Tensor, space: Box) -> Tensor:
    width = (space.high - space.low) / (2**_BITS - 1)
    moved: Tensor = ((x - space.low) / width).round() * width + space.low
    return moved


def _smoothed(x: Tensor) -> Tensor:
    """Give images (n, c, h, w) of the lower median of each pixel and those right and below; edges repeat."""
    parts = []
    for piece in torch.split(x, _PIECE):
        around = pad(piece, (0, _SIDE - 1, 0, _SIDE - 1), mode="replicate").unfold(2, _SIDE, 1).unfold(3, _SIDE, 1)
        parts.append(around.flatten(-2).median(-1).values)
    return torch.cat(parts)


def _to_nearest(values: Tensor, known: Array) -> Tensor:
    """Move values (n,) to the nearest of the middles of slices of known ones (m,), or the lower of two as near."""
    asked = (np.arange(_SLICES) + 0.5) / _SLICES
    grid = torch.from_numpy(np.unique(np.quantile(known, asked, method="nearest"))).to(values.dtype)
    above = torch.searchsorted(grid, values.contiguous()).clamp(max=len(grid) - 1)
    below = (above - 1).clamp(min=0)
    nearest = torch.where(values - grid[below] <= grid[above] - values, grid[below], grid[above])
    return torch.where(values.isnan(), values, nearest)
