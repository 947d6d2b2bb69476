"""Detectors against closed forms, references, and changes that were planted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from river import drift
from scipy import stats
from sklearn.metrics import brier_score_loss, f1_score

from holdfast.data.stream import Window
from holdfast.errors import DataError
from holdfast.monitoring._betting import BETS
from holdfast.monitoring._features import squared_distances, standardised
from holdfast.monitoring.adwin import Adwin, _surprise
from holdfast.monitoring.calibration_drift import CalibrationDrift, squared_error
from holdfast.monitoring.challenger import Challenger, allowed, losses
from holdfast.monitoring.classification_quality import ClassificationQuality
from holdfast.monitoring.embedding_drift import EmbeddingDrift
from holdfast.monitoring.evidently import Evidently, _quick, f1_by_class, table_of
from holdfast.monitoring.expected_quality import ExpectedQuality
from holdfast.monitoring.harm import Harm
from holdfast.monitoring.label_shift import LabelShift
from holdfast.monitoring.mmd import Mmd
from holdfast.monitoring.page_hinkley import PageHinkley
from holdfast.monitoring.surprise import Surprise, log_loss
from holdfast.monitoring.suspicion import Suspicion, Trace, _among, _nearly_same
from holdfast.seeding import Noise
from holdfast.space import Box
from holdfast.statistics import tango, wilson


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
    for bet in BETS:
        stake, total = bet / bound, 0.0
        for k in (3, 20, 30):
            total = (total + 1.0) * (1 + stake * (1 - bound)) ** k * (1 - stake * bound) ** (50 - k)
        wealth += total / len(BETS)
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


def harm_of(counts, before, rows, space, past):
    """Harm's readings of windows with so many errors, against a past of 200 rows with ``before``."""
    few = answered([True] * before + [False] * (200 - before), space, past)
    memory, readings = {}, []
    for wrong in counts:
        reading = Harm().read(answered([True] * wrong + [False] * (rows - wrong), space, past), few, memory)
        memory = json.loads(json.dumps(reading.memory))
        readings.append(reading)
    return readings


def test_windows_that_were_served_say_what_a_short_past_cannot(past):
    """With 12 % wrong in 200 rows, 23 % is found in two windows after 25 quiet ones, and not in four at once."""
    bar = Harm().threshold(0.0001, past, 200)
    after = harm_of([24] * 25 + [46] * 2, 24, 200, past.space, past)
    assert after[24].statistic < bar < after[26].statistic
    assert after[0].details["bound"] == wilson(24, 200, 0.99)[1]
    assert 0.12 < after[26].details["bound"] < 0.14
    assert harm_of([46] * 4, 24, 200, past.space, past)[-1].statistic < bar


def test_the_limit_of_errors_only_falls_and_never_below_what_the_past_shows(past):
    """Harm that goes on is not taken for normal; and to be as bad as promised, after better days, is no harm."""
    slow = [reading.details["bound"] for reading in harm_of([24] * 5 + [60] * 20, 24, 200, past.space, past)]
    assert slow == sorted(slow, reverse=True)
    better = harm_of([10] * 30 + [24] * 10, 24, 200, past.space, past)
    assert better[-1].details["bound"] == pytest.approx(0.12)
    assert better[-1].statistic < Harm().threshold(0.0001, past, 200)


def test_what_a_window_is_held_to_was_known_before_it_came(past):
    """Neither its errors nor its surprises move the bound that they are held against."""
    for detector in (Harm(), Surprise()):
        memory = {}
        for _ in range(5):
            memory = detector.read(said([0.9] * 190 + [0.2] * 10, past.space, past), past, memory).memory
        good, bad = (detector.read(said([p] * 200, past.space, past), past, memory) for p in (0.99, 0.01))
        assert good.details["bound"] == bad.details["bound"]
        assert good.memory != bad.memory


def test_a_past_that_was_lucky_raises_no_alarms(past):
    """Over 300 pasts of 200 rows, windows of an unchanged world alarm no oftener than they may."""
    source, level, alarms = np.random.default_rng(1), 0.002, 0
    bar = Harm().threshold(level, past, 200)
    for _ in range(300):
        counts = source.binomial(200, 0.12, 20).tolist()
        told = harm_of(counts, int(source.binomial(200, 0.12)), 200, past.space, past)
        alarms += sum(reading.statistic > bar for reading in told)
    assert alarms <= level * 300 * 20


def said(p, space, past, start=0):
    """A window whose rows' labels, all of class 0, the champion gave these probabilities (n,)."""
    p, n = np.asarray(p), len(p)
    ids = np.arange(start, start + n)
    return Window(0, ids, past.x[np.arange(n) % len(past)], np.stack([p, 1 - p], 1), space, np.zeros(n, dtype=np.int64))


def test_a_surprise_is_a_log_loss_of_five_nats_at_most(past):
    """Half right costs a bit, right nothing, and whoever is sure of what is not pays what one at 150 to 1 would."""
    found = log_loss(said([0.5, 1.0, math.exp(-5.0), 1e-9, 0.0], past.space, past))
    assert found == pytest.approx([math.log(2.0), 0.0, 5.0, 5.0, 5.0])


def test_surprise_finds_a_slow_harm_before_errors_do(past):
    """A champion that gives ever less to what happens, and errs somewhat more, is found sooner than by its errors."""
    source = np.random.default_rng(4)
    few = said(source.beta(9.0, 1.5, 400), past.space, past)
    bar, memories, first = Surprise().threshold(0.0001, past, 250), ({}, {}), [math.inf, math.inf]
    for place in range(60):
        window = said(source.beta(9.0, 1.5 if place < 20 else 2.2, 250), past.space, past)
        for i, detector in enumerate((Surprise(), Harm())):
            reading = detector.read(window, few, memories[i])
            memories[i].update(json.loads(json.dumps(reading.memory)))
            if reading.statistic > bar:
                first[i] = min(first[i], place)
    assert 20 <= first[0] < first[1]


def test_surprise_of_a_champion_that_errs_no_more_has_no_effect(past):
    """Less sure and as often right: the statistic alarms, and the effect, which triage reads, is none."""
    few = said([0.95] * 400, past.space, past)
    reading = Surprise().read(said([0.6] * 400, past.space, past), few, {})
    assert reading.statistic > Surprise().threshold(0.0001, past, 400)
    assert reading.effect == 0.0


def test_surprise_of_errors_that_did_not_rise_has_no_effect(past):
    """Wrong rows that cost more, at one rate of errors: over 40 streams hardly any window's chance excess counts."""
    source, told, alarms = np.random.default_rng(7), 0, 0
    few = said(np.where(source.random(1000) < 0.12, 0.3, 0.9), past.space, past)
    for _ in range(40):
        memory, heard = {}, False
        for _ in range(12):
            wrong = source.random(250) < few.wrong.mean()
            reading = Surprise().read(said(np.where(wrong, 0.02, 0.9), past.space, past), few, memory)
            memory = reading.memory
            heard |= reading.statistic > Surprise().threshold(2.6e-4, past, 250) and reading.effect > 0
        alarms += reading.statistic > Surprise().threshold(2.6e-4, past, 250)
        told += heard
    assert alarms >= 39
    assert told <= 5  # the sign of the excess alone would tell of nearly all


def test_surprise_of_errors_that_rose_tells_by_how_many(past):
    """The effect is the share of errors above the past's."""
    few = said([0.9] * 360 + [0.3] * 40, past.space, past)
    reading = Surprise().read(said([0.9] * 300 + [0.1] * 100, past.space, past), few, {})
    assert reading.effect == pytest.approx(0.25 - 0.1)
    nothing = Surprise().read(said([], past.space, past), few, reading.memory)
    assert (nothing.effect, nothing.details["nats"]) == (0.0, pytest.approx(-(9 * math.log(0.9) + math.log(0.3)) / 10))


def test_bets_go_on_from_what_an_older_release_remembered(past):
    """Errors were counted by another name: a champion that serves on is held to what it served, and not to nothing."""
    few, memory = said([0.9] * 880 + [0.3] * 120, past.space, past), {}
    for _ in range(10):
        memory = Harm().read(said([0.9] * 176 + [0.3] * 24, past.space, past), few, memory).memory
    old = {("wrong" if name == "lost" else name): value for name, value in memory.items()}
    now = said([0.9] * 170 + [0.3] * 30, past.space, past)
    assert Harm().read(now, few, old) == Harm().read(now, few, memory)


def leads(n, share, discordant, seed):
    """Leads of a challenger that is ahead by a share of rows, where it and the champion differ on some, and by scores."""
    draw = np.random.default_rng(seed).random(n)
    errors = np.where(draw < (discordant + share) / 2, 1.0, np.where(draw < discordant, -1.0, 0.0))
    return np.stack([0.5 * errors + 0.5 * share, errors], axis=1)


def course(detector, window, past, seed, shares):
    """Read windows in which a challenger is ahead by these shares, and give each reading."""
    memory, readings = {}, []
    for place, share in enumerate(shares):
        ahead = replace(window, lead=leads(len(window), share, 0.1, (seed, place)))
        readings.append(detector.read(ahead, past, memory))
        memory = json.loads(json.dumps(readings[-1].memory))
    return readings


def alarms(reading, detector, past, level=1e-4):
    """Whether triage would take a reading for harm."""
    return reading.statistic > detector.threshold(level, past, 250) and reading.effect > 0


def test_a_challenger_that_gets_ahead_is_found_within_few_windows(make, past):
    """Ahead by ten points in score and in errors after six windows, where they differ on a tenth of the rows."""
    found, detector, window = [], Challenger(), make(250, 7)
    for seed in range(20):
        told = course(detector, window, past, seed, [0.0] * 6 + [0.1] * 14)
        found.append(next((i for i, each in enumerate(told) if alarms(each, detector, past)), None))
    assert all(place is not None and place >= 6 for place in found), found
    assert np.median(found) <= 10, found


def test_what_a_challenger_is_always_ahead_by_is_no_alarm(make, past):
    """Another network is what is needed then, and no retraining: the champion's first windows say so."""
    detector, window = Challenger(), make(250, 7)
    highest = [max(each.statistic for each in course(detector, window, past, seed, [0.08] * 50)) for seed in range(40)]
    assert np.mean(np.array(highest) > detector.threshold(1e-3, past, 250)) <= 0.05
    quiet = course(detector, window, past, 1, [0.08] * 4)
    assert [each.statistic for each in quiet] == [-700.0] * 4  # these are what it is allowed by


def test_rows_that_no_challenger_was_asked_leave_the_bets_as_they_stand(make, past):
    """A window that an older release screened, or without a challenger, neither wins nor loses."""
    window, detector = make(250, 7), Challenger()
    ahead = course(detector, window, past, 1, [0.0] * 4 + [0.1])[-1]
    for nobody in (None, np.full((250, 2), np.nan)):
        after = detector.read(replace(window, lead=nobody), past, ahead.memory)
        assert (after.memory, after.statistic, after.effect) == (ahead.memory, ahead.statistic, 0.0)
    part = leads(250, 0.2, 0.2, 2)
    part[::2] = np.nan
    assert detector.read(replace(window, lead=part), past, ahead.memory).details["rows"] == 125


def test_a_lead_goes_with_its_rows_and_not_before_labels(make):
    """Rows that are taken or drawn have their own lead, and none while their labels have not matured."""
    window = make(250, 7)
    assert window.take(np.arange(9, 3, -1)).lead.tolist() == window.lead[9:3:-1].tolist()
    noise = Noise(1)
    drawn = noise.integers(torch.arange(40), 250).numpy()
    assert window.bootstrap(40, noise).lead.tolist() == window.lead[drawn].tolist()
    assert window.without_labels().lead is None
    with pytest.raises(DataError, match="3 rows in lead"):
        replace(window, lead=window.lead[:3])


def test_a_challenger_is_allowed_the_upper_limits_of_what_it_had():
    """Of each lead by itself, near the limit that Tango gives shares, and never less than nothing."""
    its, own = np.zeros((1000, 2)), np.zeros((1000, 2))
    own[:40, 1], its[40:50, 1] = 1.0, 1.0
    own[:, 0] = np.random.default_rng(0).normal(0.01, 0.05, 1000)
    score, errors = allowed(own - its)
    assert errors == pytest.approx(tango(40, 10, 1000, 0.98)[1], abs=0.003)
    assert score == pytest.approx(0.01 + 2.326 * 0.05 / 1000**0.5, abs=0.004)
    assert allowed(its - own).tolist()[1] == 0.0


def test_losses_are_half_of_the_brier_score_and_the_error():
    """scikit-learn's score of two classes, and of three the squares of all."""
    p, y = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 0, 1])
    found = losses(p, y)
    assert found[:, 0].mean() == pytest.approx(brier_score_loss(y, p[:, 1]))
    assert found[:, 1].tolist() == [0.0, 1.0, 0.0]
    assert losses(np.array([[0.5, 0.3, 0.2]]), np.array([1]))[0, 0] == pytest.approx((0.25 + 0.49 + 0.04) / 2)


def test_a_champion_that_is_only_too_sure_is_not_behind(make, past):
    """Its scores are worse and its errors are not, however long one looks: nothing that retraining would mend."""
    window, detector, quiet, bound = make(250, 7), Challenger(), 0, Challenger().threshold(1e-4, past, 250)
    for seed in range(40):
        readings, memory = [], {}
        for place in range(44):
            both = leads(250, 0.0, 0.1, (seed, place))
            both[:, 0] += 0.0 if place < 4 else 0.08
            readings.append(detector.read(replace(window, lead=both), past, memory))
            memory = readings[-1].memory
        assert readings[-1].statistic > bound
        quiet += not any(alarms(each, detector, past) for each in readings)
    assert quiet >= 38


def test_a_champion_whose_first_windows_have_no_scores_is_held_to_what_it_was_made_with(make, past):
    """Else one that was behind already when an older release ended would be allowed just that."""
    window, detector = make(250, 7), Challenger()
    nobody = replace(window, lead=np.full((250, 2), np.nan))
    old = {"log_wealth": [0.0] * 6, "first": {"windows": 4, "rows": 1000, "sum": 0.0, "squares": 9.0}}
    served = {}
    for _ in range(4):
        served = detector.read(nobody, past, served).memory
    for memory in (old, served):
        told = detector.read(replace(window, lead=leads(250, 0.2, 0.2, 1)), past, memory)
        assert told.details["bound"] == detector.tolerance
        assert alarms(told, detector, past)


def test_surprise_keeps_its_level(past):
    """Over 200 pasts of 200 rows, windows of an unchanged world alarm no oftener than they may."""
    source, level, alarms = np.random.default_rng(2), 0.002, 0
    bar = Surprise().threshold(level, past, 200)
    for _ in range(200):
        few, memory = said(source.beta(3.0, 0.5, 200), past.space, past), {}
        for _ in range(20):
            reading = Surprise().read(said(source.beta(3.0, 0.5, 200), past.space, past), few, memory)
            memory, alarms = reading.memory, alarms + (reading.statistic > bar)
    assert alarms <= level * 200 * 20


def test_page_hinkley_is_rivers(make, past):
    """Window by window, with its state through JSON, it holds what river's detector holds in one go."""
    memory, walk = {}, drift.PageHinkley(delta=0.005, alpha=1.0, threshold=float("inf"), mode="up")
    for place in range(4):
        window, most = make(200, place, flip=0.1 * place), 0.0
        for error in window.wrong:
            walk.update(float(error))
            most = max(most, walk._sum_increase - walk._min_increase)
        reading = PageHinkley().read(window, past, memory)
        memory = reading.memory
        assert reading.statistic == pytest.approx(most, rel=1e-12)


@pytest.mark.parametrize(("errors", "delta"), [(5, 0.005), (30, 0.01), (60, 0.02)])
def test_page_hinkleys_threshold_solves_lundbergs_equation(past, errors, delta):
    """Ten times rarer alarms cost ln 10 over the root theta of E exp(theta (error - rate - delta)) = 1."""
    before = answered([True] * errors + [False] * (100 - errors), past.space, past)
    detector = PageHinkley(delta=delta)
    theta = math.log(10) / (detector.threshold(1e-4, before, 200) - detector.threshold(1e-3, before, 200))
    rate = wilson(errors, 100)[1]
    mean = rate * math.exp(theta * (1 - rate - delta)) + (1 - rate) * math.exp(-theta * (rate + delta))
    assert mean == pytest.approx(1.0, abs=1e-9)
    assert theta > 0


def test_page_hinkley_keeps_its_level_on_a_long_stream(past):
    """Of clean streams of 200 windows, the share of windows over the threshold is at most its level, late as early."""
    rows, streams, windows, level = 100, 10, 200, 0.01
    errors = np.random.default_rng(4).random((streams, windows, rows)) < 0.1
    before = answered([True] * 100 + [False] * 900, past.space, past)
    bar, most = PageHinkley().threshold(level, before, rows), np.empty((streams, windows))
    for stream in range(streams):
        memory = {}
        for place in range(windows):
            reading = PageHinkley().read(answered(errors[stream, place], past.space, past), before, memory)
            memory, most[stream, place] = reading.memory, reading.statistic
    assert (most > bar).mean() <= level
    assert (most[:, 100:] > bar).mean() <= level
    assert (most > bar / 3).mean() > level  # the walk does move


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


def test_what_is_left_after_a_cut_is_held_against_the_past(past):
    """The statistic squared is twice the log-likelihood ratio of the two shares, and its sign that of their difference."""
    for wrong, n, before, size in ((30, 100, 10, 100), (2, 80, 30, 200), (0, 50, 20, 100), (10, 10, 5, 50)):
        table = [[wrong, n - wrong], [before, size - before]]
        g = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
        assert _surprise(wrong, n, before, size) ** 2 == pytest.approx(g, rel=1e-9)
        assert (_surprise(wrong, n, before, size) > 0) == (wrong / n > before / size)
    assert _surprise(10, 100, 20, 200) == 0.0


def test_a_false_cut_is_no_lasting_alarm(make, past):
    """A stream that was cut once and goes on as before stays quiet, and carries errors since the cut only."""
    memory, bar = {}, Adwin().threshold(1e-4, past, 500)
    memory = Adwin().read(make(500, 1, flip=0.5), past, memory).memory
    reading = Adwin().read(make(500, 2), past, memory)
    assert reading.details["cut"]
    for place in range(20):
        reading = Adwin().read(make(500, 50 + place), past, reading.memory)
        assert reading.statistic <= bar
    assert reading.details["cut"]


def test_f1_by_evidently_is_what_counting_gives(make, past):
    """The quality of each class is scikit-learn's, a lost class stands out, and one that nobody names is left out."""
    window = make(300, 14, flip=0.1)
    found = f1_by_class(window)
    expected = f1_score(window.labels, window.predicted, average=None)
    assert found == pytest.approx(dict(enumerate(expected)), rel=1e-12)
    always = Window(0, window.ids, window.x, np.tile([0.9, 0.1], (300, 1)), window.space, window.labels)
    reading = ClassificationQuality().read(always, past, {})
    assert reading.details["now"]["1"] == 0.0
    assert reading.effect > 0.4
    one = always.take(np.flatnonzero(window.labels == 0))
    assert f1_by_class(one) == {0: 1.0}
    assert ClassificationQuality().read(one, past, {}).effect < 0


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
    assert not reading.valid
    assert reading.details["void"] == f"{reading.details['beyond']:.3f} of rows less sure than any of the past"
    assert reading.details["beyond"] == pytest.approx((window.confidence < 0.7).mean(), abs=0.01)
    with pytest.raises(DataError, match="reference rows"):
        ExpectedQuality().read(window, past.take(np.arange(49)), {})


def test_calibration_error_rises_with_overconfidence(make, past):
    """Labels flipped under unchanged confidence raise the error by about as much."""
    reading = CalibrationDrift().read(make(2000, 11, flip=0.2), past, {})
    assert reading.effect > 0.08
    assert CalibrationDrift().read(make(2000, 12), past, {}).effect < 0.03


def test_chance_adds_nothing_to_the_squared_calibration_error(make):
    """Of a calibrated champion it is 0 on average however few the rows; of one that is 0.1 too sure, 0.01."""
    few = [squared_error(w.confidence, ~w.wrong) for w in (make(60, 700 + i) for i in range(200))]
    assert abs(np.mean(few)) < 3 * np.std(few) / 200**0.5
    noise = np.random.default_rng(5)
    confidence = noise.uniform(0.7, 0.9, 40_000)
    assert squared_error(confidence, noise.random(40_000) < confidence - 0.1) == pytest.approx(0.01, rel=0.1)
    tied = np.repeat(0.8, 100)
    turned = np.arange(100) % 10 < 8
    assert squared_error(tied, turned) == pytest.approx(squared_error(tied, turned[::-1])) == pytest.approx(-0.16 / 99)


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
    told = json.loads(Evidently().report(window, past).json())
    found = {m["config"]["column"]: m["value"] for m in told["metrics"] if m["config"]["type"].endswith("ValueDrift")}
    assert Evidently().scores(window, past) == pytest.approx(found, rel=1e-9)


def test_a_value_that_the_past_never_had_is_no_alarm_by_itself(make, past):
    """One unseen value among many is chance, a flood of them is not; so for a column that stood still until now."""
    blue = Window(-1, past.ids, past.x.clone(), past.probabilities, past.space, past.labels)
    for kept in (2.0, 1.0):  # two colours left, then one
        blue.x[:, 4] = blue.x[:, 4].clamp(max=kept - 1)
        before = Window(-1, past.ids, blue.x.clone(), past.probabilities, past.space, past.labels)
        window = make(300, 15)
        window.x[:, 4] = window.x[:, 4].clamp(max=kept - 1)
        window.x[0, 4] = 2.0
        assert Evidently().read(window, before, {}).p_value > 1e-3
        assert Evidently().replay(window, before, {}).p_value > 1e-3
        window.x[:60, 4] = 2.0
        assert Evidently().read(window, before, {}).p_value < 1e-6


def test_the_past_of_a_chi_square_is_a_sample_too(make):
    """Held against a past hardly larger than themselves, clean windows have a low p-value as often as it says."""
    found = [
        next(test.honest() for test in _quick(make(200, 3000 + i), make(250, 9000 + i)) if test.name == "colour")
        for i in range(300)
    ]
    assert stats.binom.sf(sum(value < 0.05 for value in found) - 1, 300, 0.05) > 0.01
    assert stats.binom.cdf(sum(value < 0.5 for value in found), 300, 0.5) > 0.01


def test_the_quick_way_tests_what_evidently_tests(make, past):
    """Gaps, gone columns and rare values included, the smallest p-value is the one of Evidently's own functions."""
    for change in ("none", "gaps", "gone", "still"):
        window = make(300, 16, shift=0.1)
        if change != "none":
            rows = slice(0, 40) if change == "gaps" else slice(None)
            window.x[rows, 1] = 0.0 if change == "still" else torch.nan
        ours, theirs = (way(window, past, {}).statistic for way in (Evidently().replay, Evidently().read))
        assert ours == pytest.approx(theirs, rel=1e-9)


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


def test_embeddings_are_compared_by_the_sum_over_pairs(make, past):
    """The score is the unbiased double sum at the median distance across; it sees a model that reads otherwise."""
    window = make(40, 18)
    few = past.take(np.arange(30))
    a, b = (each.embeddings.double() for each in (window, few))
    width = torch.cdist(a, b).flatten().quantile(0.5) ** 2
    k, m, n = (lambda x, y: torch.exp(-torch.cdist(x, y).square() / width)), len(a), len(b)
    sums = (k(a, a).sum() - m) / (m * (m - 1)) + (k(b, b).sum() - n) / (n * (n - 1)) - 2 * k(a, b).mean()
    assert EmbeddingDrift().read(window, few, {}).statistic == pytest.approx(max(float(sums), 0.0), rel=1e-5, abs=1e-9)
    moved = replace(window, embeddings=window.embeddings + 1.0)
    assert EmbeddingDrift().read(moved, past, {}).statistic > 10 * EmbeddingDrift().read(window, past, {}).statistic
    with pytest.raises(DataError, match="no embeddings"):
        EmbeddingDrift().read(replace(window, embeddings=None), past, {})
    assert not EmbeddingDrift().applicable(replace(window, embeddings=None))


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


def test_nearly_the_same_is_what_all_distances_say(make, past):
    """Found through products of matrices, the rows are those that exact distances name; copies are none of them."""
    x = standardised(make(200, 17), past)
    x[50:60] = x[:10] + 1e-4
    x[60:70] = x[10:20]
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf).amin(1)
    for near in (0.0, 5e-4, 0.2):
        expected = ((distances > 0) & (distances <= near)).numpy()
        assert np.array_equal(_nearly_same(x, squared_distances(x, x), near), expected)
    assert _nearly_same(x, squared_distances(x, x), 5e-4).sum() == 20


def test_a_trace_that_nobody_ever_showed_is_no_alarm_when_it_comes_once():
    """However quiet the replayed windows were, an excess within chance is none."""
    assert Suspicion().least(1e-4) == pytest.approx(3.719, abs=1e-3)


def test_answers_at_the_boundary_are_a_trace(make, past):
    """A fifth of the answers with two classes nearly even stands out."""
    window = make(300, 8)
    said = window.probabilities.copy()
    said[:60] = [0.51, 0.49]
    found = Suspicion().read(Window(0, window.ids, window.x, said, window.space), past, {}).details["z"]
    assert found["boundary"] > 6


def steady(window, seed, scale=(0.1, 0.001)):
    """The window with answers that move by little when its rows are squeezed, in one of two ways by still less."""
    return replace(window, squeezed=np.random.default_rng(seed).exponential(scale, (len(window), 2)))


def test_answers_that_move_when_rows_are_squeezed_are_a_trace(make, past):
    """A tenth of the rows move by what is little for the one way and much for the other: they are inconsistent."""
    known, window = steady(past, 1), steady(make(400, 21), 2)
    asked = Suspicion(traces=("probing", "inconsistent"))
    clean = [asked.read(steady(make(400, 30 + seed), seed), known, {}).details["z"] for seed in range(40)]
    assert max(each["inconsistent"] for each in clean) < 4
    moved = window.squeezed.copy()
    moved[:40, 1] = 0.02
    reading = asked.read(replace(window, squeezed=moved), known, {})
    assert reading.statistic == reading.details["z"]["inconsistent"] > 6
    assert reading.effect == pytest.approx(0.1, abs=0.02)
    assert asked.replay(replace(window, squeezed=moved), known, {}).statistic == reading.statistic


def test_a_champion_is_asked_about_squeezed_rows_only_where_that_counts(make, past):
    """Nobody else pays for it; and where it counts and was not done, there is no reading."""
    asked = Suspicion(traces=("inconsistent",))
    assert asked.asks("squeezed")
    assert asked.asks("outputs")
    assert not Suspicion().asks("squeezed")
    assert not Suspicion(traces=("sudden",)).asks("squeezed")
    assert "inconsistent" not in Suspicion().read(steady(make(100, 3), 3), steady(past, 1), {}).details["z"]
    for window, known in ((make(100, 3), steady(past, 1)), (steady(make(100, 3), 3), past)):
        with pytest.raises(DataError, match="no answers to squeezed rows"):
            asked.read(window, known, {})


def test_an_answer_that_the_neighbours_speak_against_is_sudden(make, past):
    """Rows in the midst of one class that are surely called the other stand out; clean ones and unsure ones do not."""
    window = make(400, 22)
    clean = [Suspicion().read(make(400, 60 + seed), past, {}).details["z"]["sudden"] for seed in range(40)]
    assert max(clean) < 4
    said = window.probabilities.copy()
    deep = np.flatnonzero(window.x[:, 0].numpy() > 1.5)[:40]
    assert len(deep) == 40
    said[deep] = [0.97, 0.03]
    reading = Suspicion(traces=("sudden",)).read(replace(window, probabilities=said), past, {})
    assert reading.statistic > 6
    assert reading.effect == pytest.approx(0.1, abs=0.02)
    assert reading.details["z"]["boundary"] < 4
    three = [np.concatenate([each.probabilities, np.zeros((len(each), 1))], 1) for each in (window, past)]
    three[0][deep] = [0.45, 0.10, 0.45]
    unsure = (
        Suspicion()
        .read(replace(window, probabilities=three[0]), replace(past, probabilities=three[1]), {})
        .details["z"]
    )
    assert unsure["sudden"] < 4 < unsure["boundary"]


def test_neighbours_are_those_that_all_distances_name(make, past):
    """Rows as far as the fifth count too, whatever the order; fewer rows than five all count."""
    some, others = make(50, 23), past.take(np.arange(200))
    x, y = standardised(some, others), standardised(others, others)
    y[100:150] = y[:50]  # copies: ties
    classes, order = some.predicted, np.random.default_rng(0).permutation(200)
    distance, support = _among(squared_distances(x, y), others.probabilities, classes)
    exact = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").numpy()
    fifth = np.sort(exact, axis=1)[:, 4]
    assert distance == pytest.approx(fifth, abs=1e-6)
    near = exact <= fifth[:, None] + 1e-7
    assert (near.sum(1) > 5).any()
    expected = [others.probabilities[rows, said].mean() for rows, said in zip(near, classes, strict=True)]
    assert support == pytest.approx(np.array(expected), abs=1e-12)
    turned = _among(squared_distances(x, y[order]), others.probabilities[order], classes)
    assert turned[1] == pytest.approx(support, abs=1e-12)
    few = _among(squared_distances(x, y[:3]), others.probabilities[:3], classes)
    assert few[1] == pytest.approx(others.probabilities[:3].mean(0)[classes], abs=1e-12)


def test_order_changes_no_trace(make, past):
    """Rows in another order, of the window and of a past that is looked at whole, show every trace alike."""
    every, window = Suspicion(traces=get_args(Trace)), steady(make(300, 24), 4)
    known = steady(past, 5).take(np.arange(1000))
    a = every.read(window, known, {}).details
    b = every.read(window.take(np.arange(299, -1, -1)), known.take(np.arange(999, -1, -1)), {}).details
    assert set(a["z"]) == set(get_args(Trace))
    for told in ("z", "excess"):
        assert a[told] == pytest.approx(b[told], rel=1e-6, abs=1e-9)


def test_what_was_asked_of_rows_goes_with_them(make):
    """Rows that are taken or drawn keep how far their answers move, and a part of another length is refused."""
    window, noise = steady(make(60, 25), 6), Noise(3, ("rows",))
    assert window.take(np.arange(9, 3, -1)).squeezed.tolist() == window.squeezed[9:3:-1].tolist()
    drawn = noise.integers(torch.arange(40), 60).numpy()
    assert window.bootstrap(40, noise).squeezed.tolist() == window.squeezed[drawn].tolist()
    with pytest.raises(DataError, match="59 rows in squeezed"):
        replace(window, squeezed=window.squeezed[1:])
