"""A folder of Parquet files, one a window, in the order of their names."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from holdfast.data.streams.base import Arrival, Site, Stream, window_file
from holdfast.data.table import read_table
from holdfast.errors import DataError

Array = np.ndarray[Any, np.dtype[Any]]
LABELS = "labels"


@final
class ParquetFolder(Stream):
    """Each file is a window; its labels come later, as a file of the same name in the folder ``labels`` beside them.

    A file must be written elsewhere and moved into the folder whole; files that are added must sort after the others,
    and none may be taken away: places are counted from the first.
    """

    path: str
    """Folder, from the working copy."""
    label: str = "label"
    """Column of the label files."""

    def arrival(self, position: int, site: Site) -> Arrival | None:
        """Read the file at a place in the order of names."""
        file = window_file(site.project / self.path, ".parquet", position)
        return None if file is None else Arrival(position, read_table(file).drop(columns=[self.label], errors="ignore"))

    def labels(self, position: int, now: int, site: Site) -> Array | None:
        """Read the label file of that name, where there is one."""
        del now
        file = window_file(site.project / self.path, ".parquet", position)
        labels = None if file is None else file.parent / LABELS / file.name
        if labels is None or not labels.exists():
            return None
        table = read_table(labels)
        if self.label not in table or table[self.label].isna().any():
            raise DataError(
                str(labels), found=f"columns {', '.join(table.columns)}", expected=f"{self.label} for each row",
                remedy="Write the whole window's labels, in the order of its rows.",
            )  # fmt: skip
        return np.asarray(table[self.label].to_numpy(dtype=object))
