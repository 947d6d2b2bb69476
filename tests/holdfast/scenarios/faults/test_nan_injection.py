"""Numbers that are none: models that pass them on, swallow them, and take them for missing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.scenarios.faults.nan_injection import NanInjection
from holdfast.space import Feature, Table


class Swallow(nn.Module):
    """Make every number finite: NaN becomes -7, infinite ones 7 and -7."""

    def forward(self, x):
        return torch.nan_to_num(x, nan=-7.0, posinf=7.0, neginf=-7.0)


class Signs(nn.Module):
    """Logits (-x, x) after two layers of this kind."""

    def __init__(self, kind):
        super().__init__()
        self.one, self.two = kind(), nn.Hardtanh(-7.0, 7.0)

    def forward(self, x):
        x = self.one(x)
        return torch.cat([-x, x], 1)


def target_of(module):
    space = Table(features=(Feature(name="a", kind="number", iqr=1.0),))
    return Target(module, ModelSpec(factory="none:none", space=space, classes=("0", "1")), "digest")


def signs(n=40):
    x = torch.tensor([1.0, -1.0] * (n // 2))[:, None]
    return Samples(x, (x[:, 0] > 0).long(), torch.arange(n), "test", "snap")


def measures(finding):
    return {measure.name: measure.value for measure in finding.measures}


def test_a_model_that_passes_them_on_is_flagged_and_wrong(context):
    """Every answer is not finite: none is right, all are flagged, none is silently wrong."""

    class Pass(nn.Module):
        def forward(self, x):
            return x * 1.0

    finding = NanInjection().run(target_of(Signs(Pass)), signs(), context)
    assert finding.score.value == 0.0
    told = measures(finding)
    assert (told["flagged"], told["silent_wrong"]) == (1.0, 0.0)
    assert "silent_confidence" not in told
    assert not finding.per_example.unpack_flags().any()


def test_a_model_that_swallows_them_is_silently_wrong(context):
    """In the input NaN is answered as -7, and each value is right for half of the points: with all confidence."""
    finding = NanInjection().run(target_of(Signs(Swallow)), signs(), context)
    slices = {name: score.value for name, score in finding.slices.items()}
    assert [slices[f"place=input,value={name}"] for name in ("nan", "inf", "-inf")] == [0.5, 0.5, 0.5]
    assert [slices[f"place=activation,value={name}"] for name in ("nan", "inf", "-inf")] == [0.0, 0.0, 0.0]
    told = measures(finding)
    assert (told["flagged"], told["silent_wrong"]) == (0.5, 0.25)
    assert told["silent_confidence"] > 0.99
    assert finding.score.n == 40


@pytest.mark.parametrize("kind", ["box", "table"])
def test_missing_numbers_of_a_table_are_answered(kind, build, context):
    """A table's encoder takes NaN for missing; an image has no such pixel, and every answer is flagged."""
    target, samples = build(kind)
    finding = NanInjection().run(target, samples, context)
    asked = finding.slices["place=input,value=nan"].value
    assert asked == 0.0 if kind == "box" else asked > 0.5


def test_a_model_without_layers_to_strike_is_unscored(context):
    """One that hands on no number for each row is said to be so."""

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = nn.Identity()

        def forward(self, x):
            return torch.cat([-x, x], 1)

    assert "no layer" in NanInjection().run(target_of(Plain()), signs(), context).unscored
