"""The stream's page, from what watch and ledger hold of every window."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.params import Params
from holdfast.reporting.timeline import Moment, Sign, render
from holdfast.stores import Stores, write_atomically
from tasks.calibration import last_calibration
from tasks.monitoring import open_watch
from tasks.on_record import outcome_of, stream_decisions
from tasks.recovery import open_ledger
from tasks.responses import HARM

if TYPE_CHECKING:
    from holdfast.monitoring.watch import WindowRecord
    from holdfast.results import Decision, Json, Signal


@task(cache_policy=NO_CACHE)
def draw_stream(params: Params, stores: Stores) -> Path:
    """Write the page of a model's stream anew, and give its path."""
    path = stores.reports / f"{params.name}-stream.html"
    told = moments(params, stores)
    write_atomically(path, render(params.name, told, datetime.now(UTC), _rates(params, stores)))
    return path


def _rates(params: Params, stores: Stores) -> tuple[str, ...]:
    """Say of every version that answered windows how often its panel alarms on clean ones, where that is kept."""
    with open_ledger(stores).reading() as view:
        served = [taken.champion for taken in stream_decisions(view, params.name) if taken.champion]
    known = {version.version: last_calibration(stores, version) for version in served}
    return tuple(
        f"Version {number}: {found.sentence()}." for number, found in sorted(known.items()) if found is not None
    )


def moments(params: Params, stores: Stores) -> tuple[Moment, ...]:
    """List what became of every window, each with the signals of the version that answered it."""
    watch = open_watch(params, stores)
    with open_ledger(stores).reading() as view:
        taken = sorted(stream_decisions(view, params.name), key=lambda decision: int(decision.position or 0))
        ended = [outcome_of(view, params.name, decision.position) for decision in taken]
    windows = {window.position: window for window in watch.windows()}
    champions = {decision.champion.digest for decision in taken if decision.champion}
    signs: dict[tuple[str, int], list[Signal]] = {}
    for champion in champions:
        for signal in watch.signals(champion):
            signs.setdefault((champion, signal.position), []).append(signal)
    return tuple(
        _moment(decision, body, windows[int(decision.position or 0)], _of(signs, decision))
        for decision, body in zip(taken, ended, strict=True)
    )


def _of(signs: dict[tuple[str, int], list[Signal]], decision: Decision) -> list[Signal]:
    served = decision.champion
    return [] if served is None else signs.get((served.digest, int(decision.position or 0)), [])


def _moment(decision: Decision, body: Json | None, window: WindowRecord, signals: list[Signal]) -> Moment:
    harm = next((signal for signal in signals if signal.detector == HARM), None)
    lead = next((reason.text for reason in decision.reasons if not reason.passed), "")
    return Moment(
        position=window.position, rows=window.rows, matured=window.matured, cause=decision.cause or "none",
        action=decision.action,
        version=None if decision.champion is None else decision.champion.version, reason=lead,
        outcome="" if body is None else str(body["outcome"]),
        wrong=None if harm is None else float(harm.details["rate"]),
        past=None if harm is None else float(harm.details["past"]),
        signs=tuple(
            Sign(
                detector=signal.detector, about=signal.about, alarm=signal.alarm,
                ratio=signal.statistic / signal.threshold if signal.threshold > 0 else None,
            )
            for signal in signals
        ),
    )  # fmt: skip
