"""Approval: decisions of the loop that wait for a person, what a person is asked and says, and the breaker cleared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.errors import StoreError
from holdfast.recovery.promotion import clear as take_back
from holdfast.recovery.promotion import condemn as judge_bad
from holdfast.results import ModelVersion
from tasks.monitoring import open_watch
from tasks.on_record import BREAKER, pending, since_cleared, windows_of
from tasks.recovery import open_ledger
from tasks.responses import release_window, responded, unread

if TYPE_CHECKING:
    from holdfast.params import Params
    from holdfast.results import Decision
    from holdfast.stores import Stores


WAITS = "waits for `holdfast approve` or `holdfast refuse`"
"""What a response comes to that nobody has approved yet."""
ASKED, GIVEN = "approval.asked", "approval.given"
"""Events: a decision waits for a person, told by each watch that finds it so; and a person approved one."""


def waiting(params: Params, stores: Stores) -> Decision | None:
    """Give the decision that waits for a person; None where none does."""
    decision = pending(params, stores)[1]
    return decision if decision is not None and waits(params, stores, decision) else None


def known_as(decision: Decision) -> str:
    """Name a decision so that an answer to it is none to another: by its window and its content."""
    return f"{decision.position}-{decision.fingerprint()[:16]}"


def question(params: Params, decision: Decision) -> str:
    """Ask a person about a decision, in Markdown: what is to be done, about which window, and why."""
    versions = {"champion": decision.champion, "instead": decision.candidate}
    facts = {
        "window": decision.position, "action": decision.action, "cause": decision.cause,
        **{role: f"version {version.version}" for role, version in versions.items() if version is not None},
    }  # fmt: skip
    asked = f"# {params.name}: may the loop {decision.action.replace('_', ' ')}?"
    known = "\n".join(f"- **{name}**: {fact}" for name, fact in facts.items())
    why = "\n".join(f"- {reason.text}" for reason in decision.reasons)
    commands = f"`holdfast approve {decision.position}` and `holdfast refuse {decision.position}` answer it too"
    return f"{asked}\n\n{known}\n\nWhy:\n\n{why}\n\n{commands}: the first answer counts.\n"


def waits(params: Params, stores: Stores, decision: Decision) -> bool:
    """Tell whether a decision waits for a person: its action is one that asks for it, and nobody approved it."""
    if decision.action not in params.recovery.policy.approve:
        return False
    with open_ledger(stores).reading() as view:
        return next(view.entries(key=_key(params, int(decision.position or 0))), None) is None


def approve(params: Params, stores: Stores, position: int, why: str) -> Decision:
    """Let a decision be carried out, in the caller's name and on record; the next watch does it.

    Raises:
        StoreError: no decision about this window waits.
    """
    decision = _waiting(params, stores, position)
    body = {"about": "decision", "position": position, "action": decision.action, "why": why}
    open_ledger(stores).append(
        "release", who=stores.named_actor(), model=params.name, body=body, key=_key(params, position)
    )
    return decision


def refuse(params: Params, stores: Stores, position: int, why: str) -> Decision:
    """End a decision undone, in the caller's name and on record; the watch goes on behind it.

    It counts as a response: cooldown and budget hold as if it had been carried out, so it is not asked again at once.
    Of a quarantine it is the person's word on the windows: what was suspected of them is released, each on record, or
    the same would be asked at every later window. One that nobody can read is set aside all the same, which the outcome
    says: there is nothing that a word on it could let anyone read.

    Raises:
        StoreError: no decision about this window waits.
    """
    decision, watch, outcome = _waiting(params, stores, position), open_watch(params, stores), f"refused: {why}"
    suspected = filter(watch.suspects, windows_of(decision)) if decision.action == "quarantine" else ()
    for window in suspected:
        fault = unread(params, stores, window)
        if fault:
            watch.move(window, "quarantined", f"it cannot be read: {fault}")
            outcome += f"; window {window} in quarantine all the same, as it cannot be read: {fault}"
        else:
            release_window(params, stores, window, why)
    responded.fn(params, stores, decision, outcome, refused_by=stores.named_actor())
    return decision


def unfreeze(params: Params, stores: Stores, why: str) -> int:
    """Clear the breaker, in the caller's name and on record: rollbacks up to now freeze the loop no more.

    Returns:
        The place of the last window that was decided on; the first one's where only nights rolled back.

    Raises:
        StoreError: nothing was decided yet.
    """
    place = pending(params, stores)[0] - 1
    with open_ledger(stores).reading() as view:
        counted = since_cleared(view, params.name)
    if place < 0 and not counted:
        raise _refused(params, "no decision about the stream", "a loop that was frozen", "There is nothing to clear.")
    place = max(place, 0)
    body = {"about": BREAKER, "position": place, "why": why}
    open_ledger(stores).append("release", who=stores.named_actor(), model=params.name, body=body)
    return place


def condemn(params: Params, stores: Stores, version: int, why: str) -> None:
    """Judge a version bad, in the caller's name and on record: nobody goes back to it, and no gate lets it serve.

    Raises:
        StoreError: it is champion or about to be, or was never on record.
    """
    with open_ledger(stores).writing() as ledger:  # held, so that nobody promotes it between the look and the word
        head, digest = ledger.head(params.name), ledger.digest(params.name, version)
        if digest is None:
            found, remedy = "which is not on record", "`holdfast audit` lists the versions."
        elif head is not None and head.version == version:
            found, remedy = "which is champion", "`holdfast rollback --why ...` leaves it, and judges it bad by that."
        elif any(intent.version == version for intent in ledger.in_flight(params.name)):
            found = "whose promotion was interrupted"
            remedy = "`holdfast monitor --windows 0` finishes or undoes it: say it again then."
        else:
            judged = ModelVersion(name=params.name, version=version, digest=digest)
            judge_bad(ledger, judged, who=stores.named_actor(), why=why)
            return
    raise StoreError(
        f"model {params.name}", found=f"version {version}, {found}", expected="a version on record that does not serve",
        remedy=remedy,
    )  # fmt: skip


def clear(params: Params, stores: Stores, version: int, why: str) -> None:
    """Take back a judgement on a version, in the caller's name and on record: its gate may make it champion again.

    Raises:
        StoreError: nobody judged that version bad, and no rollback left it.
    """
    ledger = open_ledger(stores)
    with ledger.reading() as view:
        bad, digest = view.condemned(params.name), view.digest(params.name, version)
    if version not in bad or digest is None:
        listed = ", ".join(map(str, sorted(bad))) or "none"
        raise StoreError(
            f"model {params.name}", found=f"version {version}, which nobody judged bad",
            expected=f"a version that was judged bad or rolled back from: {listed}",
            remedy="`holdfast audit` lists the versions.",
        )  # fmt: skip
    take_back(ledger, ModelVersion(name=params.name, version=version, digest=digest), who=stores.named_actor(), why=why)


def _waiting(params: Params, stores: Stores, position: int) -> Decision:
    decision = waiting(params, stores)
    if decision is None:
        raise _refused(params, "none that waits", f"one about window {position}", "`holdfast monitor` says which.")
    if decision.position != position:
        raise _refused(params, f"window {decision.position} that waits", f"window {position}", "Name that one.")
    return decision


def _key(params: Params, position: int) -> str:
    return f"approval:{params.name}:{position}"


def _refused(params: Params, found: str, expected: str, remedy: str) -> StoreError:
    return StoreError(f"decisions about {params.name}", found=found, expected=expected, remedy=remedy)
