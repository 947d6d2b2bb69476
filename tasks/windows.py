"""Windows: out of the stream into escrow, labels after their rows, and out of escrow into what trains."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.data.admission import AdmittedWindow, Manifest
from holdfast.data.assigned import pinned_windows
from holdfast.data.escrow import Escrow
from holdfast.data.streams.base import Site
from holdfast.errors import DataError
from holdfast.monitoring.watch import SET_ASIDE, WindowRecord
from holdfast.params import Params
from holdfast.results import DataSnapshot, Decision
from holdfast.stores import Stores
from tasks import objects
from tasks.faults import faulty_rows
from tasks.monitoring import LABELS, open_watch, set_aside
from tasks.prediction import open_champion
from tasks.progress import tell
from tasks.readable import unreadable
from tasks.recovery import open_ledger
from tasks.storage import admitted_snapshot, load_data, weighed
from tasks.versioning import DATA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdfast.data.streams.base import Stream
    from holdfast.monitoring.watch import Verdict, Watch
    from holdfast.predictor import Predictor


@task(cache_policy=NO_CACHE)
def receive(params: Params, stores: Stores, snapshot: DataSnapshot, position: int) -> WindowRecord | None:
    """Take the window at a place from the stream into escrow; None where it has not come yet.

    A window that was received before is the one in escrow, whatever the stream says of that place now.

    Raises:
        DataError: the place before it holds other rows than it did: what comes next is not what followed.
    """
    watch, stream = open_watch(params, stores), params.stream()
    windows = watch.windows()
    known = next((window for window in windows if window.position == position), None)
    if known is not None:
        return known
    site = _site(params, stores, snapshot)
    arrival = stream.arrival(position, site)
    _require_in_place(stream, site, windows, position - 1)  # afterwards: what moved before it was read shows
    if arrival is None:
        return None
    return watch.arrive(position, Escrow(stores.escrow).keep(arrival), len(arrival))


@task(cache_policy=NO_CACHE)
def mature(params: Params, stores: Stores, snapshot: DataSnapshot, position: int) -> tuple[WindowRecord, ...]:
    """Take the labels that have matured by now into escrow, and give the windows that have theirs.

    Raises:
        DataError: the stream holds other rows where a window was, or not one label for each row.
    """
    watch, stream, site = open_watch(params, stores), params.stream(), _site(params, stores, snapshot)
    windows = watch.windows()
    for window in windows:
        if window.matured or window.state == "pruned" or window.position > position:
            continue
        labels = stream.labels(window.position, position, site)
        if labels is None:
            continue
        _require_in_place(stream, site, windows, window.position)
        if len(labels) != window.rows:
            raise DataError(
                f"window {window.position}", found=f"{len(labels)} labels", expected=f"{window.rows}, one for each row",
                remedy="Mend the source of labels.",
            )  # fmt: skip
        watch.mature(window.position, Escrow(stores.escrow).keep_labels(labels))
    return tuple(window for window in watch.windows() if window.matured and window.position <= position)


def _require_in_place(stream: Stream, site: Site, windows: Sequence[WindowRecord], position: int) -> None:
    """Hold the stream to the rows that it gave at a place: labels go by place, and so does what comes next.

    Pinned data is held to its md5, and a replay of it cannot move.

    Raises:
        DataError: it holds others there, or none.
    """
    window = next((window for window in windows if window.position == position), None)
    if window is None or stream.needs_data:
        return
    arrival = stream.arrival(position, site)
    digest = "" if arrival is None else arrival.digest
    if digest == window.digest:
        return
    moved = next((f", those of window {other.position}" for other in windows if other.digest == digest), "")
    raise DataError(
        f"stream, window {position}", found=f"rows {digest[:16]}{moved}" if digest else "no rows",
        expected=f"rows {window.digest[:16]}, as they came",
        remedy="A stream keeps what it gave in its place: put back what was removed, changed or put before it"
        " (docs/watch-a-stream.md says what may go, and when). Where that cannot be, watch under another model name."
        " No window and no label is taken until then.",
    )  # fmt: skip


def admissible(params: Params, stores: Stores, position: int) -> tuple[WindowRecord, ...]:
    """List the windows that a retraining may learn from: matured, screened, none in quarantine, the last if so set.

    What nobody watched or can read is none of them, nor what ``data.dvc`` pins already. One whose rows came before, in
    another of them, is left out: they train once, as they came first. There are none where predictions are only
    recorded: no champion is there to be retrained.
    """
    if params.recorded:
        return ()
    watch = open_watch(params, stores)
    verdicts, pinned = watch.verdicts(), pinned_windows(stores.project / DATA / params.data.path)
    windows = [
        window for window in watch.windows()
        if window.matured and window.state not in SET_ASIDE and window.position <= position
        and window.position not in pinned and verdicts.get(window.position) in {"clean", "released"}
    ]  # fmt: skip
    unseen = _unseen(params, stores, watch, windows)
    windows = [
        window for window in windows
        if window.position not in unseen and not _released_unread(params, stores, window, verdicts)
    ]  # fmt: skip
    first = {window.digest: window.position for window in reversed(windows)}
    windows = [window for window in windows if first[window.digest] == window.position]
    most = params.recovery.retraining.windows
    return tuple(windows if most is None else windows[-most:])


def _unseen(params: Params, stores: Stores, watch: Watch, windows: Sequence[WindowRecord]) -> frozenset[int]:
    """Give the windows whose rows no detector ever looked at, as where the champion was damaged when they came.

    Where the panel has no detector that looks at rows or answers, or a person released the window (held, or only
    `overlooked`), nothing is lacking.
    """
    if all(detector.needs in LABELS for detector in params.panel().detectors.values()):
        return frozenset()
    with open_ledger(stores).reading() as view:
        entries = view.entries(model=params.name, kinds=("release",))
        released = {int(e.body["position"]) for e in entries if e.body.get("about") == "window"}
    # What was admitted was watched by the panel of then, that may have had no such detector.
    return frozenset(w.position for w in windows if w.state != "admitted") - watch.looked_at() - released


def _released_unread(params: Params, stores: Stores, window: WindowRecord, verdicts: Mapping[int, Verdict]) -> bool:
    """Tell whether only a person's word is there for a window that nobody can read: its screening read the others."""
    escrowed = window.state == "escrowed" and verdicts[window.position] == "released"
    return escrowed and bool(unreadable(params, stores, window))


def overlooked(params: Params, stores: Stores, position: int) -> bool:
    """Tell whether a window lacks nothing but a detector's look at its rows, for which a person's word may stand."""
    watch = open_watch(params, stores)
    verdicts = watch.verdicts()
    windows = [
        window for window in watch.windows() if window.position == position and window.matured
        and window.state == "escrowed" and verdicts.get(position) == "clean"
    ]  # fmt: skip
    return position in _unseen(params, stores, watch, windows)


@task(cache_policy=NO_CACHE)
def admit_windows(params: Params, stores: Stores, snapshot: DataSnapshot, decision: Decision) -> DataSnapshot:
    """Let windows out of escrow into a data version of their own, named by its content; ``data.dvc`` stays as it is.

    Raises:
        ArtefactError: the champion's bytes are damaged, and it cannot be asked which rows have no answer.
        DataError: no window can be verified, or fits the champion; or one does not fit the pinned data.
        StoreError: escrow does not answer.
    """
    watch = open_watch(params, stores)
    windows = admissible(params, stores, int(decision.position or 0))
    kept = _kept_of(params, stores, watch, windows)
    retraining = params.recovery.retraining
    manifest = Manifest(
        base_md5=snapshot.md5, base_content=snapshot.content, base_quarantined=snapshot.quarantined, windows=kept,
        recent=tuple(w.position for w in kept[-retraining.recent :]), base_share=retraining.base_share,
    )  # fmt: skip
    if retraining.importance:
        manifest = weighed(params, stores, manifest)
    grown = admitted_snapshot(params, stores, snapshot, manifest)
    for each in kept:
        watch.move(each.position, "admitted", f"manifest {grown.manifest}")
    faulty = sum(len(window.faulty) for window in kept)
    where = ", ".join(f"{len(each.faulty)} of window {each.position}" for each in kept if each.faulty)
    but = f" but for {faulty} faulty rows ({where})" if faulty else ""
    tell("recovery", f"{len(kept)} windows admitted{but}: {grown.rows} rows, manifest {grown.manifest}")
    return grown


def _kept_of(
    params: Params, stores: Stores, watch: Watch, windows: Sequence[WindowRecord]
) -> tuple[AdmittedWindow, ...]:
    """Keep all windows that can be read; another is set aside, for else its retraining would be due for good.

    Raises:
        DataError: none can be read, and this is what is wrong with the last.
    """
    predictor = open_champion(params, stores)
    kept: list[AdmittedWindow] = []
    lost: list[tuple[WindowRecord, DataError]] = []
    for window in windows:
        try:
            kept.append(_kept(params, stores, predictor, window))
        except DataError as error:
            lost.append((window, error))
    if lost and not kept:
        raise lost[-1][1]
    for window, why in lost:
        set_aside(watch, window, why)
    return tuple(kept)


def _kept(params: Params, stores: Stores, predictor: Predictor, window: WindowRecord) -> AdmittedWindow:
    """Keep a window's rows and labels as objects of the data version, and name those that will not train."""
    escrow = Escrow(stores.escrow)
    arrival = escrow.rows(window.digest, window.position)
    body = io.BytesIO()
    if isinstance(arrival.rows, np.ndarray):
        np.save(body, arrival.rows, allow_pickle=False)
    else:
        arrival.rows.to_parquet(body, index=False)
    labels = json.dumps(escrow.labels(window.labels, window.position).tolist())
    faulty = faulty_rows(params, stores, arrival, predictor)
    return AdmittedWindow(
        position=window.position, digest=window.digest, rows_md5=objects.keep(stores.project, body.getvalue()),
        labels_md5=objects.keep(stores.project, labels.encode()), faulty=faulty,
    )  # fmt: skip


def _site(params: Params, stores: Stores, snapshot: DataSnapshot) -> Site:
    data = load_data(stores, params, snapshot) if params.stream().needs_data else None
    return Site(
        project=stores.project, data=data, url=None if stores.stream is None else stores.stream.get_secret_value()
    )
