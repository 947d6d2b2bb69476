"""Admission: windows that were let in become rows of a data set, each with a role of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from holdfast.data.assigned import STREAMED
from holdfast.data.clusters import exact_clusters
from holdfast.data.columns import read_labels, read_times
from holdfast.data.roles import NONE, assign
from holdfast.data.rows import digest_rows, frame_bytes, row_ids, words
from holdfast.data.source import finish, fit_box
from holdfast.data.table import as_described, encode, feature_names, fit_table, kinds_of
from holdfast.errors import DataError
from holdfast.results import Role, Share, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.data.source import Loaded
    from holdfast.data.streams.base import Arrival

Array = np.ndarray[Any, np.dtype[Any]]
SHARES: dict[Role, float] = {"train": 0.6, "validation": 0.1, "calibration": 0.15, "gate": 0.15}
"""Roles of an admitted window's rows: what trains, what chooses, what the next watch compares with, what gates."""


class AdmittedWindow(Value):
    """A window that a retraining may use, by reference."""

    position: int
    digest: str
    rows_md5: str = ""
    """Of the kept rows, as DVC names them; empty before they are kept."""
    labels_md5: str = ""
    faulty: tuple[int, ...] = ()
    """Rows, by their places in the window, that break what is declared of each row: they train nothing."""


class Manifest(Value):
    """What a retraining learns from: the pinned data and the windows that were admitted, all by content."""

    base_md5: str
    """DVC's md5 of ``data/``."""
    base_content: str
    """Digest of the base's rows, roles and quarantine."""
    base_quarantined: str = ""
    windows: tuple[AdmittedWindow, ...]
    shares: dict[Role, Share] = SHARES
    recent: tuple[int, ...]
    """Places of the last windows, whose held-out rows stand for the present."""
    base_share: Share = 1.0
    """Share of the base's training rows that are replayed, chosen by their content."""
    left_out_md5: str = ""
    """Of the ids of training rows that the present makes implausible, kept as the windows are; empty for none."""

    def objects(self) -> tuple[str, ...]:
        """List the md5 of every object that this data version needs beside the pinned data."""
        named = [md5 for window in self.windows for md5 in (window.rows_md5, window.labels_md5)]
        return tuple(md5 for md5 in (*named, self.left_out_md5) if md5)


@dataclass(frozen=True, eq=False)
class Labelled:
    """A window with its matured labels."""

    arrival: Arrival
    labels: pd.Series[Any]
    """Label of each row (n,), as the source wrote it."""


def admit(
    base: Loaded, windows: Sequence[Labelled], manifest: Manifest, left_out: Array | tuple[int, ...] = ()
) -> Loaded:
    """Lay admitted windows beside the base's rows, and describe the features anew by all training rows.

    The base keeps its roles and names but for its drill rows, which are streams and not history; the rows of windows
    get roles by their content. A row of a window that repeats one of the base, or of another window in another role,
    has no role: it would leak. Rows that the manifest calls faulty are excluded, as pinned ones in quarantine are.

    Args:
        base: the pinned data.
        windows: what came, with matured labels.
        manifest: the roles' shares, and how much of the base is replayed.
        left_out: ids of training rows that train no more.

    Raises:
        DataError: rows or labels are not what the base's are.
    """
    if base.frame is None:
        return _admit_images(base, windows, manifest, left_out)
    params, kept = base.params, kept_rows(base)
    everything = arrived_rows(base, windows)
    held = np.concatenate([kept, np.ones(len(everything) - len(base), dtype=bool)])
    came = np.repeat([w.arrival.position for w in windows], [len(w.arrival) for w in windows]).astype(np.int64)
    added = len(came)
    frame = everything[held].reset_index(drop=True)
    ids = row_ids(digest_rows(frame_bytes(everything, params.path), "row"))[held]
    names = feature_names(frame, params)
    digests = words(digest_rows(frame_bytes(frame[list(names)], params.path), "content"))
    fresh = np.arange(len(frame)) >= len(frame) - added
    roles = np.concatenate([base.roles[kept], _roles(digests[fresh], digests[~fresh], manifest)]).astype("<U11")
    roles[~fresh & (roles == "train") & (uniform(digests) >= manifest.base_share)] = NONE
    roles[(roles == "train") & np.isin(ids, left_out)] = NONE
    excluded = np.concatenate([base.excluded[kept], _faulty(windows, manifest)])
    labels, _ = read_labels(frame[params.label], base.classes, params.path)
    time = None if params.time is None else read_times(frame[params.time], params.path)[0]
    space = fit_table(frame[(roles == "train") & ~excluded], names, as_described(params, kinds_of(base.space)))
    encode(frame, space, place=params.path)  # every row is read before any is used
    return finish(
        params, frame=frame, pixels=None, ids=ids, digests=digests, roles=roles, labels=labels, classes=base.classes,
        time=time, later=np.concatenate([base.later[kept], np.zeros(added, dtype=bool)]), period=base.period,
        excluded=excluded, space=space, window=np.concatenate([_before(base)[kept], came]),
    )  # fmt: skip


def _faulty(windows: Sequence[Labelled], manifest: Manifest) -> Array:
    """Tell which rows (m,) of the windows the manifest calls faulty."""
    known = {each.position: each.faulty for each in manifest.windows}
    places = [np.isin(np.arange(len(w.arrival)), known.get(w.arrival.position, ())) for w in windows]
    return np.concatenate([np.zeros(0, dtype=bool), *places])


def kept_rows(base: Loaded) -> Array:
    """Tell which rows (n,) of the base windows are laid beside: history, and no stream or repeat of one."""
    kept: Array = base.roles != "drill"
    return kept if base.window is None else kept & (base.window != STREAMED)


def arrived_rows(base: Loaded, windows: Sequence[Labelled]) -> pd.DataFrame:
    """Lay the rows of windows below all rows of the base, in the base's columns.

    Raises:
        DataError: rows or labels are not what the base's are.
    """
    if base.frame is None:
        raise DataError(base.params.path, found="images", expected="a table", remedy="Ask for images.")
    arrived = [_with_label(base, window) for window in windows]
    return pd.concat([base.frame, *arrived], ignore_index=True)[list(base.frame.columns)]


def arrived_images(base: Loaded, windows: Sequence[Labelled]) -> tuple[Array, Array]:
    """Give the images (m, c, h, w) of windows in the base's type, and their class indices (m,).

    Raises:
        DataError: images or labels are not what the base's are.
    """
    pinned = np.asarray(base.pixels)
    pixels = np.concatenate([_pixels(base, pinned, window) for window in windows])
    return pixels, np.concatenate([_class_indices(base, window) for window in windows])


def _before(base: Loaded) -> Array:
    """Give the windows (n,) that the base's own rows came with: those of an earlier pin, -1 for none."""
    return np.full(len(base), -1, dtype=np.int64) if base.window is None else base.window


def _admit_images(
    base: Loaded, windows: Sequence[Labelled], manifest: Manifest, left_out: Array | tuple[int, ...]
) -> Loaded:
    """Lay windows of images beside the base's: pixels as they came, names and roles by content, as for tables."""
    kept, params = kept_rows(base), base.params
    pinned = np.asarray(base.pixels)
    came = np.repeat([w.arrival.position for w in windows], [len(w.arrival) for w in windows]).astype(np.int64)
    added, labels = arrived_images(base, windows)
    content = digest_rows(added, "content")
    fresh, known = words(content), base.digests[kept]
    # The label counts as its class, not as some source wrote it, and no name can be one of the base's.
    ids = row_ids(digest_rows(np.concatenate([content, labels[:, None].view(np.uint8)], axis=1), "row of a window"))
    roles = np.concatenate([base.roles[kept], _roles(fresh, known, manifest)]).astype("<U11")
    pixels, digests = np.concatenate([pinned[kept], added]), np.concatenate([known, fresh])
    replayed = (uniform(digests) < manifest.base_share) | (np.arange(len(digests)) >= len(known))
    every = np.concatenate([base.ids[kept], ids])
    roles[(roles == "train") & (~replayed | np.isin(every, left_out))] = NONE
    excluded = np.concatenate([base.excluded[kept], _faulty(windows, manifest)])
    return finish(
        params, frame=None, pixels=pixels, ids=every, digests=digests, roles=roles,
        labels=np.concatenate([base.labels[kept], labels]), classes=base.classes, time=None,
        later=np.concatenate([base.later[kept], np.zeros(len(added), dtype=bool)]), period=base.period,
        excluded=excluded, space=fit_box(pixels[(roles == "train") & ~excluded]),
        window=np.concatenate([_before(base)[kept], came]),
    )  # fmt: skip


def _pixels(base: Loaded, pinned: Array, window: Labelled) -> Array:
    """Give a window's images (n, c, h, w) in the type of the base's.

    Raises:
        DataError: they are a table, or of another size or type.
    """
    place, rows = f"window {window.arrival.position}", window.arrival.rows
    expected = f"images of (channels, height, width) {pinned.shape[1:]}, {pinned.dtype}"
    if not isinstance(rows, np.ndarray):
        raise DataError(place, found="a table", expected=expected, remedy="Watch a stream of images.")
    if rows.shape[1:] != pinned.shape[1:] or rows.dtype != pinned.dtype:
        raise DataError(
            place, found=f"images {rows.shape[1:]}, {rows.dtype}", expected=f"{expected}, as {base.params.path} has",
            remedy="Quarantine the window: it cannot train.",
        )  # fmt: skip
    return rows


def _roles(fresh: Array, known: Array, manifest: Manifest) -> Array:
    roles = assign(fresh, exact_clusters(fresh), manifest.shares)
    roles[np.isin(fresh, known)] = NONE
    return roles


def present(data: Loaded, ids: Array, recent: Sequence[int], fewest: int) -> Array:
    """Find the rows (m,) of a champion's own time among held-out ones: those that came with the last windows.

    Where they are too few to tell anything, older rows make up for them. Where no window stands for the present, as for
    a version of pinned data alone, all of them do.

    Args:
        data: what the champion was trained on.
        ids: of the held-out rows (n,).
        recent: places of the last admitted windows.
        fewest: rows without which nothing can be told.
    """
    if data.window is None or not recent:
        return np.arange(len(ids))
    now = np.isin(ids, data.ids[np.isin(data.window, recent)])
    older = np.flatnonzero(~now)[: max(0, fewest - int(now.sum()))]
    return np.sort(np.concatenate([np.flatnonzero(now), older]))


def uniform(digests: Array) -> Array:
    """Draw a number in [0, 1) for each row (n,) from its content: the same at every retraining."""
    return np.asarray((digests.astype(np.int64).view(np.uint64) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _with_label(base: Loaded, window: Labelled) -> pd.DataFrame:
    """Give a window's rows with the label as the base writes it."""
    place, frame = f"window {window.arrival.position}", window.arrival.rows
    if not isinstance(frame, pd.DataFrame) or base.frame is None:
        raise DataError(place, found="images", expected="a table", remedy="Watch a stream of tables.")
    lacking = [name for name in base.frame.columns if name not in frame and name != base.params.label]
    if lacking:
        raise _unfit(place, f"no column {', '.join(lacking)}", "the columns of the data set")
    index = _class_indices(base, window)
    written = [base.frame[base.params.label].iloc[int(np.flatnonzero(base.labels == k)[0])] for k in np.unique(index)]
    table = dict(zip(np.unique(index).tolist(), written, strict=True))
    return frame.assign(**{base.params.label: [table[k] for k in index.tolist()]})


def _class_indices(base: Loaded, window: Labelled) -> Array:
    """Read a window's labels (n,) int64 as the base's classes, by name or by number.

    Raises:
        DataError: there is not one label for each row, or one is of no class.
    """
    place, text = f"window {window.arrival.position}", window.labels
    if len(text) != len(window.arrival):
        raise _unfit(place, f"{len(text)} labels for {len(window.arrival)} rows", "a label for each row")
    numeric = pd.to_numeric(text, errors="coerce")
    plain = text if set(text) <= set(base.classes) or numeric.isna().any() else numeric
    return read_labels(plain, base.classes, f"{place}, labels")[0]


def _unfit(place: str, found: str, expected: str) -> DataError:
    return DataError(place, found=found, expected=expected, remedy="Quarantine the window: it cannot train.")
