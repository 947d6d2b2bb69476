"""Attacks of other libraries: counted by our rules, one point at a time, and refused by name before any work."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from holdfast.scenarios.attacks import _outside
from holdfast.scenarios.attacks.art import Art
from holdfast.scenarios.attacks.foolbox import Foolbox
from holdfast.scenarios.attacks.pgd import Pgd
from holdfast.scenarios.attacks.torchattacks import Torchattacks
from holdfast.scenarios.base import Context
from holdfast.scenarios.cross_checks import with_family_checks

EPSILON = 0.1
LIBRARIES = [
    (Torchattacks, {"attack": "PGD", "options": {"alpha": 0.025, "steps": 20}}),
    (Foolbox, {"attack": "LinfPGD", "options": {"steps": 20}}),
    (Art, {"attack": "ProjectedGradientDescentPyTorch", "options": {"max_iter": 20, "eps_step": 0.025}}),
]
each = pytest.mark.parametrize(("kind", "asked"), LIBRARIES, ids=lambda value: getattr(value, "__name__", ""))


@each
def test_what_it_breaks_is_what_our_own_attack_of_the_name_breaks(kind, asked, build):
    """The same steps in the same ball leave as many points, but for what the random starts do."""
    target, samples = build("box")
    theirs = kind(epsilon=EPSILON, **asked).run(target, samples, Context(seed=7))
    ours = Pgd(epsilon=EPSILON, steps=20).run(target, samples, Context(seed=7))
    assert ours.score.value < ours.measures[0].value  # some fall
    assert abs(theirs.score.value - ours.score.value) <= 2 / len(samples)
    assert theirs.score.kind == "upper_bound"
    assert theirs.cost.forwards >= 20 * theirs.details["attacked"]
    assert theirs.cost.backwards >= 19 * theirs.details["attacked"]


@each
def test_a_ball_of_another_width_is_told_to_the_library(kind, asked, build):
    """The radius is of the space and not of [0, 1]: pixels of 0 to 255 are attacked as far."""
    target, samples = build("box")
    some = samples.take(torch.arange(8))
    module = target.module
    target.module = torch.nn.Sequential(Shrunk(255.0), module)
    target.space = target.space.model_copy(update={"low": 0.0, "high": 255.0})
    target.spec = target.spec.model_copy(update={"space": target.space})
    large = some.take(torch.arange(8))
    large = type(some)(x=some.x * 255, y=some.y, ids=some.ids, role="test", snapshot="snap", time=some.time)
    wide = kind(epsilon=255 * EPSILON, **asked).run(target, large, Context(seed=7)).per_example.unpack_flags()
    target.module, target.space = module, target.space.model_copy(update={"low": 0.0, "high": 1.0})
    target.spec = target.spec.model_copy(update={"space": target.space})
    small = kind(epsilon=EPSILON, **asked).run(target, some, Context(seed=7)).per_example.unpack_flags()
    assert (wide == small).all()


class Shrunk(torch.nn.Module):
    """Divide by a number."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return x / self.by


@each
def test_the_generators_and_the_model_come_back_as_they_were(kind, asked, build):
    """These libraries draw from the process's generators, and some switch modes and clear gradients."""
    target, samples = build("box")
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002  theirs
    weights = [p.clone() for p in target.module.parameters()]
    kind(epsilon=EPSILON, **asked).run(target, samples.take(torch.arange(4)), Context(seed=7))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002  as above
    assert before[2] == random.getstate()
    assert all(torch.equal(a, b) for a, b in zip(weights, target.module.parameters(), strict=True))
    assert not any(p.requires_grad for p in target.module.parameters())
    assert not any(module.training for module in target.module.modules())


@pytest.mark.parametrize(
    ("kind", "asked", "words"),
    [
        (Foolbox, {"attack": "LinfPgd"}, "has no attack LinfPgd; it has: .*LinfPGD"),
        (Torchattacks, {"attack": "os"}, "has no attack os"),
        (Art, {"attack": "EvasionAttack2"}, "has no attack"),
        (
            Torchattacks,
            {"attack": "PGD", "options": {"stepps": 3}},
            "takes no stepps; it takes: alpha, random_start, steps",
        ),
        (Art, {"attack": "LaserAttack"}, "LaserAttack needs iterations, laser_generator"),
        (Foolbox, {"attack": "LinfPGD", "options": {"epsilons": 3}}, "is what epsilon and norm of this scenario say"),
    ],
)
def test_a_wrong_name_is_refused_before_any_work(kind, asked, words):
    """With what there is instead."""
    with pytest.raises(ValidationError, match=words):
        kind(**asked)


@each
def test_a_library_that_is_not_there_is_refused_with_how_to_get_it(kind, asked, monkeypatch):
    """At once, and not as an attack that breaks nothing."""

    def gone(_):
        raise _outside.PackageNotFoundError

    monkeypatch.setattr(_outside, "version", gone)
    with pytest.raises(ValidationError, match=f"{kind.package} is not installed: pip install"):
        kind(**asked)


def test_another_version_of_the_library_is_another_question(build, monkeypatch):
    """What is kept of one says nothing of the other."""
    target, samples = build("box")
    some, attack = samples.take(torch.arange(2)), Foolbox(attack="LinfFastGradientAttack")
    first = attack.run(target, some, Context(seed=7)).key
    monkeypatch.setattr(_outside, "version", lambda _: "0.0.1")
    assert attack.run(target, some, Context(seed=7)).key != first


def test_an_attack_that_keeps_no_radius_is_brought_back_into_the_ball(build):
    """DeepFool looks for the nearest row, however far: only what lies in the ball counts."""
    target, samples = build("box")
    near = Torchattacks(epsilon=0.0, attack="DeepFool").run(target, samples, Context(seed=7))
    assert near.score.value == near.measures[0].value  # none broken
    far = Torchattacks(epsilon=1.0, attack="DeepFool").run(target, samples, Context(seed=7))
    assert far.score.value < near.score.value


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        (
            Art,
            {"attack": "HopSkipJump", "options": {"max_iter": 1, "max_eval": 20, "init_eval": 10}},
        ),  # hands over doubles
        (Foolbox, {"attack": "GaussianBlurAttack", "norm": "l2"}),  # has no norm of its own
    ],
)
def test_attacks_of_other_habits_run(kind, asked, build):
    """What they want to be told, or hand over, is seen to."""
    target, samples = build("box")
    assert kind(epsilon=0.5, **asked).run(target, samples.take(torch.arange(3)), Context(seed=7)).score.n == 3


def test_it_convicts_no_gradients(build):
    """Nobody says whether it follows gradients: where it breaks more, that is no sign that they are masked."""
    target, samples = build("box")
    weak = Pgd(epsilon=EPSILON, steps=1).run(target, samples, Context(seed=7))
    strong = Foolbox(epsilon=EPSILON, attack="LinfPGD", options={"steps": 40}).run(target, samples, Context(seed=7))
    checked, _ = with_family_checks((weak, strong))
    assert {c.status for c in checked.checks if c.name.startswith("masking")} <= {"not_applicable"}
    assert strong.details["access"] == "outside"
