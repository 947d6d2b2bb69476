"""Monitoring: windows received, answered by the champion, watched by the panel; nothing is decided here."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.data.admission import present
from holdfast.data.columns import read_labels
from holdfast.data.escrow import Escrow
from holdfast.data.stream import Window
from holdfast.data.table import encode
from holdfast.errors import ArtefactError, DataError
from holdfast.integrity.rows import unanswered
from holdfast.model import load_model, pick_device
from holdfast.monitoring.challenger import losses
from holdfast.monitoring.evidently import Evidently
from holdfast.monitoring.watch import SET_ASIDE, Watch, WindowRecord
from holdfast.params import Params
from holdfast.recovery.triage import Evidence, Tainted, last_judged, shifted_since, spoiled
from holdfast.results import DataSnapshot, ModelVersion, Signal
from holdfast.seeding import Noise
from holdfast.space import Table
from holdfast.squeezing import unsteadiness
from holdfast.stores import Stores, WallClock, write_atomically
from tasks import tracking
from tasks.calibration import calibrated
from tasks.challenger import Allowance, allowance, is_asked, leads_on
from tasks.faults import quality_of
from tasks.lineage import registered
from tasks.prediction import open_champion, open_former
from tasks.progress import tell
from tasks.recorded import recorded_answers, recorded_reference
from tasks.recovery import open_ledger
from tasks.served import served_otherwise
from tasks.storage import load_data, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from holdfast.data.recorded import Recorded, Told
    from holdfast.data.streams.base import Arrival
    from holdfast.model import Target
    from holdfast.monitoring.base import Needs
    from holdfast.monitoring.panels import Calibration, Panel
    from holdfast.predictor import Predictions, Predictor
    from holdfast.recovery.inspection import Kind
    from holdfast.results import Json
    from holdfast.space import Box


Array = np.ndarray[Any, np.dtype[Any]]
EVIDENTLY = "evidently"
LABELS: tuple[Needs, ...] = ("labels",)
BELIEVED = frozenset({"clean", "released"})
"""Verdicts of a screening after which labels may speak of the champion."""
_FEWEST = 100
"""Reference rows without which nothing can be compared."""


def open_watch(params: Params, stores: Stores) -> Watch:
    """Open the record of what was watched, in the ledger's database."""
    open_ledger(stores)
    return Watch(stores.ledger.get_secret_value(), params.name, WallClock())


@task(task_run_name="watch window {window.position}", cache_policy=NO_CACHE)
def observe(
    params: Params,
    stores: Stores,
    snapshot: DataSnapshot,
    champion: ModelVersion,
    window: WindowRecord,
    matured: tuple[WindowRecord, ...],
    poisoned: tuple[Tainted, ...] = (),
) -> Evidence:
    """See what a window shows: its rows, the champion's answers, and labels that nobody was told of yet.

    The champion is judged by windows that passed their screening, and by no others. Where clients were answered
    otherwise than its bytes answer, that is damage; the window is watched, by what the bytes say. Rows without a finite
    answer are at fault themselves where the champion answers the rows of its own time, and the others are watched;
    where it does not, that is damage. What keeps this window from being looked at keeps no earlier one from its labels.
    Every signal is on record with what its detector remembers before it is given.

    Raises:
        ModelError: the champion cannot be opened for another reason than damage: nothing that is done would mend it.
    """
    arrival = Escrow(stores.escrow).rows(window.digest, window.position)
    quality = quality_of(params, stores, snapshot, arrival)
    seen = Evidence(position=window.position, rows=window.rows, quality=quality, poisoned=poisoned)
    fresh, silent = None, np.zeros(0, dtype=np.int64)
    try:
        predictor = recorded_answers(params, stores, snapshot) if params.recorded else open_champion(params, stores)
        try:
            told = predictor.examine(arrival.asked)
        except DataError as error:
            seen = seen.model_copy(update={"unreadable": str(error)})
        else:
            fresh, silent = _as_window(told, predictor.space, window)
            served, otherwise = served_otherwise(stores, told)
            seen = seen.model_copy(update={"served": served, "artefact": otherwise})
        reference, allowed = (
            (recorded_reference(params, stores, snapshot), None)
            if params.recorded
            else _reference(params, stores, champion)
        )
    except ArtefactError as error:
        return seen.model_copy(update={"artefact": str(error)})
    if fresh is not None and len(silent):  # the past is answered by the same bytes: these rows are to blame
        found = unanswered(silent, window.rows)
        seen = seen.model_copy(update={"quality": (*seen.quality, found)})
        fresh = _answered_part(params, fresh, silent)
    signals = _watched(params, stores, champion, predictor, reference, allowed, fresh, matured, seen)
    known = open_watch(params, stores).signals(champion.digest)
    moved, judged = shifted_since(known, window.position), last_judged(known)
    return seen.model_copy(update={"signals": signals, "moved": moved, "judged": judged})


def _watched(
    params: Params,
    stores: Stores,
    champion: ModelVersion,
    predictor: Predictor | Recorded,
    reference: Window,
    allowed: Allowance | None,
    fresh: Window | None,
    matured: tuple[WindowRecord, ...],
    seen: Evidence,
) -> tuple[Signal, ...]:
    """Let the panel look at the window, where there are answers to look at, and at labels of those before it."""
    watch, panel, place = open_watch(params, stores), params.panel(), seen.position
    before = watch.signals(champion.digest)
    known = {(signal.position, signal.detector) for signal in before}
    judged = {signal.position for signal in before if signal.needs == "labels"}
    kept = [signal for signal in watch.signals(champion.digest, place) if signal.needs != "labels"]
    # What a kill cut off between its record and the decision is told in the same turn again.
    told = [*kept, *(s for s in before if s.turn == place and s.detector in panel.detectors)]
    if fresh is not None and not kept:
        fresh = _asked_more(predictor, panel, fresh, reference)
        calibration = calibrated(params, stores, champion, reference, len(fresh))
        signals, memories = panel.watch(
            fresh, reference, calibration, watch.memories(champion.digest), ("inputs", "outputs", "embeddings")
        )
        _draw_evidently(stores, watch, champion, panel, signals, fresh, reference)
        watch.keep(champion.digest, signals, memories)
        told += signals
    asked = {name for name, detector in panel.detectors.items() if detector.needs == "labels"}
    since, verdicts = judged_from(stores.project, registered(stores, champion)), watch.verdicts()
    shown = seen.model_copy(update={"signals": tuple(s for s in told if s.position == place)})
    if fresh is None or spoiled(shown, faulty_share=params.recovery.policy.faulty_share):
        matured = tuple(record for record in matured if record.position != place)
    for record in matured:
        if record.position < since or record.state in SET_ASIDE or verdicts.get(record.position) not in BELIEVED:
            continue  # what is not to be believed, or not readable at all, says nothing of the champion
        lacking = {name for name in asked if (record.position, name) not in known}
        if not lacking:
            continue
        try:
            arrival, labelled = _labelled(params, stores, predictor, watch, allowed, record)
        except DataError as error:
            set_aside(watch, record, error)
            continue
        if labelled is None:
            continue
        calibration = calibrated(params, stores, champion, reference, len(labelled))
        memories = watch.memories(champion.digest)
        signals, memories = panel.watch(labelled, reference, calibration, memories, LABELS, lacking)
        signals = _with_gain(params, stores, champion, arrival, labelled, signals)
        # A detector that joined the panel since catches up: of windows that were told of, nothing is news.
        if record.position not in judged:
            signals = tuple(signal.model_copy(update={"turn": place}) for signal in signals)
            told += signals
        watch.keep(champion.digest, signals, memories)
    return tuple(told)


def _labelled(
    params: Params,
    stores: Stores,
    predictor: Predictor | Recorded,
    watch: Watch,
    allowed: Allowance | None,
    record: WindowRecord,
) -> tuple[Arrival, Window | None]:
    """Give the rows of a matured window that the champion answers, as they came and with answers and labels.

    There is no window where too few are answered to speak for the others.

    Raises:
        DataError: its rows or labels cannot be read.
        StoreError: they cannot be had.
    """
    arrival = Escrow(stores.escrow).rows(record.digest, record.position)
    window, silent = _answered(predictor, arrival, record)
    labelled = replace(window, labels=class_indices(params, stores, record))
    if allowed is not None:
        own = losses(labelled.probabilities, labelled.matured)
        kind: Kind = "table" if isinstance(labelled.space, Table) else "images"
        labelled = replace(labelled, lead=leads_on(watch, record, own, allowed, kind))
    if not len(silent):
        return arrival, labelled
    part, places = _answered_part(params, labelled, silent), np.delete(np.arange(len(arrival)), silent)
    if part is None:
        return arrival, None
    rows = arrival.rows[places] if isinstance(arrival.rows, np.ndarray) else arrival.rows.iloc[places]
    return replace(arrival, rows=rows), part


def set_aside(watch: Watch, record: WindowRecord, error: DataError) -> None:
    """Set a matured window aside that nobody can read, and tell why: left in escrow, it would stop every watch.

    One that was admitted stays so, since a data version has its rows.
    """
    watch.move(record.position, "quarantined", f"it cannot be read: {error}")
    state = "admitted" if record.state == "admitted" else "in quarantine"
    tell(
        "monitoring", f"window {record.position}  {state}; it cannot be read, judges nobody and trains nobody: {error}"
    )


def _asked_more(predictor: Predictor | Recorded, panel: Panel, fresh: Window, past: Window) -> Window:
    """Ask the champion for what detectors read of rows beside its answers."""
    if panel.asks("embeddings"):
        fresh = replace(fresh, embeddings=predictor.embed(fresh.x))
    if panel.asks("squeezed"):
        fresh = replace(fresh, squeezed=predictor.squeeze(fresh.x, past.x))
    return fresh


def _draw_evidently(
    stores: Stores,
    watch: Watch,
    champion: ModelVersion,
    panel: Panel,
    signals: tuple[Signal, ...],
    window: Window,
    reference: Window,
) -> None:
    """Keep Evidently's own page of a window with the champion's run, where its alarm begins: some megabytes."""
    detector = panel.detectors.get(EVIDENTLY)
    alarmed = {s.position for s in (*signals, *watch.signals(champion.digest)) if s.detector == EVIDENTLY and s.alarm}
    if not isinstance(detector, Evidently) or window.position not in alarmed or window.position - 1 in alarmed:
        return
    name = f"drift/window-{window.position}.html"
    if not champion.run_id:
        path = stores.reports / champion.name / name
        write_atomically(path, detector.page(window, reference))
        tell("monitoring", f"window {window.position}: Evidently's page is {path}")
        return
    tracking.log_text(stores, champion.run_id, name, detector.page(window, reference))
    tell("monitoring", f"window {window.position}: Evidently's page is {name} of the champion's run")


def _with_gain(
    params: Params,
    stores: Stores,
    champion: ModelVersion,
    arrival: Arrival,
    window: Window,
    signals: tuple[Signal, ...],
) -> tuple[Signal, ...]:
    """Say beside the harm how much worse the champion before it would have done on these rows: what retraining paid.

    Where that one cannot be asked any more nothing is said of it, which is not that it paid nothing.
    """
    target = open_former(params, stores, champion, f"window {window.position}")
    if target is None:
        return signals
    place = f"window {window.position}"
    try:
        x = window.x if isinstance(arrival.rows, np.ndarray) or not isinstance(target.space, Table) else encode(
            arrival.rows, target.space, place=place
        )  # fmt: skip
    except DataError as error:  # it serves nobody: a column that only it had stops nothing
        tell("monitoring", f"{place}  what the last retraining paid is not known: the version before it: {error}")
        return signals
    predicted = target.predict(x.to(target.device)).cpu().numpy()
    gain = float((predicted != window.labels).mean() - window.wrong.mean())
    return tuple(
        signal.model_copy(update={"details": {**signal.details, "gain": gain}}) if signal.about == "harm" else signal
        for signal in signals
    )


def judged_from(project: Path, lineage: Json) -> int:
    """Tell the first window by which a version of this lineage is judged: none that it learned from."""
    data = lineage.get("data", {})
    last = data.get("last_window")
    if last is None and data.get("manifest"):  # recorded before snapshots said it themselves
        last = max(window.position for window in read_manifest(project, str(data["manifest"])).windows)
    return 0 if last is None else 1 + int(last)


def _answered(predictor: Predictor | Recorded, arrival: Arrival, record: WindowRecord) -> tuple[Window, Array]:
    """Ask the champion, and give the window with its answers, and the rows that it has no finite output for."""
    return _as_window(predictor.examine(arrival.asked), predictor.space, record)


def _as_window(answers: Predictions | Told, space: Box | Table, record: WindowRecord) -> tuple[Window, Array]:
    """Lay answers out as a window, and list the rows (m,), by place, without finite output: even there."""
    finite = np.asarray(np.isfinite(answers.probabilities).all(axis=1))
    even = np.full(answers.probabilities.shape, 1.0 / answers.probabilities.shape[1])
    return Window(
        position=record.position, ids=_ids(record), x=answers.inputs, space=space,
        probabilities=np.where(finite[:, None], answers.probabilities, even),
    ), np.flatnonzero(~finite)  # fmt: skip


def _answered_part(params: Params, window: Window, silent: Array) -> Window | None:
    """Leave out the rows (m,) without an answer; None where they are so many that the others are no window."""
    if len(silent) == len(window) or len(silent) > params.recovery.policy.faulty_share * len(window):
        return None
    return window.take(np.delete(np.arange(len(window)), silent))


def _ids(record: WindowRecord) -> Array:
    """Name the rows of a window by its digest and their places."""
    key = Noise(0, ("window", record.digest)).key
    return np.asarray(torch.arange(record.rows, dtype=torch.int64).numpy() ^ np.int64(key))


def class_indices(params: Params, stores: Stores, record: WindowRecord) -> Array:
    """Give the labels of a window as class indices (n,)."""
    import pandas as pd  # noqa: PLC0415  beside its one use

    text = Escrow(stores.escrow).labels(record.labels, record.position)
    numeric = pd.to_numeric(text, errors="coerce")
    plain: pd.Series[Any] = text if numeric.isna().any() else numeric
    return read_labels(plain, params.data.classes, f"labels of window {record.position}")[0]


def _reference(params: Params, stores: Stores, champion: ModelVersion) -> tuple[Window, Allowance | None]:
    """Give labelled rows of the champion's own time that it did not train on: what windows are compared with.

    Beside them, how a challenger stood to the champion on all rows of that role; None where no detector asks.

    Raises:
        ArtefactError: it has no finite output for some of them, which it must know: it is damaged, whatever its bytes.
        DataError: they are too few, or the ledger does not say what the champion was trained on.
    """
    lineage = registered(stores, champion)
    if "data" not in lineage:
        raise DataError(
            f"{champion.name} version {champion.version}", found="no record of its data", expected="its lineage",
            remedy="`holdfast audit` says what is on record; retrain the version.",
        )  # fmt: skip
    snapshot = DataSnapshot.model_validate(lineage["data"])
    data = load_data(stores, params, snapshot)
    target = load_model(tracking.fetch_model(stores, champion), champion.digest, pick_device(params.device))
    held = data.samples("calibration", space=target.space)
    recent = read_manifest(stores.project, snapshot.manifest).recent if snapshot.manifest else ()
    rows = present(data, held.ids.numpy(), recent, _FEWEST)
    if len(rows) < _FEWEST:
        raise DataError(
            "reference rows", found=f"{len(rows)} rows of role calibration", expected=f"at least {_FEWEST}",
            remedy="Give data.roles.calibration a larger share, or recovery.retraining.recent more windows.",
        )  # fmt: skip
    panel, probabilities = params.panel(), _probabilities(target, held.x[rows])
    if silent := int((~np.isfinite(probabilities).all(axis=1)).sum()):
        raise ArtefactError(
            f"{champion.name} version {champion.version}", found=f"no finite output for {silent} of {len(rows)} rows",
            expected="answers to the rows of its own time", remedy="`holdfast rollback` goes to the version before it.",
        )  # fmt: skip
    reference = Window(
        position=-1, ids=held.ids.numpy()[rows], x=held.x[rows], probabilities=probabilities,
        space=target.space, labels=held.y.numpy()[rows],
        embeddings=target.embed(held.x[rows]).cpu().float() if panel.asks("embeddings") else None,
        squeezed=unsteadiness(partial(_probabilities, target), held.x[rows], held.x[rows], target.space)
        if panel.asks("squeezed") else None,
    )  # fmt: skip
    if not is_asked(params):
        return reference, None
    own = losses(_probabilities(target, held.x), held.y.numpy())
    allowed = allowance(params, stores, champion, data, own)
    return replace(reference, lead=allowed.leads(own)[rows]), allowed


def _probabilities(target: Target, x: torch.Tensor) -> Array:
    with torch.no_grad():
        return np.asarray(torch.softmax(target.logits(x.to(target.device)).cpu().double(), 1).numpy())


def calibrate_for(params: Params, stores: Stores, champion: ModelVersion, rows: int) -> Calibration:
    """Find a champion's thresholds for windows of this many rows before the first of them comes."""
    return calibrated(params, stores, champion, _reference(params, stores, champion)[0], rows)
