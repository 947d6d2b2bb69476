"""Escrow: windows as they came, by digest, kept apart from all that may train."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from holdfast.data.streams.base import Arrival
from holdfast.errors import DataError
from holdfast.stores import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]


class Escrow:
    """A folder of windows: rows as Parquet or npy, labels as JSON beside them, each written once and whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, arrival: Arrival) -> str:
        """Keep a window, and give the digest that names it; the same rows twice are kept once.

        Raises:
            StoreError: the folder is full or read-only.
        """
        digest = arrival.digest
        body = io.BytesIO()
        if isinstance(arrival.rows, np.ndarray):
            np.save(body, arrival.rows, allow_pickle=False)
            path = self.folder / f"{digest}.npy"
        else:
            arrival.rows.to_parquet(body, index=False)
            path = self.folder / f"{digest}.parquet"
        if not path.exists():
            write_atomically(path, body.getvalue())
        return digest

    def rows(self, digest: str, position: int) -> Arrival:
        """Give a window's rows, verified.

        Raises:
            DataError: they are gone, or not what was kept.
        """
        table, images = self.folder / f"{digest}.parquet", self.folder / f"{digest}.npy"
        try:
            if images.exists():
                rows: pd.DataFrame | Array = np.load(images, allow_pickle=False)
            else:
                rows = pd.read_parquet(table)
        except (OSError, ValueError) as error:  # pyarrow's errors are among these
            raise _lost(digest, position, f"rows that cannot be read ({type(error).__name__})") from error
        arrival = Arrival(position, rows)
        if arrival.digest != digest:
            raise _lost(digest, position, f"rows with digest {arrival.digest[:16]}")
        return arrival

    def files(self, digest: str) -> tuple[Path, ...]:
        """List the files of a window, rows and labels, as far as they are there."""
        names = (f"{digest}.parquet", f"{digest}.npy", f"{digest}.labels.json")
        return tuple(path for name in names if (path := self.folder / name).exists())

    def keep_labels(self, digest: str, labels: Array) -> None:
        """Keep a window's matured labels (n,), as text.

        Raises:
            StoreError: the folder is full or read-only.
        """
        write_atomically(self.folder / f"{digest}.labels.json", json.dumps([str(label) for label in labels]))

    def labels(self, digest: str, position: int) -> pd.Series[Any]:
        """Give the labels (n,) of a window, as text.

        Raises:
            DataError: they have not matured, or cannot be read.
        """
        try:
            return pd.Series(json.loads((self.folder / f"{digest}.labels.json").read_text()), dtype=object)
        except (OSError, json.JSONDecodeError) as error:
            raise _lost(digest, position, f"no labels ({type(error).__name__})") from error


def _lost(digest: str, position: int, found: str) -> DataError:
    return DataError(
        f"escrow, window {position}", found=found, expected=f"window {digest[:16]} as it came",
        remedy="Restore the folder of escrow from a backup; nothing trains on a window that cannot be verified.",
    )  # fmt: skip
