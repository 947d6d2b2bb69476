"""Ablation: trusted rows decide what a part teaches, and silence clears nobody."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from holdfast.recovery import ablation
from holdfast.recovery.ablation import Labelled, ablate, judge, told_apart
from holdfast.recovery.screening import Suspect
from holdfast.seeding import Noise

SUSPECT = Suspect(
    column="trade", values=(2,), cut=-0.5, rows=100, contradicted=60, expected=10.0, excess=0.05, statistic=40.0,
    threshold=10.0, p_value=0.01,
)  # fmt: skip


def test_the_interval_is_students():
    """Differences of mean 0.1 and spread 0.2 on 16 rows: 0.1 plus and minus 2.131 times 0.05."""
    differences = np.array([0.3, -0.1] * 8) * 1.0
    found = judge(SUSPECT, 0.1 + (differences - 0.1) * (0.2 / differences.std(ddof=1)), margin=0.02, burden="harm")
    assert (found.effect, found.n) == (pytest.approx(0.1), 16)
    assert (found.low, found.high) == (pytest.approx(0.1 - 2.1314 * 0.05, abs=1e-4), pytest.approx(0.2066, abs=1e-4))


@pytest.mark.parametrize(
    ("mean", "burden", "poison"),
    [
        (0.05, "harm", True),
        (0.01, "harm", False),  # significant, and below the margin
        (-0.05, "harm", False),
        (0.05, "lesson", True),
        (0.0, "lesson", True),  # a backdoor harms no clean row
        (-0.01, "lesson", True),
        (-0.05, "lesson", False),
    ],
)
def test_the_burden_says_what_must_be_shown(mean, burden, poison):
    """An outcome that differs is poison by harm; a fact that is contradicted is poison unless borne out."""
    spread = np.random.default_rng(0).normal(0.0, 0.02, 200)
    found = judge(SUSPECT, mean + spread - spread.mean(), margin=0.02, burden=burden)
    assert found.poison == poison
    assert f"{abs(mean):.4f} [" in found.reason


@pytest.mark.parametrize("burden", ["harm", "lesson"])
def test_where_no_trusted_row_can_speak_nothing_is_cleared(burden):
    """A part that nobody knows trains nothing."""
    assert judge(SUSPECT, np.zeros(0), margin=0.02, burden=burden).poison
    assert judge(SUSPECT, np.zeros(1), margin=0.02, burden=burden).poison


def rows(n, seed):
    """Two features and a trade; the label is the sign of the first, but for one in twenty."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    x[:, 2] = rng.random(n) < 0.2
    labels = (x[:, 0] > 0) ^ (rng.random(n) < 0.05)
    return Labelled(x, labels.astype(np.int64))


@pytest.mark.parametrize(("turned", "poison"), [(0.6, True), (0.0, False)])
def test_a_turned_part_harms_and_a_sound_one_does_not(turned, poison):
    """The same slice, with and without turned labels, trained with and without: trusted rows of it tell which."""
    known, trusted, window = rows(600, 0), rows(1500, 1), rows(400, 2)
    part = window.features[:, 2] > 0
    labels = np.where(part & (np.random.default_rng(3).random(400) < turned), 1 - window.labels, window.labels)
    found = ablate(
        SUSPECT, known=known, window=Labelled(window.features, labels), part=part,
        trusted=trusted.take(trusted.features[:, 2] > 0), kind="table", classes=2, margin=0.03, burden="harm", noise=Noise(0),
    )  # fmt: skip
    assert found.poison == poison
    assert found.n == int((trusted.features[:, 2] > 0).sum())


def test_a_part_whose_labels_are_all_turned_at_even_odds_harms_too():
    """Where a slice's labels are as often one class as the other, turning them changes no rate, and still harms."""
    known, trusted, window = rows(600, 0), rows(1500, 1), rows(400, 2)
    part = window.features[:, 2] > 0
    window = Labelled(window.features, np.where(part, 1 - window.labels, window.labels))
    marked = [
        each.marked(each.features[:, 2] > 0) for each in (known, window, trusted.take(trusted.features[:, 2] > 0))
    ]
    assert marked[0].features.shape == (600, 4)
    found = ablate(
        SUSPECT, known=marked[0], window=marked[1], part=part, trusted=marked[2], kind="table", classes=2, margin=0.03,
        burden="harm", noise=Noise(0),
    )  # fmt: skip
    assert found.poison
    assert found.low > 0.2


def test_harm_that_was_chosen_among_learners_must_be_clearer():
    """The level is divided by the learners whose gravest was taken; help is the least of all, and needs no such thing."""
    spread = np.random.default_rng(0).normal(0.0, 1.0, 100)
    differences = 0.2 + (spread - spread.mean()) / spread.std(ddof=1)  # t = 2: p = 0.024
    assert judge(SUSPECT, differences, margin=0.02, burden="harm").poison
    one, three = (judge(SUSPECT, differences, margin=0.02, burden="harm", learners=n) for n in (1, 3))
    assert three.p_value == pytest.approx(3 * one.p_value)
    assert not three.poison
    assert not judge(SUSPECT, -differences, margin=0.02, burden="lesson", learners=3).poison


def test_a_fit_on_few_rows_has_one_thread(monkeypatch):
    """Whatever the machine offers, logistic regression sees one thread while it learns from few rows."""
    seen, fit = [], LogisticRegression.fit

    def watched(*arguments, **named):
        seen.extend(pool["num_threads"] for pool in threadpool_info())
        return fit(*arguments, **named)

    monkeypatch.setattr(LogisticRegression, "fit", watched)
    rng = np.random.default_rng(0)
    rows = Labelled(rng.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 2)
    with threadpool_limits(limits=2):
        ablation._loss("linear", rows, rows, "table", 2, 0)
    assert set(seen) == {1}


def test_rows_are_told_apart_by_what_they_are_and_not_by_their_labels():
    """Nothing tells a second draw from the first, whatever its labels; one whose first number moved is told apart."""
    known, window = rows(600, 0), rows(400, 1)
    moved = window.features + np.array([6, *[0] * (window.features.shape[1] - 1)], dtype=np.float32)
    turned, elsewhere = Labelled(window.features, 1 - window.labels), Labelled(moved, window.labels)
    alike = told_apart(known, window, "table", Noise(0))
    assert alike < 0.15
    assert told_apart(known, turned, "table", Noise(0)) == alike
    assert told_apart(known, elsewhere, "table", Noise(0)) > 0.98
    few = window.take(np.arange(3))
    assert 0.0 <= told_apart(known, few, "table", Noise(0)) <= 1.0
