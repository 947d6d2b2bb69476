"""Auto-PGD visits the very points of the published algorithm, written down a second time for one point."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from holdfast.perturbation import Threat
from holdfast.scenarios.attacks._apgd import checkpoints, climb
from holdfast.scenarios.attacks._batch import Batch
from holdfast.scenarios.attacks.apgd_t import targeted_margin
from holdfast.seeding import Noise

_spec = importlib.util.spec_from_file_location("attack_models", Path(__file__).with_name("conftest.py"))
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)

FREQUENCY = np.linspace(1.0, 9.0, 36)
LIFT = 200.0


class Wavy(torch.nn.Module):
    """Nobody breaks it, and its loss has many summits: steps oscillate and are halved."""

    def forward(self, x):
        flat = x.flatten(1)
        waves = torch.sin(flat * torch.tensor(FREQUENCY)).sum(1) + 0.3 * flat.sum(1)
        return torch.stack([LIFT - waves, torch.zeros_like(waves)], 1)


def value(x):
    return np.sin(x * FREQUENCY).sum() + 0.3 * x.sum()


def slope(x):
    return np.cos(x * FREQUENCY) * FREQUENCY + 0.3


def published(origin, start, epsilon, steps, norm):
    """Algorithm 1 for one point, after the paper: every point visited, and how often the step was halved."""

    def project(x):
        move = x - origin
        if norm == "linf":
            return origin + np.clip(move, -epsilon, epsilon)
        return origin + move * min(1.0, epsilon / np.linalg.norm(move))

    def direction(x):
        return np.sign(slope(x)) if norm == "linf" else slope(x) / np.linalg.norm(slope(x))

    reviews, last = list(checkpoints(steps)), 0
    step, now, before, best = 2 * epsilon, start, start, start
    halved, best_at_review, losses, visited, halvings = True, value(start), [value(start)], [start], 0
    for k in range(steps):
        weight = 1.0 if k == 0 else 0.75
        ahead = project(now + step * direction(now))
        before, now = now, project(now + weight * (ahead - now) + (1 - weight) * (now - before))
        visited.append(now)
        losses.append(value(now))
        if value(now) > value(best):
            best = now
        if k + 1 in reviews:
            rises = sum(losses[i + 1] > losses[i] for i in range(last, k + 1))
            few = rises <= 0.75 * (k + 1 - last)
            stuck = not halved and best_at_review >= value(best)
            halved = few or stuck
            best_at_review, last = value(best), k + 1
            if halved:
                step, now, halvings = step / 2, best, halvings + 1
    return visited, halvings


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_visits_the_points_of_the_published_algorithm(norm):
    """Momentum, checkpoints, halving and the way back to the best point, step by step."""
    steps, epsilon = 60, 0.6 if norm == "linf" else 1.0
    target = models.target_of(Wavy(), models.WIDE, 2)
    x = torch.randn((1, 1, 6, 6), generator=torch.Generator().manual_seed(3)).double()
    batch = Batch(target, Threat(norm=norm, epsilon=epsilon), x, torch.tensor([0]), torch.tensor([5]))
    seen, ask = [], batch.gradient

    def watch(rows, z, loss):
        seen.append(z.clone())
        return ask(rows, z, loss)

    batch.gradient = watch
    climb(batch, torch.tensor([[0, 1]]), targeted_margin, Noise(0), steps)
    assert len(seen) == steps + 1
    assert not batch.broken.any()
    start = seen[0].double().numpy().reshape(-1)
    origin = x.double().numpy().reshape(-1)
    length = np.abs(start - origin).max() if norm == "linf" else np.linalg.norm(start - origin)
    assert length == pytest.approx(epsilon, rel=1e-5)
    visited, halvings = published(origin, start, epsilon, steps, norm)
    assert halvings >= 3
    found = torch.stack(seen).double().numpy().reshape(steps + 1, -1)
    np.testing.assert_allclose(found, np.stack(visited), atol=1e-6)
