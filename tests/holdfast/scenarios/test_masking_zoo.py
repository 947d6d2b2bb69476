"""The masking zoo: fake defences look robust and are convicted by the validity record; honest models are acquitted."""

from __future__ import annotations

import copy
import importlib.util
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from holdfast.scenarios.attacks.apgd_ce import ApgdCe
from holdfast.scenarios.attacks.apgd_t import ApgdT
from holdfast.scenarios.attacks.pgd import Pgd
from holdfast.scenarios.attacks.square import Square
from holdfast.scenarios.base import Context
from holdfast.scenarios.cross_checks import with_family_checks
from holdfast.space import Box

_spec = importlib.util.spec_from_file_location("attack_models", Path(__file__).parent / "attacks" / "conftest.py")
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)

EPSILON, ASKED = 0.15, 200
SPACE = Box(shape=(1, 8, 8), mean=(0.3,), std=(0.38,))
ATTACKS = (
    Pgd(epsilon=EPSILON), ApgdCe(epsilon=EPSILON, steps=30), ApgdT(epsilon=EPSILON, steps=30, targets=4),
    Square(epsilon=EPSILON, queries=400),
)  # fmt: skip


@cache
def digits():
    """Training rows and those that are attacked: x (n, 1, 8, 8) in [0, 1], y (n,)."""
    found = load_digits()
    x = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16.0
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], torch.tensor(found.target)[order]
    return x[ASKED:], y[ASKED:], x[:ASKED], y[:ASKED]


def convolutional(activation=nn.ReLU, *, norm=False, pool=None, dropout=0.0):
    layers = [nn.Conv2d(1, 16, 3, padding=1), *([nn.BatchNorm2d(16)] if norm else []), activation()]
    layers += [pool(2) if pool else nn.Conv2d(16, 16, 2, stride=2), nn.Flatten(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(16 * 16, 64), activation(), nn.Linear(64, 10))


def flat(*widths):
    sizes = (64, *widths)
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], 10))


def trained(network, *, hardened=False, epochs=12):
    """Train a network on the digits, as drawn by torch's own generator under seed 0; hardened by PGD-5."""
    x, y, _, _ = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for layer in network.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(64):
                given = climbed(network, x[rows], y[rows]) if hardened else x[rows]
                optimiser.zero_grad()
                F.cross_entropy(network(given), y[rows]).backward()
                optimiser.step()
    return network.eval()


def climbed(network, x, y):
    z = x
    for _ in range(5):
        z = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(network(z), y), z)
        z = (z + 0.25 * EPSILON * slope.sign()).clamp(x - EPSILON, x + EPSILON).clamp(0, 1)
    return z.detach()


@cache
def honest_network():
    return trained(convolutional())


class Shattered(nn.Module):
    """A ripple that moves no pixel by a hundredth, and turns the gradient at every step."""

    def __init__(self):
        super().__init__()
        self.net = copy.deepcopy(honest_network())

    def forward(self, x):
        return self.net(x + 0.008 * torch.sin(2000.0 * x))


class Behind(nn.Module):
    """An honest network behind something at its input, its output or both."""

    def __init__(self, before=None, after=None, net=None):
        super().__init__()
        self.net = copy.deepcopy(net or honest_network())
        self.before, self.after = before or nn.Identity(), after or nn.Identity()

    def forward(self, x):
        return self.after(self.net(self.before(x)))


class Part(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Stubborn(nn.Module):
    """Dropout that eval() does not reach."""

    def forward(self, x):
        return F.dropout(x, 0.3, training=True)


class Training(nn.Module):
    """A network that goes back to training mode as often as it is told to rest."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Dropout(0.3), copy.deepcopy(honest_network()))

    def train(self, mode=True):
        return super().train(mode=True)

    def forward(self, x):
        return self.net(x)


class Counting(nn.Module):
    """Logits that depend on how often it was asked."""

    def __init__(self):
        super().__init__()
        self.net, self.asked = copy.deepcopy(honest_network()), 0

    def forward(self, x):
        self.asked += 1
        return self.net(x) + 0.5 * (self.asked % 3) * torch.sin(torch.arange(10.0) * self.asked)


def noisy(x):
    return (x + 0.1 * torch.randn(x.shape)).clamp(0, 1)


def thermometer(x):
    """Ten levels of each pixel as ones and zeros, read back as their mean."""
    levels = torch.arange(10) / 10.0
    return (x[..., None] > levels).float().mean(-1)


FAKES = {
    "gradient shattering": Shattered,
    "saturation": lambda: Behind(after=Part(lambda z: 40.0 * torch.tanh(1e3 * z))),
    "randomisation": lambda: Behind(before=Part(noisy)),
    "train mode": Training,
    "softmax twice": lambda: Behind(after=nn.Softmax(1)),
    "thermometer code": lambda: Behind(before=Part(thermometer)),
    "non-deterministic forward": Counting,
    "dropout that eval does not reach": lambda: Behind(before=Stubborn()),
    "detached graph": lambda: Behind(before=Part(lambda x: x.detach())),
    "rounding": lambda: Behind(before=Part(lambda x: torch.round(8.0 * x) / 8.0)),
}
HONEST = {
    "linear": lambda: trained(flat()),
    "one hidden layer": lambda: trained(flat(64)),
    "three hidden layers": lambda: trained(flat(64, 64, 64)),
    "convolutional": lambda: copy.deepcopy(honest_network()),
    "batch normalisation": lambda: trained(convolutional(norm=True)),
    "max pooling": lambda: trained(convolutional(pool=nn.MaxPool2d)),
    "smooth activations": lambda: trained(convolutional(nn.GELU)),
    "bounded activations": lambda: trained(convolutional(nn.Tanh)),
    "dropout in training": lambda: trained(convolutional(dropout=0.3)),
    "adversarially trained": lambda: trained(convolutional(), hardened=True),
}


def findings(module, x=None):
    """Put a module through three attacks, and hold these against each other."""
    _, _, asked, y = digits()
    target = models.target_of(module, SPACE, 10)
    samples = models.samples_of(target, asked if x is None else x, y)
    return with_family_checks(attack.run(target, samples, Context(seed=0)) for attack in ATTACKS)


def convictions(found):
    return {check.name.split("[")[0] for f in found for check in f.checks if check.status == "failed"}


def some(names, *quick):
    """Mark all but a few as slow."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("fake", some(FAKES, "thermometer code", "detached graph", "train mode"))
def test_a_fake_defence_is_convicted(fake):
    """Whatever robust accuracy it shows, the record says that it is not to be trusted."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = findings(FAKES[fake]())
    assert convictions(found), [f.score.value for f in found]


def test_bounds_that_are_not_the_datas_are_convicted():
    """Pixels of 0 to 16 in a space of 0 to 1: the budget is a sixteenth of what it says."""
    _, _, asked, _ = digits()
    assert "data_spans_bounds" in convictions(findings(Behind(before=Part(lambda x: x / 16.0)), 16.0 * asked))


@pytest.mark.parametrize("honest", some(HONEST, "linear", "convolutional"))
def test_an_honest_model_is_acquitted(honest):
    """What it holds, it holds: every check passes or does not apply."""
    found = findings(HONEST[honest]())
    assert not convictions(found), [c for f in found for c in f.checks if c.status == "failed"]
    assert all(f.score is not None for f in found)
