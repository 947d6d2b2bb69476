"""What every stream is: rows by place, features at once, labels when they mature."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from holdfast.digests import digest_json
from holdfast.errors import DataError
from holdfast.results import Value

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import pandas as pd

    from holdfast.data.source import Loaded

    Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Arrival:
    """One window of rows as they came: nothing is known of them yet.

    Raises:
        DataError: it has no rows.
    """

    position: int
    """Place in the stream, from 0, without gaps."""
    rows: pd.DataFrame | Array
    """A table without its label column, index 0 to n - 1; or images (n, c, h, w) as the data set has them."""

    def __post_init__(self) -> None:
        if len(self.rows) == 0:
            raise DataError(
                f"window {self.position}", found="no rows", expected="rows",
                remedy="Take the empty window out of the stream.",
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def asked(self) -> pd.DataFrame | Array:
        """The rows as a caller of the predictor gives them: images (n, h, w, c)."""
        return self.rows.transpose(0, 2, 3, 1) if isinstance(self.rows, np.ndarray) else self.rows

    @property
    def digest(self) -> str:
        """Name the window by its rows, in their order; labels, which come later, have no part in it."""
        from holdfast.data.rows import digest_rows, frame_bytes  # noqa: PLC0415  params are checked without pandas

        if isinstance(self.rows, np.ndarray):
            content, columns = self.rows, list[str]()
        else:
            content, columns = frame_bytes(self.rows, f"window {self.position}"), sorted(self.rows.columns)
        return digest_json([columns, [row.tobytes().hex() for row in digest_rows(content, "window")]])


@dataclass(frozen=True, eq=False)
class Site:
    """What a stream may reach."""

    project: Path
    """The working copy, below which relative paths lie."""
    data: Loaded | None = None
    """The pinned data set, where the stream `needs_data`."""
    url: str | None = None
    """The database that ``stores.stream`` names, resolved; it may hold a password."""


class Stream(Value):
    """A source of windows. Frozen; where the reader is in it, the database knows."""

    needs_data: ClassVar[bool] = False
    """Whether it replays rows of the pinned data set."""

    @abstractmethod
    def arrival(self, position: int, site: Site) -> Arrival | None:
        """Give the window at a place, from 0; None where it has not come yet.

        A place that gave a window gives the same rows again until their labels have matured and the next has come:
        whoever takes labels, or the next window, asks for them to see that nothing moved.

        Raises:
            DataError: the source does not answer, or holds something else than windows.
        """

    @abstractmethod
    def labels(self, position: int, now: int, site: Site) -> Array | None:
        """Give the label of each row (n,) of a window, as the source writes it; None until they have matured.

        Args:
            position: place of the window.
            now: place of the last window that has come.
            site: what can be reached.

        Raises:
            DataError: the source does not answer, or has other labels than one for each row.
        """


def window_file(folder: Path, suffix: str, position: int) -> Path | None:
    """Find the file of a window in a folder that holds one for each, in the order of names; None where none has come.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(
            str(folder), found="no such folder", expected=f"a folder of {suffix} files, one a window",
            remedy="Correct monitoring.stream in params.yaml, or make the folder.",
        )  # fmt: skip
    files = sorted(folder.glob(f"*{suffix}"))
    return files[position] if position < len(files) else None
