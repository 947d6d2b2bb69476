"""Query counts: what an attack that sees answers alone pays for each point, and the curve against them."""

from __future__ import annotations

import pytest
import torch

from holdfast import registry
from holdfast.perturbation import Threat
from holdfast.scenarios.attacks._batch import Batch
from holdfast.scenarios.attacks.base import Attack
from holdfast.scenarios.base import Context
from holdfast.seeding import Noise
from tests.holdfast.scenarios.attacks.conftest import BOX, linear, samples_of, table_rows, table_target

PACKAGE = "holdfast.scenarios.attacks"
EVERY = [registry.find(PACKAGE, name, Attack) for name in registry.available(PACKAGE)]
BLACK = [kind for kind in EVERY if kind.counts_queries]
black = pytest.mark.parametrize("kind", BLACK, ids=lambda kind: kind.__name__)


@pytest.fixture
def plane():
    target, _, _ = linear(BOX)
    return target, samples_of(target, torch.rand((40, *BOX.shape), generator=torch.Generator().manual_seed(1)))


def test_every_attack_that_asks_for_a_number_of_queries_counts_them():
    """And no other: a curve against gradients' queries would compare with none."""
    assert {kind.__name__ for kind in BLACK} == {
        kind.__name__ for kind in EVERY if "queries" in kind.model_fields and not kind.white_box
    }


@black
def test_the_curve_begins_at_the_clean_accuracy_and_ends_at_the_score(kind, plane):
    """It falls with the queries, on all points, and some fall on the way."""
    target, samples = plane
    wrong = torch.where(torch.arange(40) % 4 == 0, 1 - samples.y, samples.y)
    finding = kind(queries=300, epsilon=0.02).run(target, samples_of(target, samples.x, wrong), Context(seed=0))
    (curve,) = finding.curves
    assert (curve.axis, curve.points[0].at, curve.points[-1].at) == ("queries", 0, 300)
    shares = [point.score.value for point in curve.points]
    assert shares[0] == 30 / 40
    assert shares[-1] == finding.score.value < shares[0]
    assert shares == sorted(shares, reverse=True)
    assert len(set(shares)) > 2
    assert {point.score.kind for point in curve.points} == {"upper_bound"}


@black
def test_a_points_count_is_what_the_model_was_asked_for_it(kind, plane):
    """Never more than its budget; for a point that holds the model saw as many rows, for a broken one as many or more."""
    target, samples = plane
    attack = kind(queries=60, epsilon=0.01)
    whole = attack.strike(target, samples, torch.ones(40, dtype=torch.bool), Noise(0))
    assert (whole.asked <= 60).all()
    for i in range(6):
        before = target.forwards
        alone = attack.strike(target, samples.take(torch.tensor([i])), torch.ones(1, dtype=torch.bool), Noise(0))
        seen = target.forwards - before - 1  # the last look
        assert alone.asked.item() == whole.asked[i]
        assert seen == alone.asked if alone.robust else seen >= alone.asked


def test_categories_that_were_tried_are_queries_too():
    """On a table with one category that may change the first points fall to it, after four codes and the row itself."""
    target = table_target()
    samples = samples_of(target, table_rows(90))
    square = registry.find(PACKAGE, "square", Attack)
    finding = square(queries=30, epsilon=0.3, categories=1).run(target, samples, Context(seed=0))
    shares = {point.at: point.score.value for point in finding.curves[0].points}
    assert shares[2] == shares[0] == 1.0
    assert shares[5] < 1.0
    assert max(shares) == 35


def test_of_several_rows_at_once_the_first_that_breaks_is_booked():
    """Counts end there; without one the last within the ball is kept, and what lies beyond it breaks nothing."""
    target, w, b = linear(BOX)
    x = torch.full((3, *BOX.shape), 0.5)
    side = int(target.predict(x)[0])
    away = -(2 * side - 1) * w.sign().reshape(BOX.shape)
    near, far = 0.01 * away, 2.0 * float((x[0].flatten() @ w + b).abs() / w.abs().sum()) * away
    radius = float(far.abs().max()) * 1.001
    y, ids = torch.full((3,), side), torch.arange(3)
    moves = torch.stack(
        [torch.stack([0.1 * near, far, 0.9 * far]), torch.stack([0 * near, near, 3 * far]), torch.stack([far] * 3)]
    )
    batch = Batch(target, Threat(epsilon=radius), x, y, ids)
    batch.query_each(torch.tensor([0, 1]), x[:2, None] + moves[:2], beyond=True)
    assert batch.broken.tolist() == [True, False, False]
    assert batch.asked.tolist() == [2, 3, 0]
    torch.testing.assert_close(batch.adversarial[0], x[0] + far)
    torch.testing.assert_close(batch.adversarial[1], x[1] + near)


def test_no_points_are_asked_about_nothing():
    """Where all are broken there is nothing to ask, and that is no fault."""
    target, _, _ = linear(BOX)
    batch = Batch(target, Threat(epsilon=0.1), torch.zeros((2, *BOX.shape)), torch.tensor([0, 1]), torch.arange(2))
    none = torch.zeros(0, dtype=torch.int64)
    assert batch.query(none, torch.zeros((0, *BOX.shape))).shape == (0, 2)
    assert batch.asked.sum() == 0
