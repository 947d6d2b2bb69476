"""The panel: thresholds from clean history, one budget for all detectors, and silence where nothing can be said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from holdfast.errors import DataError
from holdfast.monitoring.calibration_drift import CalibrationDrift
from holdfast.monitoring.harm import Harm
from holdfast.monitoring.label_shift import LabelShift
from holdfast.monitoring.page_hinkley import PageHinkley
from holdfast.monitoring.panels import Panel, tail_quantile
from holdfast.seeding import Noise

QUICK = {"harm": Harm(), "page_hinkley": PageHinkley(), "label_shift": LabelShift(), "drift": CalibrationDrift()}


@pytest.fixture(scope="module")
def panel():
    return Panel(detectors=QUICK, budget=0.05)


@pytest.fixture(scope="module")
def calibration(panel, past):
    return panel.calibrate(past, 200, 400, Noise(3, ("panel",)))


@pytest.mark.parametrize("level", [0.1, 0.01, 0.001, 0.0001])
def test_the_tail_is_that_of_an_exponential(level):
    """Quantiles inside and beyond a sample of 5,000 meet those of the law that it was drawn from."""
    found = tail_quantile(np.random.default_rng(0).exponential(size=5000), level)
    assert found == pytest.approx(stats.expon.isf(level), rel=0.2)


def test_the_tail_is_never_inside_what_was_seen():
    """However small the sample, beyond it the threshold is at least the largest value seen; constants stay constant."""
    values = np.random.default_rng(1).normal(size=300)
    assert tail_quantile(values, 1e-5) >= values.max()
    assert tail_quantile(np.zeros(300), 1e-5) == 0.0


def test_the_budget_is_kept_on_other_windows(panel, calibration):
    """Clean windows that no threshold was read from stay quiet within the budget, as far as their number can tell."""
    assert calibration.achieved.n == 400
    assert calibration.achieved.high >= 1 - panel.budget
    assert {name: known.source for name, known in calibration.thresholds.items()} == {
        "harm": "theory", "page_hinkley": "theory",
        "label_shift": "replay of 400 clean windows", "drift": "replay of 400 clean windows",
    }  # fmt: skip


def test_each_change_is_told_by_its_own_detectors(panel, calibration, make, past):
    """Wrong labels are harm, another mix of answers is label shift, clean rows are nothing."""

    def alarms(window):
        return {signal.detector for signal in panel.watch(window, past, calibration, {})[0] if signal.alarm}

    assert alarms(make(200, 21)) == set()
    assert {"harm", "drift"} <= alarms(make(200, 22, flip=0.4))
    assert "label_shift" in alarms(make(200, 23, prior=0.9))
    assert "label_shift" not in alarms(make(200, 24, flip=0.4))


def test_labels_that_are_not_there_are_no_good_news(panel, calibration, make, past):
    """Before labels mature, detectors of labels give no signal and remember nothing; afterwards they do."""
    window = make(200, 25, flip=0.4)
    early, memories = panel.watch(window.without_labels(), past, calibration, {})
    assert {signal.detector for signal in early} == {"label_shift"}
    assert "harm" not in memories
    late, memories = panel.watch(window, past, calibration, memories)
    assert len(late) == 4
    assert memories["harm"]["log_wealth"]
    assert {signal.window for signal in (*early, *late)} == {window.id}


def test_calibration_repeats_and_refuses_too_little(panel, calibration, past):
    """The same seed gives the same thresholds; too few replays or rows are refused."""
    assert panel.calibrate(past, 200, 400, Noise(3, ("panel",))) == calibration
    with pytest.raises(DataError, match="at least 200"):
        panel.calibrate(past, 200, 50, Noise(3))
    with pytest.raises(DataError, match="at least 7000"):
        panel.calibrate(past, 7000, 200, Noise(3))
