"""Detectors against closed forms, references, and changes that were planted."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from river import drift
from scipy import stats

from holdfast.data.stream import Window
from holdfast.errors import DataError
from holdfast.monitoring.adwin import Adwin
from holdfast.monitoring.calibration_drift import CalibrationDrift
from holdfast.monitoring.evidently import Evidently, table_of
from holdfast.monitoring.expected_quality import ExpectedQuality
from holdfast.monitoring.harm import _BETS, Harm
from holdfast.monitoring.label_shift import LabelShift
from holdfast.monitoring.mmd import Mmd
from holdfast.monitoring.page_hinkley import PageHinkley
from holdfast.monitoring.suspicion import Suspicion
from holdfast.space import Box


def answered(wrong, space, past):
    """A window in which exactly these rows (n,) are wrong."""
    n = len(wrong)
    p = np.tile([0.9, 0.1], (n, 1))
    return Window(0, np.arange(n), past.x[:n], p, space, np.asarray(wrong, dtype=np.int64))


def test_a_bet_wins_nothing_on_average_under_the_hypothesis(past):
    """Summed over all outcomes of a window, wealth at the bounding error rate is exactly 1 for each bet."""
    n, bound = 30, Harm().read(answered([False] * 30, past.space, past), past, {}).details["bound"]
    total = 0.0
    for k in range(n + 1):
        reading = Harm().read(answered([True] * k + [False] * (n - k), past.space, past), past, {})
        total += stats.binom.pmf(k, n, bound) * reading.e_value
    assert total == pytest.approx(1.0, rel=1e-9)


def test_wealth_is_the_shiryaev_roberts_sum(past):
    """After three windows the statistic is the sum over starts of the products since, averaged over the bets."""
    windows = [answered([True] * k + [False] * (50 - k), past.space, past) for k in (3, 20, 30)]
    memory, bound = {}, None
    for window in windows:
        reading = Harm().read(window, past, memory)
        memory, bound = reading.memory, reading.details["bound"]
    wealth = 0.0
    for bet in _BETS:
        stake, total = bet / bound, 0.0
        for k in (3, 20, 30):
            total = (total + 1.0) * (1 + stake * (1 - bound)) ** k * (1 - stake * bound) ** (50 - k)
        wealth += total / len(_BETS)
    assert reading.statistic == pytest.approx(math.log(wealth), rel=1e-9)
    assert Harm().threshold(0.001, past, 50) == pytest.approx(math.log(1000))


def test_harm_is_found_and_no_harm_is_not(make, past):
    """Ten points more errors are found within two windows of 500; covariates that move without harm are not."""
    memory, bar = {}, Harm().threshold(0.001, past, 500)
    for place in range(20):
        reading = Harm().read(make(500, 200 + place, shift=0.3, prior=0.6), past, memory)
        memory = reading.memory
        assert reading.statistic < bar
    for place in range(2):
        reading = Harm().read(make(500, 300 + place, flip=0.15), past, memory)
        memory = reading.memory
    assert reading.statistic > bar
    assert reading.effect == pytest.approx(0.1, abs=0.05)


def test_page_hinkley_is_rivers(make, past):
    """Window by window, with its state through JSON, it holds what river's detector holds in one go."""
    memory, walk = {}, drift.PageHinkley(delta=0.005, threshold=float("inf"), mode="up")
    for place in range(4):
        window, most = make(200, place, flip=0.1 * place), 0.0
        for error in window.wrong:
            walk.update(float(error))
            most = max(most, walk._sum_increase - walk._min_increase)
        reading = PageHinkley().read(window, past, memory)
        memory = reading.memory
        assert reading.statistic == pytest.approx(most, rel=1e-12)


def test_adwin_is_rivers(make, past):
    """Carried values give the estimate and width that river's detector has in one go."""
    memory, walk = {}, drift.ADWIN(delta=0.002)
    for place in range(6):
        window = make(500, place, flip=0.4 if place > 2 else 0.0)
        for error in window.wrong:
            walk.update(float(error))
        reading = Adwin().read(window, past, memory)
        memory = reading.memory
    assert reading.details["cut"]
    assert reading.effect == pytest.approx(walk.estimation - past.wrong.mean(), abs=1e-12)
    assert reading.statistic > 0.2


def test_the_true_mix_is_solved_exactly(past):
    """Answers drawn from the confusion matrix in exact counts give back the mix of classes behind them."""
    y = np.repeat([0, 1], [100, 100])
    predicted = np.concatenate([np.repeat([0, 1], [80, 20]), np.repeat([0, 1], [10, 90])])
    said = np.eye(2)[predicted]
    before = Window(-1, np.arange(200), past.x[:200], said, past.space, y)
    # Mix 0.3 / 0.7: 0.3 * (0.8, 0.2) + 0.7 * (0.1, 0.9) = (0.31, 0.69)
    now = Window(0, np.arange(100), past.x[:100], np.eye(2)[np.repeat([0, 1], [31, 69])], past.space)
    reading = LabelShift().read(now, before, {})
    assert reading.details["mix"] == pytest.approx([0.3, 0.7])
    assert reading.effect == pytest.approx(0.2)
    table = [[31, 69], [90, 110]]
    assert reading.p_value == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)


def test_no_mix_is_made_up(past):
    """A champion that answers alike to both classes says nothing of their mix, and that is said."""
    said = np.tile([1.0, 0.0], (200, 1))
    before = Window(-1, np.arange(200), past.x[:200], said, past.space, np.arange(200) % 2)
    reading = LabelShift().read(Window(0, np.arange(50), past.x[:50], said[:50], past.space), before, {})
    assert reading.details["mix"] is None
    assert "condition" in reading.details["no_mix"]
    assert reading.statistic == 0.0


def test_expected_accuracy_is_right_where_its_condition_holds(make, past):
    """Under covariate shift of a calibrated champion the estimate meets the accuracy that labels later show."""
    window = make(4000, 9, prior=0.5)
    harder = window.take(np.flatnonzero(window.confidence < 0.9))
    reading = ExpectedQuality().read(harder.without_labels(), past, {})
    assert reading.details["valid"]
    assert reading.details["expected"] == pytest.approx(1 - harder.wrong.mean(), abs=0.03)
    assert reading.effect > 0.03


def test_the_estimate_is_void_beyond_what_the_past_knew(make, past):
    """Answers less sure than any of the past void the estimate, and a past of few rows is refused."""
    sure = past.take(np.flatnonzero(past.confidence > 0.7))
    window = make(400, 1)
    assert ExpectedQuality().read(window.take(np.flatnonzero(window.confidence > 0.7)), sure, {}).details["valid"]
    reading = ExpectedQuality().read(window, sure, {})
    assert not reading.details["valid"]
    assert reading.details["beyond"] == pytest.approx((window.confidence < 0.7).mean(), abs=0.01)
    with pytest.raises(DataError, match="reference rows"):
        ExpectedQuality().read(window, past.take(np.arange(49)), {})


def test_calibration_error_rises_with_overconfidence(make, past):
    """Labels flipped under unchanged confidence raise the error by about as much."""
    reading = CalibrationDrift().read(make(2000, 11, flip=0.2), past, {})
    assert reading.effect > 0.08
    assert CalibrationDrift().read(make(2000, 12), past, {}).effect < 0.03


def test_the_discrepancy_is_the_sum_over_pairs(make, past):
    """The statistic equals the unbiased double sum, and its p-value finds a shift and not its absence."""
    detector = Mmd(rows=20)
    window = make(20, 2, shift=1.0)
    kernel, m = detector._kernel(window, past)
    a, b, c = kernel[:m, :m], kernel[m:, m:], kernel[:m, m:]
    pairs = [
        sum(float(k[i, j]) for i in range(20) for j in range(20) if i != j) / (20 * 19) for k in (a, b)
    ]  # fmt: skip
    reading = detector.read(window, past, {})
    assert reading.statistic == pytest.approx(sum(pairs) - 2 * float(c.mean()), rel=1e-9)
    assert Mmd().read(make(500, 3, shift=0.5), past, {}).p_value == pytest.approx(1 / 200)
    assert Mmd().read(make(500, 4), past, {}).p_value > 0.05


def test_evidently_reads_what_the_tests_say(make, past):
    """The smallest corrected p-value is scipy's, and a page can be drawn."""
    window = make(400, 5, shift=0.3)
    reading = Evidently().read(window, past, {})
    now, before = table_of(window), table_of(past)
    ks = stats.ks_2samp(before["x0"], now["x0"]).pvalue
    assert reading.details["columns"]["x0"] == pytest.approx(ks, rel=1e-6)
    assert reading.p_value == pytest.approx(min(1.0, 6 * min(reading.details["columns"].values())))
    assert reading.statistic == pytest.approx(-math.log10(reading.p_value))
    assert set(now) == {"x0", "x1", "x2", "x3", "colour", "(predicted)"}
    assert "<html" in Evidently().page(window, past).lower()


def test_evidently_scores_are_those_of_its_report(make, past):
    """The tests that are asked alone, without figures, say what Evidently's whole report says."""
    window = make(300, 6, shift=0.2)
    told = json.loads(Evidently()._run(window, past).json())
    found = {m["config"]["column"]: m["value"] for m in told["metrics"] if m["config"]["type"].endswith("ValueDrift")}
    assert Evidently().scores(window, past) == pytest.approx(found, rel=1e-9)


def test_evidently_reads_images_by_their_statistics():
    """Images that grow brighter move in their mean."""
    rng = np.random.default_rng(0)
    space = Box(shape=(1, 8, 8), mean=(0.5,), std=(0.3,))

    def pictures(low):
        x = torch.tensor(rng.uniform(low, 1.0, size=(200, 1, 8, 8)), dtype=torch.float32)
        return Window(0, np.arange(200), x, np.tile([0.5, 0.5], (200, 1)), space, np.zeros(200, dtype=np.int64))

    reading = Evidently().read(pictures(0.2), pictures(0.0), {})
    assert reading.p_value < 1e-6
    assert "mean" in reading.details["columns"]


@pytest.mark.parametrize(
    ("trace", "plant"),
    [
        ("off_data", lambda x: x + 8.0 * torch.sign(torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))),
        ("probing", lambda x: 1e-4 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))),
    ],
)
def test_traces_of_an_attack_are_told_apart(make, past, trace, plant):
    """Rows off the data and queries of a search raise their own trace; clean rows raise none."""
    window = make(300, 7)
    x = window.x.clone()
    x[:60, :4] = plant(x[:60, :4])
    x[:60, 4] = x[0, 4]
    struck = Window(0, window.ids, x, window.probabilities, window.space)
    found = Suspicion().read(struck, past, {}).details["z"]
    assert max(found, key=lambda name: found[name]) == trace
    assert found[trace] > 6
    assert max(Suspicion().read(window, past, {}).details["z"].values()) < 4


def test_answers_at_the_boundary_are_a_trace(make, past):
    """A fifth of the answers with two classes nearly even stands out."""
    window = make(300, 8)
    said = window.probabilities.copy()
    said[:60] = [0.51, 0.49]
    found = Suspicion().read(Window(0, window.ids, window.x, said, window.space), past, {}).details["z"]
    assert found["boundary"] > 6
