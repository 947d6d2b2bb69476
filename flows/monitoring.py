"""Monitoring: every window that has come is watched, diagnosed, decided on and answered, in the order of the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import flow

from flows.heartbeat import one_heartbeat
from flows.integrity import integrity
from flows.recovery import respond
from holdfast.params import Params
from holdfast.results import Decision
from holdfast.stores import Stores
from tasks.monitoring import mature, observe, receive
from tasks.recovery import find_version, settle
from tasks.responses import Handled, MonitoringReport, by_hand, decide, decided, handled, next_window, roll_back
from tasks.screening import screen, tainted
from tasks.training import require_model

if TYPE_CHECKING:
    from holdfast.results import DataSnapshot, StageReport


@flow(name="monitoring")
def monitoring(params: Params, stores: Stores, most: int | None = None) -> MonitoringReport:
    """Watch the stream from where the last watch stopped, until no window is left, or ``most`` are done.

    What a kill cut off is gone on with: a window that was received is the same window, a decision that was taken is
    not taken again.
    """
    with one_heartbeat():
        require_model(params)
        settle(params, stores)
        snapshot, data = integrity(params, stores)
        seen: list[Handled] = []
        while most is None or len(seen) < most:
            window = _handle(params, stores, snapshot, data)
            if window is None:
                break
            seen.append(window)
        return MonitoringReport(model=params.name, windows=tuple(seen))


@flow(name="rollback")
def rollback(params: Params, stores: Stores, why: str) -> Decision:
    """Go back to the last good version, by a person's decision."""
    with one_heartbeat():
        settle(params, stores)
        snapshot, _ = integrity(params, stores)
        decision = by_hand(params, stores, why)
        roll_back(params, stores, snapshot, decision)
        return decision


def _handle(params: Params, stores: Stores, snapshot: DataSnapshot, data: StageReport) -> Handled | None:
    """Take one window through the loop; None where none is left."""
    window = receive(params, stores, snapshot, next_window(params, stores))
    if window is None:
        return None
    decision = decided(params, stores, window.position)
    if decision is None:
        champion = find_version(params, stores, None)
        matured = mature(params, stores, snapshot, window.position)
        screen(params, stores, snapshot, matured)
        poisoned = tainted(params, stores, snapshot)
        evidence = observe(params, stores, snapshot, champion, window, matured, poisoned)
        decision = decide(params, stores, window, evidence, champion)
    outcome = respond(params, stores, snapshot, data, decision)
    return handled(params, stores, window, decision, outcome)
