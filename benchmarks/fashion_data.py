"""The embedded Fashion-MNIST cut in the roles that the fashion profile gives it, for benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from holdfast.data import Samples
from holdfast.model import ModelSpec
from holdfast.space import Box

FILE = Path(__file__).parents[1] / "embedded" / "fashion_mnist_5k.npz"
SIZES = {"train": 4100, "validation": 300, "calibration": 150, "gate": 400, "trusted": 50}


def load(seed: int = 0) -> dict[str, Samples]:
    """Split the 5,000 training images into roles at random; the 1,000 test images are ``test``."""
    with np.load(FILE, allow_pickle=False) as arrays:
        x, y, x_test, y_test = (arrays[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    order = np.random.default_rng(seed).permutation(len(y))
    roles, start = {"test": _samples(x_test, y_test, np.arange(len(y), len(y) + len(y_test)), "test")}, 0
    for role, size in SIZES.items():
        index = order[start : start + size]
        roles[role] = _samples(x[index], y[index], index, role)
        start += size
    return roles


def _samples(x: np.ndarray, y: np.ndarray, ids: np.ndarray, role: str) -> Samples:
    return Samples(
        x=torch.tensor(x, dtype=torch.float32)[:, None] / 255.0,
        y=torch.tensor(y, dtype=torch.int64),
        ids=torch.tensor(ids, dtype=torch.int64),
        role=role,
        snapshot="fashion_mnist_5k",
    )


def spec(train: Samples, **settings: int) -> ModelSpec:
    """Describe the convolutional network on these images."""
    space = Box(shape=(1, 28, 28), mean=(float(train.x.mean()),), std=(float(train.x.std()),))
    return ModelSpec(
        factory="holdfast.networks:cnn", settings=settings, space=space, classes=tuple(map(str, range(10)))
    )
