"""Escrow: windows as they came, by digest, kept apart from all that may train."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from holdfast.data.streams.base import Arrival
from holdfast.digests import digest_json
from holdfast.errors import DataError, StoreError
from holdfast.stores import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]
_LABELS = "labels.json"


class Escrow:
    """A folder of rows as Parquet or npy, and of labels as JSON: each named by its digest, and written once and whole.

    Which rows and labels are a window's, the watch has on record.
    """

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
            DataError: they are not what was kept.
            StoreError: they cannot be had, which says nothing of them.
        """
        name, body = self._read(position, f"{digest}.npy", f"{digest}.parquet")
        try:
            if name.endswith(".npy"):
                rows: pd.DataFrame | Array = np.load(io.BytesIO(body), allow_pickle=False)
            else:
                rows = pd.read_parquet(io.BytesIO(body))
        except (OSError, ValueError) as error:  # pyarrow's errors are among these
            raise _changed(digest, position, f"rows that cannot be read ({type(error).__name__})") from error
        arrival = Arrival(position, rows)
        if arrival.digest != digest:
            raise _changed(digest, position, f"rows with digest {arrival.digest[:16]}")
        return arrival

    def files(self, *digests: str) -> tuple[Path, ...]:
        """List the files of rows and labels with these digests, as far as they are there."""
        names = (f"{digest}.{kind}" for digest in digests if digest for kind in ("parquet", "npy", _LABELS))
        return tuple(path for name in names if (path := self.folder / name).exists())

    def keep_labels(self, labels: Array) -> str:
        """Keep matured labels (n,), as text, and give the digest that names them; none that were kept are changed.

        Raises:
            StoreError: the folder is full or read-only.
        """
        told = [str(label) for label in labels]
        digest = digest_json(told)
        path = self.folder / f"{digest}.{_LABELS}"
        if not path.exists():
            write_atomically(path, json.dumps(told))
        return digest

    def labels(self, digest: str, position: int) -> pd.Series[Any]:
        """Give the labels (n,) of a window, as text, verified.

        Args:
            digest: that names the labels, on record since they matured.
            position: of the window.

        Raises:
            DataError: they are not what was kept.
            StoreError: they cannot be had, or have not matured.
        """
        _, body = self._read(position, f"{digest}.{_LABELS}")
        try:
            told = json.loads(body)
        except ValueError as error:
            raise _changed(digest, position, f"labels that cannot be read ({type(error).__name__})") from error
        if (found := digest_json(told)) != digest:
            raise _changed(digest, position, f"labels with digest {found[:16]}")
        return pd.Series(told, dtype=object)

    def _read(self, position: int, *names: str) -> tuple[str, bytes]:
        """Read the first of these files that is there, before anyone judges it: an outage is no fault of a window."""
        paths = [self.folder / name for name in names]
        try:
            path = next((path for path in paths if path.exists()), paths[-1])
            return path.name, path.read_bytes()
        except OSError as error:
            raise StoreError(
                f"escrow, window {position}", found=error.strerror or type(error).__name__,
                expected=f"{' or '.join(names)}, as kept",
                remedy="Mount the folder of escrow, or restore the file from a backup: nothing is decided until then.",
            ) from error  # fmt: skip


def _changed(digest: str, position: int, found: str) -> DataError:
    return DataError(
        f"escrow, window {position}", found=found, expected=f"{digest[:16]}, as it came",
        remedy="Restore the folder of escrow from a backup; nothing trains on a window that cannot be verified.",
    )  # fmt: skip
