"""What is on record of decisions about the stream, and of what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.drills.curve import Taken
from holdfast.results import Decision
from tasks.recovery import open_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.params import Params
    from holdfast.recovery.ledger import LedgerView
    from holdfast.results import Json
    from holdfast.stores import Stores

BREAKER = "breaker"
"""What an entry is about by which a person clears the breaker."""
DEMOTION = "demotion"
"""What the last reason of a decision is about that the nightly run took; a person's is about the person."""
ACTED = frozenset({"quarantine", "retrain", "repair", "rollback", "fall_back"})
"""Actions that do something, and are finished only when the ledger says so."""


def pending(params: Params, stores: Stores) -> tuple[int, Decision | None]:
    """Tell the first window that is not handled, and the decision about it where one was taken."""
    with open_ledger(stores).reading() as view:
        last = next(stream_decisions(view, params.name), None)
        if last is None or last.position is None:
            return 0, None
        if last.action in ACTED and outcome_of(view, params.name, last.position) is None:
            return last.position, last
        return last.position + 1, None


def answered_so_far(params: Params, stores: Stores, at: int) -> list[Taken]:
    """List the decisions about the stream in order, with what became of each; ``at`` is the window that came last."""
    with open_ledger(stores).reading() as view:
        taken = list(stream_decisions(view, params.name))[::-1]
        ended = [(d, outcome_of(view, params.name, d.position) or {}) for d in taken]
    return [
        Taken(
            window=int(d.position or 0), about=windows_of(d), at=at, cause=d.cause or "none",
            action=d.action, outcome=str(body.get("outcome", "")), labels=int(body.get("labels", 0)),
            minutes=float(body.get("minutes", 0.0)),
        )
        for d, body in ended
    ]  # fmt: skip


def stream_decisions(view: LedgerView, model: str) -> Iterator[Decision]:
    """Stream the decisions about the stream, the last one first."""
    for entry in view.entries(model=model, kinds=("decision",), backwards=True):
        if entry.body.get("position") is not None:
            yield Decision.model_validate(entry.body)


def windows_of(decision: Decision) -> tuple[int, ...]:
    """List the windows that a decision about the stream is about."""
    return decision.windows or (int(decision.position or 0),)


def outcome_of(view: LedgerView, model: str, position: int | None) -> Json | None:
    """Give what is on record of the response to a window; None where it is not finished."""
    entry = next(view.entries(key=f"responded:{model}:{position}"), None)
    return None if entry is None else entry.body


def rollbacks(view: LedgerView, model: str, *, after: int = 0) -> tuple[int, ...]:
    """List the places of the rollbacks that the loop carried out, in order; what a person took is none of the loop's.

    One that the nightly run took has no window: it stands at that of the last decision about the stream before it.

    Args:
        view: of the ledger.
        model: whose.
        after: entry up to which none is listed.
    """
    decided: dict[str | None, Decision] = {}
    found = []
    for entry in view.entries(model=model, kinds=("intent", "done")):
        if entry.kind == "intent":
            decided[entry.promotion] = Decision.model_validate(entry.body["decision"])
            continue
        decision = decided[entry.promotion]
        if entry.seq <= after or decision.action != "rollback":
            continue
        if decision.position is not None:
            found.append(decision.position)
        elif decision.reasons and decision.reasons[-1].about == DEMOTION:
            found.append(_place(view, model, entry.seq))
    return tuple(found)


def since_cleared(view: LedgerView, model: str) -> tuple[int, ...]:
    """List the places of the rollbacks that the breaker counts: those carried out since a person last cleared it.

    By the ledger's order and not by place: between two windows a person may clear it, and a night roll back again.
    """
    cleared = (
        entry.seq
        for entry in view.entries(model=model, kinds=("release",), backwards=True)
        if entry.body.get("about") == BREAKER
    )
    return rollbacks(view, model, after=next(cleared, 0))


def _place(view: LedgerView, model: str, seq: int) -> int:
    """Give the window of the last decision about the stream before an entry; the first one's, where there was none."""
    decisions = view.entries(model=model, kinds=("decision",), backwards=True)
    return next((int(e.body["position"]) for e in decisions if e.seq < seq and e.body.get("position") is not None), 0)
