"""Flipped activations: the bits against struct, where they strike, and a layer whose every bit can be judged by hand."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from torch import nn

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.scenarios.faults._bits import flipped, width
from holdfast.scenarios.faults._taps import Tapped
from holdfast.scenarios.faults.activation_bitflip import ActivationBitflip, _Draw, _sites
from holdfast.seeding import Noise
from holdfast.space import Feature, Table


def target_of(module, width=1):
    features = tuple(Feature(name=f"x{i}", kind="number", iqr=1.0) for i in range(width))
    return Target(module, ModelSpec(factory="none:none", space=Table(features=features), classes=("0", "1")), "digest")


def signs(n=40):
    x = torch.tensor([1.0, -1.0] * (n // 2))[:, None]
    return Samples(x, (x[:, 0] > 0).long(), torch.arange(n), "test", "snap")


@pytest.mark.parametrize(
    ("dtype", "form", "integer"),
    [
        (torch.float64, "<d", "<Q"),
        (torch.float32, "<f", "<I"),
        (torch.float16, "<e", "<H"),
        (torch.bfloat16, None, None),
    ],
)
def test_bits_turn_over_as_in_memory(dtype, form, integer):
    """Every bit of some numbers of every type, against struct; bfloat16 is the upper half of float32."""
    for value in (1.5, -0.375, 0.0, 1000.0):
        for bit in range(width(dtype)):
            got = flipped(torch.tensor([value], dtype=dtype), torch.tensor([bit]))
            if form is None:
                (word,) = struct.unpack("<I", struct.pack("<f", value))
                (wanted,) = struct.unpack("<f", struct.pack("<I", word ^ 1 << (bit + 16)))
            else:
                (word,) = struct.unpack(integer, struct.pack(form, value))
                (wanted,) = struct.unpack(form, struct.pack(integer, word ^ 1 << bit))
            assert np.array_equal(got.double().numpy(), [wanted], equal_nan=True)


class Pair(nn.Module):
    """Logits (0, x) by one layer without parts, in a type of one's own."""

    def __init__(self, dtype):
        super().__init__()
        self.kind = dtype
        self.last = nn.Identity()
        self.scale = Scale()

    def forward(self, x):
        middle = self.scale(x.to(self.kind)).float()
        return torch.cat([torch.zeros_like(middle), self.last(middle)], 1)


class Scale(nn.Module):
    def forward(self, x):
        return x * 1.0


@pytest.mark.parametrize(
    ("dtype", "fatal", "bits"),
    [(torch.float32, 2, 32), (torch.bfloat16, 2, 16), (torch.float64, 3, 64), (torch.float16, 2, 16)],
)
def test_a_layer_that_hands_on_one_is_judged_bit_by_bit(dtype, fatal, bits, context):
    """Of +1 and -1 the sign and the top bit of the exponent (which makes 1 infinite) are fatal, and no other bit.

    A float64 that lost 2^256 or more is nothing in float32: that is half of the points by each of two more bits.
    """
    finding = ActivationBitflip(flips=64).run(target_of(Pair(dtype)), signs(), context)
    assert finding.score.low < 1 - fatal / bits < finding.score.high
    slices = {name: score.value for name, score in finding.slices.items()}
    assert (slices["bits=sign"], slices["bits=mantissa"]) == (0.0, 1.0)
    assert 0.0 < slices["bits=exponent"] < 1.0
    assert finding.details["layers"] == 1  # what hands on what it was given is none
    assert finding.score.n == 40


def test_one_number_of_each_row_is_struck(build):
    """In a forward pass each row has one number, in one layer, of which one bit differs."""
    target, samples = build("box")
    tapped = Tapped(target, samples)
    names = [site.layer for site in tapped.sites]
    assert names[0] == "0"  # what standardises pixels
    assert "1.9" not in names  # what flattens
    assert len(names) == 13
    draw, differing = _Draw(tapped.sites, _sites(tapped)), torch.zeros(64, dtype=torch.int64)

    def plan(ids):
        strike = draw.strike(ids, Noise(1, ("flip",)))

        def compare(i, output):
            before = output.clone()
            differing.add_((strike(i, output).view(torch.int32) != before.view(torch.int32)).flatten(1).sum(1))
            assert same(output, before)
            return output

        return compare

    def same(new, old):
        return new.numpy().tobytes() == old.numpy().tobytes()

    assert torch.equal(tapped.predict(samples.x, samples.ids, plan), target.predict(samples.x))
    assert (differing == 1).all()


def test_a_model_that_is_always_wrong_is_unscored(context):
    """There is no right answer to spoil; the flags of a paired comparison are there all the same."""
    samples = signs()
    wrong = Samples(samples.x, 1 - samples.y, samples.ids, "test", "snap")
    finding = ActivationBitflip(flips=2).run(target_of(Pair(torch.float32)), wrong, context)
    assert "right without a flip" in finding.unscored
    assert not finding.per_example.unpack_flags().any()


def test_a_layer_called_twice_is_struck_at_either_call(context):
    """Shared layers are sites as often as they are called."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = Scale()

        def forward(self, x):
            return torch.cat([-self.scale(x), self.scale(x)], 1)

    tapped = Tapped(target_of(Twice()), signs())
    assert [(site.layer, site.call) for site in tapped.sites] == [("scale", 0), ("scale", 1)]
    finding = ActivationBitflip(flips=40).run(target_of(Twice()), signs(), context)
    assert {"layer=scale", "layer=scale#1"} <= set(finding.slices)


def test_a_model_without_such_layers_is_unscored(context):
    """Tuples, and tensors that are not by row, cannot be struck."""

    class Both(nn.Module):
        def forward(self, x):
            return x, x

    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.both = Both()

        def forward(self, x):
            return torch.cat([-x, self.both(x)[0]], 1)

    assert "no layer" in ActivationBitflip().run(target_of(Hidden()), signs(), context).unscored
