"""A data set in memory: read, named row by row, parted into roles, described by its training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from holdfast.data import Samples
from holdfast.data.assigned import read_assigned
from holdfast.data.clusters import differing_clusters, exact_clusters, near_clusters
from holdfast.data.columns import read_labels, read_times
from holdfast.data.images import read_images
from holdfast.data.roles import NONE, ROLES, assign, check_roles
from holdfast.data.rows import digest_rows, frame_bytes, image_digests, row_ids, words
from holdfast.data.table import (
    as_described,
    check_columns,
    check_words,
    encode,
    feature_names,
    fit_table,
    kinds_in,
    read_table,
)
from holdfast.digests import digest_json
from holdfast.errors import DataError, RoleError
from holdfast.integrity.base import Material, say_nothing
from holdfast.integrity.image_statistics import image_statistics
from holdfast.networks import TableEncoder
from holdfast.results import Role, RoleSummary, Value
from holdfast.space import Box, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from torch import Tensor

    from holdfast.data.params import DataParams

Array = np.ndarray[Any, np.dtype[Any]]
Period = Literal["training", "later"]
NEVER_EXCLUDED: frozenset[Role] = frozenset({"test", "drill"})
"""Roles that keep quarantined rows: the scorecard and the streams take the world as it is."""
LEARNED_FROM: tuple[Role, ...] = ("train", "validation", "calibration")
"""Roles whose rows fit, choose or calibrate a model."""
_MOST_DIFFERING = 2
_CHUNK = 1024  # images summed at a time


class RowsSeen(Value):
    """Which rows a version learned from: what it is never asked about when it stands for promotion."""

    columns: tuple[str, ...] | None
    """Every column of the table, in order: what the ids were computed over; None for images."""
    ids: tuple[int, ...]
    """Row ids, rising."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """One snapshot of a data set, every row at the same position in every array."""

    params: DataParams
    frame: pd.DataFrame | None
    """The table as it was read; None for images."""
    pixels: Array | None
    """Images (n, c, h, w), uint8 or float32 in [0, 1]; None for tables."""
    ids: Array
    """Row ids (n,) int64, unique; from each row's whole content and its number among equal rows."""
    digests: Array
    """Content digests (n,) int64 over the features alone: equal exactly when rows are duplicates."""
    roles: Array
    """Roles (n,) str, empty for none; a pure function of content and period."""
    labels: Array
    """Class indices (n,) int64."""
    classes: tuple[str, ...]
    time: Array | None
    """Times (n,) float64."""
    later: Array
    """Rows (n,) bool after ``train_until``."""
    period: tuple[str, str] | None
    """First and last time, as text."""
    excluded: Array
    """Quarantined rows (n,) bool."""
    space: Table | Box
    """Fitted on the training rows that are not quarantined."""
    digest: str
    """Names rows, roles, quarantine and the data section of params together."""
    window: Array | None = None
    """Place (n,) int64 of the window that each row came with, -1 for pinned rows; None where none was admitted."""

    def __len__(self) -> int:
        return len(self.ids)

    def samples(
        self,
        role: Role,
        period: Period | None = None,
        space: Table | Box | None = None,
        without: Collection[int] = (),
    ) -> Samples:
        """Give the rows of one role, in the order of the source.

        Args:
            role: quarantined rows are left out of every role but ``test`` and ``drill``.
            period: those of the training period, or those after it; no role but ``test`` and ``drill`` has any of
                these. None is the later period for ``drill``, which has no other, and the training period for the rest.
            space: a model's own space, where it was trained on another snapshot: categories get *its* codes.
            without: ids of rows to leave out; what is left goes by another name.

        Raises:
            DataError: the rows do not fit that space.
        """
        asked = period or ("later" if role == "drill" else "training")
        held = self.holds(role) & (self.later == (asked == "later"))
        rows = np.flatnonzero(held & ~np.isin(self.ids, np.fromiter(without, dtype=np.int64)))
        return Samples(
            x=self._inputs(rows, space or self.space),
            y=torch.from_numpy(self.labels[rows]),
            ids=torch.from_numpy(self.ids[rows]),
            role=role,
            snapshot=name_without(self.digest, without),
            time=None if self.time is None else torch.from_numpy(self.time[rows]),
        )

    def holds(self, role: Role) -> Array:
        """Tell which rows (n,) bool a role may use."""
        held: Array = self.roles == role
        return held if role in NEVER_EXCLUDED else held & ~self.excluded

    def rows_seen(self) -> RowsSeen:
        """Say which rows a model trained on this snapshot learned from, was chosen by or calibrated on."""
        held = np.any([self.holds(role) for role in LEARNED_FROM], axis=0)
        columns = None if self.frame is None else tuple(self.frame.columns)
        return RowsSeen(columns=columns, ids=tuple(np.unique(self.ids[held]).tolist()))

    def recognise(self, seen: RowsSeen) -> Array:
        """Find rows (n,) bool that a version learned from, whatever roles they hold now, and their exact duplicates.

        Rows are matched by what the version's own table held of them: columns that came later count for nothing.

        Raises:
            RoleError: it cannot be told: a column is gone, or one side is a table and the other images.
        """
        gone = sorted(set(seen.columns or ()) - set(() if self.frame is None else self.frame.columns))
        if gone or (seen.columns is None) != (self.frame is None):
            raise RoleError(
                self.params.path,
                found="data of another kind" if self.frame is None or not gone else f"no column {', '.join(gone)}",
                expected="all that the version's own rows were named by, so that they can be told apart",
                remedy="Put the columns back into the file: data.exclude hides them from models.",
            )
        known = np.array(seen.ids, dtype=np.int64)
        found = np.isin(self.ids, known)
        if self.frame is not None and seen.columns is not None:
            content = digest_rows(frame_bytes(self.frame[list(seen.columns)], self.params.path), "row")
            found = np.isin(row_ids(content), known)
            found = np.isin(words(content), words(content)[found])  # a row that was added again is no other row
        return np.isin(self.digests, self.digests[found])

    @property
    def last_window(self) -> int | None:
        """Place of the last window of the stream whose rows are here; None where there is none."""
        last = -1 if self.window is None else int(self.window.max(initial=-1))
        return None if last < 0 else last

    def role_summaries(self) -> dict[Role, RoleSummary]:
        """Count the rows of each role that has any, and name them."""
        return {role: _summary(self.ids[self.holds(role)]) for role in ROLES if self.holds(role).any()}

    def quarantined(self) -> str:
        """Name the quarantined rows of this snapshot; empty when there are none."""
        return _summary(self.ids[self.excluded]).digest if self.excluded.any() else ""

    def material(
        self, *, seed: int, provenance: Mapping[str, str], progress: Callable[[str], None] = say_nothing
    ) -> Material:
        """Give what the integrity checks look at: every row, quarantined or not.

        Args:
            seed: of the checks that draw.
            provenance: ``md5`` as found, ``expected_md5`` as pinned.
            progress: hears a line before each step of a check that takes long.
        """
        label: str | None = self.params.label
        if self.frame is None:
            frame = image_statistics(self.pixels) if self.pixels is not None else pd.DataFrame()
            label = "label"
            frame[label] = np.array(self.classes, dtype=object)[self.labels]
        else:
            frame = self.frame
        return Material(
            frame=frame, label=label, time=self.params.time if self.frame is not None else None, ids=self.ids,
            features=self._features(), labels=self.labels, roles=self.roles,
            kind="table" if self.frame is not None else "images", provenance=dict(provenance), seed=seed,
            progress=progress,
        )  # fmt: skip

    def _inputs(self, rows: Array, space: Table | Box) -> Tensor:
        if self.pixels is not None:
            return _unit(self.pixels[rows])
        if self.frame is None or not isinstance(space, Table):
            raise _misfit(self.params.path, space)
        return encode(self.frame.iloc[rows], space, place=self.params.path)

    def _features(self) -> Array:
        return quick_features(self._inputs(np.arange(len(self)), self.space), self.space)


def quick_features(x: Tensor, space: Table | Box) -> Array:
    """Give what quick classifiers and checks read of inputs (n, *shape): float32 (n, d).

    Pixels as they are; of a table one column for each number and each category.
    """
    if isinstance(space, Table):
        # One column for each number: distances between rows are the checks' business, not thresholds.
        plain = tuple(feature.model_copy(update={"knots": ()}) for feature in space.features)
        with torch.no_grad():
            x = TableEncoder(space.model_copy(update={"features": plain}))(x)
    features: Array = x.flatten(1).numpy()
    return features


def inputs_of(rows: pd.DataFrame | Array, space: Table | Box, place: str) -> Tensor:
    """Turn rows of a table, or images (n, c, h, w), into a model's inputs.

    Raises:
        DataError: they do not fit that space.
    """
    if isinstance(rows, np.ndarray) and isinstance(space, Box) and rows.shape[1:] == space.shape:
        return _unit(rows)
    if isinstance(rows, np.ndarray) or not isinstance(space, Table):
        raise _misfit(place, space)
    return encode(rows, space, place=place)


def name_without(content: str, ids: Collection[int]) -> str:
    """Name a snapshot from which rows were left out; one that is whole keeps its name."""
    return digest_json([content, sorted(ids)]) if ids else content


def load(data_root: Path, params: DataParams, excluded_ids: AbstractSet[int] = frozenset()) -> Loaded:
    """Read a data set, part it into roles and describe it by its training rows; no seed has a say in it.

    Args:
        data_root: the folder ``data/``.
        params: what the data set is.
        excluded_ids: ids of quarantined rows.

    Raises:
        DataError: the data cannot be read, or is not what params say.
    """
    path = data_root / params.path
    if params.kind == "table":
        return _load_table(path, params, excluded_ids)
    return _load_images(path, params, excluded_ids)


def _load_table(path: Path, params: DataParams, excluded_ids: AbstractSet[int]) -> Loaded:
    frame = read_table(path)
    check_columns(frame, params)
    names = feature_names(frame, params)
    if not names:
        raise DataError(
            params.path, found="no columns but label, time and excluded ones", expected="features",
            remedy="Shorten data.exclude.",
        )  # fmt: skip
    labels, classes = read_labels(frame[params.label], params.classes, f"{params.path}, column {params.label}")
    time, period, later = None, None, np.zeros(len(frame), dtype=bool)
    if params.time is not None:
        time, period = read_times(frame[params.time], f"{params.path}, column {params.time}")
        later = time > params.train_until if params.train_until is not None else later
    seen = frame[list(names)]
    digests = words(digest_rows(frame_bytes(seen, params.path), "content"))
    row = digest_rows(frame_bytes(frame, params.path), "row")
    if (pinned := read_assigned(path, words(row))) is not None:
        ids, roles, later = pinned.ids, pinned.roles, pinned.later
    else:
        ids, clusters = row_ids(row), exact_clusters(digests)
        if params.duplicates < 1:
            clusters = differing_clusters(seen, _differing(params, len(names)))
        roles = assign(digests, clusters, params.roles, later=later, later_test=params.later_test)
    known = params
    if pinned is None:
        check_words(frame, names, params)
    else:  # what a window brought makes nothing else of a column than its older rows do
        known = as_described(params, kinds_in(frame[pinned.window < 0], names, params))
    excluded = np.isin(ids, np.fromiter(excluded_ids, dtype=np.int64))
    fitted = (roles == "train") & ~excluded
    check_roles(params, roles, labels, fitted, classes, later)
    space = fit_table(frame[fitted], names, known)
    encode(frame, space, place=params.path)  # every row is read before any is used
    return finish(
        params, frame=frame, pixels=None, ids=ids, digests=digests, roles=roles, labels=labels, classes=classes,
        time=time, later=later, period=period, excluded=excluded, space=space,
        window=None if pinned is None else pinned.window,
    )  # fmt: skip


def _load_images(path: Path, params: DataParams, excluded_ids: AbstractSet[int]) -> Loaded:
    if not path.exists():
        raise DataError(
            params.path, found="nothing", expected="images below data/", remedy="Correct data.path in params.yaml."
        )
    images = read_images(path, "y" if params.label == "label" else params.label)
    if images.tested.any() and "test" in params.roles:
        left = {
            role: round(share / (1 - params.roles["test"]), 3) for role, share in params.roles.items() if role != "test"
        }
        raise DataError(
            params.path, found=f"a test set of {images.tested.sum()} rows in the source, and a share of role test",
            expected="one of the two", remedy=f"Leave test out of data.roles: {left}, for example.",
        )  # fmt: skip
    column = pd.Series(images.y)
    labels, classes = read_labels(column, params.classes or images.classes, f"{params.path}, labels")
    content = digest_rows(images.pixels, "content")
    digests = words(content)
    row = image_digests(content, column, params.path)
    if (pinned := read_assigned(path, words(row))) is not None:
        ids, roles = pinned.ids, pinned.roles
    else:
        ids, clusters = row_ids(row), exact_clusters(digests)
        if params.duplicates < 1:
            clusters = near_clusters(_unit(images.pixels).flatten(1).numpy(), params.duplicates)
        roles = assign(digests, clusters, params.roles, tested=images.tested)
    excluded = np.isin(ids, np.fromiter(excluded_ids, dtype=np.int64))
    fitted = (roles == "train") & ~excluded
    check_roles(params, roles, labels, fitted, classes)
    return finish(
        params, frame=None, pixels=images.pixels, ids=ids, digests=digests, roles=roles, labels=labels, classes=classes,
        time=None, later=np.zeros(len(ids), dtype=bool), period=None, excluded=excluded,
        space=fit_box(images.pixels[fitted]), window=None if pinned is None else pinned.window,
    )  # fmt: skip


def finish(params: DataParams, **parts: Any) -> Loaded:  # noqa: ANN401  the fields of Loaded
    """Name rows, roles, quarantine and the data section of params together, and give the data set."""
    ids, roles, excluded = parts["ids"], parts["roles"], parts["excluded"]
    named = {role: _summary(ids[roles == role]).digest for role in (*ROLES, NONE)}
    digest = digest_json([named, _summary(ids[excluded]).digest, params.fingerprint()])
    return Loaded(params=params, digest=digest, **parts)


def _summary(ids: Array) -> RoleSummary:
    return RoleSummary(rows=len(ids), digest=digest_json(np.sort(ids).tolist()))


def _differing(params: DataParams, features: int) -> int:
    """Give the number of columns in which near duplicates may differ."""
    differing = int((1 - params.duplicates) * features + 1e-9)
    if differing > _MOST_DIFFERING:
        least = 1 - _MOST_DIFFERING / features
        raise DataError(
            "data.duplicates", found=f"{params.duplicates}: rows that differ in {differing} of {features} columns",
            expected=f"at least {least:.3f}: {_MOST_DIFFERING} columns", remedy="Raise it.",
        )  # fmt: skip
    return differing


def _unit(pixels: Array) -> Tensor:
    """Give images as float32 in [0, 1]."""
    x = torch.from_numpy(np.ascontiguousarray(pixels))
    return x.to(torch.float32) / 255.0 if pixels.dtype == np.uint8 else x


def fit_box(pixels: Array) -> Box:
    """Describe images (n, c, h, w) by their shape and the mean and spread of each channel."""
    mean, std = _channels(pixels)
    return Box(shape=(int(pixels.shape[1]), int(pixels.shape[2]), int(pixels.shape[3])), mean=mean, std=std)


def _channels(pixels: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in [0, 1] units; 1 for a channel that is constant."""
    totals = np.zeros((2, pixels.shape[1]))
    for start in range(0, len(pixels), _CHUNK):
        part = _unit(pixels[start : start + _CHUNK]).numpy().astype(np.float64)
        totals += (part.sum((0, 2, 3)), np.square(part).sum((0, 2, 3)))
    mean, square = totals / (len(pixels) * pixels.shape[2] * pixels.shape[3])
    std = np.sqrt(np.maximum(square - mean**2, 0.0))
    return tuple(mean.tolist()), tuple(np.where(std > 1e-6, std, 1.0).tolist())  # noqa: PLR2004  rounding of 0


def _misfit(path: str, space: Table | Box) -> DataError:
    return DataError(
        path,
        found="rows of another kind or size",
        expected=f"inputs of a {space.kind} space",
        remedy="This model is for other data.",
    )
