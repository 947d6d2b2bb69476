"""The shortest way to a hyperplane inside a box: against a linear programme, a bisection, and at the corners."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from holdfast.scenarios.attacks._planes import dual_lengths, lengths, shortest

NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])
FEATURES = 6


def problem(seed, rows=1):
    """Slopes with zeros among them, rooms with none and endless ones among them, rises of both signs."""
    g = torch.Generator().manual_seed(seed)
    slope = torch.randn((rows, FEATURES), generator=g).double()
    slope[torch.rand(slope.shape, generator=g) < 0.2] = 0.0
    down, up = (torch.rand(slope.shape, generator=g).double() for _ in range(2))
    down[torch.rand(slope.shape, generator=g) < 0.2] = 0.0
    up[torch.rand(slope.shape, generator=g) < 0.1] = torch.inf
    return slope, 2.0 * torch.randn(rows, generator=g).double(), down, up


def optimum(norm, slope, rise, down, up):
    """Length of the best move by other means; None where no move rises so much."""
    w, low, high = slope.numpy(), -down.numpy(), up.clamp(max=1e6).numpy()
    n = len(w)
    if norm == "linf":
        above, below = ([[*(sign * (i == j) for j in range(n)), -1.0] for i in range(n)] for sign in (1.0, -1.0))
        found = linprog(
            [0.0] * n + [1.0], A_ub=above + below, b_ub=[0.0] * 2 * n, A_eq=[[*w, 0.0]], b_eq=[float(rise)],
            bounds=[*zip(low, high, strict=True), (0.0, None)],
        )  # fmt: skip
        return found.fun if found.success else None
    most = (torch.where((slope >= 0) == (rise >= 0), up, down) * slope.abs()).nan_to_num(0.0).sum()
    if most < rise.abs():
        return None
    below, above = -1e9, 1e9  # the multiplier, by bisection: at the optimum a move is its slope times it, clipped
    for _ in range(200):
        middle = (below + above) / 2
        move = np.clip(middle * w, low, high)
        below, above = (middle, above) if w @ move < float(rise) else (below, middle)
    return float(np.linalg.norm(move))


@NORMS
@given(seed=st.integers(0, 10**6))
def test_it_is_as_short_as_can_be(norm, seed):
    """It reaches the plane inside the rooms, and no other search finds a shorter way; else every room is used up."""
    slope, rise, down, up = problem(seed)
    move = shortest(norm, slope, rise, down, up)
    assert ((move >= -down - 1e-12) & (move <= up + 1e-12)).all()
    assert (move[slope == 0] == 0).all()
    best = optimum(norm, slope[0], rise[0], down[0], up[0])
    if best is None:
        useful = torch.where((slope >= 0) == (rise >= 0)[:, None], up, down)
        assert torch.equal(move.abs(), torch.where(slope == 0, 0.0, useful))
    else:
        assert float((slope * move).sum()) == pytest.approx(float(rise), abs=1e-9)
        assert float(lengths(norm, move)) == pytest.approx(best, rel=1e-4, abs=1e-5)


@NORMS
def test_rows_do_not_know_of_each_other(norm):
    """Alone or among others a row gets the same move, to the last bit."""
    slope, rise, down, up = problem(0, rows=200)
    together = shortest(norm, slope, rise, down, up)
    for i in (0, 17, 199):
        alone = shortest(norm, slope[i : i + 1], rise[i : i + 1], down[i : i + 1], up[i : i + 1])
        assert torch.equal(together[i : i + 1], alone)


@NORMS
def test_without_ends_it_is_the_dual_norms_distance(norm):
    """In the open the way is |rise| by the dual norm; nothing to rise is no move, and no slope none either."""
    slope, rise, _, _ = problem(1, rows=50)
    endless = torch.full_like(slope, torch.inf)
    move = shortest(norm, slope, rise, endless, endless)
    torch.testing.assert_close(lengths(norm, move), rise.abs() / dual_lengths(norm, slope))
    assert (shortest(norm, slope, 0 * rise, endless, endless) == 0).all()
    assert (shortest(norm, 0 * slope, rise, endless, endless) == 0).all()
