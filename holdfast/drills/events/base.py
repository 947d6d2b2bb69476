"""What every event of a drill is: something that befalls a window's rows and labels, or the champion's bytes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from holdfast.errors import DataError
from holdfast.results import Value

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from holdfast.data.source import Loaded
    from holdfast.model import Target
    from holdfast.seeding import Noise
    from holdfast.space import Table

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of one window on their way to the stream; all parts one entry for each row (n, ...), in one order."""

    rows: pd.DataFrame | Array
    """A table without its label column; or images (n, c, h, w)."""
    truth: Array
    """Class indices (n,) int64 as they are."""
    told: Array
    """Class indices (n,) int64 as the stream will tell them."""
    touched: Array
    """Rows (n,) bool that an event changed."""

    def __len__(self) -> int:
        return len(self.truth)

    def frame(self, event: str) -> pd.DataFrame:
        """Give the rows as the table that an event needs.

        Raises:
            DataError: they are images.
        """
        if isinstance(self.rows, pd.DataFrame):
            return self.rows
        raise DataError(
            f"drill event {event}", found="images", expected="rows of a table",
            remedy="Leave its incident out of drills.incidents.",
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scene:
    """What an event may know: the pinned data, and the champion as it stood when the drill began."""

    data: Loaded
    champion: Target


class RowEvent(Value):
    """Something that befalls the rows or labels of a window. Instances are frozen; fields are the settings."""

    @classmethod
    def name(cls) -> str:
        """Give the name in incident files, which is the file's."""
        return cls.__module__.rsplit(".", 1)[-1]

    @abstractmethod
    def strike(self, batch: Batch, scene: Scene, noise: Noise) -> Batch:
        """Give the window as it comes after the event.

        Args:
            batch: the window before it.
            scene: what the event may know.
            noise: source of every draw.

        Raises:
            DataError: the event cannot befall such rows.
        """


class ArtefactEvent(Value):
    """Something that befalls the champion's bytes where they are served from."""

    @classmethod
    def name(cls) -> str:
        """Give the name in incident files, which is the file's."""
        return cls.__module__.rsplit(".", 1)[-1]

    @abstractmethod
    def damage(self, folder: Path, noise: Noise) -> None:
        """Change the files of a saved model in place.

        Args:
            folder: holds its weights and its description.
            noise: source of every draw.
        """


def drawn(n: int, count: int, noise: Noise, among: Array | None = None) -> Array:
    """Choose ``count`` of n rows, of those ``among`` (n,) bool where given; fewer where there are not as many."""
    held = np.arange(n) if among is None else np.flatnonzero(among)
    return np.asarray(held[noise.numpy().permutation(len(held))[:count]])


def column(frame: pd.DataFrame, name: str, event: str) -> pd.Series[Any]:
    """Give a column.

    Raises:
        DataError: the rows have none of that name.
    """
    if name not in frame:
        raise DataError(
            f"drill event {event}", found=f"no column {name}", expected=f"one of {', '.join(frame.columns)}",
            remedy="Correct the incident's settings.",
        )  # fmt: skip
    return frame[name]


def written(frame: pd.DataFrame, before: Tensor, after: Tensor, space: Table) -> pd.DataFrame:
    """Write what changed between two encodings (n, features) into the rows they encode, in the columns' own types."""
    frame = frame.copy()
    for place, feature in enumerate(space.features):
        old, new = before[:, place].numpy(), after[:, place].numpy()
        moved = np.flatnonzero((old != new) & ~(np.isnan(old) & np.isnan(new)))
        if len(moved) == 0:
            continue
        values: list[Any] = [
            float(new[row]) if feature.kind == "number" else feature.categories[round(float(new[row]))] for row in moved
        ]
        held = frame[feature.name]
        if pd.api.types.is_numeric_dtype(held.dtype):
            numbers = np.array([float(value) for value in values])
            values = list(np.rint(numbers) if pd.api.types.is_integer_dtype(held.dtype) else numbers)
        column: Any = held.astype(object)
        column.iloc[moved] = values
        frame[feature.name] = column.astype(held.dtype)
    return frame
