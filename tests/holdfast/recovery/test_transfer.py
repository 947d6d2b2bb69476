"""Transfer: parent and candidate compared point by point, and what the field calls the differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.recovery.transfer import compared, transferred
from holdfast.results import Finding, ModelVersion, PerExample, Provenance
from holdfast.statistics import quality, share, tango

N = 200
OLD, NEW = ModelVersion(name="people", version=1, digest="aa"), ModelVersion(name="people", version=2, digest="bb")
LABELS = np.arange(N) % 4 == 0


def found(path, flags, subject="aa", unscored=None, points=None, metric="accuracy"):
    flags = np.asarray(flags)
    rng = np.random.default_rng(0)
    score = share(flags) if metric == "accuracy" else quality(metric, LABELS.astype(int), flags, rng=rng)
    ids = np.arange(N) if points is None else points
    return Finding(
        path=path, dimension="robustness", family="quality", settings={}, unscored=unscored,
        score=None if unscored else score, per_example=PerExample.pack(ids, flags, LABELS),
        provenance=Provenance(subject=subject, data="d4", role="test", seed=0, library="11", versions={}, device="cpu"),
    )  # fmt: skip


def first(k):
    """The first k points are right."""
    return np.arange(N) < k


@settings(max_examples=30, deadline=None)
@given(before=st.integers(0, N), after=st.integers(0, N))
def test_a_change_of_accuracy_is_paired(before, after):
    """The difference of shares with Tango's interval of the points won and lost."""
    change = compared(
        "old world", found("probes/quality", first(before)), found("probes/quality", first(after)), "accuracy"
    )
    assert change.difference == pytest.approx((after - before) / N)
    assert (change.low, change.high) == pytest.approx(tango(max(after - before, 0), max(before - after, 0), N))
    assert change.n == N
    assert change.low <= change.difference <= change.high


def test_a_change_of_another_metric_has_an_interval_of_both_ends():
    """Balanced accuracy is compared as the user's metric, by resampling within classes; swapped, the signs turn."""
    one, other = found("q", ~LABELS, metric="balanced_accuracy"), found("q", first(150), metric="balanced_accuracy")
    there, back = (compared("old world", *pair, "balanced_accuracy") for pair in ((one, other), (other, one)))
    assert one.score.value == pytest.approx(0.5)
    assert there.difference == pytest.approx(other.score.value - 0.5)
    assert there.low < there.difference < there.high
    assert (back.difference, back.low, back.high) == pytest.approx((-there.difference, -there.high, -there.low))


def test_transfer_and_forgetting_are_as_defined():
    """Backward: clean gain on the old world. Forgetting: its largest loss. Forward: the parent above the untrained."""
    pairs = {
        "old world": [
            (found("probes/quality", first(180)), found("probes/quality", first(170))),
            (found("attacks/pgd", first(120)), found("attacks/pgd", first(60))),
        ],
        "new windows": [(found("probes/quality", first(100)), found("probes/quality", first(160)))],
    }
    told = transferred(OLD, NEW, pairs, found("probes/quality", first(90)), "accuracy")
    measures = {m.name: m for m in told.measures}
    assert measures["backward_transfer"].value == pytest.approx(-0.05)
    assert measures["forgetting (attacks/pgd)"].value == pytest.approx(0.3)
    assert measures["forgetting (attacks/pgd)"].better == "lower"
    low, high = tango(0, 60, N)
    assert (measures["forgetting (attacks/pgd)"].low, measures["forgetting (attacks/pgd)"].high) == pytest.approx((-high, -low))  # fmt: skip
    assert measures["forward_transfer"].value == pytest.approx(0.05)
    regressed = measures["regressions (attacks/pgd)"]
    assert (regressed.value, regressed.n) == (pytest.approx(0.3), N)  # withstood before, and not now
    assert [(c.world, c.path, round(c.difference, 3)) for c in told.changes] == [
        ("old world", "probes/quality", -0.05), ("old world", "attacks/pgd", -0.3),
        ("new windows", "probes/quality", 0.3),
    ]  # fmt: skip
    assert told.missing == ()


def test_what_cannot_be_paired_is_said_and_is_no_number():
    """An unscored side, other points and no rows give no change and no measure, and each says why."""
    clean, broke = found("probes/quality", first(9)), found("attacks/pgd", first(9), unscored="it broke")
    moved = found("probes/quality", first(9), points=np.arange(N) + 1)
    told = transferred(OLD, NEW, {"old world": [(clean, moved), (clean, broke)]}, None, "accuracy")
    assert (told.changes, told.measures) == ((), ())
    assert told.missing == ("old world, probes/quality: asked on other points", "old world, attacks/pgd: it broke")
    nothing = transferred(OLD, NEW, {}, None, "accuracy")
    assert (nothing.changes, nothing.measures, nothing.missing) == ((), (), ())
