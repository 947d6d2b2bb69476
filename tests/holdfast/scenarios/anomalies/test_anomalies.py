"""Each anomaly against what it says it does to a row."""

from __future__ import annotations

import math

import pytest
import torch

from holdfast.scenarios.anomalies.category_swap import CategorySwap
from holdfast.scenarios.anomalies.missing_values import MissingValues
from holdfast.scenarios.anomalies.stuck_sensor import StuckSensor
from holdfast.scenarios.anomalies.unit_slip import UnitSlip
from holdfast.seeding import Noise
from holdfast.space import Feature, Table

NUMBERS = tuple(
    Feature(name=f"n{i}", kind="number", median=10.0 * i, iqr=2.0, low=0.0, step=1.0 if i == 1 else None)
    for i in range(7)
)
CATEGORIES = (
    Feature(name="state", kind="category", categories=("CA", "NY", "TX", "WA")),
    Feature(name="only", kind="category", categories=("yes",)),
)
TABLE = Table(features=(*NUMBERS, *CATEGORIES))
NAMES = Table(features=CATEGORIES)
N = 4000
IDS = torch.arange(N)
SEVERITIES = (1, 2, 3, 4, 5)


def rows():
    noise = Noise(1, ("rows",))
    x = 50.0 + 5.0 * noise.normal(IDS, (9,))
    x[:, 7] = noise.derive("state").integers(IDS, 5).float()  # 4 is a state that training never saw
    x[:, 8] = noise.derive("only").integers(IDS, 2).float()
    x[::10] = torch.nan
    return x


def changed(after, before):
    return (after != before) & ~(after.isnan() & before.isnan())


@pytest.mark.parametrize("severity", SEVERITIES)
def test_missing_values_lose_the_stated_share(severity):
    """Of all cells, numbers and categories alike, within four standard errors; the others stay."""
    x = rows()[1:2].expand(N, -1)
    after = MissingValues().disturb(x, IDS, severity, Noise(2), TABLE)
    lost, part = after.isnan(), MissingValues.shares[severity - 1]
    assert abs(float(lost.float().mean()) - part) < 4 * math.sqrt(part * (1 - part) / x.numel())
    assert torch.equal(after[~lost], x[~lost])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_unit_slip_multiplies_as_many_numbers_as_the_severity(severity):
    """Each by one of the factors; missing values and categories stay."""
    x = rows()
    after = UnitSlip().disturb(x, IDS, severity, Noise(2), TABLE)
    moved = changed(after, x)
    whole = ~x.isnan().any(1)
    assert (moved[whole].sum(1) == severity).all()
    assert not moved[~whole].any()
    assert not moved[:, 7:].any()
    factors = torch.tensor(UnitSlip().factors)
    distance = ((after / x)[moved][:, None] / factors - 1).abs().amin(1)
    assert float(distance.max()) < 1e-5
    assert (moved[whole, :7].float().mean(0) - severity / 7).abs().max() < 0.05  # every column gets its turn


def test_unit_slip_of_more_columns_than_there_are_takes_all():
    """Two numbers at severity 5 are both wrong."""
    table = Table(features=NUMBERS[:2])
    x = rows()[1:2, :2].expand(N, -1)
    assert changed(UnitSlip().disturb(x, IDS, 5, Noise(2), table), x).all()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_stuck_column_has_one_reading_for_all_rows(severity):
    """As many cells as the severity show their column's reading, within an IQR of the median and on the grid."""
    x = rows()
    after = StuckSensor().disturb(x, IDS, severity, Noise(2), TABLE)
    moved = changed(after, x)
    assert (moved.sum(1) == severity).all()  # a sensor that reported nothing reports its stuck value too
    for i, feature in enumerate(NUMBERS):
        (reading,) = after[moved[:, i], i].unique().tolist()
        assert abs(reading - feature.median) <= feature.iqr
        assert reading >= feature.low
        if feature.step:
            assert reading == round(reading)
    assert not moved[:, 7:].any()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_category_swap_always_gives_another_category(severity):
    """The stated share of present cells; known codes and the unknown one in their proportions."""
    x = rows()[:, 7:].contiguous()
    present = ~x.isnan()
    after = CategorySwap().disturb(x, IDS, severity, Noise(2), NAMES)
    assert torch.equal(after.isnan(), x.isnan())
    moved, part = changed(after, x), CategorySwap.shares[severity - 1]
    n = int(present.sum())
    assert abs(float(moved.sum()) / n - part) < 4 * math.sqrt(part * (1 - part) / n)
    states = after[moved[:, 0], 0]
    assert set(states.tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}
    known = moved[:, 0] & (x[:, 0] < 4)
    unseen = float((after[known, 0] == 4).float().mean())
    assert abs(unseen - 0.25) < 4 * math.sqrt(0.25 * 0.75 / int(known.sum()))
    assert (after[moved[:, 0] & (x[:, 0] == 4), 0] < 4).all()
    # One known category and the unknown one can only change places.
    assert torch.equal(after[moved[:, 1], 1], 1 - x[moved[:, 1], 1])


def test_known_swaps_are_uniform_over_the_other_categories():
    """From one state each of the three others is as likely."""
    x = torch.zeros((N, 2))
    after = CategorySwap(unknown=0.0).disturb(x, IDS, 5, Noise(3), NAMES)[:, 0]
    counts = torch.bincount(after[after > 0].long(), minlength=5)[1:]
    assert counts[3] == 0
    expected = float(counts.sum()) / 3
    assert ((counts[:3] - expected).abs() < 4 * math.sqrt(expected)).all()


@pytest.mark.parametrize("anomaly", [MissingValues, UnitSlip, StuckSensor, CategorySwap])
def test_each_column_has_its_slice(anomaly, build, context):
    """The slices name columns that the anomaly can hit, each with rows of its own."""
    target, samples = build("table")
    finding = anomaly().run(target, samples, context)
    names = {f"column={target.space.names[i]}" for i in anomaly().columns(target.space)}
    assert finding.slices
    assert set(finding.slices) <= names
    assert all(0 < score.n <= len(samples) for score in finding.slices.values())


def test_an_anomaly_without_a_column_to_hit_is_unscored(build, context):
    """Category swaps mean nothing in a table of numbers."""
    target, samples = build("table")
    target.space = Table(features=tuple(NUMBERS[:6]))
    finding = CategorySwap().run(target, samples, context)
    assert finding.score is None
    assert finding.unscored == "no column that it could hit"
