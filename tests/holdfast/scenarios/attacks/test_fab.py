"""FAB visits the points of the published algorithm, and reaches the exact distance where that is known."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from holdfast import registry
from holdfast.perturbation import Threat
from holdfast.scenarios.attacks._batch import Batch
from holdfast.scenarios.attacks.base import Attack
from holdfast.scenarios.attacks.fab import Fab
from holdfast.scenarios.attacks.fab_t import FabT
from holdfast.seeding import Noise
from holdfast.space import Box

_spec = importlib.util.spec_from_file_location("attack_models", Path(__file__).with_name("conftest.py"))
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)

NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])
FREQUENCY = np.linspace(1.0, 9.0, 36)
FAR = 1e-6
"""A radius in which nothing breaks: the walk goes on to its end."""


class Wavy(torch.nn.Module):
    """Class 1 leads beyond a curved boundary."""

    def forward(self, x):
        flat = x.flatten(1)
        waves = torch.sin(flat * torch.tensor(FREQUENCY)).sum(1) + 0.3 * flat.sum(1)
        return torch.stack([torch.zeros_like(waves), waves - 4.0], 1)


def lead(x):
    return np.sin(x * FREQUENCY).sum() + 0.3 * x.sum() - 4.0


def slope(x):
    return np.cos(x * FREQUENCY) * FREQUENCY + 0.3


def published(origin, start, norm, steps, alpha_max=0.1, eta=1.05, beta=0.9):
    """Algorithm 1 for one point in the open, after the paper: where it asks for gradients, and where for answers."""

    def onto(point, plane_at):
        w = slope(plane_at)
        rise = -lead(plane_at) - w @ (point - plane_at)
        return rise / np.abs(w).sum() * np.sign(w) if norm == "linf" else rise * w / (w @ w)

    size = (lambda d: np.abs(d).max()) if norm == "linf" else np.linalg.norm
    now, slopes_at, answers_at, crossings = start, [], [], 0
    for _ in range(steps):
        slopes_at.append(now)
        here, home = onto(now, now), onto(origin, now)
        alpha = min(size(here) / (size(here) + size(home)), alpha_max)
        now = (1 - alpha) * (now + eta * here) + alpha * (origin + eta * home)
        answers_at.append(now)
        if lead(now) > 0:
            crossings += 1
            now = (1 - beta) * origin + beta * now
    return slopes_at, answers_at, crossings


def watched(batch, monkeypatch):
    """Note every input that the model is asked about: for gradients, and for answers alone."""
    slopes_at, answers_at = [], []
    target = batch.target

    def note(name, seen):
        ask = getattr(target, name)
        monkeypatch.setattr(target, name, lambda x, *rest: seen.append(x.clone()) or ask(x, *rest))

    for name in ("value_and_gradient", "jacobian"):
        note(name, slopes_at)
    note("logits", answers_at)
    return slopes_at, answers_at


def stack(seen):
    return torch.stack(seen).double().numpy().reshape(len(seen), -1)


@NORMS
@pytest.mark.parametrize("kind", [Fab, FabT])
def test_visits_the_points_of_the_published_algorithm(kind, norm, monkeypatch):
    """Projections from iterate and origin, their mix, the overshoot and the way back, step by step; then a restart."""
    steps = 12
    target = models.target_of(Wavy(), models.WIDE, 2)
    x = 0.3 * torch.randn((1, 1, 6, 6), generator=torch.Generator().manual_seed(2)).double() - 0.2
    batch = Batch(target, Threat(norm=norm, epsilon=FAR), x, torch.tensor([0]), torch.tensor([5]))
    slopes_at, answers_at = watched(batch, monkeypatch)
    kind(norm=norm, epsilon=FAR, steps=steps, restarts=2).perturb(batch, Noise(0))
    assert not batch.broken.any()
    if kind is FabT:
        assert torch.equal(answers_at.pop(0), x)  # to rank the targets
    assert len(slopes_at) == len(answers_at) == 2 * steps
    origin = x.numpy().reshape(-1)
    assert torch.equal(slopes_at[0], x)
    for run in (slice(0, steps), slice(steps, 2 * steps)):
        asked, found = stack(slopes_at[run]), stack(answers_at[run])
        expected, answers, crossings = published(origin, asked[0], norm, steps)
        assert 3 <= crossings < steps
        np.testing.assert_allclose(asked, np.stack(expected), atol=1e-6)
        np.testing.assert_allclose(found, np.stack(answers), atol=1e-6)
    beside = stack(slopes_at)[steps] - origin
    length = np.abs(beside).max() if norm == "linf" else np.linalg.norm(beside)
    assert length == pytest.approx(FAR / 2, rel=1e-4)


@NORMS
@pytest.mark.parametrize("name", ["fab", "fab_t"])
def test_reaches_the_exact_distance_to_a_plane_inside_a_box(name, norm):
    """In the unit box a linear model's nearest row is a programme's optimum: found a little beyond, never before it."""
    space = Box(shape=(1, 2, 3), mean=(0.5,), std=(0.3,))
    target, w, b = models.linear(space, 1)
    x = torch.rand((60, 1, 2, 3), generator=torch.Generator().manual_seed(2))
    samples = models.samples_of(target, x)
    lead = x.flatten(1).double() @ w.double() + b
    best = torch.full((60,), torch.inf).double()
    for i, row in enumerate(x.flatten(1).double()):
        toward = -torch.sign(lead[i]) * w.double()  # from the box's own corner inwards: bisection on the radius
        ends = torch.where(toward > 0, 1.0, 0.0).double()
        low, high = 0.0, 1e3
        for _ in range(80):
            middle = (low + high) / 2
            step = middle * (toward.sign() if norm == "linf" else toward)
            move = torch.where(step > 0, torch.minimum(step, ends - row), torch.maximum(step, ends - row))
            low, high = (middle, high) if float(toward @ move) < float(lead[i].abs()) else (low, middle)
        if high < 999:
            best[i] = move.abs().amax() if norm == "linf" else move.norm()
    crossable = best.isfinite()
    assert 10 < crossable.sum() < 60 or crossable.all()
    every = torch.ones_like(samples.y, dtype=torch.bool)
    for epsilon in best[crossable].quantile(torch.tensor([0.2, 0.5, 0.8]).double()).tolist():
        attack = registry.find("holdfast.scenarios.attacks", name, Attack)(norm=norm, epsilon=epsilon, steps=40)
        robust = attack.strike(target, samples, every, Noise(0)).robust
        assert robust[best > epsilon * (1 + 1e-5)].all()
        assert not robust[best * 1.006 < epsilon].any()


def test_on_grids_it_asks_again_for_what_rounding_took():
    """Where a single number moves in whole steps, the walk reaches the step that crosses, and no earlier one."""
    space = models.TABLE.model_copy(
        update={"features": tuple(f.model_copy(update={"mutable": f.name == "term"}) for f in models.TABLE.features)}
    )

    class Term(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unit = torch.nn.Parameter(torch.tensor(40.0))

        def forward(self, x):
            lead = (x[:, 1].nan_to_num(0.0) - 100.3) / self.unit
            return torch.stack([-lead, lead], 1)

    target = models.target_of(Term(), space, 2)
    x = models.table_rows(90)
    x[:, 1] = torch.arange(60.0, 150.0)
    samples = models.samples_of(target, x)
    every = torch.ones_like(samples.y, dtype=torch.bool)
    steps = torch.where(x[:, 1] > 100.3, x[:, 1] - 100, 101 - x[:, 1])
    for kind in (Fab, FabT):
        robust = kind(epsilon=10.5 / 40, steps=60).strike(target, samples, every, Noise(0)).robust
        assert torch.equal(robust, steps > 10)


@NORMS
@pytest.mark.parametrize("kind", [Fab, FabT])
def test_only_inputs_that_exist_are_asked_about(kind, norm, images, monkeypatch):
    """However far outside the radius the walk goes, its overshoot included, every row is an image."""
    target, samples = images
    batch = Batch(target, Threat(norm=norm, epsilon=FAR), samples.x, samples.y, samples.ids)
    slopes_at, answers_at = watched(batch, monkeypatch)
    kind(norm=norm, epsilon=FAR, steps=8, restarts=2).perturb(batch, Noise(0))
    asked = torch.cat(slopes_at + answers_at)
    assert ((asked >= 0) & (asked <= 1)).all()
    assert ((asked == 0) | (asked == 1)).any()


def test_what_breaks_outside_the_radius_is_not_booked(images):
    """A larger radius only adds broken points, and each lies within its own radius."""
    target, samples = images
    every = torch.ones_like(samples.y, dtype=torch.bool)
    held = []
    for epsilon in (0.01, 0.02, 0.04, 0.4):
        strike = FabT(epsilon=epsilon, steps=20).strike(target, samples, every, Noise(0))
        moved = (strike.adversarial - samples.x).flatten(1).abs().amax(1)
        assert (moved <= epsilon * (1 + 1e-5)).all()
        held.append(strike.robust)
    assert all(not (after & ~before).any() for before, after in itertools.pairwise(held))
    assert held[0].sum() > held[1].sum() > held[2].sum() > held[3].sum() == 0
