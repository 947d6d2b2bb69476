"""Image statistics: the table by which images are held against a schema, one row for each image."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from holdfast.errors import DataError

if TYPE_CHECKING:
    from holdfast.integrity.base import Array


def image_statistics(images: Array) -> pd.DataFrame:
    """Describe images by numbers that a schema can bound.

    Args:
        images: (n, channels, height, width), uint8 or float in [0, 1].

    Returns:
        Columns ``mean``, ``std`` and ``saturated`` (share of pixels at the upper end), all in [0, 1]; ``width``,
        ``height`` and ``channels``; ``sha``, the first 16 hex digits of the sha256 of the pixels.

    Raises:
        DataError: the array holds no images.
    """
    if images.ndim != 4 or not (images.dtype == np.uint8 or np.issubdtype(images.dtype, np.floating)):  # noqa: PLR2004  four axes
        raise DataError(
            "images",
            found=f"{images.dtype} {images.shape}",
            expected="uint8 or float (n, channels, height, width)",
            remedy="Mend the data source.",
        )
    n, channels, height, width = images.shape
    top = 255.0 if images.dtype == np.uint8 else 1.0
    flat = images.reshape(n, -1)
    return pd.DataFrame(
        {
            "mean": flat.mean(1, dtype=np.float64) / top,
            "std": flat.std(1, dtype=np.float64) / top,
            "saturated": (flat >= top).mean(1),
            "width": np.full(n, width),
            "height": np.full(n, height),
            "channels": np.full(n, channels),
            "sha": [hashlib.sha256(np.ascontiguousarray(row).tobytes()).hexdigest()[:16] for row in flat],
        }
    )
