"""Intervals, areas, powers and excesses against closed forms, other implementations, worked examples and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from holdfast.errors import ScenarioError
from holdfast.statistics import (
    METRICS,
    auroc,
    clopper_pearson,
    clustered_share,
    excess,
    excess_unpaired,
    expected_calibration_error,
    grouped_share,
    limit_ever,
    membership_auc,
    membership_score,
    needed_n,
    normal_needed_n,
    normal_power,
    paired_bootstrap,
    paired_power,
    quality,
    seeds_share,
    share,
    tango,
    tpr_at_fpr,
    wilson,
)
from holdfast.statistics.quality import class_means

COSTS = ((0.0, 1.0), (5.0, 0.0))
counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
pairs = st.integers(1, 300).flatmap(
    lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n)).filter(lambda t: t[0] + t[1] <= t[2])
)


def rng(seed=0):
    return np.random.default_rng(seed)


# Shares


@given(counts)
def test_wilson_and_clopper_pearson_equal_scipys(pair):
    """Both intervals are those of scipy's binomial test, at every count."""
    k, n = pair
    test = stats.binomtest(k, n)
    for ours, method in ((wilson(k, n), "wilson"), (clopper_pearson(k, n), "exact")):
        theirs = test.proportion_ci(0.95, method=method)
        assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_one_sided_exact_limits_have_closed_forms_at_the_ends():
    """With no success the upper limit is 1 - alpha ** (1 / n), and the lower limit mirrors it."""
    assert clopper_pearson(0, 30, 0.95, "upper") == pytest.approx((0.0, 1 - 0.05 ** (1 / 30)))
    assert clopper_pearson(30, 30, 0.95, "lower") == pytest.approx((0.05 ** (1 / 30), 1.0))


@given(counts, st.sampled_from([(0.5, 0.5), (3.0, 7.0), (60.0, 140.0)]))
def test_the_limit_that_always_holds_is_where_the_mixture_is_as_likely(pair, prior):
    """At the limit the trials are a hundredth as likely as under the mixture, which scipy adds up."""
    wrong, n = pair
    limit = limit_ever(wrong, n, prior, 0.99)
    assert wrong / n <= limit <= 1.0
    if limit < 0.9999:  # nearer to 1 the binomial law is steeper than floats can follow
        likely = stats.betabinom.pmf(wrong, n, *prior)
        assert likely / stats.binom.pmf(wrong, n, limit) == pytest.approx(100.0, rel=1e-4)
    assert limit_ever(0, 0, prior, 0.99) == 1.0


@pytest.mark.parametrize("prior", [(0.5, 0.5), (20.0, 80.0), (30.0, 70.0)])
def test_the_limit_that_always_holds_does_hold_at_every_n(prior):
    """Of streams that are looked at after each of 600 trials, the lowest limit is below the truth in 5 % at most."""
    source, truth, ours, theirs = rng(), 0.2, 0, 0
    for _ in range(200):
        wrong = np.cumsum(source.random(600) < truth)
        looks = [(int(wrong[n - 1]), n) for n in range(20, 601, 10)]
        ours += min(limit_ever(*look, prior, 0.95) for look in looks) < truth
        theirs += min(wilson(*look)[1] for look in looks) < truth
    assert ours <= 10
    assert theirs > 20  # a limit for one n alone breaks


def test_the_limit_is_lower_where_the_mixture_was_guessed_well():
    """That is what the past is good for."""
    assert limit_ever(120, 1000, (12.5, 87.5), 0.99) < limit_ever(120, 1000, (0.5, 0.5), 0.99)


def test_a_share_is_wilsons_and_keeps_its_kind():
    """Flags give value, interval, n and kind."""
    score = share([True] * 81 + [False] * 182, kind="upper_bound")
    # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3: 81 of 263.
    assert (round(score.low, 4), round(score.high, 4)) == (0.2553, 0.3662)
    assert (score.value, score.n, score.kind, score.method) == (81 / 263, 263, "upper_bound", "wilson")


@given(n=st.integers(2, 60), trials=st.integers(1, 6), seed=st.integers(0, 99))
def test_copies_of_one_trial_are_worth_one_trial(n, trials, seed):
    """Columns that repeat one another leave the interval where one column puts it."""
    one = rng(seed).random((n, 1)) < 0.6
    alone, copied = clustered_share(one), clustered_share(np.repeat(one, trials, axis=1))
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=0.02 + 1 / n)
    assert copied.n == n


@pytest.mark.parametrize("two_way", [False, True])
def test_clustered_intervals_cover_where_wilson_does_not(two_way):
    """Of 400 samples with strong correlation within clusters, the clustered interval covers about 95 %."""
    draw, covered, naive = rng(3), 0, 0
    for _ in range(400):
        effect = draw.normal(size=(60, 1)) + (draw.normal(size=(1, 40)) if two_way else 0.0)
        flags = effect + 0.7 * draw.normal(size=(60, 40)) > 0.0
        score = clustered_share(flags, two_way=two_way)
        covered += score.low <= 0.5 <= score.high
        low, high = wilson(int(flags.sum()), flags.size)
        naive += low <= 0.5 <= high
    assert 0.91 <= covered / 400 <= 0.99
    assert naive / 400 < 0.6


def test_copies_of_a_row_add_no_certainty():
    """Each row six times over has the interval of the rows once; a few copies lie between that and Wilson's."""
    flags = np.arange(20) % 5 < 3
    once = grouped_share(flags, np.arange(20))
    copied = grouped_share(np.repeat(flags, 6), np.repeat(np.arange(20), 6))
    assert (copied.value, copied.n) == (once.value, 20)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=0.01)
    naive = share(np.repeat(flags, 6))
    assert copied.low < naive.low < naive.high < copied.high


@pytest.mark.parametrize("sizes", [(1, 1, 8), (5, 5), (3,)])
def test_where_every_row_agrees_a_group_counts_once(sizes):
    """Nothing is known of how rows of a group hang together."""
    found = grouped_share(np.ones(sum(sizes)), np.repeat(np.arange(len(sizes)), sizes))
    assert (found.value, found.n) == (1.0, len(sizes))
    assert found.low <= wilson(len(sizes), len(sizes))[0]


def test_groups_must_be_one_for_each():
    """A group too few is refused."""
    with pytest.raises(ScenarioError, match="2 groups for 3 flags"):
        grouped_share(np.ones(3), np.arange(2))


def test_a_perfect_clustered_share_counts_each_cluster_once():
    """All flags true at five severities is as much evidence as all true at one, and no point interval."""
    score = clustered_share(np.ones((50, 5)))
    assert score.low < wilson(50, 50)[0] < 1.0 == score.high


def test_one_flip_says_nothing_of_other_flips():
    """Counting both ways, a single row of flags has an interval as wide as one trial's."""
    score = clustered_share(np.r_[np.ones(50), np.zeros(50)][None], two_way=True)
    assert score.high - score.low > 0.7


def test_seeds_have_students_interval_clipped():
    """The interval is scipy's, cut at 0 and 1; one seed has none."""
    values = [0.91, 0.97, 0.99, 0.95]
    score = seeds_share(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (score.low, score.high, score.n) == (pytest.approx(low), min(high, 1.0), 4)
    with pytest.raises(ScenarioError, match="two seeds"):
        seeds_share([0.5])


# Calibration


def test_calibration_error_of_bins_worked_by_hand():
    """Two bins of two: (|0.2 + 0.4 - 1| + |0.6 + 0.8 - 1|) / 4."""
    assert expected_calibration_error([0.8, 0.2, 0.6, 0.4], [1, 1, 0, 0], bins=2) == pytest.approx(0.2)


def test_calibration_error_ignores_the_order_of_rows():
    """Rows of equal confidence may come in any order."""
    confidence, flags = np.repeat([0.5, 0.9], 50), rng().random(100) < 0.7
    order = rng(1).permutation(100)
    first = expected_calibration_error(confidence, flags)
    assert first == pytest.approx(expected_calibration_error(confidence[order], flags[order]), abs=1e-12)


def test_calibrated_confidence_has_a_small_error_and_shifted_a_large_one():
    """A model that says 0.2 too much has an error near 0.2."""
    confidence = rng().uniform(0.2, 0.8, 20_000)
    flags = rng(1).random(20_000) < confidence
    assert expected_calibration_error(confidence, flags) < 0.02
    assert expected_calibration_error(confidence + 0.2, flags) == pytest.approx(0.2, abs=0.02)


# Areas


@given(seed=st.integers(0, 999), m=st.integers(1, 30), n=st.integers(1, 30))
def test_areas_equal_sklearns_ties_included(seed, m, n):
    """AUROC and average precision are scikit-learn's, for scores with many ties."""
    scores = rng(seed).integers(0, 6, m + n).astype(float)
    labels = np.r_[np.ones(m), np.zeros(n)]
    assert auroc(scores[:m], scores[m:]).value == pytest.approx(roc_auc_score(labels, scores))
    found = quality("average_precision", labels, labels == 1, scores, rng=rng())
    assert found.value == pytest.approx(average_precision_score(labels, scores))
    assert found.low <= found.value <= found.high


def test_delong_variance_equals_the_double_sum():
    """The interval is the one of the structural components, written out pair by pair."""
    x, y = rng(1).normal(1, 1, 23), rng(2).normal(0, 1, 31)
    wins = (x[:, None] > y).astype(float)
    area = wins.mean()
    error = math.sqrt(wins.mean(axis=1).var(ddof=1) / 23 + wins.mean(axis=0).var(ddof=1) / 31)
    centre, half = math.log(area / (1 - area)), stats.norm.ppf(0.975) * error / (area * (1 - area))
    found = auroc(x, y)
    assert found.method == "delong_logit"
    assert (found.low, found.high) == pytest.approx([1 / (1 + math.exp(-centre + s * half)) for s in (1, -1)])


def test_auroc_interval_covers():
    """Of 600 samples of two normals one apart, about 95 % of intervals hold Phi(1 / sqrt 2)."""
    draw, truth = rng(5), stats.norm.cdf(1 / math.sqrt(2))
    found = [auroc(draw.normal(1, 1, 60), draw.normal(0, 1, 90)) for _ in range(600)]
    assert 0.93 <= np.mean([area.low <= truth <= area.high for area in found]) <= 0.975


def test_perfect_separation_is_no_certainty():
    """A perfect area has a low end below 1 that rises with the points, and mirrors when the order turns."""
    few, many = auroc(np.ones(10), np.zeros(10)), auroc(np.ones(1000), np.zeros(1000))
    assert few.low < many.low < few.value == 1.0
    turned = auroc(np.zeros(10), np.ones(10))
    assert (turned.low, turned.high) == pytest.approx((0.0, 1.0 - few.low))
    labels = np.r_[np.ones(20), np.zeros(20)]
    assert quality("average_precision", labels, labels == 1, labels, rng=rng()).low < 0.95


def test_membership_finds_the_leak_and_reads_chance_as_private():
    """Leaked membership scores near 0; shuffled membership holds 1/2 and scores near 1."""
    members, others = rng(1).normal(3, 1, 400), rng(2).normal(0, 1, 400)
    leak = membership_score(members, others)
    assert leak.kind == "upper_bound"
    assert leak.high < 0.1
    assert leak.value == pytest.approx(2 - 2 * membership_auc(members, others).value)
    mixed = rng(3).permutation(np.r_[members, others])
    area = membership_auc(mixed[:400], mixed[400:])
    assert area.low <= 0.5 <= area.high
    assert membership_score(mixed[:400], mixed[400:]).value > 0.85


def test_an_attack_worse_than_chance_is_no_certainty():
    """Its score is 1 with a low end as far below as at chance: losing every guess is no proof of privacy."""
    members, others = rng(1).normal(-0.5, 1, 400), rng(2).normal(0, 1, 400)
    assert membership_auc(members, others).high < 0.5
    worse, chance = membership_score(members, others), membership_score(others[:200], others[200:])
    assert worse.value == worse.high == 1.0
    assert chance.low - 0.02 < worse.low < 0.95


@given(seed=st.integers(0, 999), n=st.integers(20, 300), fpr=st.floats(0.0005, 0.9))
def test_the_threshold_keeps_the_false_positive_rate(seed, n, fpr):
    """No more non-members than allowed are over the threshold, and the rate read is one that n supports."""
    members, others = rng(seed).integers(0, 40, 50), rng(seed + 1).integers(0, 40, n)
    rate = tpr_at_fpr(members, others, fpr)
    assert rate.fpr == max(fpr, 10 / n)
    feasible = [np.mean(members > t) for t in np.unique(others) if np.mean(others > t) <= rate.fpr + 1e-9]
    assert rate.value == pytest.approx(max(feasible))
    assert (rate.low, rate.high) == clopper_pearson(round(rate.value * 50), 50)


# Quality


def test_balanced_accuracy_is_sklearns_and_covers():
    """The value is scikit-learn's mean recall; of 500 samples, at least 93 % of intervals hold the truth."""
    draw, hits = rng(8), 0
    labels = np.repeat([0, 1, 2], [300, 60, 25])
    for _ in range(500):
        flags = draw.random(385) < np.array([0.9, 0.7, 0.8])[labels]
        score = quality("balanced_accuracy", labels, flags, rng=draw)
        hits += score.low <= 0.8 <= score.high
    wrong = (labels + 1) % 3
    assert score.value == pytest.approx(balanced_accuracy_score(labels, np.where(flags, labels, wrong)))
    assert 0.93 <= hits / 500 <= 0.985


def test_balanced_accuracy_is_the_mean_recall():
    """Recalls of 3/4 and 1/2 give 5/8, as scikit-learn says."""
    labels, flags = np.array([0, 0, 0, 0, 1, 1]), np.array([1, 1, 1, 0, 1, 0])
    score = quality("balanced_accuracy", labels, flags, rng=rng())
    assert score.value == 0.625 == balanced_accuracy_score(labels, np.where(flags, labels, 1 - labels))


def test_expected_cost_is_what_was_paid_of_the_worst():
    """One mistake of cost 1 and one of cost 5, of a worst of 3 + 10."""
    labels, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0])
    score = quality("expected_cost", labels, labels == predicted, predictions=predicted, costs=COSTS, rng=rng())
    assert score.value == pytest.approx(1 - 6 / 13)
    equal = quality(
        "expected_cost", labels, labels == predicted, predictions=predicted, costs=[[0, 1], [1, 0]], rng=rng()
    )
    assert equal.value == pytest.approx(3 / 5)


@pytest.mark.parametrize("metric", METRICS)
def test_no_metric_is_ever_certain(metric):
    """A perfect model's low end is below 1, and a middling one lies inside its interval."""
    labels = np.arange(3000) % 2
    perfect = quality(metric, labels, np.ones(3000), labels, labels, COSTS, rng=rng())
    assert perfect.low < 1.0 == perfect.value
    scores = labels + rng().normal(size=3000)
    predicted = (scores > 0.5).astype(int)
    score = quality(metric, labels, predicted == labels, scores, predicted, COSTS, rng=rng())
    assert 0.6 < score.low < score.value < score.high < 0.85


def test_average_precision_interval_repeats_with_its_generator():
    """Equal generators give equal intervals."""
    labels, scores = np.arange(200) % 2, rng(1).normal(size=200)
    found = [quality("average_precision", labels, labels == 1, scores, rng=rng(7)) for _ in range(2)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "call",
    [
        lambda: quality("f1", [0, 1], [1, 1], rng=rng()),
        lambda: quality("auroc", [0, 1], [1, 1], rng=rng()),
        lambda: quality("auroc", [0, 2], [1, 1], [0.1, 0.2], rng=rng()),
        lambda: quality("auroc", [1, 1], [1, 1], [0.1, 0.2], rng=rng()),
        lambda: quality("auroc", [0, 1], [1, 1], [0.1, math.nan], rng=rng()),
        lambda: quality("expected_cost", [0, 1], [1, 1], predictions=[0, 1], rng=rng()),
        lambda: quality("expected_cost", [0, 1], [1, 1], costs=COSTS, rng=rng()),
        lambda: quality("expected_cost", [0, 2], [1, 1], predictions=[0, 1], costs=COSTS, rng=rng()),
        lambda: quality("expected_cost", [0, 1], [1, 1], predictions=[0, 1], costs=[[0, -1], [1, 0]], rng=rng()),
        lambda: quality("expected_cost", [0, 1], [1, 1], predictions=[0, 1], costs=[[0, 0], [0, 0]], rng=rng()),
        lambda: quality("balanced_accuracy", [0, 1], [1], rng=rng()),
        lambda: share([]),
        lambda: share([0.5]),
        lambda: seeds_share([0.5, 1.5]),
        lambda: clustered_share([True, False]),
        lambda: wilson(3, 2),
        lambda: clopper_pearson(-1, 2),
        lambda: clopper_pearson(1, 2, confidence=1.0),
        lambda: tango(3, 3, 5),
        lambda: paired_power(1.1, 10, 0.1),
        lambda: needed_n(0.1, 0.1, power=1.0),
        lambda: excess([True], [True, False]),
        lambda: excess_unpaired(3, 2, 1, 2),
        lambda: tpr_at_fpr([1.0], np.zeros(19)),
        lambda: expected_calibration_error([0.5], [1], bins=0),
        lambda: paired_bootstrap("accuracy", [0, 1], [1, 1], [1], rng=rng()),
        lambda: class_means("auroc", [0, 1], [1, 1]),
    ],
)
def test_what_has_no_statistic_is_refused(call):
    """Nothing is made up of empty, malformed or missing input."""
    with pytest.raises(ScenarioError):
        call()


# Tango


def test_tango_and_mcnemar_give_the_published_values():
    """Complete response before and after consolidation therapy: 6 and 16 discordant pairs of 161.

    Fagerland, Lydersen and Laake 2017, Statistical Analysis of Contingency Tables, chapter 8, as their
    R package contingencytables prints: -0.1240 to -0.0054, and two-sided P = 0.052479.
    """
    assert tango(6, 16, 161) == pytest.approx((-0.1240, -0.0054), abs=5e-5)
    at = np.arange(161)
    found = excess(at < 16, (at >= 16) & (at < 22))
    assert 2 * found.p_value == pytest.approx(0.052479, abs=5e-7)
    assert found.excess == pytest.approx(0.0621, abs=5e-5)


def quartic(b, c, n, z):
    """Roots of the quartic of Yang, Sun and Hardin 2013, Statistics in Medicine 32: the limits are the outer two."""
    d, s, g = b - c, b + c, z * z
    polynomial = [
        n**2 * (n / g + 1) ** 2,
        -n * d * (n / g + 1) * (4 * n / g + 1),
        2 * n * d**2 * (3 * n / g + 2) / g - n**2 * (s / g + 1),
        n * d * (2 * s / g + 1) - d**3 * (4 * n / g + 1) / g,
        d**2 * (d**2 / g - s) / g,
    ]
    return np.roots(polynomial)


@given(pairs)
def test_tango_solves_the_quartic_of_the_closed_form(table):
    """Each limit inside (-1, 1) is a root of the published quartic."""
    b, c, n = table
    low, high = tango(b, c, n)
    roots = quartic(b, c, n, stats.norm.ppf(0.975))
    for limit in (low, high):
        if abs(limit) < 1.0:
            assert np.min(np.abs(roots - limit)) < 1e-4


def test_tango_uses_the_restricted_maximum_of_the_likelihood():
    """At its low end the statistic with the nuisance share found by numerical search equals the quantile."""
    b, c, n = 12, 5, 80
    low, _ = tango(b, c, n)

    def negative(lost):
        won, same = lost + low, 1 - 2 * lost - low
        return -(b * math.log(won) + c * math.log(lost) + (n - b - c) * math.log(same))

    lost = optimize.minimize_scalar(negative, bounds=(max(0, -low) + 1e-9, (1 - low) / 2 - 1e-9), method="bounded",
                                    options={"xatol": 1e-10}).x  # fmt: skip
    z = (b - c - n * low) / math.sqrt(n * (2 * lost + low - low * low))
    assert z == pytest.approx(stats.norm.ppf(0.975), abs=1e-4)


@given(pairs, st.floats(0.5, 0.99))
def test_tango_is_antisymmetric_and_holds_the_estimate(table, confidence):
    """Exchanging the two turns the interval round, and the observed difference is inside."""
    b, c, n = table
    low, high = tango(b, c, n, confidence)
    assert -1.0 <= low <= (b - c) / n <= high <= 1.0
    assert tango(c, b, n, confidence) == (-high, -low)


@given(pairs)
def test_tango_rises_with_each_win_and_with_each_loss_less(table):
    """A neutral pair that turns into a win, or a loss that turns neutral, never lowers the limit."""
    b, c, n = table
    low = tango(b, c, n)[0]
    if b + c < n:
        assert tango(b + 1, c, n)[0] >= low - 1e-9
    if c > 0:
        assert tango(b, c - 1, n)[0] >= low - 1e-9


def test_tango_without_discordance_is_wilsons_form():
    """With b = c = 0 the limit is -z**2 / (n + z**2)."""
    z2 = stats.norm.ppf(0.95) ** 2
    assert tango(0, 0, 100, 0.9)[0] == pytest.approx(-z2 / (100 + z2))
    assert tango(0, 7, 7)[0] == -1.0


def test_tango_one_sided_limit_covers():
    """Of 20,000 samples at three true differences, 95 % of one-sided limits are below the truth, within 1 point."""
    n = 400
    for won, lost in ((0.05, 0.05), (0.03, 0.06), (0.10, 0.02)):
        tables, times = np.unique(
            rng(4).multinomial(n, [won, lost, 1 - won - lost], 20_000)[:, :2], axis=0, return_counts=True
        )
        below = [tango(int(b), int(c), n, 0.9)[0] <= won - lost for b, c in tables]
        assert np.average(below, weights=times) == pytest.approx(0.95, abs=0.01)


# Power


@pytest.mark.parametrize(
    ("discordance", "n", "margin"), [(0.1, 40, 0.1), (0.5, 25, 0.2), (0.0, 30, 0.1), (1.0, 20, 0.4)]
)
def test_power_is_the_sum_over_every_table(discordance, n, margin):
    """For small n, the power is the probability of the tables whose limit is above minus the margin."""
    half = discordance / 2
    power = sum(
        stats.multinomial.pmf([b, c, n - b - c], n, [half, half, 1 - discordance])
        for b, c in itertools.product(range(n + 1), repeat=2)
        if b + c <= n and tango(b, c, n, 0.9)[0] > -margin
    )
    assert paired_power(discordance, n, margin) == pytest.approx(power, abs=1e-6)


def test_power_is_what_simulation_finds():
    """Of 20,000 equal candidates, the share that passes is the power within 1 point."""
    discordance, n, margin = 0.12, 700, 0.03
    draws = rng(6).multinomial(n, [discordance / 2, discordance / 2, 1 - discordance], 20_000)[:, :2]
    tables, times = np.unique(draws, axis=0, return_counts=True)
    passes = [tango(int(b), int(c), n, 0.9)[0] > -margin for b, c in tables]
    assert np.average(passes, weights=times) == pytest.approx(paired_power(discordance, n, margin), abs=0.01)


@given(discordance=st.floats(0.0, 0.6), margin=st.floats(0.005, 0.3), power=st.floats(0.5, 0.95))
@settings(max_examples=40, deadline=None)
def test_needed_n_has_the_power_and_four_fifths_of_it_has_not(discordance, margin, power):
    """The answer suffices, and a fifth fewer pairs do not, where so many differ that saw teeth are small."""
    n = needed_n(discordance, margin, power)
    assert paired_power(discordance, n, margin) >= power
    if n > 200 and n * discordance > 5:
        assert paired_power(discordance, int(0.8 * n), margin) < power


def test_a_discordance_that_no_pairs_show_is_none():
    """The least float above nothing breaks no quantile."""
    assert needed_n(1.1125369292536007e-308, 0.25, 0.5) == needed_n(0.0, 0.25, 0.5)


def test_needed_n_is_close_to_the_normal_formula():
    """For many pairs, n is near discordance * ((z_a + z_b) / margin) ** 2."""
    expected = 0.2 * ((stats.norm.ppf(0.95) + stats.norm.ppf(0.8)) / 0.01) ** 2
    assert needed_n(0.2, 0.01) == pytest.approx(expected, rel=0.02)
    assert normal_needed_n(math.sqrt(0.2 / 500), 500, 0.01) == pytest.approx(expected, rel=0.001)


def test_normal_power_and_its_n_agree():
    """At the n that it asks for, the power is the one asked for; without error it is 1."""
    n = normal_needed_n(0.02, 300, 0.03)
    assert normal_power(0.02 * math.sqrt(300 / n), 0.03) == pytest.approx(0.8, abs=0.003)
    assert normal_power(0.0, 0.03) == 1.0


# Paired bootstrap


def read(metric, scores):
    """Give what a metric reads of ranking scores, with the threshold at 1/2."""
    return {"auroc": scores, "average_precision": scores}.get(metric, (scores > 0.5).astype(int))


@pytest.mark.parametrize("metric", METRICS)
def test_the_bootstrap_difference_is_the_difference_of_qualities(metric):
    """Its value is quality minus quality; it is antisymmetric and repeatable."""
    labels = np.arange(3000) % 3 // 2
    noise = rng(1).normal(size=3000)
    first, second = labels + noise, labels + noise + 0.6 * rng(2).normal(size=3000)
    values = []
    for scores in (first, second):
        predicted = (scores > 0.5).astype(int)
        values.append(quality(metric, labels, predicted == labels, scores, predicted, COSTS, rng=rng()).value)
    reads = [read(metric, s) for s in (first, second)]
    if metric in {"accuracy", "balanced_accuracy"}:
        reads = [predicted == labels for predicted in reads]
    found = paired_bootstrap(metric, labels, *reads, rng=rng(5), costs=COSTS)
    assert found.value == pytest.approx(values[0] - values[1], abs=1e-9)
    assert found.low < found.value
    assert found == paired_bootstrap(metric, labels, *reads, rng=rng(5), costs=COSTS)
    turned = paired_bootstrap(metric, labels, reads[1], reads[0], rng=rng(5), costs=COSTS)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low), abs=1e-12)
    same = paired_bootstrap(metric, labels, reads[0], reads[0], rng=rng(5), costs=COSTS)
    assert same == (0.0, 0.0, 0.0, 0.0)


@given(seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_the_bootstrap_counts_ties_as_one_half(seed):
    """For scores with many ties, the difference of areas is scikit-learn's, and no resample leaves [-1, 1]."""
    labels = np.arange(40) % 2
    first, second = rng(seed).integers(0, 4, (2, 40))
    found = paired_bootstrap("auroc", labels, first, second, rng=rng())
    assert found.value == pytest.approx(roc_auc_score(labels, first) - roc_auc_score(labels, second))
    assert -1.0 <= found.low <= 1.0


def test_the_bootstrap_of_accuracy_agrees_with_tango():
    """With many discordant pairs, both limits agree within a tenth of a point."""
    n = 4000
    first, second = rng(1).random(n) < 0.8, rng(2).random(n) < 0.8
    found = paired_bootstrap("accuracy", np.arange(n) % 2, first, second, rng=rng(3))
    won, lost = int((first & ~second).sum()), int((second & ~first).sum())
    assert (found.low, found.high) == pytest.approx(tango(won, lost, n, 0.9), abs=0.001)
    assert found.error == pytest.approx(math.sqrt(won + lost - (won - lost) ** 2 / n) / n, rel=0.06)


def test_the_bootstrap_limit_of_a_difference_of_areas_covers():
    """Of 150 samples, about 95 % of lower limits are below the true difference of AUROC."""
    truth = stats.norm.cdf(1 / math.sqrt(2)) - stats.norm.cdf(1 / math.sqrt(4))
    labels, draw, below = np.arange(150) % 2, rng(9), 0
    for _ in range(150):
        noise = draw.normal(size=150)
        scores, worse = labels + noise, labels + noise + draw.normal(size=150)
        below += paired_bootstrap("auroc", labels, scores, worse, rng=draw).low <= truth
    assert 0.90 <= below / 150 <= 0.99


# Excess


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_excess_is_the_exact_binomial_test_of_discordant_pairs(flags):
    """The p value is scipy's one-sided binomial test, and the excess the difference of shares."""
    a, b = np.array(flags).T
    found = excess(a, b)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    expected = stats.binomtest(only_a, only_a + only_b, alternative="greater").pvalue if only_a + only_b else 1.0
    assert found.p_value == pytest.approx(expected)
    assert found.excess == pytest.approx(a.mean() - b.mean())


def test_an_excess_fails_only_when_sure_and_large():
    """Sure but under 2 points passes, large but unsure passes, both fails."""
    n = 1000
    none, at = np.zeros(n, bool), np.arange(n)
    assert not excess(at < 19, none).fails
    assert excess(at < 19, none).p_value < 0.01
    assert not excess(np.arange(100) < 5, np.zeros(100, bool)).fails
    assert excess(at < 30, none).fails
    assert not excess(none, at < 30).fails


def test_unpaired_excess_is_fishers_exact_test():
    """The p value is scipy's one-sided Fisher test."""
    found = excess_unpaired(40, 100, 20, 110)
    assert found.p_value == pytest.approx(stats.fisher_exact([[40, 60], [20, 90]], alternative="greater").pvalue)
    assert found.excess == pytest.approx(0.4 - 20 / 110)
    assert found.fails
    assert not excess_unpaired(21, 100, 20, 110).fails
