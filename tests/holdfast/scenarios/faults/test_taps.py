"""What all faults of hardware keep: the model that they are told of, also where it breaks under them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.registry import available, find
from holdfast.scenarios.base import Scenario
from holdfast.scenarios.faults._taps import Tapped
from holdfast.space import Feature, Table

PACKAGE = "holdfast.scenarios.faults"
SPEC = ModelSpec(
    factory="holdfast.networks:mlp", settings={"width": 16},
    space=Table(features=(Feature(name="a", kind="number", iqr=1.0),)), classes=("0", "1"),
)  # fmt: skip


class Brittle(nn.Module):
    """Break after some rows were asked; what was asked is counted over all copies."""

    asked = 0
    last = 10_000

    def forward(self, x):
        Brittle.asked += 1
        if Brittle.asked > Brittle.last:
            msg = "broken on purpose"
            raise RuntimeError(msg)
        return x * 1.0


def rows(n=30):
    x = torch.linspace(-3.0, 3.0, n)[:, None]
    return Samples(x, (x[:, 0] > 0).long(), torch.arange(n), "test", "snap")


@pytest.mark.parametrize("name", [name for name in available(PACKAGE) if name != "weight_bitflip"])
@pytest.mark.parametrize("last", [1, 3])
def test_a_model_that_breaks_under_a_fault_comes_back_untouched(name, last, context, monkeypatch):
    """Weights, hooks and gradients are as they were, wherever the error came."""
    built = SPEC.build(seed=2)
    target = Target(nn.Sequential(built[0], nn.Sequential(*built[1], Brittle())), SPEC, "digest")
    before = {key: value.clone() for key, value in target.module.state_dict().items()}
    monkeypatch.setattr(Brittle, "asked", 0)
    monkeypatch.setattr(Brittle, "last", last)
    with pytest.raises(RuntimeError, match="on purpose"):
        find(PACKAGE, name, Scenario)().run(target, rows(), context)
    assert all(torch.equal(value, before[key]) for key, value in target.module.state_dict().items())
    assert not any(each._forward_hooks for each in target.module.modules())
    assert not any(each.requires_grad or each.grad is not None for each in target.module.parameters())


def test_a_tapped_copy_answers_as_the_model_and_knows_its_padding(build):
    """Nothing struck is nothing changed; a micro-batch that is padded is told the first row's id for the padding."""
    target, samples = build("box")
    tapped, told = Tapped(target, samples), []

    def plan(ids):
        told.append(ids)
        return lambda _, output: output

    assert torch.equal(tapped.logits(samples.x, samples.ids, plan), target.logits(samples.x))
    assert torch.equal(told[0][: len(samples)], samples.ids)
    assert (told[0][len(samples) :] == samples.ids[0]).all()
    assert len(told[0]) == target.space.micro_batch
