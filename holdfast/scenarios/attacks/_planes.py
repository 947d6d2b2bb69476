"""The shortest way to a hyperplane inside a box, for many rows at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

    Norm = Literal["linf", "l2"]


def shortest(norm: Norm, slope: Tensor, rise: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """Give the shortest moves (m, k) that raise linear functions by so much, with every feature in its room.

    Exact, by one sort: with the features that help ordered by when their room ends, what they raise together is
    piecewise linear in the multiplier. Where all rooms together do not suffice, each is used up.

    Args:
        norm: in which a move is short.
        slope: what a unit of each feature raises (m, k).
        rise: what is wanted (m,), of either sign.
        down: how far each feature may fall (m, k), not negative, infinity where nothing ends it.
        up: how far each may rise, likewise.

    Source: Croce and Hein 2020, arXiv:1907.02044, section 2.1, eq. 4; Hein and Andriushchenko 2017 for L2.
    """
    sign = torch.where((slope >= 0) == (rise >= 0)[:, None], 1.0, -1.0).to(slope.dtype)
    weight, still = slope.abs(), slope == 0
    room = torch.where(still, 0.0, torch.where(sign > 0, up, down))
    speed = torch.where(still, 0.0, 1.0) if norm == "linf" else weight
    ends = torch.where(still, torch.inf, room / speed.clamp(min=torch.finfo(slope.dtype).tiny))
    order = ends.argsort(dim=1, stable=True)
    ends, full, rate = (t.gather(1, order) for t in (ends, weight * room, weight * speed))
    used = torch.cat([torch.zeros_like(full[:, :1]), full.cumsum(1)], 1)  # by the features whose room has ended
    # From the end, so that a sum of what is left is never a difference of large numbers.
    left = torch.cat([rate.flip(1).cumsum(1).flip(1), torch.zeros_like(rate[:, :1])], 1)
    raised = torch.where(ends.isfinite(), used[:, 1:] + ends * left[:, 1:], torch.inf)
    wanted = rise.abs()[:, None]
    at = (raised <= wanted).sum(1, keepdim=True)
    rest = left.gather(1, at)
    multiplier = torch.where(rest > 0, (wanted - used.gather(1, at)) / rest, torch.inf)
    reached = torch.where(speed > 0, multiplier * speed, 0.0)
    return sign * torch.minimum(room, reached)


def lengths(norm: Norm, moves: Tensor) -> Tensor:
    """Give the length (m,) of moves (m, k)."""
    return moves.abs().amax(1) if norm == "linf" else moves.norm(dim=1)


def dual_lengths(norm: Norm, slope: Tensor) -> Tensor:
    """Give what one unit of the norm raises at most (..., ) along slopes (..., k)."""
    return slope.abs().sum(-1) if norm == "linf" else slope.norm(dim=-1)
