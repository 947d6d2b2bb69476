"""Threats: closed forms of projection and ascent, and properties over every kind of space."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from holdfast.perturbation import Threat
from holdfast.seeding import Noise
from holdfast.space import Box, Feature, Relation, Table

BOX = Box(shape=(1, 3, 3), mean=(0.5,), std=(0.3,))
TABLE = Table(
    features=(
        Feature(name="amount", kind="number", low=0.0, high=1e7, mutable=True, iqr=3e4),
        Feature(name="paid", kind="number", low=0.0, mutable=True, iqr=2.0),
        Feature(name="count", kind="number", low=0.0, high=500.0, step=1.0, mutable=True, iqr=7.0),
        Feature(name="year", kind="number", iqr=4.0),
        Feature(name="stuck", kind="number", mutable=True, iqr=0.0),
        Feature(name="sector", kind="category", categories=("a", "b", "c"), mutable=True),
    ),
    relations=(Relation(terms={"paid": 1.0, "amount": -1.0}, bound=0.0),),
)


def table_rows(seed, n=16):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand((n, 6), generator=g) * torch.tensor([1e7, 1e7, 500.0, 50.0, 10.0, 1.0])
    x[:, 2] = x[:, 2].round()
    x[:, 5] = torch.randint(0, 4, (n,), generator=g).float()
    x[:, :5] = torch.where(torch.rand((n, 5), generator=g) < 0.1, torch.nan, x[:, :5])
    return x


def box_rows(seed, n=16):
    return torch.rand((n, 1, 3, 3), generator=torch.Generator().manual_seed(seed))


SPACES = [(BOX, box_rows), (TABLE, table_rows)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), which=st.integers(0, 1), norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0.0, 20.0), far=st.sampled_from([0.01, 1.0, 100.0, 1e6]),
)  # fmt: skip
def test_projection_always_lands_inside_and_stays(seed, which, norm, epsilon, far):
    """Whatever is proposed, the projection holds; projecting it again moves nothing that counts."""
    space, draw = SPACES[which]
    origin = draw(seed)
    threat = Threat(norm=norm, epsilon=epsilon)
    g = torch.Generator().manual_seed(seed + 1)
    proposal = origin.nan_to_num(1.0) + far * torch.randn(origin.shape, generator=g)
    inside = threat.project(proposal, origin, space)
    assert threat.holds(inside, origin, space).all()
    assert torch.equal(inside.isnan(), origin.isnan())
    again = threat.project(inside, origin, space)
    torch.testing.assert_close(again, inside, rtol=1e-5, atol=1e-5, equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    which=st.integers(0, 1),
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0.0, 5.0),
)
def test_starts_lie_inside_and_depend_on_the_id_alone(seed, which, norm, epsilon):
    """A start is in the ball, can exist, and is the same for the same id in any batch."""
    space, draw = SPACES[which]
    origin, ids, noise = draw(seed), torch.arange(16) + seed, Noise(seed, ("start",))
    threat = Threat(norm=norm, epsilon=epsilon)
    start = threat.start(origin, ids, noise, space)
    assert threat.holds(start, origin, space).all()
    some = torch.tensor([7, 2])
    alone = threat.start(origin[some], ids[some], noise, space)
    assert torch.equal(start[some].nan_to_num(-1.0), alone.nan_to_num(-1.0))


def test_projection_onto_linf_is_the_clamp_and_onto_l2_the_scaling():
    """Without bounds in the way, both have their closed form."""
    origin = torch.full((1, 1, 3, 3), 0.5)
    move = torch.tensor([[0.3, -0.02, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, -0.4]]).reshape(1, 1, 3, 3)
    linf = Threat(epsilon=0.1).project(origin + move, origin, BOX)
    torch.testing.assert_close(linf, origin + move.clamp(-0.1, 0.1))
    l2 = Threat(norm="l2", epsilon=0.1).project(origin + move, origin, BOX)
    torch.testing.assert_close(l2, origin + move * 0.1 / move.norm())


def test_bounds_cut_after_the_ball():
    """A pixel near the bound stops there; one outside from the start goes no further."""
    origin = torch.tensor([0.98, 1.2, 0.01]).expand(1, 1, 3, 3).contiguous()
    up = Threat(epsilon=0.1).project(origin + 1, origin, BOX)
    torch.testing.assert_close(up[0, 0, 0], torch.tensor([1.0, 1.2, 0.11]))
    down = Threat(epsilon=0.1).project(origin - 1, origin, BOX)
    torch.testing.assert_close(down[0, 0, 0], torch.tensor([0.88, 1.1, 0.0]))


def test_holds_refuses_what_lies_outside():
    """Just outside the ball, off the grid, an immutable column moved, a missing value filled: each is outside."""
    origin = torch.tensor([[5e4, 10.0, 40.0, 3.0, 2.0, 1.0]])
    threat = Threat(epsilon=1.0)
    assert threat.holds(origin, origin, TABLE).all()
    for column, move in ((0, 3.1e4), (1, 2.1), (2, 8.0), (2, 0.5), (3, 1.0), (4, 0.1)):
        moved = origin.clone()
        moved[0, column] += move
        assert not threat.holds(moved, origin, TABLE).any(), column
    missing = origin.clone()
    missing[0, 0] = torch.nan
    assert not threat.holds(origin, missing, TABLE).any()
    assert not threat.holds(missing, origin, TABLE).any()
    corner = origin + torch.tensor([[3e4, 2.0, 7.0, 0.0, 0.0, 0.0]])
    assert threat.holds(corner, origin, TABLE).all()
    assert not Threat(norm="l2", epsilon=1.0).holds(corner, origin, TABLE).any()
    assert Threat(norm="l2", epsilon=math.sqrt(3)).holds(corner, origin, TABLE).all()


def test_distance_is_in_units_of_what_can_move():
    """Each number counts in its own unit; what cannot move, and what is missing, counts for nothing."""
    origin = torch.tensor([[5e4, 10.0, torch.nan, 3.0, 2.0, 1.0]])
    moved = origin + torch.tensor([[3e4, 4.0, 0.0, 9.0, 1.0, 1.0]])
    units = TABLE.scale(origin.device)[:2].tolist()
    parts = [3e4 / units[0], 4.0 / units[1]]
    assert Threat(epsilon=1.0).distance(moved, origin, TABLE).item() == pytest.approx(max(parts))
    assert Threat(norm="l2", epsilon=1.0).distance(moved, origin, TABLE).item() == pytest.approx(math.hypot(*parts))


def test_ascent_is_the_steepest_step_in_units():
    """L-inf steps follow signs in interquartile ranges; L2 steps have the stride's length in them; NaN stays."""
    x = torch.tensor([[1e5, 5.0, 30.0, 3.0, 2.0, 1.0], [torch.nan, 5.0, 30.0, 3.0, 2.0, 1.0]])
    gradient = torch.tensor([[1e-6, -2.0, 0.0, 9.0, 9.0, 9.0], [0.0, 1.0, 1.0, 9.0, 9.0, 9.0]])
    linf = Threat(epsilon=1.0).ascend(x, gradient, 0.5, TABLE)
    torch.testing.assert_close(linf[0] - x[0], torch.tensor([1.5e4, -1.0, 0.0, 0.0, 0.0, 0.0]))
    l2 = Threat(norm="l2", epsilon=1.0).ascend(x, gradient, torch.tensor([0.5, 0.25]), TABLE)
    scale = TABLE.scale(x.device)
    units = torch.where(scale > 0, (l2 - x) / scale, 0.0).nan_to_num(0.0)
    torch.testing.assert_close(units.norm(dim=1), torch.tensor([0.5, 0.25]), rtol=1e-3, atol=1e-3)
    slope = (gradient * scale)[1, 1:3]
    torch.testing.assert_close(units[1, 1:3] / 0.25, slope / slope.norm(), rtol=1e-3, atol=1e-3)
    assert linf[1, 0].isnan()


def test_zero_gradient_moves_nothing():
    """Where there is no slope there is no step, and no NaN."""
    x = box_rows(0)
    for norm in ("linf", "l2"):
        assert torch.equal(Threat(norm=norm, epsilon=1.0).ascend(x, torch.zeros_like(x), 0.5, BOX), x)


def test_l2_starts_fill_the_ball():
    """Radii are uniform and directions are on both sides."""
    wide = Box(shape=(1, 3, 3), low=-10.0, high=10.0, mean=(0.0,), std=(1.0,))
    origin = torch.zeros((4000, 1, 3, 3))
    start = Threat(norm="l2", epsilon=2.0).start(origin, torch.arange(4000), Noise(0), wide).flatten(1)
    assert start.norm(dim=1).mean() == pytest.approx(1.0, abs=0.05)
    assert start.norm(dim=1).max() <= 2.0 + 1e-5
    assert start.mean(0).abs().max() < 0.05


def test_a_negative_radius_is_refused():
    """Epsilon is at least 0."""
    with pytest.raises(ValidationError):
        Threat(epsilon=-0.1)
