"""Pinning: a version's base and windows written as one data set, in which every row stays what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from holdfast.data.admission import arrived_images, arrived_rows, kept_rows
from holdfast.data.assigned import STREAMED, Assigned, write_assigned
from holdfast.data.images import read_images
from holdfast.data.roles import NONE
from holdfast.data.rows import digest_rows, frame_bytes, image_digests, words
from holdfast.data.source import finish
from holdfast.data.table import read_table
from holdfast.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from holdfast.data.admission import Labelled
    from holdfast.data.source import Loaded

Array = np.ndarray[Any, np.dtype[Any]]


def write_pinned(
    base: Loaded, windows: Sequence[Labelled], grown: Loaded, source: Path, folder: Path, manifest: str
) -> tuple[Path, Path]:
    """Write base and windows as one data set in the base's format, with its roles file; what comes back is compared.

    Names, roles and periods are those of the version: a row that it held out stays held out, one that trained it stays
    a training row. Rows of role ``drill`` stay, with no role where a window repeats them.

    Args:
        base: the pinned data that the manifest names.
        windows: its windows, in its order.
        grown: what both came to by `admission.admit`.
        source: the base's file.
        folder: where to write.
        manifest: md5 that names the manifest.

    Returns:
        The data set's file and the roles file.

    Raises:
        DataError: the data set is a folder, or its format does not give back what is written.
    """
    if source.is_dir():
        raise DataError(
            source.name, found="a folder of image files", expected="a data set in one file",
            remedy="Put its images into an npz archive, and train from that.",
        )  # fmt: skip
    target = folder / source.name
    images = base.frame is None
    row = _write_images(base, windows, source, target) if images else _write_table(base, windows, target)
    rows = _assigned(base, grown, row, manifest)
    order = np.arange(len(row))
    if images:  # an archive holds the source's own test rows last
        order = np.argsort(np.concatenate([_tested(source, base), np.zeros(len(row) - len(base))]), kind="stable")
    if not np.array_equal(_rows(target, base), row[order]):
        raise DataError(
            source.name, found="rows that do not come back as they were written",
            expected=f"a {source.suffix} file that holds every value", remedy="Convert the data set to Parquet or npz.",
        )  # fmt: skip
    return target, write_assigned(target, rows.take(order))


def of_version(pinned: Loaded) -> Loaded:
    """Give the rows that the version had which a data set was pinned from: all but those that were a stream to it."""
    rows = np.flatnonzero(np.full(len(pinned), -1) if pinned.window is None else pinned.window != STREAMED)
    named = ("ids", "digests", "roles", "labels", "time", "later", "excluded", "window")
    parts = {name: None if getattr(pinned, name) is None else getattr(pinned, name)[rows] for name in named}
    return finish(
        pinned.params, frame=None if pinned.frame is None else pinned.frame.iloc[rows].reset_index(drop=True),
        pixels=None if pinned.pixels is None else pinned.pixels[rows], classes=pinned.classes, period=pinned.period,
        space=pinned.space, **parts,
    )  # fmt: skip


def _assigned(base: Loaded, grown: Loaded, row: Array, manifest: str) -> Assigned:
    """Say what each row is, the base's first, then those of the windows."""
    kept = kept_rows(base)
    old = int(kept.sum())
    if grown.window is None:
        raise DataError("pin", found="a version without windows", expected="one", remedy="There is nothing to pin.")
    roles = base.roles.copy()
    roles[kept] = grown.roles[:old]
    roles[~kept & np.isin(base.digests, grown.digests[old:])] = NONE
    before = np.where(kept, -1 if base.window is None else base.window, STREAMED)
    return Assigned(
        row=row, ids=np.concatenate([base.ids, grown.ids[old:]]),
        roles=np.concatenate([roles, grown.roles[old:]]).astype("<U11"),
        later=np.concatenate([base.later, np.zeros(len(row) - len(base), dtype=bool)]),
        window=np.concatenate([before, grown.window[old:]]).astype(np.int64), manifest=manifest,
    )  # fmt: skip


def _write_table(base: Loaded, windows: Sequence[Labelled], target: Path) -> Array:
    """Write base and windows as a table, and name its rows (n,)."""
    everything = arrived_rows(base, windows)
    if target.suffix.lower() in {".parquet", ".pq"}:
        everything.to_parquet(target, index=False)
    else:
        everything.to_csv(target, index=False, sep="," if target.suffix.lower() == ".csv" else "\t")
    return words(digest_rows(frame_bytes(everything, base.params.path), "row"))


def _write_images(base: Loaded, windows: Sequence[Labelled], source: Path, target: Path) -> Array:
    """Write base and windows as an archive, and name its rows (n,), the base's first."""
    known = read_images(source, _label(base))
    pixels, labels = arrived_images(base, windows)
    y = np.concatenate([known.y, _as_written(known.y, base.labels, labels)])
    x = np.concatenate([known.pixels, pixels])
    tested = np.concatenate([known.tested, np.zeros(len(pixels), dtype=bool)])
    arrays = {"x_train": _stored(x[~tested]), f"{_label(base)}_train": y[~tested]}
    if tested.any():
        arrays |= {"x_test": _stored(x[tested]), f"{_label(base)}_test": y[tested]}
    if known.classes:
        arrays["class_names"] = np.array(known.classes)
    with target.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    return _image_rows(x, y, base)


def _as_written(y: Array, known: Array, labels: Array) -> Array:
    """Write class indices (m,) as the archive writes them: y (n,) are the labels of class indices ``known`` (n,)."""
    first = {int(k): int(np.flatnonzero(known == k)[0]) for k in np.unique(labels)}
    return y[[first[int(k)] for k in labels]]


def _stored(x: Array) -> Array:
    """Turn images (n, c, h, w) into what archives hold: (n, h, w), or (n, h, w, c)."""
    return x[:, 0] if x.shape[1] == 1 else np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def _tested(source: Path, base: Loaded) -> Array:
    return read_images(source, _label(base)).tested.astype(np.float64)


def _rows(path: Path, base: Loaded) -> Array:
    """Read a data set back, and name its rows (n,) in the order of the file."""
    if base.frame is not None:
        return words(digest_rows(frame_bytes(read_table(path), base.params.path), "row"))
    images = read_images(path, _label(base))
    return _image_rows(images.pixels, images.y, base)


def _image_rows(pixels: Array, y: Array, base: Loaded) -> Array:
    return words(image_digests(digest_rows(pixels, "content"), pd.Series(y), base.params.path))


def _label(base: Loaded) -> str:
    return "y" if base.params.label == "label" else base.params.label
