"""Rounding against numbers that can be rounded by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.scenarios.faults.quantisation import Quantisation, _rounding
from holdfast.space import Feature, Table


class Scaled(nn.Module):
    """Class 1 where w x exceeds nothing; the large weight sets the step and decides nothing."""

    def __init__(self, weight, dtype=torch.float32):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[weight, 1.0]], dtype=dtype))

    def forward(self, x):
        beside = torch.cat([x, torch.zeros_like(x)], 1).to(self.weight.dtype)
        return torch.cat([torch.zeros_like(x), (beside @ self.weight.T).to(x.dtype)], 1)


def target_of(module):
    space = Table(features=(Feature(name="a", kind="number", iqr=1.0),))
    return Target(module, ModelSpec(factory="none:none", space=space, classes=("0", "1")), "digest")


def signs(n=40):
    x = torch.tensor([1.0, -1.0] * (n // 2))[:, None]
    return Samples(x, (x[:, 0] > 0).long(), torch.arange(n), "test", "snap")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("weight", "right"),
    [(0.1, (1.0, 1.0, 1.0)), (0.05, (1.0, 1.0, 0.5)), (0.01, (1.0, 0.5, 0.5)), (0.003, (0.5, 0.5, 0.5))],
)
def test_a_weight_of_less_than_half_a_step_is_lost(weight, right, dtype, context):
    """Beside a weight of 1 the steps are 1/127, 1/31 and 1/7: what is below half of one rounds to zero."""
    target = target_of(Scaled(weight, dtype))
    finding = Quantisation().run(target, signs(), context)
    assert tuple(point.score.value for point in finding.curves[0].points) == right
    assert finding.score.value == pytest.approx(sum(right) / 3)
    flipped = {measure.name: measure.value for measure in finding.measures}
    assert [flipped[f"flipped_{bits}"] for bits in (8, 6, 4)] == [1.0 - each for each in right]
    assert target.module.weight._version == 0


def test_activations_are_rounded_row_by_row():
    """A row's own largest number sets its step; that of another row is nothing to it."""
    rows = torch.tensor([[1.0, 0.05, 0.5], [0.1, 0.05, 0.0], [0.0, 0.0, 0.0]])
    rounded = _rounding(4, 9)(0, rows)
    assert torch.allclose(rounded, torch.tensor([[1.0, 0.0, 4 / 7], [0.1, 0.1 * 4 / 7, 0.0], [0.0, 0.0, 0.0]]))
    assert _rounding(4, 9)(9, rows) is rows


def test_rounded_activations_cost_what_they_lose(context):
    """A small signal beside a large number in one layer is lost with its rounding, and only then."""
    wide, last = nn.Linear(1, 2), nn.Linear(2, 2)
    with torch.no_grad():
        wide.weight.copy_(torch.tensor([[1.0], [0.0]]))
        wide.bias.copy_(torch.tensor([0.0, 30.0]))
        last.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        last.bias.zero_()
    target = target_of(nn.Sequential(wide, last))
    assert Quantisation().run(target, signs(), context).score.value == 1.0
    finding = Quantisation(activations="dynamic").run(target, signs(), context)
    assert [point.score.value for point in finding.curves[0].points] == [1.0, 1.0, 0.5]


def test_without_weights_to_round_it_is_unscored(context):
    """Biases and scales are not rounded."""
    assert "two dimensions" in Quantisation().run(target_of(nn.LayerNorm(1)), signs(), context).unscored
