"""A folder of npz archives of images, one a window, in the order of their names."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from holdfast.data.images import canonical_images, read_inputs, read_targets
from holdfast.data.streams.base import Arrival, Site, Stream, window_file

Array = np.ndarray[Any, np.dtype[Any]]
LABELS = "labels"


@final
class NpzFolder(Stream):
    """Each archive is a window, its images the array ``x``; labels come later, in the folder ``labels`` beside it.

    A label archive has the name of its window and holds one array, a label for each image. A file must be written
    elsewhere and moved into the folder whole; files that are added must sort after the others, and none may be taken
    away: places are counted from the first.
    """

    path: str
    """Folder, from the working copy."""
    label: str = "y"
    """Array of the label archives."""

    def arrival(self, position: int, site: Site) -> Arrival | None:
        """Read the archive at a place in the order of names; pickled objects are refused unread."""
        file = window_file(site.project / self.path, ".npz", position)
        return None if file is None else Arrival(position, canonical_images(read_inputs(file), file.name))

    def labels(self, position: int, now: int, site: Site) -> Array | None:
        """Read the label archive of that name, where there is one."""
        del now
        file = window_file(site.project / self.path, ".npz", position)
        labels = None if file is None else file.parent / LABELS / file.name
        if labels is None or not labels.exists():
            return None
        return np.asarray(read_targets(labels, self.label).astype(object))
