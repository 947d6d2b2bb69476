"""Input spaces: what can exist, and where projection puts what cannot."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from holdfast.errors import ModelError
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


def test_limits_are_the_ends_that_projection_keeps():
    """Ends of the ranges, infinite where there are none; an origin outside widens them to itself."""
    origin = torch.tensor([0.5, 0.5, 1.5, -0.2]).reshape(1, 1, 2, 2)
    low, high = (end.flatten().tolist() for end in BOX.limits(origin))
    assert low == pytest.approx([0.0, 0.0, 0.0, -0.2])
    assert high == pytest.approx([1.0, 1.0, 1.5, 1.0])
    low, high = (end[0].tolist() for end in TABLE.limits(torch.tensor([[120.0, 5.0, torch.nan, 0.0, 1.0, 0.0]])))
    assert low == [0.0, 0.0, 0.0, -torch.inf, 0.0, 0.0]
    assert high == [120.0, 100.0, torch.inf, torch.inf, 2.0, 1.0]


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


# A model's space under another threat

OWN = Table(
    features=(
        Feature(name="k", kind="category", categories=("u", "x"), mutable=True, missing=("?",)),
        Feature(name="b", kind="number", median=3.0, iqr=4.0, std=2.0, knots=(0.0, 1.0), missing=(-1,), mutable=True),
        Feature(name="gone", kind="number", iqr=5.0, mutable=True),
        Feature(name="a", kind="number", median=1.0, iqr=2.0, std=7.0, low=-9.0),
        Feature(name="fixed", kind="number", iqr=8.0, mutable=True),
    ),
    relations=(Relation(terms={"gone": 1.0}, bound=1.0),),
)
ENCODING = ("name", "kind", "categories", "median", "std", "knots", "missing")
LIMITS = ("mutable", "iqr", "spread", "low", "high", "step")


def without(*names, relations=(), **changes):
    """Give TABLE with fewer features, and some of them changed."""
    kept = [f.model_copy(update=changes.get(f.name, {})) for f in TABLE.features if f.name not in names]
    return Table(features=tuple(kept), relations=relations)


def test_a_model_keeps_its_encoding_under_the_threat_of_others():
    """By name and in the model's order: what it reads by is its own, what bounds an attacker is the threat's."""
    relations = (Relation(terms={"a": 1.0, "b": -1.0}, bound=2.0),)
    threat = without(relations=relations, b={"iqr": 0.0, "spread": 6.0})
    found = OWN.under(threat)
    said = {feature.name: feature for feature in threat.features}
    assert found.names == OWN.names
    for own, bounded in zip(OWN.features, found.features, strict=True):
        assert [getattr(bounded, name) for name in ENCODING] == [getattr(own, name) for name in ENCODING]
        if own.name in said:
            assert [getattr(bounded, n) for n in LIMITS] == [getattr(said[own.name], n) for n in LIMITS]
    assert found.relations == threat.relations
    assert not found.features[2].mutable
    assert found.scale(torch.device("cpu")).tolist() == [0.0, 6.0, 0.0, 10.0, 0.0]
    assert found.under(threat) == found


def test_a_space_under_its_own_threat_is_itself():
    """Where the data has not changed, nothing does."""
    assert TABLE.under(TABLE) == TABLE
    assert BOX.under(BOX) == BOX


def test_a_threat_that_does_not_fit_the_model_is_refused():
    """Relations over what the model does not read, a moving feature of another kind, and images are no threat to it."""
    with pytest.raises(ModelError, match="relations over c"):
        OWN.under(TABLE)
    other = Table(features=(Feature(name="k", kind="number", iqr=1.0, mutable=True),))
    with pytest.raises(ModelError, match="k as a number that can change"):
        OWN.under(other)
    still = Table(features=(Feature(name="k", kind="number", iqr=1.0),))
    assert not OWN.under(still).features[0].mutable
    with pytest.raises(ModelError, match="threat to images"):
        OWN.under(BOX)
    with pytest.raises(ModelError, match="rows of a table"):
        BOX.under(OWN)


@pytest.mark.parametrize(
    "threat",
    [
        without(a={"iqr": 0.0, "spread": 11.0}), without(a={"iqr": 11.0}), without(a={"low": 1.0}), without(a={"high": 99.0}), without(b={"step": 6.0}),
        without(a={"mutable": False}), without(k={"mutable": False}), without(fixed={"mutable": True}),
        without("c"), without(relations=TABLE.relations[:1]),
    ],
)  # fmt: skip
def test_what_bounds_an_attacker_has_a_name(threat):
    """Unit, range, step, mutability and relations are in it."""
    assert threat.bounds() != without().bounds()


def test_the_encoding_has_no_part_in_the_bounds():
    """Two models that read in other ways, in another order, face one attacker."""
    encoded = without("fixed", a={"median": 5.0, "std": 3.0, "knots": (1.0,)}, k={"categories": ("q",)})
    turned = Table(features=encoded.features[::-1])
    assert turned.bounds() == encoded.bounds() == without().bounds()
    assert BOX.bounds() == BOX.model_copy(update={"mean": (0.1,)}).bounds()
    assert BOX.bounds() != BOX.model_copy(update={"high": 255.0}).bounds()
