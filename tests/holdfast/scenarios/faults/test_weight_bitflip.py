"""Bit flips against a model of one weight, whose every bit can be judged by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.scenarios.faults.weight_bitflip import CLASSES, Flip, WeightBitflip, _Bench
from holdfast.space import Feature, Table

TABLE = Table(features=(Feature(name="a", kind="number", iqr=1.0),))


class Single(nn.Module):
    """Logits (0, w x): the sign of w is all that matters, as long as it is finite."""

    def __init__(self, dtype=torch.float32, weight=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=dtype))

    def forward(self, x):
        return torch.cat([torch.zeros_like(x), (self.weight * x.to(self.weight.dtype)).to(x.dtype)], 1)


def target_of(module):
    return Target(module, ModelSpec(factory="none:none", space=TABLE, classes=("no", "yes")), "digest")


def signs(n=20):
    x = torch.tensor([1.0, -1.0] * (n // 2))[:, None]
    return Samples(x, (x[:, 0] > 0).long(), torch.arange(n), "test", "snap")


def test_one_weight_of_one_is_judged_bit_by_bit(context):
    """The sign and the top bit of the exponent (which makes 1 infinite) are fatal; the other 30 bits are not."""
    flips = 400
    finding = WeightBitflip(flips=flips).run(target_of(Single()), signs(), context)
    slices = {name: score.value for name, score in finding.slices.items()}
    assert slices["bits=sign"] == 0.0
    assert slices["bits=mantissa"] == 1.0
    assert abs(slices["bits=exponent"] - 7 / 8) < 4 * (7 / 64 / flips) ** 0.5
    assert finding.score.value == pytest.approx((8 * slices["bits=exponent"] + 23) / 32)
    assert finding.score.low < 30 / 32 < finding.score.high
    assert finding.score.n == 3 * flips
    assert finding.measures[0].value == pytest.approx(100.0)
    assert finding.details["worst"]["parameter"] == "weight"
    assert finding.details["worst"]["bit"] in {30, 31}
    assert finding.details["worst"]["accuracy"] == 0.0


@pytest.mark.parametrize(
    ("dtype", "widths"),
    [
        (torch.float64, (1, 11, 52)),
        (torch.float32, (1, 8, 23)),
        (torch.float16, (1, 5, 10)),
        (torch.bfloat16, (1, 8, 7)),
    ],
)
def test_bits_are_classed_as_the_type_lays_them_out(dtype, widths, context):
    """Each flip of each class does to 1.0 what the format says, and is taken back to the bit."""
    module = Single(dtype, 1.5)
    bench = _Bench.build(target_of(module), signs())
    weight = bench.parameters["weight"]
    total = sum(widths)
    assert bench.weights().tolist() == pytest.approx([width / total for width in widths])
    seen = {}

    def watch(_module, _inputs, _outputs):
        seen["value"] = float(weight)

    bench.whole.module[0].register_forward_hook(watch)
    for kind, width in zip(CLASSES, widths, strict=True):
        first, count = bench.bits()[kind]
        assert count == width
        for bit in range(first, first + count):
            bench.answer(Flip(kind, "weight", (), bit))
            ratio = seen["value"] / 1.5
            if kind == "sign":
                assert ratio == -1.0
            elif kind == "mantissa":
                assert 2 / 3 <= ratio < 4 / 3
            else:
                assert not 0.5 < abs(ratio) < 2.0  # a power of two, infinite or not a number
            assert float(weight) == 1.5


def test_a_flip_that_costs_exactly_the_tolerance_is_harmful(context):
    """Losing every point costs 1.0, which a tolerance of 1.0 does not forgive."""
    finding = WeightBitflip(flips=5, tolerance=1.0).run(target_of(Single()), signs(), context)
    assert finding.slices["bits=sign"].value == 0.0


def test_weights_without_influence_cannot_be_harmed(context):
    """A model whose weights are multiplied away survives every flip, and every point is marked as right."""

    class Deaf(Single):
        def forward(self, x):
            return torch.cat([torch.zeros_like(x), x], 1) + 0.0 * self.weight.detach().clamp(-1, 1).nan_to_num()

    finding = WeightBitflip(flips=30).run(target_of(Deaf()), signs(), context)
    assert finding.score.value == 1.0
    assert finding.score.low < 1.0  # ninety flips prove no certainty
    assert finding.per_example.unpack_flags().all()


def test_the_subject_is_never_written_to(context):
    """Not a bit of the subject changes while the copy is hurt."""
    target = target_of(Single())
    version = target.module.weight._version
    WeightBitflip(flips=5).run(target, signs(), context)
    assert target.module.weight._version == version


class Wrapped(nn.Module):
    """Hide a sequence, so that it is one stage."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def entrances(target, samples):
    return len({id(entering) for _, entering in _Bench.build(target, samples).tails})


def test_entering_at_a_later_layer_changes_no_answer(build, context):
    """What is kept between layers saves time and nothing else: one stage or many, the flips and flags agree."""
    target, samples = build("box")
    finding = WeightBitflip(flips=12).run(target, samples, context)
    whole = Target(Wrapped(copy.deepcopy(target.module)), target.spec, "digest")
    slow = WeightBitflip(flips=12).run(whole, samples, context)
    assert slow.score == finding.score
    assert slow.per_example == finding.per_example
    assert slow.details["worst"]["parameter"] == f"inner.{finding.details['worst']['parameter']}"
    assert entrances(whole, samples) == 1
    assert entrances(target, samples) > 5


def test_mixed_types_are_unscored(context):
    """Bits of different layouts have no common strata."""
    module = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 2).double())
    finding = WeightBitflip().run(target_of(module), signs(), context)
    assert "one floating type" in finding.unscored
