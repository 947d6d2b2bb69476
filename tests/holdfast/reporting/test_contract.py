"""The report reads what scenarios really store: findings of real runs leave no figure undrawn."""

from __future__ import annotations

import pytest
import torch

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.reporting import render
from holdfast.reporting.confusion import confusions
from holdfast.reporting.curves import curves
from holdfast.reporting.examples import galleries
from holdfast.scenarios.attacks.fgsm import Fgsm
from holdfast.scenarios.attacks.pgd import Pgd
from holdfast.scenarios.base import Context
from holdfast.scenarios.certificates.randomized_smoothing import RandomizedSmoothing
from holdfast.scenarios.corruptions.brightness import Brightness
from holdfast.scorecard import scorecard
from holdfast.seeding import Noise
from holdfast.space import Box, Feature, Table


def _target(space, network, classes, **settings):
    spec = ModelSpec(factory=f"holdfast.networks:{network}", settings=settings, space=space, classes=classes)
    return Target(spec.build(seed=3), spec, "digest")


def _samples(target, x):
    """Rows labelled by the model, its classes centred first: fresh weights give one class to nearly all."""
    last = [module for module in target.module.modules() if isinstance(module, torch.nn.Linear)][-1]
    last.bias.sub_(target.logits(x).median(dim=0).values)
    ids = torch.arange(len(x))
    return Samples(x=x, y=target.predict(x), ids=ids, role="test", snapshot="snap")


@pytest.fixture(scope="module")
def images():
    box = Box(shape=(1, 8, 8), mean=(0.5,), std=(0.25,))
    target = _target(box, "cnn", ("a", "b", "c"), width=4, hidden=8)
    samples = _samples(target, Noise(5, ("rows",)).uniform(torch.arange(40), box.shape))
    context = Context(seed=7)
    asked = {
        "attacks/pgd": Pgd(epsilon=0.3, steps=3), "attacks/fgsm": Fgsm(epsilon=0.3), "attacks/pgd-l2": Pgd(norm="l2", epsilon=3.0, steps=3),
        "certificates/randomized_smoothing": RandomizedSmoothing(points=10, draws=100), "corruptions/brightness": Brightness(),
    }  # fmt: skip
    return tuple(scenario.run(target, samples, context, path) for path, scenario in asked.items())


def test_image_findings_fill_every_figure(example, images):
    """Curves, bracket, both confusions and example images of real attacks are drawn."""
    attacks = [finding for finding in images if finding.path.startswith("attacks/")]
    figures = [*curves(images), *(figure for finding in attacks for figure in confusions(finding))]
    assert [figure.missing for figure in figures if figure.missing] == []
    assert {figure.name.split("-")[1] for figure in figures} >= {
        "budget",
        "bracket",
        "severity",
        "clean",
        "under",
    }
    shown = galleries(attacks)
    assert shown
    assert all(not each.missing and all(example.before for example in each.examples) for each in shown)
    assert len(render(example.example_page(findings=images))) > 100_000


def test_real_attacks_of_one_threat_model_are_joined(images):
    """Flags of two real attacks meet point by point; the L2 attack and the certificate stand apart."""
    found = scorecard(images, "standard", "p").of("defence").families[0]
    flags = {finding.path: finding.per_example.unpack_flags() for finding in images if "attacks/" in finding.path}
    both = flags["attacks/pgd"] & flags["attacks/fgsm"]
    joined = next(member for member in found.members if len(member.paths) == 2)
    assert joined.score.value == pytest.approx(both.mean())
    assert {member.label for member in found.members} == {"linf 0.3: all of 2 attacks", "l2 3: attacks/pgd-l2"}
    assert [member.label for member in found.certificates] == ["certificates/randomized_smoothing"]


def test_rows_of_a_real_attack_are_shown():
    """Features that moved are named with both values."""
    features = [Feature(name=f"f{k}", kind="number", median=0.0, iqr=1.0, std=1.0, mutable=k < 2) for k in range(3)]
    target = _target(Table(features=tuple(features)), "mlp", ("paid", "lost"), width=8)
    x = 0.1 * Noise(5, ("rows",)).normal(torch.arange(60), (3,))
    samples = _samples(target, x)
    finding = Pgd(epsilon=3.0, steps=5).run(target, samples, Context(seed=7))
    (gallery,) = galleries([finding])
    assert not gallery.missing
    assert {cell.feature for cell in gallery.examples[0].cells if cell.moved} <= {"f0", "f1"}
    assert any(cell.moved for cell in gallery.examples[0].cells)
