"""Input spaces: what can exist, and where projection puts what cannot."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from holdfast.space import Box, Feature, Relation, Space, Table, parse_relation

BOX = Box(shape=(1, 2, 2), mean=(0.5,), std=(0.3,))
TABLE = Table(
    features=(
        Feature(name="a", kind="number", low=0.0, high=100.0, mutable=True, iqr=10.0),
        Feature(name="b", kind="number", low=0.0, high=100.0, step=5.0, mutable=True, iqr=10.0),
        Feature(name="c", kind="number", low=0.0, mutable=True, iqr=10.0),
        Feature(name="fixed", kind="number", iqr=1.0),
        Feature(name="k", kind="category", categories=("x", "y", "z"), mutable=True),
        Feature(name="l", kind="category", categories=("x", "y")),
    ),
    relations=(
        Relation(terms={"a": 1.0, "c": -1.0}, bound=0.0),
        Relation(terms={"b": 2.0, "a": 1.0}, bound=150.0),
    ),
)
NUMBER = st.one_of(st.floats(-50, 250, width=32), st.just(float("nan")))
ROW = st.tuples(NUMBER, NUMBER, NUMBER, NUMBER, st.integers(0, 3), st.integers(0, 2))


@settings(max_examples=200, deadline=None)
@given(origin=ROW, proposal=ROW)
def test_projection_is_feasible_whatever_is_proposed(origin, proposal):
    """Every proposal projects to a row that can exist, missing where the origin is, whatever the origin."""
    o, x = torch.tensor([origin], dtype=torch.float32), torch.tensor([proposal], dtype=torch.float32)
    x = torch.where(x.isnan(), o, x)
    found = TABLE.project(x, o)
    assert TABLE.feasible(found, o).all()
    assert torch.equal(found.isnan(), o.isnan())
    assert torch.equal(found[:, [3, 5]].nan_to_num(-1), o[:, [3, 5]].nan_to_num(-1))
    between = (found >= torch.fmin(o, x) - 1e-3) & (found <= torch.fmax(o, x) + 1e-3) | o.isnan()
    assert between.all(), "projection draws towards the origin, so that no budget is overrun"


@settings(max_examples=100, deadline=None)
@given(origin=ROW)
def test_every_row_can_stay_where_it_is(origin):
    """An origin, however strange, is feasible from itself and is its own projection."""
    o = torch.tensor([origin], dtype=torch.float32)
    assert TABLE.feasible(o, o).all()
    assert torch.equal(TABLE.project(o, o).nan_to_num(-1), o.nan_to_num(-1))


ORIGIN = [20.0, 30.0, 40.0, 7.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("proposal", "expected"),
    [
        ([25, 30, 40, 7, 1, 0], [25, 30, 40, 7, 1, 0]),  # possible already
        ([20, 39, 40, 7, 1, 0], [20, 35, 40, 7, 1, 0]),  # the grid, towards the origin
        ([20, 21, 40, 7, 1, 0], [20, 25, 40, 7, 1, 0]),
        ([-5, 30, 40, 7, 1, 0], [0, 30, 40, 7, 1, 0]),  # the range
        ([20, 30, 40, 9, 1, 1], [20, 30, 40, 7, 1, 0]),  # immutable
        ([60, 30, 40, 7, 1, 0], [40, 30, 40, 7, 1, 0]),  # a <= c
        ([40, 30, 20, 7, 1, 0], [30, 30, 30, 7, 1, 0]),  # both give way by the same share
        ([20, 30, 40, 7, 9, 0], [20, 30, 40, 7, 2, 0]),  # a known category
    ],
)
def test_projection_of_one_row(proposal, expected):
    """Each rule alone has its closed form."""
    found = TABLE.project(torch.tensor([proposal], dtype=torch.float32), torch.tensor([ORIGIN]))
    torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float32))


@pytest.mark.parametrize(
    ("column", "value"),
    [(0, -1.0), (0, 101.0), (1, 32.0), (3, 8.0), (4, 3.0), (4, 0.5), (5, 1.0), (2, 10.0), (0, float("nan"))],
)
def test_feasible_refuses_each_broken_rule(column, value):
    """Range, grid, immutability, unknown and half categories, relations, values gone missing."""
    row = torch.tensor([ORIGIN])
    row[0, column] = value
    assert not TABLE.feasible(row, torch.tensor([ORIGIN])).any()


def test_rows_with_a_missing_term_are_exempt_from_a_relation():
    """Where c is missing, a may pass it; the other relation still binds."""
    origin = torch.tensor([[20.0, 30.0, torch.nan, 7.0, 1.0, 0.0]])
    x = origin.clone()
    x[0, 0] = 95.0
    assert TABLE.project(x, origin)[0, 0] == pytest.approx(90.0)  # 2 b + a <= 150


def test_large_amounts_keep_their_budget_and_relations():
    """Ten-million amounts in float32 neither break a relation nor count as broken by rounding."""
    big = Table(
        features=tuple(Feature(name=n, kind="number", low=0.0, mutable=True, iqr=1e5) for n in "ab"),
        relations=(Relation(terms={"a": 1.0, "b": -1.0}),),
    )
    origin = torch.tensor([[9_999_999.0, 10_000_000.0]])
    found = big.project(origin + torch.tensor([[3e5, -2e5]]), origin)
    assert big.feasible(found, origin).all()
    assert found[0, 0] <= found[0, 1] + 1.0


def test_box_projection_is_the_clamp():
    """Pixels go to the nearest bound; an origin outside widens them to itself."""
    origin = torch.tensor([0.5, 0.5, 1.5, -0.2]).reshape(1, 1, 2, 2)
    x = torch.tensor([2.0, -1.0, 1.8, -0.1]).reshape(1, 1, 2, 2)
    torch.testing.assert_close(BOX.project(x, origin).flatten(), torch.tensor([1.0, 0.0, 1.5, -0.1]))
    assert not BOX.feasible(x, origin).any()
    assert BOX.feasible(origin, origin).all()


def test_units_are_pixels_and_interquartile_ranges():
    """What cannot move has scale 0."""
    assert BOX.scale(torch.device("cpu")).flatten().tolist() == [1.0]
    assert TABLE.scale(torch.device("cpu")).tolist() == [10.0, 10.0, 10.0, 0.0, 0.0, 0.0]


def test_relations_are_read_from_text():
    """Both signs of inequality, factors, constants, and terms on both sides."""
    assert parse_relation("2 * a + b <= 3 * c + 10", "abc") == Relation(terms={"a": 2, "b": 1, "c": -3}, bound=10)
    assert parse_relation("a - 5 >= -b", "ab") == Relation(terms={"a": -1, "b": -1}, bound=-5)
    for wrong in ("a < b", "a <= q", "a == b"):
        with pytest.raises(ValueError, match=r"no"):
            parse_relation(wrong, "ab")


def test_a_relation_over_categories_is_refused():
    """Only numbers have sums."""
    with pytest.raises(ValidationError, match="not numeric"):
        Table(features=TABLE.features, relations=(Relation(terms={"k": 1.0}),))


def test_spaces_survive_json():
    """The kind tells a box from a table."""
    adapter = TypeAdapter(Space)
    for space in (BOX, TABLE):
        assert adapter.validate_json(adapter.dump_json(space)) == space
