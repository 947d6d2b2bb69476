"""What random search proposes: squares on images, moved mass in L2, cells of a table's row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from holdfast.scenarios.attacks._swaps import changed

if TYPE_CHECKING:
    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise
    from holdfast.space import Box, Table

_TINY = 1e-12


class Proposals(Protocol):
    """A way to draw the first row and the next."""

    def first(self, rows: Tensor, noise: Noise) -> Tensor:
        """Give the first rows (m, *shape), inside the ball."""
        ...

    def next(self, rows: Tensor, z: Tensor, share: float, noise: Noise) -> Tensor:
        """Give changed rows (m, *shape), inside the ball: about ``share`` of each is changed."""
        ...


def signs(unit: Tensor) -> Tensor:
    """Turn uniform draws into -1 and 1."""
    return torch.where(unit < 0.5, -1.0, 1.0)  # noqa: PLR2004  a fair coin


def window(corner: Tensor, side: int, size: int) -> Tensor:
    """Tell which of ``size`` positions lie in [corner, corner + side) (m, size)."""
    at = torch.arange(size, device=corner.device)
    return (at >= corner[:, None]) & (at < corner[:, None] + side)


def corners(unit: Tensor, side: int, size: int) -> Tensor:
    """Turn uniform draws (m,) into corners of a window of ``side`` inside ``size``."""
    places = size - side + 1
    return (unit * places).floor().clamp(0, places - 1).to(torch.int64)


class Squares:
    """L-inf on images: stripes first, then squares of one colour at an end of the ball.

    Source: Andriushchenko et al. 2020, algorithm 2.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.channels, self.height, self.width = batch.x.shape[1:]

    def first(self, rows: Tensor, noise: Noise) -> Tensor:
        """Draw vertical stripes."""
        stripes = signs(noise.uniform(self.batch.ids[rows], (self.channels, 1, self.width)))
        return self.batch.project(rows, self.batch.origin[rows] + self.batch.threat.epsilon * stripes)

    def next(self, rows: Tensor, z: Tensor, share: float, noise: Noise) -> Tensor:
        """Change one square of every row."""
        side = min(max(round(math.sqrt(share * self.height * self.width)), 1), self.height, self.width)
        draws = noise.uniform(self.batch.ids[rows], (2 + self.channels,))
        down = window(corners(draws[:, 0], side, self.height), side, self.height)
        across = window(corners(draws[:, 1], side, self.width), side, self.width)
        inside = down[:, None, :, None] & across[:, None, None, :]
        colour = signs(draws[:, 2:])[:, :, None, None]
        # The row is already within epsilon of its origin: two epsilon reach either end.
        return self.batch.project(rows, z + 2.0 * self.batch.threat.epsilon * colour * inside)


class Patches:
    """L2 on images: a grid of patches first, then the mass of one window moved into a patch elsewhere.

    Source: Andriushchenko et al. 2020, algorithm 3 and section 4.3.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.channels, self.height, self.width = batch.x.shape[1:]
        self._patterns: dict[int, Tensor] = {}

    def first(self, rows: Tensor, noise: Noise) -> Tensor:
        """Tile the image with patches of random sign."""
        side = max(min(self.height, self.width) // 5, 1)
        down, across = self.height // side, self.width // side
        ids = self.batch.ids[rows]
        sign = signs(noise.uniform(ids, (self.channels, down, across)))
        turned = noise.derive("turned").integers(ids, 2, (down, across))
        tiles = self._pattern(side)[turned][:, None] * sign[..., None, None]
        grid = tiles.permute(0, 1, 2, 4, 3, 5).reshape(len(rows), self.channels, down * side, across * side)
        move = torch.zeros_like(self.batch.x[rows])
        top, left = (self.height - down * side) // 2, (self.width - across * side) // 2
        move[:, :, top : top + down * side, left : left + across * side] = grid
        return self._reach(rows, move)

    def next(self, rows: Tensor, z: Tensor, share: float, noise: Noise) -> Tensor:
        """Empty a second window and pour what both held, and what the ball has left, into a patch in the first."""
        side = max(round(math.sqrt(share * self.height * self.width)), 3)
        side = min(side + 1 - side % 2, self.height, self.width)
        draws = noise.uniform(self.batch.ids[rows], (5 + self.channels,))
        move = z - self.batch.origin[rows]
        row, column = corners(draws[:, 0], side, self.height), corners(draws[:, 1], side, self.width)
        here = self._inside(row, column, side)
        there = self._inside(corners(draws[:, 2], side, self.height), corners(draws[:, 3], side, self.width), side)
        held = _channel_lengths(move * (here | there))
        left = (self.batch.threat.epsilon**2 - _channel_lengths(move).square().sum(1, keepdim=True)).clamp(min=0.0)
        patch = self._place(row, column, side, draws[:, 4]) * signs(draws[:, 5:])[:, :, None, None] * here
        patch = patch + move * here / _channel_lengths(move * here).clamp(min=_TINY)
        patch = patch / _channel_lengths(patch).clamp(min=_TINY) * (left / self.channels + held.square()).sqrt()
        return self._reach(rows, torch.where(here, patch, torch.where(there, 0.0, move)))

    def _reach(self, rows: Tensor, move: Tensor) -> Tensor:
        return self.batch.start(rows, move)

    def _inside(self, row: Tensor, column: Tensor, side: int) -> Tensor:
        down, across = window(row, side, self.height), window(column, side, self.width)
        return down[:, None, :, None] & across[:, None, None, :]

    def _place(self, row: Tensor, column: Tensor, side: int, unit: Tensor) -> Tensor:
        """Lay the pattern, upright or turned by a draw (m,), with its corner at (row, column): (m, 1, h, w)."""
        down = (torch.arange(self.height, device=row.device) - row[:, None]).clamp(0, side - 1)
        across = (torch.arange(self.width, device=row.device) - column[:, None]).clamp(0, side - 1)
        turned = (unit < 0.5).to(torch.int64)[:, None, None]  # noqa: PLR2004  a fair coin
        return self._pattern(side)[turned, down[:, :, None], across[:, None, :]][:, None]

    def _pattern(self, side: int) -> Tensor:
        """Give the pattern of two bumps of opposite sign, upright and turned (2, side, side), of unit length."""
        if side not in self._patterns:
            upper = side // 2
            pattern = torch.cat([_bump(upper, side), -_bump(side - upper, side)]) if upper else torch.ones((1, 1))
            pattern = pattern / _length(pattern)
            self._patterns[side] = torch.stack([pattern, pattern.T]).to(self.batch.x.device)
        return self._patterns[side]


def _bump(height: int, width: int) -> Tensor:
    """Give a bump (height, width) that falls off from its middle in rings, of unit length (section 4.3, eq. 2)."""
    bump = torch.zeros((height, width))
    top, left = height // 2, width // 2
    for ring in range(max(top, left) + 1):
        rows = slice(max(top - ring, 0), min(top + ring + 1, height))
        columns = slice(max(left - ring, 0), min(left + ring + 1, width))
        bump[rows, columns] += 1.0 / (ring + 1) ** 2
    return bump / _length(bump)


def _channel_lengths(x: Tensor) -> Tensor:
    """L2 length of each channel (m, c, 1, 1); in float64, so that it does not depend on the rows beside it."""
    lengths: Tensor = torch.linalg.vector_norm(x.flatten(2).double(), dim=2).to(x.dtype)
    return lengths[:, :, None, None]


def _length(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x))


class Cells:
    """Tables: a random corner of the ball first, then random subsets of numbers to random ends, or one category."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        space: Table | Box = batch.space
        if space.kind != "table":
            msg = f"cells are a table's, not a {space.kind}'s"
            raise TypeError(msg)
        self.space = space
        self.scale = space.scale(batch.x.device)
        self.numbers = torch.nonzero(self.scale > 0).flatten()
        self.mutable = space.columns("category", mutable=True) if batch.categories else []
        self.known = [len(space.features[i].categories) for i in self.mutable]

    def first(self, rows: Tensor, noise: Noise) -> Tensor:
        """Draw a corner."""
        move = signs(noise.uniform(self.batch.ids[rows], tuple(self.batch.x.shape[1:])))
        return self.batch.project(rows, self.batch.origin[rows] + self.batch.threat.epsilon * self.scale * move)

    def next(self, rows: Tensor, z: Tensor, share: float, noise: Noise) -> Tensor:
        """Change a subset of numbers, or one category."""
        ids = self.batch.ids[rows]
        changed_numbers = self._numbers(rows, z, share, noise)
        if not self.mutable:
            return changed_numbers
        turn = noise.derive("turn").uniform(ids) < (0.5 if len(self.numbers) else 1.0)
        return torch.where(turn[:, None], self._category(rows, z, noise.derive("category")), changed_numbers)

    def _numbers(self, rows: Tensor, z: Tensor, share: float, noise: Noise) -> Tensor:
        if len(self.numbers) == 0:
            return z
        draws = noise.uniform(self.batch.ids[rows], (2, len(self.numbers)))
        count = max(round(share * len(self.numbers)), 1)
        picked = draws[:, 0].argsort(dim=1, stable=True)[:, :count]
        inside = torch.zeros_like(draws[:, 0], dtype=torch.bool).scatter(1, picked, value=True)
        origin, moved = self.batch.origin[rows], z.clone()
        ends = origin[:, self.numbers] + self.batch.threat.epsilon * self.scale[self.numbers] * signs(draws[:, 1])
        moved[:, self.numbers] = torch.where(inside, ends, z[:, self.numbers])
        return self.batch.project(rows, moved)

    def _category(self, rows: Tensor, z: Tensor, noise: Noise) -> Tensor:
        ids, clean, columns = self.batch.ids[rows], self.batch.x[rows], self.mutable
        codes = torch.stack(
            [noise.derive("code", i).integers(ids, k) for i, k in zip(columns, self.known, strict=True)], 1
        )
        column = noise.derive("column").integers(ids, len(columns))
        differs = changed(z, clean, self.space)
        full = (differs.sum(1) >= self.batch.categories) & ~differs.gather(1, column[:, None])[:, 0]
        # One of the changed ones, at random, makes room.
        back = torch.where(differs, noise.derive("back").uniform(ids, (len(columns),)), -1.0).argmax(1)
        chosen = torch.zeros_like(differs).scatter(1, column[:, None], value=True)
        restored = torch.zeros_like(differs).scatter(1, back[:, None], value=True) & full[:, None]
        here, home = z[:, columns], clean[:, columns]
        chosen &= ~home.isnan()
        restored &= chosen.any(1)[:, None]
        moved = z.clone()
        moved[:, columns] = torch.where(chosen, codes.to(z.dtype), torch.where(restored, home, here))
        return moved
