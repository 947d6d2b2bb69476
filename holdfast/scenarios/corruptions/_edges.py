"""Edges of grey images (n, h, w), and what lies around them, as OpenCV finds both: integers in, exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from holdfast.scenarios.corruptions._filters import fold

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.corruptions._filters import Edge

_TANGENT = 13573  # of 22.5 degrees, times 2**15
_STEPS = (
    *(((down, right), 1.0) for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0))),
    *(((down, right), 1.4) for down in (1, -1) for right in (1, -1)),
    *(((down, right), 2.1969) for down in (1, -1) for right in (2, -2)),
    *(((down, right), 2.1969) for down in (2, -2) for right in (1, -1)),
)
"""Moves and their lengths; Borgefors 1986 (Computer Vision, Graphics, and Image Processing 34, 3)."""


def canny(levels: Tensor, low: int, high: int) -> Tensor:
    """Find edges of int32 levels (n, h, w): bool, where a ridge of the gradient lies above thresholds.

    Source: Canny 1986 (IEEE Transactions on Pattern Analysis and Machine Intelligence 8, 6).
    """
    across, along = (correlate(levels, kernel, "nearest") for kernel in _SOBEL)
    ridge = _ridge(across, along) & (across.abs() + along.abs() > low)
    edges = ridge & (across.abs() + along.abs() > high)
    while True:  # weak parts of a ridge count where strong ones lead to them
        grown = (F.max_pool2d(edges.float()[:, None], 3, stride=1, padding=1)[:, 0] > 0) & ridge
        if torch.equal(grown, edges):
            return edges
        edges = grown


_SOBEL = (((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)), ((-1, -2, -1), (0, 0, 0), (1, 2, 1)))


def _ridge(across: Tensor, along: Tensor) -> Tensor:
    """Tell where the gradient is no smaller than on both sides, in one of four directions."""
    size = across.abs() + along.abs()
    padded = F.pad(size, (1, 1, 1, 1))
    height, width = size.shape[1:]

    def beside(down: int, right: int) -> Tensor:
        return padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    flat, steep = across.abs() * _TANGENT, along.abs() << 15
    level = (size > beside(0, -1)) & (size >= beside(0, 1))
    upright = (size > beside(-1, 0)) & (size >= beside(1, 0))
    falling = (size > beside(-1, -1)) & (size > beside(1, 1))
    rising = (size > beside(-1, 1)) & (size > beside(1, -1))
    slanted = torch.where((across ^ along) < 0, rising, falling)
    return torch.where(steep < flat, level, torch.where(steep > flat + (across.abs() << 16), upright, slanted))


def distance(edges: Tensor, furthest: int) -> Tensor:
    """Give each pixel's distance (n, h, w) to the next edge, ``furthest`` at most, as a chess piece of 16 moves goes.

    A shortest way takes moves of two neighbouring directions only, in any order: so direction by direction, each with
    1, 2, 4 .. moves at once.
    """
    found = torch.where(edges, 0.0, float(furthest))
    for (down, right), length in _STEPS:
        moves = 1
        while moves * length < furthest:
            there = _shift(found, moves * down, moves * right, float(furthest))
            found = torch.minimum(found, there + moves * length)
            moves *= 2
    return found


def _shift(x: Tensor, down: int, right: int, outside: float) -> Tensor:
    """Give what stands at an offset from each pixel."""
    height, width = x.shape[1:]
    if abs(down) >= height or abs(right) >= width:
        return torch.full_like(x, outside)
    margins = (max(-right, 0), max(right, 0), max(-down, 0), max(down, 0))
    padded = F.pad(x, margins, value=outside)
    return padded[:, max(down, 0) : max(down, 0) + height, max(right, 0) : max(right, 0) + width]


def correlate(x: Tensor, kernel: tuple[tuple[int, ...], ...], edge: Edge) -> Tensor:
    """Sum neighbours (n, h, w) by integer weights (3, 3)."""
    height, width = x.shape[1:]
    row, column = (fold(torch.arange(-1, size + 1, device=x.device), size, edge) for size in (height, width))
    padded = x[:, row][:, :, column]
    total = torch.zeros_like(x)
    for i, weights in enumerate(kernel):
        for j, weight in enumerate(weights):
            if weight:
                total += weight * padded[:, i : i + height, j : j + width]
    return total


def equalise(levels: Tensor, most: int) -> Tensor:
    """Spread int32 levels from 0 to ``most`` (n, h, w) evenly over 0 to 255, image by image; one level stays itself."""
    counts = torch.stack([(levels == level).sum((1, 2)) for level in range(most + 1)], dim=1)
    below = counts.cumsum(1)
    total = below[:, -1:]
    first = torch.where(below > 0, below, total).amin(1, keepdim=True)
    spread = (255.0 * (below - first) / (total - first).clamp(min=1)).round().clamp(min=0)
    table = torch.where(first == total, torch.arange(most + 1, device=levels.device), spread).to(levels.dtype)
    return table.gather(1, levels.flatten(1).long()).reshape(levels.shape)
