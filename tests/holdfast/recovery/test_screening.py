"""Screening: what moves one part alone is suspicious, what moves all parts alike is not, and the budget holds."""

from __future__ import annotations

import numpy as np
import pytest

from holdfast.errors import DataError
from holdfast.recovery.screening import (
    LABEL,
    WHOLE,
    Judged,
    Screening,
    _Scan,
    belongs,
    confusion_of,
    contradicted,
    drawn_clean,
    largest,
    likelihood_ratio,
    margins_of,
    screen,
)
from holdfast.seeding import Noise

NOISE = Noise(0, ("screening",))


def judged(n, seed, wrong=0.1, slice_wrong=None, facts=False):
    """Rows of six trades and four sizes; a share contradicted at random, another in trade 2."""
    rng = np.random.default_rng(seed)
    trade, size = rng.integers(0, 6, n), rng.integers(0, 4, n)
    rate = np.where((trade == 2) & (slice_wrong is not None), slice_wrong or 0.0, wrong)
    margins = np.where(rng.random(n) < rate, -rng.random(n), 0.0)
    parts = {"trade": trade, "size": size}
    return Judged(margins, parts | ({LABEL: rng.integers(0, 3, n)} if facts else {}))


def suspects(window, past, **settings):
    chosen = Screening(**settings)
    return screen(window, past, drawn_clean(past, len(window), chosen, NOISE), chosen)


def test_a_margin_is_how_certainly_a_label_is_contradicted():
    """The label's probability over the likeliest class's, less 1: 0 where they agree."""
    probabilities = np.array([[0.7, 0.3], [0.2, 0.8], [0.5, 0.5]])
    assert margins_of(probabilities, np.array([0, 0, 1])) == pytest.approx([0.0, -0.75, 0.0])


def test_what_is_usually_confused_contradicts_less():
    """Two classes that share a third of their rows, and one that nobody confuses: only its labels are in doubt."""
    labels = np.repeat([0, 1, 2], 99)
    taken_for = np.where(np.arange(297) % 3 == 0, np.array([1, 0, 2])[labels], labels)
    said = np.where(np.eye(3)[taken_for] > 0, 0.98, 0.01)
    confusion = confusion_of(said, labels)
    assert confusion.sum(1) == pytest.approx(np.ones(3))
    sure = np.array([[0.98, 0.01, 0.01]] * 2)
    doubted, wrong = margins_of(sure @ confusion, np.array([1, 2]))
    assert wrong < -0.96
    assert doubted > -0.6
    assert margins_of(sure, np.array([1, 2])) == pytest.approx([1 / 98 - 1] * 2)  # without it they are alike


def test_the_ratio_is_that_of_two_rates_against_one():
    """Against log likelihoods written out; a lower rate is never suspicious."""
    k, n, r, m = 30.0, 100.0, 0.1, 400.0
    pooled = (k + r * m) / (n + m)

    def told(hits, rows, rate):
        return hits * np.log(rate) + (rows - hits) * np.log(1 - rate)

    expected = told(k, n, k / n) + told(r * m, m, r) - told(k, n, pooled) - told(r * m, m, pooled)
    found = likelihood_ratio(np.array([k, 5.0]), np.array([n, n]), np.array([r, r]), np.array([m, m]))
    assert found == pytest.approx([expected, 0.0])


def test_a_part_that_is_contradicted_alone_is_found_by_name():
    """Half of one trade's labels turned: that trade comes under suspicion, with about as many rows as were turned."""
    past, window = judged(6000, 0), judged(1000, 1, slice_wrong=0.6)
    gravest = suspects(window, past)[0]
    assert (gravest.column, gravest.values) == ("trade", (2,))
    assert gravest.rows == int((window.parts["trade"] == 2).sum())
    assert gravest.excess == pytest.approx(0.5 / 6, abs=0.03)
    assert gravest.statistic > 2 * gravest.threshold
    assert gravest.p_value == pytest.approx(1 / 201)
    inside = belongs(gravest, window)
    assert np.array_equal(inside, window.parts["trade"] == 2)
    counted = contradicted(gravest, window)
    assert counted.sum() == gravest.contradicted
    assert not (counted & ~inside).any()


@pytest.mark.parametrize("facts", [False, True])
def test_what_cleared_windows_came_with_is_no_suspicion(facts):
    """Where labels are outcomes a part must stand out from what the world did lately; facts are moved by no world."""
    past, window = judged(6000, 0, facts=facts), judged(1000, 1, slice_wrong=0.2, facts=facts)
    chosen = Screening(facts=facts)
    drawn = drawn_clean(past, 1000, chosen, NOISE)
    (gravest, *_) = screen(window, past, drawn, chosen)
    assert largest(window, past, facts=facts) == gravest.statistic
    assert screen(window, past, drawn, chosen, lately=0.9 * gravest.statistic)[0].values == (2,)
    assert bool(screen(window, past, drawn, chosen, lately=gravest.statistic)) is facts


def test_poison_that_was_missed_once_does_not_hide_what_follows():
    """What cleared windows came with raises the threshold threefold at most, however much it was."""
    past, window = judged(6000, 0), judged(1000, 1, slice_wrong=0.9)
    chosen = Screening()
    drawn = drawn_clean(past, 1000, chosen, NOISE)
    usual, raised = (screen(window, past, drawn, chosen, lately=lately)[0] for lately in (0.0, 1e6))
    assert raised.values == (2,)
    assert raised.threshold == pytest.approx(3 * usual.threshold)


def test_what_moves_all_parts_alike_is_drift():
    """Three times as many contradicted labels everywhere say little of any column; one turned trade says much."""
    past = judged(6000, 0)
    drifted = [suspects(judged(1000, seed, wrong=0.3), past) for seed in range(2, 8)]
    weak = max(suspect.statistic for found in drifted for suspect in found)
    assert weak < 10.0
    assert suspects(judged(1000, 2, wrong=0.3, slice_wrong=0.9), past)[0].statistic > 4 * weak
    assert min(len(found) for found in drifted) == 0


def test_facts_that_are_contradicted_all_over_are_suspicious():
    """Where labels are facts twice as many contradicted are poison; where they are outcomes no part is the whole."""
    window, past = judged(1000, 2, wrong=0.2, facts=True), judged(6000, 0, facts=True)
    found = suspects(window, past, facts=True)[0]
    assert (found.column, found.rows) == (WHOLE, 1000)
    assert found.statistic > 4 * found.threshold
    assert belongs(found, window).all()
    assert WHOLE not in {suspect.column for suspect in suspects(window, past)}


def test_one_class_under_suspicion():
    """Twenty rows of other classes that are called class 1, among a thousand, are found in class 1."""
    past, window = judged(6000, 0, wrong=0.05, facts=True), judged(1000, 1, wrong=0.05, facts=True)
    chosen = np.random.default_rng(5).choice(1000, 25, replace=False)
    window.margins[chosen], window.parts[LABEL][chosen] = -0.95, 1
    found = {suspect.column: suspect for suspect in suspects(window, past, facts=True)}
    assert found[LABEL].values == (1,)
    assert found[LABEL].contradicted - found[LABEL].expected >= 15


def test_a_past_without_an_error_still_tells():
    """Where the past contradicts nothing at all, a few turned labels in one part are seen."""
    past, window = judged(3000, 0, wrong=0.0), judged(1000, 1, wrong=0.0, slice_wrong=0.2)
    assert suspects(window, past)[0].values == (2,)
    assert suspects(judged(1000, 3, wrong=0.0), past) == ()


def test_a_value_that_the_past_never_had_is_judged_by_the_overall_rate():
    """Contradicted rows of a trade that is new come under suspicion by its code."""
    past, window = judged(6000, 0), judged(1000, 1)
    window.parts["trade"][:80], window.margins[:80] = 9, -0.9
    assert 9 in suspects(window, past)[0].values


def test_clean_windows_keep_the_budget():
    """Of 100 clean windows about as many come under suspicion as the budget says: at most 13 of 5 %."""
    past, settings = judged(6000, 0), Screening(budget=0.05)
    drawn = drawn_clean(past, 500, settings, NOISE)
    raised = sum(bool(screen(judged(500, 100 + seed), past, drawn, settings)) for seed in range(100))
    assert raised <= 13


@pytest.mark.parametrize("facts", [False, True])
def test_drawn_at_once_or_one_by_one_windows_have_one_statistic(facts):
    """Each drawn window's largest statistic is what screening it alone against the others gives."""
    past = judged(900, 3, facts=facts)
    rows = np.stack([np.random.default_rng(k).permutation(900)[:200] for k in range(5)])
    together = _Scan(past, facts=facts).largest(rows)
    for drawn, at_once in zip(rows, together, strict=True):
        rest, window = past.take(np.setdiff1d(np.arange(900), drawn)), past.take(drawn)
        scan = _Scan(rest, facts=facts)
        scan._cuts = _Scan(past, facts=facts)._cuts  # where the past is cut
        scan._known = {name: scan._count(rest, name, values) for name, values in scan._values.items()}
        scan._all = scan._count(rest, None, 1)
        assert at_once == pytest.approx(max(part.statistic for part in scan.of(window)))


def test_the_same_seed_draws_the_same_windows():
    """Thresholds are a function of rows, settings and seed."""
    past, settings = judged(900, 0), Screening(replays=50)
    one, two = (drawn_clean(past, 200, settings, NOISE) for _ in range(2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, drawn_clean(past, 200, settings, NOISE.derive("other")))


def test_too_little_that_is_known_good_is_refused():
    """No threshold is made up where none can be drawn, and parts of another length are an error."""
    with pytest.raises(DataError, match="at least 30"):
        drawn_clean(judged(20, 0), 500, Screening(), NOISE)
    with pytest.raises(DataError, match="2 codes of trade"):
        Judged(np.zeros(3), {"trade": np.zeros(2)})
