"""Momentum: every row that is asked about is the published algorithm's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from holdfast.perturbation import Threat
from holdfast.scenarios.attacks._batch import Batch
from holdfast.scenarios.attacks.mi_fgsm import MiFgsm
from holdfast.seeding import Noise
from tests.holdfast.scenarios.attacks.conftest import WIDE, target_of


class Wavy(torch.nn.Module):
    """A label that leads by far, on a loss whose gradient turns with every step."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.linspace(-3.0, 3.0, 36))

    def forward(self, x):
        lead = 9.0 + torch.sin(x.flatten(1) * self.w).sum(1) / 8
        return torch.stack([lead, torch.zeros_like(lead)], 1)


def slopes(w, x):
    """Gradient of the cross-entropy of label 0, by hand."""
    lead = 9.0 + np.sin(x * w).sum() / 8
    return -(1.0 / (1.0 + np.exp(lead))) * np.cos(x * w) * w / 8


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_asks_about_the_rows_of_the_published_algorithm(norm, monkeypatch):
    """Gradients of L1 length 1 summed with the decay; a step of epsilon / steps along the sum, ends of the ball kept."""
    target, epsilon, steps = target_of(Wavy().double(), WIDE, 2), 1.5, 6
    x = torch.randn((1, 1, 6, 6), generator=torch.Generator().manual_seed(2)).double()
    batch, seen = Batch(target, Threat(norm=norm, epsilon=epsilon), x, torch.tensor([0]), torch.tensor([5])), []
    ask = target.value_and_gradient
    monkeypatch.setattr(target, "value_and_gradient", lambda x, loss: seen.append(x.clone()) or ask(x, loss))
    MiFgsm(norm=norm, epsilon=epsilon, steps=steps, decay=0.8).perturb(batch, Noise(0))
    w, origin = target.module.w.detach().double().numpy(), x.numpy().reshape(-1)
    z, total, expected = origin, np.zeros(36), []
    for _ in range(steps):
        expected.append(z)
        slope = slopes(w, z)
        total = 0.8 * total + slope / np.abs(slope).sum()
        z = z + epsilon / steps * (np.sign(total) if norm == "linf" else total / np.linalg.norm(total))
    assert len(seen) == steps
    np.testing.assert_allclose(torch.cat(seen).reshape(steps, -1), np.stack(expected), atol=1e-6)
    np.testing.assert_allclose(batch.adversarial.reshape(-1), z, atol=1e-6)
