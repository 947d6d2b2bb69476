"""The roles file: what each row of a data set was to the version that it was pinned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from holdfast.data.roles import NONE, ROLES
from holdfast.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]
STREAMED = -2
"""In place of a window: a row of the pinned data that was a stream to the version, and none of its rows."""
_SUFFIX = ".roles.parquet"
_MANIFEST = b"holdfast.manifest"
_COLUMNS = ["row", "id", "role", "later", "window"]


@dataclass(frozen=True, eq=False)
class Assigned:
    """What each row of a data set is, in the order of the file, where a pin has fixed it."""

    row: Array
    """First word (n,) int64 of the digest of each row, label included: which row is meant."""
    ids: Array
    """Names (n,) int64 that versions know the rows by."""
    roles: Array
    """Roles (n,) str, empty for none."""
    later: Array
    """Rows (n,) bool after the training period."""
    window: Array
    """Place (n,) int64 of the window that each row came with, -1 for none, and `STREAMED`."""
    manifest: str
    """DVC's md5 of the manifest that was pinned."""

    def take(self, order: Array) -> Assigned:
        """Give the same rows in another order."""
        return Assigned(
            row=self.row[order], ids=self.ids[order], roles=self.roles[order], later=self.later[order],
            window=self.window[order], manifest=self.manifest,
        )  # fmt: skip


def roles_file(path: Path) -> Path:
    """Give the place of a data set's roles file: beside it, and versioned with it."""
    return path.with_name(path.name + _SUFFIX)


def read_assigned(path: Path, row: Array) -> Assigned | None:
    """Read the roles file of a data set; None where there is none, and roles are drawn by content.

    Args:
        path: the data set.
        row: first word (n,) int64 of each row's digest, in the order of the file.

    Raises:
        DataError: it cannot be read, or is about other rows: roles drawn anew could make held-out rows train.
    """
    place = roles_file(path)
    if not place.exists():
        return None
    try:
        table = pq.read_table(place)
        frame, manifest = table.select(_COLUMNS).to_pandas(), _manifest(table.schema)
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are among these
        raise _refused(place, f"a file that cannot be read ({type(error).__name__})", path.name) from error
    if not frame["role"].isin([*ROLES, NONE]).all():
        raise _refused(place, "roles that there are not", path.name)
    if not np.array_equal(frame["row"].to_numpy(), row):
        raise _refused(place, f"roles of {len(frame)} rows, other ones or in another order", path.name)
    return Assigned(
        row=row, ids=frame["id"].to_numpy(np.int64), roles=frame["role"].to_numpy().astype("<U11"),
        later=frame["later"].to_numpy(bool), window=frame["window"].to_numpy(np.int64), manifest=manifest,
    )  # fmt: skip


def write_assigned(path: Path, rows: Assigned) -> Path:
    """Write the roles file of a data set, the same bytes for the same rows, and give its place."""
    table = pa.table(
        {"row": rows.row, "id": rows.ids, "role": rows.roles.astype(object), "later": rows.later, "window": rows.window}
    )
    place = roles_file(path)
    pq.write_table(table.replace_schema_metadata({_MANIFEST: rows.manifest.encode()}), place)
    return place


def pinned_manifest(path: Path) -> str:
    """Tell which manifest a data set was pinned from; empty where it was not.

    Raises:
        DataError: the roles file cannot be read.
    """
    place = roles_file(path)
    if not place.exists():
        return ""
    try:
        return _manifest(pq.read_schema(place))
    except (OSError, ValueError) as error:  # pyarrow's errors are among these
        raise _refused(place, f"a file that cannot be read ({type(error).__name__})", path.name) from error


def pinned_windows(path: Path) -> frozenset[int]:
    """Give the places of the windows that a data set holds already; none where nothing was pinned.

    Raises:
        DataError: the roles file cannot be read.
    """
    place = roles_file(path)
    if not place.exists():
        return frozenset()
    try:
        places = pq.read_table(place, columns=["window"])["window"].unique().to_pylist()
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are among these
        raise _refused(place, f"a file that cannot be read ({type(error).__name__})", path.name) from error
    return frozenset(place for place in places if place >= 0)


def ids_of(path: Path, places: Mapping[int, Sequence[int]]) -> frozenset[int]:
    """Give the ids of some rows of the windows that a data set was pinned with.

    Args:
        path: the data set.
        places: of the rows in each window, by the window's own place; a pin keeps the order of a window's rows.

    Raises:
        DataError: the roles file cannot be read.
    """
    if not any(places.values()):
        return frozenset()
    place = roles_file(path)
    try:
        table = pq.read_table(place, columns=["id", "window"]).to_pandas()
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are among these
        raise _refused(place, f"a file that cannot be read ({type(error).__name__})", path.name) from error
    ids = {window: rows.to_numpy() for window, rows in table.groupby("window")["id"]}
    return frozenset(int(ids[window][row]) for window, rows in places.items() for row in rows)


def _manifest(schema: pa.Schema) -> str:
    return str((schema.metadata or {}).get(_MANIFEST, b"").decode())


def _refused(place: Path, found: str, data: str) -> DataError:
    return DataError(
        place.name, found=found, expected=f"a role for each row of {data}, in its order, as a pin wrote it",
        remedy=f"Restore both with `holdfast data pull`. Without it the roles of {data} are drawn anew, and rows that"
        " were held out may train: delete it only where no version that is compared knows them.",
    )  # fmt: skip
