"""The pinned data's own later rows, replayed in the order of time: a rehearsal of production."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, final

import numpy as np
from pydantic import Field

from holdfast.data.streams.base import Arrival, Site, Stream
from holdfast.errors import DataError
from holdfast.seeding import Noise

if TYPE_CHECKING:
    from holdfast.data.source import Loaded

Array = np.ndarray[Any, np.dtype[Any]]


@final
class Replay(Stream):
    """Rows of role ``drill``, period by period; within a period in an order that a seed draws.

    A period is a whole unit of ``data.time``, a year where times are years: data that say no more than the year can
    be ordered no further.
    """

    needs_data: ClassVar[bool] = True

    windows_per_period: Annotated[int, Field(gt=0)] = 6
    label_delay: Annotated[int, Field(ge=0)] = 0
    """Windows after which the labels of a window mature."""
    since: float | None = None
    """First time that is replayed; rows before it train nothing either."""
    until: float | None = None
    """Last time that is replayed."""
    seed: Annotated[int, Field(ge=0)] = 0

    def arrival(self, position: int, site: Site) -> Arrival | None:
        """Give the rows of a window, without their label."""
        source = _required(site.data)
        rows = self._rows(position, source)
        if rows is None:
            return None
        if source.frame is None:
            return Arrival(position, np.asarray(source.pixels)[rows])
        frame = source.frame.iloc[rows].drop(columns=[source.params.label])
        return Arrival(position, frame.reset_index(drop=True))

    def labels(self, position: int, now: int, site: Site) -> Array | None:
        """Give the classes' names once ``label_delay`` windows have come after it."""
        source = _required(site.data)
        rows = self._rows(position, source)
        if rows is None or now < position + self.label_delay:
            return None
        return np.array(source.classes, dtype=object)[source.labels[rows]]

    def _rows(self, position: int, data: Loaded) -> Array | None:
        """Find the rows (n,) of a window by their places in the data set."""
        windows = self._windows(data)
        return windows[position] if position < len(windows) else None

    def _windows(self, data: Loaded) -> list[Array]:
        held = np.flatnonzero(_held(data))
        time = np.zeros(len(data)) if data.time is None else np.floor(data.time)
        for name, bound in (("since", self.since), ("until", self.until)):
            held = held if bound is None else _within(name, bound, held, time)
        windows: list[Array] = []
        for period in np.unique(time[held]):
            rows = held[time[held] == period]
            order = torch_order(data.ids[rows], Noise(self.seed, ("replay", str(period))))
            windows += [part for part in np.array_split(rows[order], self.windows_per_period) if len(part)]
        return windows


def _within(name: str, bound: float, held: Array, time: Array) -> Array:
    """Keep the rows (m,) of those held (n,) that a setting asks for.

    Raises:
        DataError: there are none: a watch would say that nothing came, and that all is well.
    """
    kept: Array = held[time[held] >= bound if name == "since" else time[held] <= bound]
    if not len(kept):
        raise DataError(
            f"monitoring.stream.settings.{name}",
            found=f"{bound:g}, and rows of {time[held].min():g} to {time[held].max():g}",
            expected="a time within them", remedy="Set it to such a time, or to null for all rows.",
        )  # fmt: skip
    return kept


def torch_order(ids: Array, noise: Noise) -> Array:
    """Order rows (n,) by a draw for each id: rows that are added move no other against each other."""
    import torch  # noqa: PLC0415  params are checked without it

    return np.asarray(noise.uniform(torch.from_numpy(ids)).numpy().argsort(kind="stable"))


def _required(data: Loaded | None) -> Loaded:
    if data is None or not _held(data).any():
        raise DataError(
            "monitoring.stream.source", found="no row of role drill to replay",
            expected="rows of role drill, later than data.train_until where rows have a time",
            remedy="Give data.roles a share of drill, or watch a source of your own: docs/watch-a-stream.md.",
        )  # fmt: skip
    return data


def _held(data: Loaded) -> Array:
    return np.asarray((data.roles == "drill") & (data.later if data.later.any() else True))
