"""Compositions: members in their order, each as strong as it is told, and only those that can be composed."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from holdfast.params import FAMILIES
from holdfast.params_checks import check_registered
from holdfast.scenarios.anomalies.composition import Composition as OfRows
from holdfast.scenarios.anomalies.unit_slip import UnitSlip
from holdfast.scenarios.corruptions.composition import Composition as OfImages
from holdfast.seeding import Noise
from holdfast.space import Box, Feature, Table

TABLE = Table(features=(Feature(name="amount", kind="number", median=1.0, iqr=1.0),))
N = 400
IDS, ROWS = torch.arange(N), torch.full((N, 1), 5.0)
SLIP = {"scenario": "anomalies/unit_slip", "settings": {"factors": [1000.0]}}
HIGH = {"scenario": "anomalies/missing_not_at_random", "severities": [5, 5, 5, 5, 5]}
DOWN = {"scenario": "anomalies/unit_slip", "settings": {"factors": [0.001]}}


def compose(*members):
    return OfRows.model_validate({"members": members})


def test_members_act_in_their_order():
    """What slips below the median before high values are withheld stays; the other way round all is lost."""
    assert torch.allclose(compose(DOWN, HIGH).disturb(ROWS, IDS, 1, Noise(2), TABLE), ROWS * 0.001)
    assert compose(HIGH, DOWN).disturb(ROWS, IDS, 1, Noise(2), TABLE).isnan().all()
    assert torch.equal(compose(SLIP, SLIP).disturb(ROWS, IDS, 1, Noise(2), TABLE), ROWS * 1e6)


def test_each_member_has_its_own_severities_and_draws():
    """0 leaves a member out at that severity; the second of two alike hits cells that the first left."""
    late = {**SLIP, "severities": [0, 0, 1, 1, 1]}
    found = [float(compose(late, SLIP).disturb(ROWS, IDS, s, Noise(2), TABLE).mean()) for s in (1, 2, 3)]
    assert found == [5e3, 5e3, 5e6]
    loss = {"scenario": "anomalies/missing_values", "severities": [5, 5, 5, 5, 5]}
    once, twice = (compose(*[loss] * k).disturb(ROWS, IDS, 1, Noise(2), TABLE).isnan() for k in (1, 2))
    assert (twice | ~once).all()
    assert abs(float(twice.float().mean()) - 0.75) < 0.09


def test_images_are_composed_as_rows_are():
    """Darkness after light is not light after darkness: the operations do not commute."""
    box, x = Box(shape=(1, 8, 8), mean=(0.5,), std=(0.25,)), Noise(1).uniform(IDS[:20], (1, 8, 8))
    members = [{"scenario": "corruptions/brightness"}, {"scenario": "corruptions/contrast"}]
    there, back = (OfImages.model_validate({"members": each}) for each in (members, members[::-1]))
    lit = there.members[0].build().disturb(x, IDS[:20], 3, Noise(1), box)
    assert torch.equal(
        there.disturb(x, IDS[:20], 3, Noise(1), box), there.members[1].build().disturb(lit, IDS[:20], 3, Noise(1), box)
    )
    assert not torch.equal(there.disturb(x, IDS[:20], 3, Noise(1), box), back.disturb(x, IDS[:20], 3, Noise(1), box))


@pytest.mark.parametrize(
    ("member", "told"),
    [
        ({"scenario": "corruptions/jpeg"}, "defined on a box space, and anomalies/composition is about a table"),
        ({"scenario": "anomalies/unit_slips"}, "anomalies/ holds: .*unit_slip"),
        ({"scenario": "unit_slip"}, "not the path of a scenario"),
        ({"scenario": "attacks/pgd"}, "it has no severities"),
        ({"scenario": "anomalies/composition"}, "its members can be named instead"),
        ({"scenario": "anomalies/unit_slip", "settings": {"factor": 3}}, "settings of anomalies/unit_slip: factor"),
        ({"scenario": "anomalies/unit_slip", "settings": {"points": 3}}, "set its own"),
        ({"scenario": "anomalies/unit_slip", "severities": [2, 1, 1, 1, 1]}, "must rise or stay"),
        ({"scenario": "anomalies/unit_slip", "severities": [0, 0, 0, 0, 0]}, "above 0"),
        ({"scenario": "anomalies/unit_slip", "severities": [1, 2, 3, 4, 6]}, "less than or equal to 5"),
    ],
)
def test_what_cannot_be_composed_is_refused(member, told):
    """Before any work, with the member's name and what can be done."""
    with pytest.raises(ValidationError, match=told):
        compose(member)


def test_a_composition_without_members_is_refused():
    """It would be the clean accuracy under another name."""
    with pytest.raises(ValidationError, match="members"):
        compose()


def test_a_member_that_means_nothing_here_is_named(build, context):
    """A table without categories has no typos: the composition is unscored, and says which member it was."""
    target, samples = build("table")
    target.space = Table(features=tuple(each.model_copy(update={"kind": "number"}) for each in target.space.features))
    finding = compose(SLIP, {"scenario": "anomalies/category_typos"}).run(target, samples, context)
    assert finding.unscored == "anomalies/category_typos: no column that it could hit"


def test_a_third_partys_member_is_part_of_the_origin(monkeypatch, context):
    """Its source is no part of the library's digest: a change of it must be another finding."""
    origin = {"subject": "m", "data": "d", "role": "test", "device": "cpu"}
    plain = compose(SLIP).origin(context, **origin).code
    for told in ("first", "second"):
        monkeypatch.setattr(
            "holdfast.scenarios.composition.code_of", lambda kind, told=told: told if kind is UnitSlip else ""
        )
        found = compose(SLIP).origin(context, **origin).code
        assert found != plain
        plain = found


def test_params_say_which_member_is_wrong():
    """A composition is a line of params like any scenario, and its mistakes are found with all others."""
    members = [{"scenario": "anomalies/unit_slip"}, {"scenario": "corruptions/jpeg"}]
    tree = {"evaluation": {"scenarios": {"anomalies": {"composition-feed": {"members": members}}}}}
    (problem,) = check_registered(tree, FAMILIES)
    assert problem.startswith("evaluation.scenarios.anomalies.composition-feed: ")
    assert "corruptions/jpeg is defined on a box space" in problem
    members.pop()
    assert check_registered(tree, FAMILIES) == []
