"""The window: one stretch of production rows, what the champion said of them, and their labels once these matured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from holdfast.digests import digest_json
from holdfast.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise
    from holdfast.space import Box, Table

Array = np.ndarray[Any, np.dtype[Any]]
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Window:
    """Rows that were answered together in time; all parts one entry for each row, in one order.

    Raises:
        DataError: parts differ in length, ids repeat, or probabilities are none.
    """

    position: int
    """Place in the stream, from 0; -1 for reference rows, which are no part of it."""
    ids: Array
    """Row ids (n,) int64, unique."""
    x: Tensor
    """Inputs (n, *shape), as the model takes them."""
    probabilities: Array
    """What the champion said (n, classes) float64, each row summing to 1."""
    space: Box | Table
    """What the columns of ``x`` are."""
    labels: Array | None = None
    """Class indices (n,) int64; None until they mature."""
    embeddings: Tensor | None = None
    """What the champion's last layer read (n, width); None where no detector asks."""
    lead: Array | None = None
    """A challenger's leads on each row (n, 2) float64, in Brier score and in being right, less what it is allowed; NaN
    where it was not asked. None where there is no challenger, or labels have not matured."""
    squeezed: Array | None = None
    """How far the champion's answers move, in L1, when rows lose their detail (n, ways) float64; None where no detector
    asks."""

    def __post_init__(self) -> None:
        parts = {"x": len(self.x), "probabilities": len(self.probabilities)}
        parts |= {} if self.labels is None else {"labels": len(self.labels)}
        parts |= {} if self.embeddings is None else {"embeddings": len(self.embeddings)}
        parts |= {} if self.lead is None else {"lead": len(self.lead)}
        parts |= {} if self.squeezed is None else {"squeezed": len(self.squeezed)}
        for name, length in parts.items():
            if length != len(self.ids):
                raise _unsound(self.position, f"{length} rows in {name}", f"{len(self.ids)}, one for each id")
        if len(np.unique(self.ids)) != len(self.ids):
            raise _unsound(self.position, "row ids that repeat", "one id for each row")
        if not np.isfinite(self.probabilities).all() or (np.abs(self.probabilities.sum(1) - 1.0) > _ROUNDING).any():
            raise _unsound(self.position, "outputs that are no probabilities", "finite rows that sum to 1")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def id(self) -> str:
        """Name the window by its rows: the digest of their sorted ids."""
        return digest_json(np.sort(self.ids).tolist())

    @property
    def predicted(self) -> Array:
        """Likeliest class of each row (n,) int64."""
        return np.asarray(self.probabilities.argmax(1))

    @property
    def confidence(self) -> Array:
        """Probability of the likeliest class (n,) float64."""
        return np.asarray(self.probabilities.max(1))

    @property
    def wrong(self) -> Array:
        """Rows (n,) bool that the champion got wrong.

        Raises:
            DataError: the labels have not matured.
        """
        return np.asarray(self.predicted != self.matured)

    @property
    def matured(self) -> Array:
        """Class index of each row (n,) int64.

        Raises:
            DataError: the labels have not matured.
        """
        if self.labels is None:
            raise _unsound(self.position, "no labels yet", "labels that matured")
        return self.labels

    def take(self, rows: Array, position: int | None = None) -> Window:
        """Give some rows (m,) as a window of their own."""
        return Window(
            position=self.position if position is None else position,
            ids=self.ids[rows],
            x=self.x[torch.from_numpy(np.asarray(rows))],
            probabilities=self.probabilities[rows],
            space=self.space,
            labels=None if self.labels is None else self.labels[rows],
            embeddings=None if self.embeddings is None else self.embeddings[torch.from_numpy(np.asarray(rows))],
            lead=None if self.lead is None else self.lead[rows],
            squeezed=None if self.squeezed is None else self.squeezed[rows],
        )

    def without_labels(self) -> Window:
        """Give the same rows as they are before their labels mature."""
        return replace(self, labels=None, lead=None)

    def resample(self, n: int, noise: Noise, position: int = 0) -> Window:
        """Draw n of the rows without replacement: a window that this world would give again.

        Raises:
            DataError: more rows are asked for than there are.
        """
        if n > len(self):
            raise _unsound(self.position, f"{len(self)} rows", f"at least {n} to draw from")
        order = torch.randperm(len(self), generator=noise.generator())[:n].numpy()
        return self.take(order, position)

    def bootstrap(self, n: int, noise: Noise, position: int = 0) -> Window:
        """Draw n of the rows with replacement, under ids of their own, 0 to n - 1: sums scatter as the world's do.

        Rows repeat: what looks at distances between rows wants `resample`.

        Raises:
            DataError: there are no rows to draw from.
        """
        if not len(self):
            raise _unsound(self.position, "no rows", "rows to draw from")
        drawn = noise.integers(torch.arange(n), len(self))
        return Window(
            position=position, ids=np.arange(n), x=self.x[drawn], probabilities=self.probabilities[drawn.numpy()],
            space=self.space, labels=None if self.labels is None else self.labels[drawn.numpy()],
            embeddings=None if self.embeddings is None else self.embeddings[drawn],
            lead=None if self.lead is None else self.lead[drawn.numpy()],
            squeezed=None if self.squeezed is None else self.squeezed[drawn.numpy()],
        )  # fmt: skip


def _unsound(position: int, found: str, expected: str) -> DataError:
    where = "reference rows" if position < 0 else f"window {position}"
    return DataError(where, found=found, expected=expected, remedy="Mend what builds the window.")
