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
            window=int(d.position or 0), about=d.windows or (int(d.position or 0),), at=at, cause=d.cause or "none",
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


def outcome_of(view: LedgerView, model: str, position: int | None) -> Json | None:
    """Give what is on record of the response to a window; None where it is not finished."""
    entry = next(view.entries(key=f"responded:{model}:{position}"), None)
    return None if entry is None else entry.body
