"""The search over bits against integers of NumPy, a model that two bits turn round, and flips drawn at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.scenarios.faults._integers import coded
from holdfast.scenarios.faults.progressive_bit_search import Flip, ProgressiveBitSearch, Victim, _move
from holdfast.seeding import Noise
from holdfast.space import Feature, Table


def target_of(module, width=1, classes=2):
    features = tuple(Feature(name=f"x{i}", kind="number", iqr=1.0) for i in range(width))
    spec = ModelSpec(factory="none:none", space=Table(features=features), classes=tuple(map(str, range(classes))))
    return Target(module, spec, "digest")


class Cast(nn.Module):
    """Logits W x in the type of the weights."""

    def __init__(self, weight, dtype=torch.float32):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=dtype))

    def forward(self, x):
        return (x.to(self.weight.dtype) @ self.weight.T).to(x.dtype)


def signs(n=30):
    x = torch.tensor([1.0, -1.0] * (n // 2))[:, None]
    return Samples(x, (x[:, 0] > 0).long(), torch.arange(n), "test", "snap")


def test_a_bit_moves_an_integer_as_the_bits_of_int8_do():
    """All 256 integers and all 8 bits, against NumPy's own int8."""
    codes = np.arange(-128, 128, dtype=np.int8)
    for bit in range(8):
        wanted = (codes.view(np.uint8) ^ np.uint8(1 << bit)).view(np.int8).astype(int) - codes.astype(int)
        assert _move(torch.from_numpy(codes.astype(np.int32)), bit).tolist() == wanted.tolist()


def test_integers_are_symmetric_and_within_half_a_step():
    """The largest weight is the largest integer, and none is rounded by more than half a step."""
    weight = Noise(1, ("w",)).normal(torch.arange(50), (7,))
    for bits in (4, 8):
        codes, step = coded(weight, bits)
        assert int(codes.abs().max()) == 2 ** (bits - 1) - 1
        assert float((codes.double() * step - weight).abs().max()) <= step / 2 + 1e-9
    assert coded(torch.zeros(3, 2), 8)[1] == 0.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_two_top_bits_turn_a_sign_round(dtype, context):
    """Weights -1 and 1 are 10000001 and 01111111: with both top bits turned they are +1/127 and -1/127, and all is wrong.

    After the first of the two the other weight still decides; whatever type the weights have.
    """
    target = target_of(Cast([[-1.0], [1.0]], dtype))
    finding = ProgressiveBitSearch(flips=2).run(target, signs(), context)
    assert [point.score.value for point in finding.curves[0].points] == [1.0, 1.0, 0.0]
    assert finding.measures[0].value == 2.0
    assert (finding.score.value, finding.score.n, finding.score.kind) == (0.0, 20, "upper_bound")
    assert [flip["bit"] for flip in finding.details["flips"]] == [7, 7]
    assert sorted(flip["index"] for flip in finding.details["flips"]) == [[0, 0], [1, 0]]
    assert target.module.weight.tolist() == [[-1.0], [1.0]]
    assert target.module.weight._version == 0


def trained(width=8, classes=4):
    """A small network that knows blobs, and fresh rows of them."""
    ids = torch.arange(400)
    labels = ids % classes
    centres = 3.0 * Noise(3, ("centres",)).normal(torch.arange(classes), (width,))
    x = centres[labels] + Noise(3, ("rows",)).normal(ids, (width,))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, classes))
    for _ in range(200):  # by hand: torch's optimisers take seconds to import
        slopes = torch.autograd.grad(F.cross_entropy(module(x[:200]), labels[:200]), list(module.parameters()))
        for parameter, slope in zip(module.parameters(), slopes, strict=True):
            parameter.data.sub_(0.2 * slope)
    rows = Samples(x[200:], labels[200:], ids[200:], "test", "snap")
    return target_of(module, width, classes), rows


def test_ten_bits_chosen_do_what_hundreds_at_random_do_not(context):
    """The search takes a fifth of the points, and twenty times as many bits drawn at random hardly any."""
    target, samples = trained()
    finding = ProgressiveBitSearch(flips=10, search=50).run(target, samples, context)
    assert finding.details["quantised_accuracy"] > 0.97
    assert finding.score.value < 0.8
    losses = [flip["loss"] for flip in finding.details["flips"]]
    assert losses == sorted(losses)
    victim, draws, sizes = Victim(target), Noise(9).numpy(), {"0.weight": 256, "2.weight": 1024, "4.weight": 128}
    for _ in range(200):
        name = draws.choice(list(sizes), p=[size / 1408 for size in sizes.values()])
        victim.flip(Flip(str(name), int(draws.integers(sizes[name])), int(draws.integers(8))))
    accuracy = (victim.copy.predict(samples.x) == samples.y).double().mean()
    assert accuracy > 0.95


def test_the_first_flip_is_the_steepest_of_its_tensor():
    """In one tensor the bit is the one with the largest product of gradient and change, found here one by one."""
    target, samples = trained()
    module = nn.Sequential(nn.Linear(8, 4, bias=False))
    module[0].weight.data.copy_(target.module[0].weight[:4])
    victim = Victim(target_of(module, 8, 4))
    codes, step = coded(module[0].weight, 8)
    weight = (codes * step).requires_grad_()
    slope = torch.autograd.grad(F.cross_entropy(samples.x @ weight.T, samples.y), weight)[0].flatten() * step
    gains = {
        (place, bit): float(slope[place]) * (int(np.uint8(code % 256 ^ 1 << bit).view(np.int8)) - code)
        for place, code in enumerate(codes.flatten().tolist())
        for bit in range(8)
    }
    flip, _ = victim.worst(samples)
    assert (flip.place, flip.bit) == max(gains, key=gains.get)


def test_what_cannot_be_searched_is_unscored(context):
    """No matrices, weights that are not finite, one point, and no gradient: each is said, and is no number."""
    scale = nn.Sequential(nn.LayerNorm(2), nn.Flatten())
    rows = Samples(torch.eye(2), torch.arange(2), torch.arange(2), "test", "snap")
    assert "two dimensions" in ProgressiveBitSearch().run(target_of(scale, 2), rows, context).unscored
    lost = target_of(Cast([[float("nan")], [1.0]]))
    assert "not finite: weight" in ProgressiveBitSearch().run(lost, signs(), context).unscored
    alone = signs().take(torch.arange(1))
    assert "one point" in ProgressiveBitSearch().run(target_of(Cast([[-1.0], [1.0]])), alone, context).unscored

    class Deaf(Cast):
        def forward(self, x):
            return super().forward(x).detach()

    deaf = ProgressiveBitSearch().run(target_of(Deaf([[-1.0], [1.0]])), signs(), context)
    assert "no bit raises the loss" in deaf.unscored
