"""Small worlds to train in: a table, an image set, and their models."""

from __future__ import annotations

import pytest
import torch

from holdfast.data import Samples
from holdfast.model import ModelSpec
from holdfast.seeding import Noise
from holdfast.space import Box, Feature, Relation, Table


def samples(x, y, role, first=0):
    ids = torch.arange(first, first + len(y))
    return Samples(x=x.to(torch.float32), y=y.to(torch.int64), ids=ids, role=role, snapshot="made")


class World:
    """A space, a model description, and rows of two roles."""

    def __init__(self, spec, train, validation):
        self.spec, self.train, self.validation = spec, train, validation


@pytest.fixture
def table_world():
    """Binary rows: two numbers and a count that move under a relation, one number that does not, one category."""
    n = 240
    noise = Noise(0, ("world",))
    ids = torch.arange(n)
    x = noise.normal(ids, (5,))
    x[:, 2] = noise.derive("count").integers(ids, 20).float()
    x[:, 1] = x[:, 0] + 0.5 + x[:, 1].abs()  # a <= b
    x[:, 4] = noise.derive("category").integers(ids, 3).float()
    y = (x[:, 0] + 0.1 * x[:, 2] + x[:, 3] > 1.0).long()
    x[::17, 3] = torch.nan
    features = (
        Feature(name="a", kind="number", mutable=True, iqr=1.3, low=-5, high=5),
        Feature(name="b", kind="number", mutable=True, iqr=1.3, low=-5, high=9),
        Feature(name="count", kind="number", mutable=True, iqr=10, step=1, low=0, high=40, median=10),
        Feature(name="fixed", kind="number", iqr=1.3),
        Feature(name="kind", kind="category", categories=("u", "v", "w"), mutable=True),
    )
    space = Table(features=features, relations=(Relation(terms={"a": 1.0, "b": -1.0}),))
    spec = ModelSpec(
        factory="holdfast.networks:mlp", settings={"width": 16, "dropout": 0.2}, space=space, classes=("no", "yes")
    )
    return World(spec, samples(x[:180], y[:180], "train"), samples(x[180:], y[180:], "validation", 180))


@pytest.fixture
def image_world():
    """Three kinds of stripes, 8 x 8, with noise."""
    n = 150
    noise = Noise(1, ("world",))
    ids = torch.arange(n)
    y = noise.integers(ids, 3)
    x = 0.2 + 0.2 * noise.derive("pixels").uniform(ids, (1, 8, 8))
    for k in range(3):
        x[y == k, :, 2 * k : 2 * k + 2] += 0.4
    space = Box(shape=(1, 8, 8), mean=(0.3,), std=(0.2,))
    spec = ModelSpec(
        factory="holdfast.networks:cnn", settings={"width": 4, "hidden": 8}, space=space, classes=("a", "b", "c")
    )
    return World(spec, samples(x[:120], y[:120], "train"), samples(x[120:], y[120:], "validation", 120))
