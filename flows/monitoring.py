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
from tasks.approval import ASKED, WAITS, waits
from tasks.monitoring import observe
from tasks.recorded import watched_model
from tasks.recovery import settle
from tasks.responses import (
    HANDED_OVER,
    Handled,
    MonitoringReport,
    announce,
    by_hand,
    decide,
    decided,
    handled,
    next_window,
    roll_back,
)
from tasks.screening import screen, tainted
from tasks.training import require_model
from tasks.windows import mature, receive

if TYPE_CHECKING:
    from holdfast.results import DataSnapshot, StageReport


@flow(name="monitoring")
def monitoring(params: Params, stores: Stores, most: int | None = None, *, hand_over: bool = False) -> MonitoringReport:
    """Watch the stream from where the last watch stopped, until no window is left, or ``most`` are done.

    What a kill cut off is gone on with: a window that was received is the same window, a decision that was taken is
    not taken again. With ``hand_over`` a retraining is left to the flow `recovery`, which its event starts, and the
    watch ends there; each watch that finds it still undone tells of it again, since events can be lost.
    """
    with one_heartbeat():
        require_model(params)
        settle(params, stores)
        snapshot, data = integrity(params, stores)
        seen: list[Handled] = []
        while most is None or len(seen) < most:
            window, done = _handle(params, stores, snapshot, data, hand_over=hand_over)
            seen += [] if window is None else [window]
            if not done:
                break
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


def _handle(
    params: Params, stores: Stores, snapshot: DataSnapshot, data: StageReport, *, hand_over: bool
) -> tuple[Handled | None, bool]:
    """Take one window through the loop, and tell whether the next may follow: none does past what is not done."""
    window = receive(params, stores, snapshot, next_window(params, stores))
    if window is None:
        return None, False
    decision = decided(params, stores, window.position)
    again = decision is not None
    if decision is None:
        champion = watched_model(params, stores, snapshot)
        matured = mature(params, stores, snapshot, window.position)
        screen(params, stores, snapshot, matured)
        poisoned = tainted(params, stores, snapshot)
        evidence = observe(params, stores, snapshot, champion, window, matured, poisoned)
        decision = decide(params, stores, window, evidence, champion)
    if waits(params, stores, decision):
        announce(params, decision, ASKED)
        return handled(params, stores, window, decision, WAITS), False
    if hand_over and decision.action in HANDED_OVER:
        if again:
            announce(params, decision)
        return handled(params, stores, window, decision, ""), False
    return handled(params, stores, window, decision, respond(params, stores, snapshot, data, decision)), True
