"""Each anomaly against what it says it does to a row."""

from __future__ import annotations

import math

import pytest
import torch

from holdfast.scenarios.anomalies.category_swap import CategorySwap
from holdfast.scenarios.anomalies.category_typos import CategoryTypos
from holdfast.scenarios.anomalies.drifting_sensor import DriftingSensor
from holdfast.scenarios.anomalies.encoding_faults import EncodingFaults
from holdfast.scenarios.anomalies.missing_at_random import MissingAtRandom
from holdfast.scenarios.anomalies.missing_not_at_random import MissingNotAtRandom
from holdfast.scenarios.anomalies.missing_values import MissingValues
from holdfast.scenarios.anomalies.sentinel_values import SentinelValues
from holdfast.scenarios.anomalies.stuck_sensor import StuckSensor
from holdfast.scenarios.anomalies.swapped_columns import SwappedColumns
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


def near(part, share, n):
    """Tell whether a share of n draws is within four standard errors of its chance."""
    return abs(float(part) - share) <= 4 * math.sqrt(share * (1 - share) / n)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_missing_at_random_asks_another_number_of_the_row(severity):
    """A row loses cells where the one number that it keeps for certain is high, and never by what is lost."""
    share = MissingAtRandom.shares[severity - 1]
    low, high = torch.zeros((N, 9)), torch.full((N, 9), 100.0)
    high[:, 7:] = 0.0
    assert not MissingAtRandom().disturb(low, IDS, severity, Noise(2), TABLE).isnan().any()
    lost = MissingAtRandom().disturb(high, IDS, severity, Noise(2), TABLE).isnan()
    assert (~lost[:, :7]).any(1).all()  # the cause stays
    assert near(lost[:, 7:].float().mean(), share, 2 * N)  # a category is no cause
    assert near(lost[:, :7].float().mean() * 7 / 6, share, 6 * N)
    one = low.clone()
    one[:, 3] = 100.0  # the cause of one row in seven
    lost = MissingAtRandom().disturb(one, IDS, severity, Noise(2), TABLE).isnan()
    assert not lost[:, 3].any()
    assert near(lost[:, 0].float().mean(), share / 7, N)


def test_a_missing_cause_causes_nothing():
    """What is not there says nothing about the rest."""
    x = torch.full((N, 9), torch.nan)
    x[:, 7] = 1.0
    assert torch.equal(MissingAtRandom().disturb(x, IDS, 5, Noise(2), TABLE)[:, 7], x[:, 7])


def test_one_column_or_no_number_gives_no_cause():
    """Missing at random needs a cause and another column; it says so instead of losing nothing."""
    assert MissingAtRandom().columns(NAMES) == []
    assert MissingAtRandom().columns(Table(features=NUMBERS[:1])) == []


@pytest.mark.parametrize("severity", SEVERITIES)
def test_missing_not_at_random_loses_high_numbers_alone(severity):
    """The stated share of those above their median; all at or below it stay, as do categories."""
    x = rows()
    medians = torch.tensor([feature.median for feature in NUMBERS])
    x[:, :7] += medians - 50.0
    x[1::10, :7] = medians  # at the median is not above it
    high = torch.zeros_like(x, dtype=torch.bool)
    high[:, :7] = x[:, :7] > medians
    after = MissingNotAtRandom().disturb(x, IDS, severity, Noise(2), TABLE)
    lost = changed(after, x)
    assert not (lost & ~high).any()
    assert after[lost].isnan().all()
    assert near(lost[high].float().mean(), MissingNotAtRandom.shares[severity - 1], int(high.sum()))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_drift_is_uniform_over_its_course_and_one_moment_for_the_row(severity):
    """Biases reach the stated end and no further, to both sides; all sensors of a row have drifted for as long."""
    x = torch.zeros((N, 7))
    table = Table(features=tuple(f.model_copy(update={"iqr": 1.0 + i}) for i, f in enumerate(NUMBERS)))
    after = DriftingSensor().disturb(x, IDS, severity, Noise(2), table)
    moved = after != 0
    bias = after / (1.0 + torch.arange(7)) / DriftingSensor.ends[severity - 1]
    assert near(moved.float().mean(), 0.5, x.numel())
    assert near((bias[moved] > 0).float().mean(), 0.5, int(moved.sum()))
    moment = torch.where(moved, bias.abs(), torch.nan)
    most, least = (moment.nan_to_num(nan=each) for each in (-1.0, 2.0))
    drifted = moved.any(1)
    assert (most.amax(1) - least.amin(1))[drifted].max() < 1e-5
    place = most.amax(1)[drifted].sort().values
    uniform = (torch.arange(len(place)) + 0.5) / len(place)
    assert (place - uniform).abs().max() < 1.95 / math.sqrt(len(place))  # Kolmogorov's bound at 0.1 %


def test_a_constant_does_not_drift():
    """A column without a unit gives no bias a size."""
    table = Table(features=(NUMBERS[0], NUMBERS[1].model_copy(update={"iqr": 0.0})))
    assert DriftingSensor().columns(table) == [0]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_sentinels_stand_for_the_stated_share_of_numbers(severity):
    """Each code as often as any other; a code that the column declares is read as missing; categories stay."""
    declared = NUMBERS[0].model_copy(update={"missing": (-999, "none")})
    table = Table(features=(declared, *NUMBERS[1:], *CATEGORIES))
    x = rows()
    after = SentinelValues().disturb(x, IDS, severity, Noise(2), table)
    assert not changed(after[:, 7:], x[:, 7:]).any()
    assert not (after[:, 0] == -999).any()
    share = SentinelValues.shares[severity - 1]
    for code in (-1.0, 0.0, 9999.0):
        assert near((after[:, :7] == code).float().mean(), share / 4, 7 * N)
    assert near((after[:, 1:7] == -999).float().mean(), share / 4, 6 * N)
    assert near(changed(after[:, :1], x[:, :1])[~x[:, 0].isnan()].float().mean(), share, int((~x[:, 0].isnan()).sum()))


@pytest.mark.parametrize(
    "anomaly",
    [
        MissingValues, UnitSlip, StuckSensor, CategorySwap, MissingAtRandom, MissingNotAtRandom, DriftingSensor,
        SentinelValues, SwappedColumns, CategoryTypos, EncodingFaults,
    ],
)  # fmt: skip
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
