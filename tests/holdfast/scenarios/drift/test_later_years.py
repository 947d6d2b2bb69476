"""Later years against rows whose accuracy by year is known."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.scenarios.base import Context
from holdfast.scenarios.drift.later_years import LaterYears
from holdfast.space import Feature, Table
from holdfast.statistics import share

TABLE = Table(features=(Feature(name="risk", kind="number", iqr=1.0),))


def sign():
    """Answer 1 where the one feature is positive."""
    linear = nn.Linear(1, 2)
    linear.weight.data, linear.bias.data = torch.tensor([[-0.5], [0.5]]), torch.zeros(2)
    return Target(linear, ModelSpec(factory="none:none", space=TABLE, classes=("no", "yes")), "digest")


def history(accuracy, n=100):
    """Make n rows a year, of which the model gets the stated share right."""
    x, y, time = [], [], []
    for year, part in accuracy.items():
        for i in range(n):
            label = i % 2
            right = (i // 2) % (n // 2) < part * n / 2
            x.append((2.0 * label - 1.0) * (1.0 if right else -1.0) * (1 + i))
            y.append(label)
            time.append(year)
    rows = torch.tensor(x)[:, None]
    return Samples(rows, torch.tensor(y), torch.arange(len(y)), "test", "snap", torch.tensor(time, dtype=torch.float64))


def test_every_year_weighs_the_same(context):
    """A year of 1,000 rows does not hide a year of 100; worst and curve stand beside the mean."""
    large, small = history({2001: 0.9}, 1000), history({2002.75: 0.5})
    both = Samples(
        torch.cat([large.x, small.x]), torch.cat([large.y, small.y]), torch.arange(1100), "test", "snap",
        torch.cat([large.time, small.time]),
    )  # fmt: skip
    finding = LaterYears().run(sign(), both, context)
    assert finding.score.value == pytest.approx(0.7)
    assert [(p.at, round(p.score.value, 6)) for p in finding.curves[0].points] == [(2001, 0.9), (2002, 0.5)]
    assert finding.measures[0].value == pytest.approx(0.5)
    assert finding.details["worst_period"] == 2002
    years = [share([True] * 900 + [False] * 100), share([True] * 50 + [False] * 50)]
    half = math.sqrt(sum((year.value - year.low) ** 2 for year in years)) / 2
    assert finding.score.low == pytest.approx(0.7 - half)


def test_small_years_are_left_out_by_name(context):
    """Too few rows make no year; they are said, and do not count."""
    finding = LaterYears(min_rows=60).run(sign(), history({2001: 0.5, 2002: 1.0}, 60), context)
    assert finding.score.value == pytest.approx(0.75)
    rare = history({2001: 0.5, 2002: 1.0}, 60)
    few = rare.take(torch.arange(100))
    finding = LaterYears(min_rows=60).run(sign(), few, context)
    assert finding.score.value == pytest.approx(0.5)
    assert finding.details["left_out"] == {"2002": "40 rows"}


def test_periods_can_be_longer_than_a_unit(context):
    """Five years in one."""
    finding = LaterYears(length=5.0).run(sign(), history({2001: 0.5, 2004: 1.0, 2005: 1.0}), context)
    assert [(p.at, p.score.value) for p in finding.curves[0].points] == [(2000, 0.75), (2005, 1.0)]


def test_the_users_metric_is_what_is_measured():
    """AUROC year by year equals scikit-learn's; a year of one class has none, and is left out."""
    samples = history({2001: 0.8, 2002: 0.6, 2003: 1.0})
    y = samples.y.clone()
    y[200:] = 1
    samples = Samples(samples.x, y, samples.ids, "test", "snap", samples.time)
    finding = LaterYears().run(sign(), samples, Context(seed=1, metric="auroc"))
    years = [roc_auc_score(y[part], samples.x[part, 0]) for part in (slice(0, 100), slice(100, 200))]
    assert [p.score.value for p in finding.curves[0].points] == pytest.approx(years)
    assert finding.score.value == pytest.approx(sum(years) / 2)
    assert finding.details["left_out"] == {"2003": "auroc needs rows of both classes"}


def test_without_time_or_years_it_is_unscored(context):
    """No time column, and no period that is large enough: a reason each, and no number."""
    samples = history({2001: 0.5})
    timeless = Samples(samples.x, samples.y, samples.ids, "test", "snap")
    assert LaterYears().run(sign(), timeless, context).unscored == "the rows have no time"
    unscored = LaterYears(min_rows=500).run(sign(), samples, context).unscored
    assert unscored == "no period of length 1 can be scored (2001: 100 rows)"
