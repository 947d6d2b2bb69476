"""Carlini and Wagner's L2 attack finds the exact distance to a plane, and what the reference finds on a network."""

from __future__ import annotations

import pytest
import torch

from holdfast.scenarios.attacks.carlini_wagner_l2 import CarliniWagnerL2
from holdfast.scenarios.base import Context
from holdfast.seeding import Noise
from holdfast.space import Box
from tests.holdfast.scenarios.attacks.conftest import Walked, linear, samples_of


def nearest(attack, target, samples):
    """Distance (n,) of the nearest row across that the attack asks about."""
    batch = Walked(target, samples, "l2")
    attack.perturb(batch, Noise(0))
    return batch.distance


def test_the_distance_found_is_the_exact_one():
    """To a plane within the image it is |w . x + b| / |w|: never less, and one per cent more at most; in any unit."""
    width = 255.0
    space = Box(shape=(1, 4, 4), high=width, mean=(0.5,), std=(0.3,))
    target, w, b = linear(space)
    target.module.weight.data /= width
    x = width * (0.3 + 0.4 * torch.rand((40, 1, 4, 4), generator=torch.Generator().manual_seed(0)))
    samples = samples_of(target, x)
    exact = width * (x.flatten(1) @ (w / width) + b).abs() / w.norm()
    found = nearest(CarliniWagnerL2(steps=150), target, samples) / exact
    assert found.min() > 1 - 1e-4
    assert found.max() < 1.01


def test_a_weight_that_is_too_small_or_too_large_is_mended_by_the_search():
    """With one weight only, a small one never comes across and a large one goes too far; nine find the distance."""
    space = Box(shape=(1, 4, 4), mean=(0.5,), std=(0.3,))
    target, w, b = linear(space)
    x = 0.3 + 0.4 * torch.rand((40, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    samples = samples_of(target, x)
    exact = (x.flatten(1) @ w + b).abs() / w.norm()
    assert nearest(CarliniWagnerL2(steps=100, searches=1, weight=1e-4), target, samples).isinf().all()
    coarse = nearest(CarliniWagnerL2(steps=60, searches=1, weight=30.0), target, samples) / exact
    fine = nearest(CarliniWagnerL2(steps=60, searches=9, weight=30.0), target, samples) / exact
    assert fine.median() < coarse.median() - 0.02


def test_finds_the_distances_that_the_reference_finds(build):
    """On a small network every distance is that of foolbox's attack with the same settings, by a thousandth."""
    attacks, models = pytest.importorskip("foolbox.attacks"), pytest.importorskip("foolbox.models.pytorch")
    target, samples = build("box")
    right = torch.nonzero(target.predict(samples.x) == samples.y).flatten()
    samples = samples.take(right)
    mine = nearest(CarliniWagnerL2(steps=60, searches=5), target, samples)
    theirs = attacks.L2CarliniWagnerAttack(binary_search_steps=5, steps=60, abort_early=False)
    model = models.PyTorchModel(target.module, bounds=(0.0, 1.0), device="cpu")
    rows, _, _ = theirs(model, samples.x, samples.y, epsilons=None)
    length = (rows - samples.x).flatten(1).double().norm(dim=1)
    found = rows.flatten(1).any(1)  # where it finds nothing it gives a black image
    both = found & mine.isfinite()
    assert torch.equal(found, mine.isfinite())
    assert both.sum() > 0.9 * len(samples)
    torch.testing.assert_close(mine[both], length[both], rtol=1e-3, atol=1e-5)


def test_a_pixel_at_the_bounds_can_leave_them():
    """Black and white pixels move inwards, though there the change of variables is nearly flat."""
    target, w, _ = linear(Box(shape=(1, 4, 4), mean=(0.5,), std=(0.3,)))
    x = (w < 0).float().reshape(1, 1, 4, 4)  # the corner that is furthest in the label's favour
    finding = CarliniWagnerL2(epsilon=4.0, steps=100, rate=0.1).run(target, samples_of(target, x), Context(seed=0))
    assert finding.score.value == 0.0
