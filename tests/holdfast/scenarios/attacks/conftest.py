"""Tiny models and points whose robustness is known, or cheap to find."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.networks import TableEncoder
from holdfast.perturbation import Threat
from holdfast.scenarios.attacks._batch import Batch, fooled
from holdfast.scenarios.base import Context
from holdfast.space import Box, Feature, Relation, Table

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other

BOX = Box(shape=(1, 8, 8), mean=(0.5,), std=(0.3,))
WIDE = Box(shape=(1, 6, 6), low=-100.0, high=100.0, mean=(0.0,), std=(1.0,))


def randomise(module, seed=0, size=0.3):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * size
    return module


def target_of(module, space, classes):
    spec = ModelSpec(factory="holdfast.networks:mlp", space=space, classes=tuple(map(str, range(classes))))
    return Target(module, spec, "subject")


def samples_of(target, x, y=None, role="test"):
    """Rows with scattered ids, labelled by the model itself unless labels are given."""
    labels = target.predict(x) if y is None else y
    ids = torch.arange(len(x)) * 7919 + 13
    return Samples(x, labels, ids, role, "snapshot")


class Bench:
    """A workshop in which training gives a model that is like another one, weights moved by some noise."""

    recipe, train, digest = SimpleNamespace(epochs=1), None, "bench"

    def __init__(self, target, size):
        self.target, self.size = target, size

    def fit(self, train, *, seed, epochs=None):
        module, generator = copy.deepcopy(self.target.module), torch.Generator().manual_seed(seed)
        for parameter in module.parameters():
            parameter.data += self.size * torch.randn(parameter.shape, generator=generator)
        return Target(module, self.target.spec, "surrogate")


def knowing(target, size=0.01):
    """Seed 3, and an attacker who can train a model like this one."""
    return Context(seed=3, workshop=Bench(target, size))


class Walked(Batch):
    """Points that nothing breaks, for the radius is 0; it notes how near the nearest row across was."""

    def __init__(self, target, samples, norm):
        super().__init__(target, Threat(norm=norm, epsilon=0.0), samples.x, samples.y, samples.ids)
        self.distance = torch.full(samples.y.shape, torch.inf).double()

    def _book_inside(self, rows, x, logits, **rest):
        super()._book_inside(rows, x, logits, **rest)
        found = self.threat.distance(x, self.x[rows], self.space).double()
        found = torch.where(fooled(logits, self.y[rows]), found, torch.inf)
        self.distance = self.distance.scatter_reduce(0, rows, found, "amin")


class Linear(nn.Module):
    """Two or more classes, logits W x + b."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x):
        return x.flatten(1) @ self.weight.T + self.bias


def linear(space, seed=0):
    """A two-class linear model with margin w . x + b."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.Size(space.shape).numel()
    w, b = torch.randn(size, generator=generator), 0.1 * torch.randn((), generator=generator)
    module = Linear(torch.stack([-w / 2, w / 2]), torch.stack([-b / 2, b / 2]))
    return target_of(module, space, 2), w, b


TABLE = Table(
    features=(
        Feature(name="amount", kind="number", low=0.0, high=1e6, mutable=True, median=5e3, iqr=4e3, std=9e3),
        Feature(
            name="term", kind="number", low=1.0, high=360.0, step=1.0, mutable=True, median=60.0, iqr=40.0, std=50.0
        ),
        Feature(name="guaranteed", kind="number", low=0.0, mutable=True, median=3e3, iqr=2e3, std=5e3),
        Feature(name="year", kind="number", median=2000.0, iqr=4.0, std=5.0),
        Feature(name="sector", kind="category", categories=("a", "b", "c", "d"), mutable=True),
        Feature(name="state", kind="category", categories=("x", "y")),
    ),
    relations=(Relation(terms={"guaranteed": 1.0, "amount": -1.0}, bound=0.0),),
)


def table_rows(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    amount = torch.rand(n, generator=g) * 2e4 + 100
    x = torch.stack(
        [
            amount,
            torch.randint(6, 200, (n,), generator=g).float(),
            amount * torch.rand(n, generator=g),
            torch.randint(1990, 2010, (n,), generator=g).float(),
            torch.randint(0, 5, (n,), generator=g).float(),  # 4 is a sector not seen in training
            torch.randint(0, 2, (n,), generator=g).float(),
        ],
        1,
    )
    missing = torch.rand((n, 4), generator=g) < 0.05
    x[:, :4] = torch.where(missing, torch.nan, x[:, :4])
    return x


def table_target(seed=0, classes=2, space=TABLE):
    encoder = TableEncoder(space)
    net = randomise(nn.Sequential(nn.Linear(encoder.width, 16), nn.Tanh(), nn.Linear(16, classes)), seed, 0.7)
    return target_of(nn.Sequential(encoder, net), space, classes)


@pytest.fixture(scope="session")
def images():
    """A small network on 8 x 8 images with five classes, and points that it gets right."""
    net = randomise(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5)))
    target = target_of(net, BOX, 5)
    return target, samples_of(target, torch.rand((90, 1, 8, 8), generator=torch.Generator().manual_seed(1)))


@pytest.fixture(scope="session")
def rows():
    """A small network on mixed rows with two classes: ranges, steps, a relation, missing values, categories."""
    target = table_target()
    return target, samples_of(target, table_rows(90))
