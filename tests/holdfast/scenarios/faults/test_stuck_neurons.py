"""Stuck units of a planted network, in which one unit decides everything."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.scenarios.faults._taps import Tapped
from holdfast.scenarios.faults.stuck_neurons import StuckNeurons, _hidden
from holdfast.space import Box, Feature, Table


def planted(units=20, which=13, kind=nn.ReLU, dtype=torch.float32):
    """Class 1 by unit ``which`` of the hidden layer, which hands x on where it is positive; the others hand on noise."""
    first, last = nn.Linear(1, units), nn.Linear(units, 2)
    with torch.no_grad():
        first.weight.fill_(0.5)
        first.bias.fill_(0.1)
        first.weight[which], first.bias[which] = 1.0, 0.0
        last.weight.zero_()
        last.weight[1, which] = 1.0
        last.bias.copy_(torch.tensor([0.25, 0.0]))
    features = (Feature(name="a", kind="number", iqr=1.0),)
    module = nn.Sequential(first, kind(), last).to(dtype)
    return Target(module, ModelSpec(factory="none:none", space=Table(features=features), classes=("0", "1")), "digest")


def signs(n=300, dtype=torch.float32):
    x = torch.tensor([1.0, -1.0] * (n // 2), dtype=dtype)[:, None]
    return Samples(x, (x[:, 0] > 0).long(), torch.arange(n), "test", "snap")


@pytest.mark.parametrize("which", [0, 13])
def test_the_unit_that_decides_is_found(which, context):
    """Of twenty units the one is named, and what it costs alone is half of the points."""
    finding = StuckNeurons().run(planted(which=which), signs(), context)
    cost = next(measure for measure in finding.measures if measure.name == "worst_unit_cost")
    assert cost.value == 50.0
    worst = finding.details["worst"]
    assert (worst["layer"], worst["unit"]) == ("1", which)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_accuracy_falls_by_the_chance_that_the_unit_is_stuck(dtype, context):
    """A point is lost when the one unit is stuck on its wrong side: half of 1, 2, 5, 10 and 20 % of the points."""
    finding = StuckNeurons(points=1000).run(planted(dtype=dtype), signs(1000, dtype), context)
    for curve in finding.curves:
        for point, part in zip(curve.points, (0.0, 0.01, 0.02, 0.05, 0.10, 0.20), strict=True):
            assert abs(point.score.value - (1.0 - part / 2)) < 4 * (part / 1000) ** 0.5 + 1e-9
    assert abs(finding.score.value - (1.0 - 0.38 / 10)) < 0.015
    assert finding.score.n == 1000


def test_units_that_nothing_listens_to_cost_nothing(context):
    """Where the deciding unit is no unit of a hidden layer, all that is stuck changes no answer."""

    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.active = nn.Linear(1, 9), nn.ReLU()

        def forward(self, x):
            return torch.cat([-x, x + 0.0 * self.active(self.first(x)).sum(1, keepdim=True)], 1)

    target = planted()
    finding = StuckNeurons().run(Target(Beside(), target.spec, "digest"), signs(), context)
    assert finding.score.value == 1.0
    assert next(measure.value for measure in finding.measures if measure.name == "worst_unit_cost") == 0.0


def test_units_are_channels_of_images_and_features_of_all_else(build):
    """By the layer that made them; a network of functions alone has the layers between encoder and logits."""
    target, samples = build("box")
    sites = Tapped(target, samples).sites
    assert [(sites[i].layer, axis) for i, axis in _hidden(sites, 3)] == [
        ("1.2", 0),
        ("1.5", 0),
        ("1.8", 0),
        ("1.11", 0),
    ]

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.active, self.last = nn.Linear(8, 5), nn.GELU(), nn.Linear(5, 3)

        def forward(self, x):
            return self.last(self.active(self.first(x.squeeze(1))).mean(1))

    box = Box(shape=(1, 8, 8), mean=(0.5,), std=(0.25,))
    tokens = Target(Tokens(), ModelSpec(factory="none:none", space=box, classes=("a", "b", "c")), "digest")
    sites = Tapped(tokens, samples).sites
    assert [(sites[i].shape, axis) for i, axis in _hidden(sites, 3)] == [((8, 5), 1)]


def test_without_hidden_layers_it_is_unscored(context):
    """A linear model has no hidden unit."""
    target = planted()
    linear = Target(nn.Linear(1, 2), target.spec, "digest")
    assert "no hidden layer" in StuckNeurons().run(linear, signs(), context).unscored
