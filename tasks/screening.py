"""Screening: matured windows inspected for poison before anything may learn from them, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.data.escrow import Escrow
from holdfast.data.source import inputs_of, quick_features
from holdfast.digests import work_key
from holdfast.errors import DataError
from holdfast.monitoring.watch import SET_ASIDE, WindowRecord
from holdfast.params import Params
from holdfast.recovery.ablation import Labelled
from holdfast.recovery.inspection import (
    Inspection,
    Known,
    Names,
    call,
    inspect,
    judged_again,
    looked_at,
    measure,
    pinned,
)
from holdfast.recovery.screening import Judged
from holdfast.recovery.triage import Tainted
from holdfast.results import DataSnapshot
from holdfast.seeding import Noise
from holdfast.stores import Stores
from tasks.monitoring import class_indices, open_watch, set_aside
from tasks.progress import tell
from tasks.storage import load_data

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor

    from holdfast.data.source import Loaded
    from holdfast.recovery.inspection import Kind
    from holdfast.results import Role

    Array = np.ndarray[Any, np.dtype[Any]]
_PINNED = 20_000
"""Pinned training rows that judge windows, at most."""
_FURTHEST = float(np.log1p(np.finfo(np.float32).max))
"""Code of the largest distance from a median that float32 holds."""


@task(cache_policy=NO_CACHE)
def screen(params: Params, stores: Stores, snapshot: DataSnapshot, matured: tuple[WindowRecord, ...]) -> None:
    """Inspect every matured window that was not inspected yet, in order; the verdict is on record before it is used."""
    watch = open_watch(params, stores)
    for record in matured:
        if record.position in watch.verdicts() or record.state in SET_ASIDE:
            continue
        found = _inspected(params, stores, snapshot, record)
        watch.screened(record.position, "suspected" if found.poison else "clean", found.model_dump_json())
        if found.poison:
            said = f"cannot be read: {found.unreadable}" if found.unreadable else "its labels are not to be believed"
            tell("monitoring", f"window {record.position}  screening  {said}")


@task(cache_policy=NO_CACHE)
def tainted(params: Params, stores: Stores, snapshot: DataSnapshot) -> tuple[Tainted, ...]:
    """List the windows that did not pass their screening and are not set aside yet, with what speaks against them."""
    watch = open_watch(params, stores)
    verdicts = watch.verdicts()
    waiting = [w.position for w in watch.windows() if w.state == "escrowed" and verdicts.get(w.position) == "suspected"]
    if not waiting:
        return ()
    names = _names(load_data(stores, params, snapshot))
    found = {position: Inspection.model_validate_json(watch.screening(position) or "") for position in waiting}
    return tuple(Tainted(position=position, reasons=each.reasons(names)) for position, each in found.items())


def _inspected(params: Params, stores: Stores, snapshot: DataSnapshot, record: WindowRecord) -> Inspection:
    """Inspect a window; one that cannot be read is not cleared."""
    data, settings = load_data(stores, params, snapshot), params.recovery.screening
    names = _names(data)
    try:
        rows, parts = _window(params, stores, data, names, record, settings.rows)
    except DataError as error:
        return Inspection(poison=True, unreadable=str(error))
    noise = Noise(params.seed, ("screening", record.digest))
    base = _base(params, stores, snapshot, data, names)
    witness = call(
        rows.features, base=base, clean=_clean(params, stores, data, names, base, record), settings=settings,
        kind=_kind(data), classes=len(data.classes), noise=noise,
    )  # fmt: skip
    return inspect(rows, parts, witness, _role(params, data, names, "trusted"), noise)


def _kind(data: Loaded) -> Kind:
    return "images" if data.frame is None else "table"


def _names(data: Loaded) -> Names:
    return Names.of(data.samples("train").x.flatten(1), data.space, data.classes)


def _window(
    params: Params, stores: Stores, data: Loaded, names: Names, record: WindowRecord, most: int
) -> tuple[Labelled, dict[str, Array]]:
    """Give the rows of a window that are looked at."""
    labels = class_indices(params, stores, record)
    x = inputs_of(Escrow(stores.escrow).rows(record.digest, record.position).rows, data.space, _place(record))
    chosen = looked_at(record.digest, record.rows, most)
    return _labelled(params, data, names, x[chosen], labels[chosen])


def _labelled(
    params: Params, data: Loaded, names: Names, x: Tensor, labels: Array
) -> tuple[Labelled, dict[str, Array]]:
    parts, features = names.parts(x.flatten(1), labels, params.recovery.screening), quick_features(x, data.space)
    if not np.isfinite(features).all():  # one wild row would end whoever fits on it, and the watch with them
        features = np.clip(features, -_FURTHEST, _FURTHEST)
    return Labelled(features, labels), parts


def _base(params: Params, stores: Stores, snapshot: DataSnapshot, data: Loaded, names: Names) -> Known:
    """Give the pinned training rows as they judge windows; judged once for a snapshot."""
    train = data.samples("train")
    chosen = np.sort(Noise(0, ("screening", "pinned")).numpy().permutation(len(train))[:_PINNED])
    rows, parts = _labelled(params, data, names, train.x[chosen], train.y.numpy()[chosen])
    facts = params.recovery.screening.facts
    key = work_key("screening", snapshot.content, str(_PINNED), measure(_kind(data), facts=facts), seed=params.seed)
    known = stores.results.get(key, Inspection)
    if known is not None:
        return known.known(rows, parts)
    tell("monitoring", f"{len(rows)} pinned rows are judged, to screen windows by")
    found = pinned(rows, parts, _kind(data), len(data.classes), params.seed & 0x7FFFFFFF, facts=facts)
    stores.results.put(key, Inspection.of_known(found, _kind(data)))
    return found


def _clean(
    params: Params, stores: Stores, data: Loaded, names: Names, base: Known, record: WindowRecord
) -> list[Known]:
    """Give the last windows before this one that were found clean, judged as they were then.

    One that an older release judged by another measure, or before labels became facts, is judged again: left out, a
    stream that drifted would be held against pinned rows alone. One that cannot be read any more judges nobody.
    """
    watch = open_watch(params, stores)
    verdicts = watch.verdicts()
    # What was set aside, as an attack or a broken feed is, is not known to be good, whatever its labels came to.
    there = [w for w in watch.windows() if w.position < record.position and w.state not in SET_ASIDE]
    before = [w for w in there if verdicts.get(w.position) == "clean"]
    found: list[Known] = []
    for each in before[-params.recovery.screening.past :]:
        told = Inspection.model_validate_json(watch.screening(each.position) or "")
        try:
            rows, parts = _window(params, stores, data, names, each, len(told.unpack()))
        except DataError as error:
            set_aside(watch, each, error)
            continue
        if told.measure == measure(_kind(data), facts=params.recovery.screening.facts):
            found.append(told.known(rows, parts))
            continue
        tell("monitoring", f"window {each.position}  screening  it is judged again, by this release's measure")
        noise = Noise(params.seed, ("screening", each.digest))
        found.append(
            judged_again(rows, parts, base=base, clean=found, kind=_kind(data), classes=len(data.classes), noise=noise)
        )
    return found


def _role(params: Params, data: Loaded, names: Names, role: Role) -> Known | None:
    held = data.samples(role)
    if len(held) == 0:
        return None
    rows, parts = _labelled(params, data, names, held.x, held.y.numpy())
    return Known(rows, Judged(np.zeros(len(rows)), parts))


def _place(record: WindowRecord) -> str:
    return f"window {record.position}"
