"""What counts as the same row, for the checks that look for copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from holdfast.data.clusters import array_digests, differing_clusters, exact_clusters, near_clusters
from holdfast.integrity.base import IntegrityCheck

if TYPE_CHECKING:
    import pandas as pd

    from holdfast.integrity.base import Array, Material


class ClusterCheck(IntegrityCheck):
    """A check on clusters of copies: images by the correlation of their pixels, tables column by column."""

    correlation: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Images: least normalised correlation of near copies; 1 leaves those equal but for brightness and contrast."""
    differing: Annotated[int, Field(ge=0, le=2)] = 0
    """Tables: columns in which near copies may differ."""
    digits: Annotated[int, Field(ge=1, le=15)] | None = None
    """Tables: significant digits on which near copies agree; None asks for equal numbers."""
    ignore: tuple[str, ...] = ()
    """Tables: columns that do not count, such as a number given to each row."""

    def clusters(self, material: Material) -> tuple[Array, Array]:
        """Group copies; a table's label is part of its content, an image's is not.

        Returns:
            Exact and near clusters (n,) int64, each named by the position of its first row; every exact cluster lies
            within one near cluster.
        """
        if material.kind == "images":
            return exact_clusters(array_digests(material.features)), near_clusters(material.features, self.correlation)
        content = material.frame.drop(columns=[name for name in self.ignore if name in material.frame.columns])
        rounded = content if self.digits is None else _rounded(content, self.digits)
        return differing_clusters(content, 0), differing_clusters(rounded, self.differing)


def _rounded(frame: pd.DataFrame, digits: int) -> pd.DataFrame:
    """Round numbers to significant digits."""
    numeric = frame.select_dtypes("number").astype(np.float64)
    values: np.ndarray[Any, np.dtype[np.float64]] = numeric.to_numpy()
    magnitude = np.floor(np.log10(np.where((values == 0) | ~np.isfinite(values), 1.0, np.abs(values))))
    scale = 10.0 ** (digits - 1 - magnitude)
    return frame.assign(**dict(zip(numeric.columns, (np.round(values * scale) / scale).T, strict=True)))
