"""What the base of graded disturbances makes of flags."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from holdfast.data import Samples
from holdfast.errors import ScenarioError
from holdfast.model import ModelSpec, Target
from holdfast.scenarios.base import Context
from holdfast.scenarios.disturbance import Disturbance
from holdfast.seeding import Noise
from holdfast.space import Box

BOX = Box(shape=(1, 1, 2), low=-100.0, high=100.0, mean=(0.0,), std=(1.0,))


class Sink(Disturbance):
    """Take the severity from each pixel."""

    family: ClassVar[str] = "tests"
    reference: ClassVar[str] = "none"
    value: float = 1.0

    def disturb(self, x, ids, severity, noise, space):
        return x - self.value * severity


class Narrow(Sink):
    """Lose a column."""

    def disturb(self, x, ids, severity, noise, space):
        return x[..., :1]


class Jitter(Sink):
    """Draw anew."""

    def disturb(self, x, ids, severity, noise, space):
        return noise.uniform(ids, tuple(x.shape[1:]))


def positive(bar=0.0):
    """Answer 1 where the first pixel is above the bar."""
    linear = nn.Linear(2, 2)
    linear.weight.data = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    linear.bias.data = torch.tensor([0.0, -bar])
    spec = ModelSpec(factory="none:none", space=BOX, classes=("no", "yes"))
    return Target(nn.Sequential(nn.Flatten(), linear), spec, "digest")


def heights(*values):
    x = torch.tensor([[v, 0.0] for v in values]).reshape(-1, 1, 1, 2)
    return Samples(x, torch.ones(len(x), dtype=torch.int64), torch.arange(len(x)), "test", "snap")


def test_the_score_is_the_mean_over_severities_and_the_curve_keeps_them(context):
    """Heights 0.5 to 5.5 fall one by one as the floor sinks below them."""
    finding = Sink().run(positive(), heights(0.5, 1.5, 2.5, 3.5, 4.5, 5.5, -1.0, 5.5), context, path="tests/sink")
    curve = [(point.at, point.score.value) for point in finding.curves[0].points]
    assert curve == [(0, 7 / 8), (1, 6 / 8), (2, 5 / 8), (3, 4 / 8), (4, 3 / 8), (5, 2 / 8)]
    assert finding.score.value == pytest.approx(4 / 8)
    assert finding.score.method == "wilson_clustered"
    assert finding.score.n == 8
    (retained,) = finding.measures
    assert retained.value == pytest.approx(4 / 7)
    assert retained.low < 4 / 7 < retained.high


def test_the_users_metric_has_a_curve_of_its_own():
    """Balanced accuracy sees the rare class go, where accuracy hardly moves."""
    samples = heights(*[-1.0] * 18, 0.5, 9.5)
    labels = torch.tensor([0] * 18 + [1, 1])
    samples = Samples(samples.x, labels, samples.ids, "test", "snap")
    finding = Sink().run(positive(), samples, Context(seed=1, metric="balanced_accuracy"), path="tests/sink")
    accuracy, balanced = ({p.at: p.score.value for p in curve.points} for curve in finding.curves)
    assert (accuracy[0], accuracy[1]) == (1.0, 0.95)
    assert (balanced[0], balanced[1]) == (1.0, 0.75)
    assert finding.curves[1].name == "balanced_accuracy"


def test_a_point_counts_as_right_at_three_of_five_severities(context):
    """The flag for paired comparison is the majority."""
    finding = Sink().run(positive(), heights(2.5, 3.5), context, path="tests/sink")
    assert sorted(finding.per_example.unpack_flags().tolist()) == [False, True]


def test_no_share_is_retained_of_nothing(context):
    """A model that is never right when clean retains no share: none is stated."""
    finding = Sink().run(positive(), heights(-1.0, -2.0), context, path="tests/sink")
    assert finding.measures == ()
    assert finding.score.value == 0.0


def test_each_severity_draws_anew():
    """Five severities are five draws, each the same whenever it is asked for."""
    samples, noise = heights(1.0, 2.0), Noise(1)
    drawn = [Jitter().apply(samples, severity, noise, BOX) for severity in (1, 2, 1)]
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("broken", [Sink(value=float("nan")), Sink(value=float("inf")), Narrow()])
def test_a_disturbance_that_breaks_the_input_is_an_error(broken, context):
    """Not finite, or of another shape: no score."""
    with pytest.raises(ScenarioError, match="finite"):
        broken.run(positive(), heights(1.0, 2.0), context, path="tests/sink")
