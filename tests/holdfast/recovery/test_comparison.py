"""Comparisons by a metric that is no share of flags: the error stated is the error that the limit has."""

from __future__ import annotations

import numpy as np
import pytest

from holdfast.recovery.comparison import by_metric
from holdfast.results import PerExample


def ranked(labels, scores):
    return PerExample.pack(np.arange(len(labels)), (scores > 0) == (labels == 1), labels, scores)


def compare(metric, labels, ours, theirs):
    return by_metric(metric, ranked(labels, ours), ranked(labels, theirs), 0.03, 0.8, np.random.default_rng(0))


@pytest.mark.parametrize("metric", ["auroc", "average_precision"])
def test_the_error_behind_the_power_is_that_of_the_limit(metric):
    """Scores that differ everywhere show their error: difference less 1.645 of it is about the lower limit."""
    rng = np.random.default_rng(1)
    labels = (np.arange(314) < 36).astype(np.int16)
    theirs = rng.normal(size=314) + 1.2 * labels
    found = compare(metric, labels, theirs + 0.1 * rng.normal(size=314), theirs)
    error = float(found.details.rsplit(" ", 1)[-1])
    assert found.low == pytest.approx(found.difference - 1.645 * error, abs=0.25 * error)


def test_two_models_that_agree_everywhere_still_have_an_error():
    """Equal scores on few points prove little: the power is not 1, and more points are asked for."""
    labels = (np.arange(60) < 12).astype(np.int16)
    scores = np.random.default_rng(2).normal(size=60)
    found = compare("auroc", labels, scores, scores)
    assert found.difference == 0.0
    assert found.power < 0.8
    assert found.needed > 60
