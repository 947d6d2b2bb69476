"""Recorded predictions: what a model said of rows, read from columns beside their features; no model is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Never

import numpy as np
import pandas as pd

from holdfast.data.table import encode
from holdfast.errors import DataError, ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.space import Table

Array = np.ndarray[Any, np.dtype[Any]]
_ROUNDING = 1e-3
"""How far recorded probabilities of one row may sum from 1: what a few written digits leave."""


@dataclass(frozen=True, eq=False)
class Told:
    """Rows as a model would see them, and what was recorded of its answers."""

    inputs: Tensor
    """(n, features) in raw units."""
    probabilities: Array
    """Probability of each class (n, classes) float64."""


@dataclass(frozen=True)
class Recorded:
    """Stands where a champion would: answers come from columns of the rows."""

    space: Table
    columns: tuple[str, ...]
    """One for each class, in the order of the classes."""

    def examine(self, rows: pd.DataFrame | Array) -> Told:
        """Read the answers; nothing is computed and nothing logged.

        Raises:
            DataError: a column is missing, or does not hold probabilities.
        """
        if not isinstance(rows, pd.DataFrame):
            raise self._refused("images", "a table")
        if lacking := [name for name in self.columns if name not in rows]:
            raise self._refused(f"no column {', '.join(lacking)}", "one for each class")
        numbers = rows[list(self.columns)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        sums = numbers.sum(1)
        wrong = ~(np.isfinite(numbers).all(1) & (numbers >= 0.0).all(1) & (np.abs(sums - 1.0) <= _ROUNDING))
        if wrong.any():
            raise self._refused(f"{int(wrong.sum())} of {len(rows)} rows without probabilities", "rows that sum to 1")
        return Told(encode(rows, self.space), numbers / sums[:, None])

    def embed(self, inputs: Tensor) -> Never:
        """Refuse.

        Raises:
            ModelError: always: there is no model whose layers could be read.
        """
        del inputs
        raise ModelError(
            "monitoring.stream.recorded", found="a detector of embeddings", expected="detectors of rows and answers",
            remedy="Take it out of monitoring.detectors, or watch a champion.",
        )  # fmt: skip

    def squeeze(self, inputs: Tensor, past: Tensor) -> Never:
        """Refuse.

        Raises:
            ModelError: always: there is no model that could be asked about other rows than those on record.
        """
        del inputs, past
        raise ModelError(
            "monitoring.stream.recorded", found="a trace of squeezed rows (suspicion: inconsistent)",
            expected="traces of rows and answers",
            remedy="Take it out of monitoring.detectors.suspicion.traces, or watch a champion.",
        )  # fmt: skip

    def _refused(self, found: str, expected: str) -> DataError:
        return DataError(
            "recorded predictions", found=found, expected=expected,
            remedy="Mend the source, or name other columns in monitoring.stream.recorded.",
        )  # fmt: skip
