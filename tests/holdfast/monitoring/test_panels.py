"""The panel: thresholds from clean history, one budget for all detectors, and silence where nothing can be said."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
from scipy import stats

from holdfast.errors import DataError
from holdfast.monitoring.calibration_drift import CalibrationDrift
from holdfast.monitoring.expected_quality import ExpectedQuality
from holdfast.monitoring.harm import Harm
from holdfast.monitoring.label_shift import LabelShift
from holdfast.monitoring.page_hinkley import PageHinkley
from holdfast.monitoring.panels import Calibration, Panel, Stretch, Threshold, tail_quantile
from holdfast.monitoring.surprise import Surprise
from holdfast.seeding import Noise
from holdfast.statistics import share

QUICK = {"harm": Harm(), "page_hinkley": PageHinkley(), "label_shift": LabelShift(), "drift": CalibrationDrift()}


@pytest.fixture(scope="module")
def panel():
    return Panel(detectors=QUICK, budget=0.05)


@pytest.fixture(scope="module")
def calibration(panel, past):
    return panel.calibrate(past, 200, 400, Noise(3, ("panel",)))


def test_the_budget_is_parted_by_weight(panel, calibration):
    """Parts add up to the whole, and what begins retraining has more of it than what only tells."""
    levels = panel.levels()
    assert sum(levels.values()) == pytest.approx(panel.budget)
    assert levels["harm"] == pytest.approx(5 * levels["drift"])
    assert calibration.thresholds["harm"].value == pytest.approx(-np.log(levels["harm"]))
    assert (Surprise.weight, Harm.weight) == (5, 5)


def test_replayed_thresholds_are_those_of_a_detectors_part(past):
    """Beside a detector of weight five, one whose threshold is replayed gets a sixth of the budget."""
    alone = Panel(detectors={"drift": CalibrationDrift()}, budget=0.05 / 6)
    beside = Panel(detectors={"drift": CalibrationDrift(), "harm": Harm()}, budget=0.05)
    asked = [panel.calibrate(past, 200, 400, Noise(3, ("panel",))).thresholds["drift"] for panel in (alone, beside)]
    assert asked[0].value == asked[1].value
    assert Panel(detectors={"drift": CalibrationDrift()}, budget=0.05).digest() != alone.digest()


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


@pytest.mark.parametrize("law", [stats.norm, stats.expon])
def test_a_tail_beyond_the_sample_is_seldom_put_too_low(law):
    """Of thresholds read off 1,000 values each few are exceeded more often than one time in 10,000."""
    noise = np.random.default_rng(2)
    found = [tail_quantile(law.rvs(size=1000, random_state=noise), 1e-4) for _ in range(40)]
    assert np.mean(law.sf(found) > 1e-4) <= 0.125
    assert np.median(law.sf(found)) >= 1e-7  # and not so high that nothing ever alarms


def test_a_heavy_tail_is_seen():
    """A tail that falls as a power is not taken for an exponential one."""
    values = stats.pareto(2.0).rvs(size=5000, random_state=np.random.default_rng(3))
    assert tail_quantile(values, 1e-5) > 150  # the law's own is 316, an exponential's would be below 60


def test_a_statistic_of_few_values_does_not_run_away():
    """Counts of something rare give a threshold beyond what was seen, and not one that nothing ever reaches."""
    counts = np.random.default_rng(6).poisson(0.4, 1000).astype(float) ** 2
    assert counts.max() <= tail_quantile(counts, 1e-4) <= 20 * counts.max()


def test_a_statistic_that_is_hardly_ever_there_keeps_its_power():
    """Two traces among 1,000 quiet windows put the threshold beyond them, and not beyond every attack."""
    values = np.zeros(1000)
    values[:2] = 2.3
    assert 2.3 < tail_quantile(values, 1e-4) < 10.0


def test_the_budget_is_kept_with_small_references(make):
    """References of 400 rows, each with thresholds of its own: windows of the world stay quiet within the budget."""
    panel = Panel(detectors={"label_shift": LabelShift(), "drift": CalibrationDrift()}, budget=0.03)
    quiet = []
    for seed in range(3):
        past = make(400, 1000 + seed, position=-1)
        known = panel.calibrate(past, 100, 200, Noise(seed, ("small",))).thresholds
        for place in range(60):
            window = make(100, 5000 + 100 * seed + place)
            told = {name: detector.read(window, past, {}).statistic for name, detector in panel.detectors.items()}
            quiet.append(all(told[name] <= known[name].value for name in told))
    alarms = len(quiet) - sum(quiet)
    assert stats.binom.sf(alarms - 1, len(quiet), panel.budget) > 0.01


def test_no_window_is_drawn_from_the_rows_that_it_is_held_against(past):
    """Past and windows of one split share no row with each other; streams have rows that repeat."""
    seen = []

    class Spy(LabelShift):
        sequential: ClassVar[bool] = False

        def replay(self, window, past, memory):
            seen.append((window, past))
            return super().replay(window, past, memory)

    class Stream(Spy):
        sequential: ClassVar[bool] = True

    Panel(detectors={"spy": Spy()}).replay(past, 200, 20, Noise(1), ["spy"])
    assert all(not set(window.ids) & set(before.ids) for window, before in seen)
    assert not set(seen[0][0].ids) & set(seen[6][0].ids)  # windows of one split
    assert len({before.id for _, before in seen}) == 3  # of 3,000 rows half are seven windows of 200
    seen.clear()
    Panel(detectors={"stream": Stream()}).replay(past, 2500, 2, Noise(1), ["stream"])
    assert all(len(np.unique(window.x[:, 0].numpy())) < 2500 for window, _ in seen)
    assert len({before.id for _, before in seen}) == 1


def test_an_interrupted_replay_goes_on_where_it_was_and_ends_the_same(past):
    """Each stream of windows is kept as it ends: the next start plays the others, and the thresholds are the same."""
    panel, kept, played = Panel(detectors={"drift": LabelShift()}), {}, []

    def memo(part, play):
        if part not in kept:
            if len(played) == 5:
                raise KeyboardInterrupt
            played.append(part)
            kept[part] = Stretch.model_validate_json(play().model_dump_json())
        return kept[part]

    ask = partial(panel.calibrate, past, 200, 200, Noise(3, ("memo",)))
    with pytest.raises(KeyboardInterrupt):
        ask(memo=memo)
    assert len(played) == 5
    played.clear()
    told = []
    resumed = ask(memo=memo, progress=told.append)
    assert len(played) == 3  # of eight streams of fifty windows
    assert resumed == ask()
    assert told[-1] == 400
    assert told == [50, 100, 150, 200, 250, 300, 350, 400]


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
    with pytest.raises(DataError, match="at least 14000"):
        panel.calibrate(past, 7000, 200, Noise(3))


def test_rows_that_are_all_answered_alike_set_no_threshold_of_nothing(past):
    """Where every replayed window has the same answers, a later one is held to the chi-square's own quantile."""
    classes = past.probabilities.shape[1]
    alike = replace(past, probabilities=np.tile(np.eye(classes)[0] * 0.8 + 0.2 / classes, (len(past), 1)))
    found = Panel(detectors={"label_shift": LabelShift()}, budget=0.01).calibrate(alike, 25, 200, Noise(3, ("alike",)))
    assert found.thresholds["label_shift"].value == pytest.approx(stats.chi2.isf(0.01, 1))


def test_an_estimate_that_is_void_raises_no_alarm(make, past):
    """The same loss of expected accuracy alarms where the estimate holds, and where it does not it is told only."""
    panel = Panel(detectors={"expected_quality": ExpectedQuality()})
    known = Calibration(
        budget=0.001, rows=400, thresholds={"expected_quality": Threshold(value=0.01, source="t")}, replays=200,
        achieved=share([True]), seed=0,
    )  # fmt: skip
    sure, window = past.take(np.flatnonzero(past.confidence > 0.7)), make(400, 1)
    window = window.take(np.flatnonzero(window.confidence < 0.9))
    for before, alarm in ((past, True), (sure, False)):
        ((signal,), _) = panel.watch(window, before, known, {}, ("outputs",))
        assert signal.statistic > signal.threshold
        assert (signal.alarm, signal.details["valid"]) == (alarm, alarm)
        assert bool(signal.details["void"]) is not alarm


def test_the_achieved_rate_is_said_with_its_count_interval_and_budget(panel, calibration):
    """As a share of alarms, beside what was declared."""
    told = calibration.model_copy(update={"achieved": share([False] * 6 + [True] * 294), "budget": 0.01})
    low, high = (100 * (1 - end) for end in (told.achieved.high, told.achieved.low))
    assert told.sentence() == (
        f"6 of 300 other clean windows of 200 rows alarmed: 2.00 % ({low:.2f} to {high:.2f} %), the budget is 1 %"
    )
