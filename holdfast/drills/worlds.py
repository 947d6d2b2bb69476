"""The windows of a drill: rows held back for it, drawn for a seed, with the incident's events in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from holdfast.drills.events.base import Batch
from holdfast.errors import DataError
from holdfast.seeding import Noise

if TYPE_CHECKING:
    from holdfast.data.source import Loaded
    from holdfast.drills.events.base import Scene
    from holdfast.drills.incident import Incident, Tilt, World

Array = np.ndarray[Any, np.dtype[Any]]


def windows(incident: Incident, scene: Scene, rows: int, seed: int) -> list[Batch]:
    """Draw every window of a drill, events included; a pure function of its arguments.

    Args:
        incident: the timeline.
        scene: data, of which role ``drill`` is read, and the champion that events may aim at.
        rows: of each window.
        seed: of the drill.

    Raises:
        DataError: the data hold too few rows of the worlds that the incident asks for, or an event cannot befall them.
    """
    noise = Noise(seed, ("drill", incident.name))
    chosen = _chosen(incident, scene.data, rows, noise)
    batches = []
    for place, held in enumerate(chosen):
        batch = _batch(scene.data, held)
        for number, event in incident.row_events(place):
            batch = event.strike(batch, scene, noise.derive(event.name(), place, number))
        batches.append(batch)
    return batches


def repeated(incident: Incident, data: Loaded, rows: int, seed: int) -> float:
    """Tell which share of the rows from onset on an earlier window of the drill brought too.

    Detectors and screening know such rows from before: what they find among them flatters them.
    """
    seen = np.zeros(len(data), dtype=bool)
    again = []
    for held in _chosen(incident, data, rows, Noise(seed, ("drill", incident.name))):
        again.append(float(seen[held].mean()))
        seen[held] = True
    return float(np.mean(again[incident.onset :]))


def _chosen(incident: Incident, data: Loaded, rows: int, noise: Noise) -> list[Array]:
    """Find the rows (rows,) of each window by their places in the data set."""
    found: list[Array] = []
    last = np.full(len(data), -1)  # window that brought each row last
    for world, start, end in _spans(incident):
        pool = _enough(incident, world, data, rows, end - start)
        if world.period == "later":
            found += _parted(pool, data, rows, end - start, noise.derive("order"), ordered=world.ordered)
            continue
        for place in range(start, end):
            held = _draw(pool, last[pool], data, rows, world.tilt, noise.derive("window", place))
            last[held] = place
            found.append(held)
    return found


def require_rows(incident: Incident, data: Loaded, rows: int) -> None:
    """Refuse an incident that the data have too few rows for, before anything is played.

    Raises:
        DataError: they do.
    """
    for world, start, end in _spans(incident):
        _enough(incident, world, data, rows, end - start)


def _spans(incident: Incident) -> tuple[tuple[World, int, int], ...]:
    """Give each world of an incident, with its first window and the one behind its last."""
    later = incident.after or incident.before
    return (incident.before, 0, incident.onset), (later, incident.onset, incident.horizon)


def _enough(incident: Incident, world: World, data: Loaded, rows: int, count: int) -> Array:
    """Find the rows of a world, by place; there must be enough of them for so many windows."""
    once = world.period == "later"
    pool, asked = _pool(world, data), count * rows if once else rows
    if len(pool) < asked:
        remedy = "Give data.roles a share of drill, and train a champion with it (`holdfast run`)."
        raise DataError(
            f"drill {incident.name}", found=f"{len(pool)} rows of role drill of the {world.period} period",
            expected=f"at least {asked}, for {count} windows of {rows}",
            remedy="Lower drills.rows, or widen its time." if once else remedy,
        )  # fmt: skip
    return pool


def _pool(world: World, data: Loaded) -> Array:
    held = (data.roles == "drill") & (data.later == (world.period == "later"))
    if data.time is not None:
        held &= data.time >= (-np.inf if world.since is None else world.since)
        held &= np.floor(data.time) <= (np.inf if world.until is None else world.until)
    return np.flatnonzero(held)


def _draw(pool: Array, last: Array, data: Loaded, rows: int, tilt: Tilt | None, noise: Noise) -> Array:
    """Draw rows without replacement: those that came longest ago, or never, first; among equals by chance.

    Windows share no row so long as the pool lasts. Where they are tilted the heavier rows are the likelier (Efraimidis
    and Spirakis 2006), however often they came: a shift of what is left would fade.
    """
    u = noise.uniform(torch.from_numpy(data.ids[pool])).double().numpy()
    if tilt is None:
        held = np.lexsort((-u, last))[:rows]
        return np.asarray(pool[held[noise.derive("order").numpy().permutation(rows)]])  # not by when they came
    keys = np.log(np.maximum(u, 2.0**-25)) / np.exp(tilt.strength * _standing(pool, data, tilt))
    return np.asarray(pool[np.argsort(-keys, kind="stable")[:rows]])


def _standing(pool: Array, data: Loaded, tilt: Tilt) -> Array:
    """Say how many standard deviations (n,) each row's number stands above the pool's mean, within 3."""
    frame = data.frame
    if frame is None:
        raise DataError("drill tilt", found="images", expected="rows of a table", remedy="Leave the incident out.")
    numbers = [f.name for f in getattr(data.space, "features", ()) if f.kind == "number" and (f.iqr or f.spread)]
    name = tilt.feature or (numbers[0] if numbers else None)
    if name is None or name not in numbers:
        raise DataError(
            "drill tilt", found=f"feature {name}", expected=f"one of {', '.join(numbers)}",
            remedy="Name a numeric feature in the incident's settings.",
        )  # fmt: skip
    values = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)[pool]
    values = np.where(np.isnan(values), np.nanmean(values), values)
    return np.asarray(np.clip((values - values.mean()) / (values.std() or 1.0), -3.0, 3.0))


def _parted(pool: Array, data: Loaded, rows: int, count: int, noise: Noise, *, ordered: bool) -> list[Array]:
    """Part the pool into ``count`` windows, each row at most once: what was learned from one is asked in no other.

    Ordered windows are spread over the pool's time, each of rows that lie together in it.
    """
    time = np.zeros(len(pool)) if data.time is None or not ordered else np.floor(data.time[pool])
    u = noise.uniform(torch.from_numpy(data.ids[pool])).numpy()
    order = pool[np.lexsort((u, time))]
    return [part[np.sort(noise.derive(i).numpy().permutation(len(part))[:rows])]
            for i, part in enumerate(np.array_split(order, count))]  # fmt: skip


def _batch(data: Loaded, rows: Array) -> Batch:
    labels = data.labels[rows].copy()
    if data.frame is not None:
        frame = data.frame.iloc[rows].drop(columns=[data.params.label]).reset_index(drop=True)
        return Batch(frame, labels, labels.copy(), np.zeros(len(rows), dtype=bool))
    return Batch(np.asarray(data.pixels)[rows], labels, labels.copy(), np.zeros(len(rows), dtype=bool))
