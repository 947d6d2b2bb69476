"""Gradients from answers alone: the estimate is the gradient, and the steps are the papers'."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from holdfast.perturbation import Threat
from holdfast.scenarios.attacks._batch import Batch
from holdfast.scenarios.attacks.nes import Nes
from holdfast.scenarios.attacks.spsa import Spsa
from holdfast.scenarios.base import Context
from holdfast.seeding import Noise
from holdfast.space import Box
from tests.holdfast.scenarios.attacks.conftest import BOX, Linear, linear, samples_of, target_of

both = pytest.mark.parametrize("kind", [Nes, Spsa])
NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])


def far(seed=0, classes=3):
    """A linear model whose label 0 leads by far, and grey points."""
    w = 0.1 * torch.randn((classes, 64), generator=torch.Generator().manual_seed(seed))
    bias = torch.tensor([9.0, 1.0, -30.0])[:classes]
    target = target_of(Linear(w, bias), BOX, classes)
    x = 0.4 + 0.2 * torch.rand((8, *BOX.shape), generator=torch.Generator().manual_seed(1))
    return target, x, w


@both
def test_the_estimate_is_the_gradient(kind, monkeypatch):
    """Over many directions its error is that of so many draws; its length and its sign are the gradient's."""
    target, x, w = far()
    batch = Batch(target, Threat(epsilon=0.05), x, torch.zeros(8, dtype=torch.int64), torch.arange(8))
    seen, estimate = [], kind.estimate
    monkeypatch.setattr(kind, "estimate", lambda *given: seen.append(estimate(*given)) or seen[-1])
    kind(epsilon=0.05, samples=4000, queries=4001).perturb(batch, Noise(0))
    slope = w[1] - w[0]  # of the lead of the second class
    if kind is Nes:
        slope = slope * target.logits(x).softmax(1)[:, 1:2]
    found = seen[0].flatten(1)
    error = (found - slope).norm(dim=1) / slope.norm(dim=-1)
    assert len(seen) == 1
    assert error.max() < 1.5 * (64 / 2000) ** 0.5
    unit = found / found.norm(dim=1, keepdim=True)
    assert (unit[0] - unit[1]).abs().max() > 1e-3  # each point draws its own


@both
def test_the_estimate_has_the_published_directions_and_reach(kind, monkeypatch):
    """Pairs of opposite rows about the iterate: sign vectors of 0.01, normal draws of 0.001 times the pixels' range."""
    space = Box(shape=(1, 8, 8), high=255.0, mean=(0.5,), std=(0.3,))
    target = target_of(Linear(torch.zeros((2, 64)), torch.tensor([1.0, 0.0])), space, 2)
    x, asked = torch.full((1, 1, 8, 8), 100.0), []
    ask = target.logits
    monkeypatch.setattr(target, "logits", lambda x: asked.append(x.clone()) or ask(x))
    batch = Batch(target, Threat(epsilon=1.0), x, torch.tensor([0]), torch.tensor([3]))
    kind(epsilon=1.0, samples=200, queries=201).perturb(batch, Noise(0))
    moves = torch.cat([a - x for a in asked[:-1]]).flatten(1)
    assert len(moves) == 200
    assert moves.sum(0).abs().max() < 1e-2
    if kind is Spsa:
        torch.testing.assert_close(moves.abs(), torch.full_like(moves, 2.55), atol=1e-4, rtol=0)
    else:
        assert float(moves.std()) == pytest.approx(0.255, rel=0.02)
        assert float(moves.square().square().mean() / moves.square().mean() ** 2) == pytest.approx(3.0, abs=0.2)


@NORMS
@both
def test_steps_are_the_papers(kind, norm, monkeypatch):
    """On given estimates NES goes by steepest steps, SPSA by Adam's; both end at the ball."""
    target, x, _ = far()
    x, epsilon = x[:1], 0.05 if norm == "linf" else 0.4
    slopes = [torch.randn((1, *BOX.shape), generator=torch.Generator().manual_seed(i)) for i in range(12)]
    given, looked = iter(slopes), []
    monkeypatch.setattr(kind, "estimate", lambda self, batch, rows, z, *rest: next(given))
    ask = target.logits
    monkeypatch.setattr(target, "logits", lambda x: looked.append(x.clone()) or ask(x))
    batch = Batch(target, Threat(norm=norm, epsilon=epsilon), x, torch.tensor([0]), torch.tensor([3]))
    kind(norm=norm, epsilon=epsilon, samples=2, queries=36, stride=0.25).perturb(batch, Noise(0))
    origin, z = (x.flatten().double().numpy() for _ in range(2))
    m = v = np.zeros(64)
    for i, (slope, found) in enumerate(zip(slopes, looked, strict=True), 1):
        g = slope.flatten().double().numpy()
        if kind is Nes:
            z = z + 0.25 * epsilon * (np.sign(g) if norm == "linf" else g / np.linalg.norm(g))
        else:
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            rate = 0.25 * epsilon / (1.0 if norm == "linf" else 8.0)
            z = z + rate * (m / (1 - 0.9**i)) / (np.sqrt(v / (1 - 0.999**i)) + 1e-8)
        move = z - origin
        length = np.linalg.norm(move)
        move = np.clip(move, -epsilon, epsilon) if norm == "linf" else move * min(1.0, epsilon / length)
        z = origin + move
        np.testing.assert_allclose(found.flatten(), z, atol=1e-5)


@NORMS
@both
def test_comes_near_the_exact_worst_case(kind, norm):
    """With some hundred queries within a tenth of the closed form, and never past it."""
    space = Box(shape=(1, 6, 6), low=-100.0, high=100.0, mean=(0.0,), std=(1.0,))
    target, w, b = linear(space)
    x = torch.randn((64, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    distance = (x.flatten(1) @ w + b).abs() / (w.abs().sum() if norm == "linf" else w.norm())
    epsilon = float(distance.median())
    reach = {"sigma": 1e-5} if kind is Nes else {"delta": 1e-5}
    attack = kind(norm=norm, epsilon=epsilon, queries=600, samples=40, **reach)
    finding = attack.run(target, samples_of(target, x), Context(seed=0))
    exact = float((distance > epsilon).float().mean())
    assert exact - 1 / 64 <= finding.score.value <= exact + 0.1
