"""Dropped tensors of a network whose answers without each of them are known."""

from __future__ import annotations

import pytest
import torch

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.scenarios.faults.dropped_tensors import DroppedTensors
from holdfast.space import Feature, Table

SPEC = ModelSpec(
    factory="holdfast.networks:mlp", settings={"width": 2, "depth": 1},
    space=Table(features=(Feature(name="a", kind="number", median=0.0, iqr=1.0),)), classes=("0", "1"),
)  # fmt: skip


def planted():
    """Class 1 where a > 0, by one hidden unit; every bias is zero but that of class 0, which decides what is alike."""
    module = SPEC.build(seed=1)
    first, last = module[1][0], module[1][2]
    with torch.no_grad():
        for each in (first.weight, first.bias, last.weight, last.bias):
            each.zero_()
        first.weight[0, 0] = 1.0
        last.weight[1, 0] = 10.0
        last.bias[0] = 0.1
    return Target(module, SPEC, "digest")


def signs(n=40):
    x = torch.tensor([1.0, 1.0, 1.0, -1.0] * (n // 4))[:, None]
    return Samples(x, (x[:, 0] > 0).long(), torch.arange(n), "test", "snap")


def test_each_tensor_dropped_does_what_it_must(context):
    """Without either matrix all is class 0; the first bias is zero already; without the last one ties go to class 0."""
    finding = DroppedTensors().run(planted(), signs(), context)
    accuracy = finding.details["accuracy"]
    assert accuracy["1.0.weight=zero"] == accuracy["1.2.weight=zero"] == 0.25
    assert accuracy["1.0.bias=zero"] == accuracy["1.2.bias=zero"] == 1.0
    assert finding.slices["dropped=zero"].value == pytest.approx(0.625)
    assert finding.score.value == pytest.approx(sum(accuracy.values()) / 8)
    assert finding.measures[-1].value >= 75.0
    assert accuracy[f"{finding.details['worst']['tensor']}={finding.details['worst']['dropped']}"] == min(
        accuracy.values()
    )


def test_no_more_tensors_than_asked_and_others_by_another_seed(context):
    """Large models have hundreds: some are drawn, by the seed and not by the rows."""
    asked = DroppedTensors(tensors=2)
    drawn = set()
    for seed in range(8):
        finding = asked.run(planted(), signs(), type(context)(seed=seed))
        names = {name.rpartition("=")[0] for name in finding.details["accuracy"]}
        assert len(names) == 2
        drawn |= names
    assert len(drawn) == 4


def test_a_model_that_cannot_be_built_afresh_is_unscored(context):
    """Initial values come from the factory: without one, or with other tensors, it is said so."""
    target = planted()
    lost = SPEC.model_copy(update={"factory": "nowhere_at_all:build"})
    assert "no initial values" in DroppedTensors().run(Target(target.module, lost, "digest"), signs(), context).unscored
    wider = SPEC.model_copy(update={"settings": {"width": 3, "depth": 1}})
    assert "other tensors" in DroppedTensors().run(Target(target.module, wider, "digest"), signs(), context).unscored
