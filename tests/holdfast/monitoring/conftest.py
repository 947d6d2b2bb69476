"""A small world to watch: two Gaussian classes, a champion that is right about them, and ways to change it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from holdfast.data.stream import Window
from holdfast.space import Feature, Table

SPACE = Table(
    features=(
        *(Feature(name=f"x{i}", kind="number", iqr=1.35) for i in range(4)),
        Feature(name="colour", kind="category", categories=("red", "green", "blue")),
    )
)


def world(n, seed, *, shift=0.0, flip=0.0, prior=0.5, position=0):
    """Rows of which the first feature tells the class; the champion knows P(class | row) of the unchanged world."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < prior).astype(np.int64)
    x = rng.normal(size=(n, 5))
    x[:, 0] += 2.0 * y - 1.0 + shift
    x[:, 4] = rng.integers(0, 3, n)
    p = 1.0 / (1.0 + np.exp(-2.0 * x[:, 0]))  # Bayes for means -1 and 1 with unit variance
    wrong = rng.random(n) < flip
    ids = rng.choice(2**40, size=n, replace=False)
    return Window(position, ids, torch.tensor(x, dtype=torch.float32), np.stack([1 - p, p], 1), SPACE,
                  np.where(wrong, 1 - y, y), torch.tensor(x[:, :3] ** 2, dtype=torch.float32),
                  np.random.default_rng((seed, 1)).choice([-1.0, 0.0, 1.0], (n, 2), p=[0.05, 0.9, 0.05]))  # fmt: skip


@pytest.fixture(scope="session")
def make():
    """Make windows of the world."""
    return world


@pytest.fixture(scope="session")
def past():
    """Rows of the champion's own time."""
    return world(3000, 0, position=-1)


@pytest.fixture(scope="session")
def clean():
    """Other rows of the same time."""
    return world(6000, 1, position=-1)
