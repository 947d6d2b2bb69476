"""Materials to plant faults in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from holdfast.integrity.base import Material

Build = Callable[..., Material]


@pytest.fixture
def build() -> Build:
    """Make a material from whatever parts a test cares about."""

    def make(frame: pd.DataFrame | None = None, **parts: Any) -> Material:
        features = parts.pop("features", None)
        n = len(frame) if frame is not None else len(features)
        defaults: dict[str, Any] = {
            "label": None, "time": None, "ids": np.arange(n, dtype=np.int64) * 7 - 3, "roles": None, "kind": "table",
            "labels": np.zeros(n, dtype=np.int64), "provenance": {}, "seed": 0,
        }  # fmt: skip
        return Material(
            frame=pd.DataFrame(index=range(n)) if frame is None else frame,
            features=np.zeros((n, 1), dtype=np.float32) if features is None else features,
            **(defaults | parts),
        )

    return make


@pytest.fixture(scope="session")
def fashion() -> tuple[Any, Any]:
    """Give the embedded training images, pixels (5000, 784) in [0, 1], and their labels."""
    with np.load(Path(__file__).parents[3] / "embedded" / "fashion_mnist_5k.npz") as archive:
        pixels = archive["x_train"].reshape(5000, -1).astype(np.float32) / 255
        return pixels, archive["y_train"].astype(np.int64)
