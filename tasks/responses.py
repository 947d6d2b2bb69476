"""Responses: decisions about the stream taken once, and what each of them does to windows, data and champion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from holdfast.errors import DataError, ModelError
from holdfast.model import load_model, pick_device
from holdfast.monitoring.watch import WindowRecord
from holdfast.params import Params
from holdfast.recovery.policy import History, Spent, respond
from holdfast.recovery.promotion import promote
from holdfast.recovery.triage import Evidence, triage
from holdfast.results import DataSnapshot, Decision, ModelVersion, Reason, Value
from holdfast.stores import Stores
from tasks import tracking
from tasks.monitoring import open_watch
from tasks.on_record import ACTED, outcome_of, pending, rollbacks, since_cleared, stream_decisions, windows_of
from tasks.progress import tell
from tasks.readable import unreadable
from tasks.recovery import lies_here, open_ledger, record_decision, show_champion, still_good
from tasks.smoke import further, hold_to_record
from tasks.storage import load_data
from tasks.windows import admissible, overlooked

if TYPE_CHECKING:
    from holdfast.recovery.ledger import Ledger

HANDED_OVER = frozenset({"retrain"})
"""Actions that take minutes: on a schedule, whoever watches leaves them to the run that their event starts."""
_TIMED = frozenset({"repair", "rollback", "fall_back"})
"""Actions that somebody waits for."""
HINDERED = "hindered"
"""Event: a decision was closed that can never be carried out."""
HARM = "harm"
"""Detector whose effect says by how much answers got worse."""


class Handled(Value):
    """One window, and what became of it."""

    position: int
    window: str
    """Digest of its rows."""
    rows: int
    cause: str
    action: str
    outcome: str
    """What the response came to; empty where nothing was done."""
    champion: int | None
    """Version that serves after it."""


class MonitoringReport(Value):
    """What one watch of the stream saw and did."""

    model: str
    windows: tuple[Handled, ...]


@task(cache_policy=NO_CACHE)
def next_window(params: Params, stores: Stores) -> int:
    """Tell the place of the first window that is not handled."""
    return pending(params, stores)[0]


@task(cache_policy=NO_CACHE)
def decided(params: Params, stores: Stores, position: int) -> Decision | None:
    """Give the decision about a window that a killed run took and did not finish."""
    place, decision = pending(params, stores)
    return decision if place == position else None


@task(cache_policy=NO_CACHE)
def unanswered(params: Params, stores: Stores) -> Decision | None:
    """Give the decision about the stream that was taken and not carried out yet; None where there is none."""
    return pending(params, stores)[1]


@task(task_run_name="decide on window {window.position}", cache_policy=NO_CACHE)
def decide(
    params: Params, stores: Stores, window: WindowRecord, evidence: Evidence, champion: ModelVersion | None
) -> Decision:
    """Name the cause, decide what to do about it, and put both on record, once."""
    policy = params.recovery.policy
    diagnosis = triage(evidence, faulty_share=policy.faulty_share)
    history = remembered(params, stores, champion, window.position)
    if evidence.artefact and champion is not None:
        history = history.model_copy(update={"restorable": still_good(stores, champion, mend=False)})
    decision = respond(diagnosis, history, policy, window.position, champion)
    if decision.candidate is not None:  # bytes are read only where somebody is gone back to
        history = history.model_copy(update={"good": last_sound(params, stores)})
        decision = respond(diagnosis, history, policy, window.position, champion)
    open_ledger(stores).append(
        "decision", who="holdfast", model=params.name, version=champion.version if champion else None,
        body=decision.model_dump(mode="json"), key=f"response:{params.name}:{window.position}",
    )  # fmt: skip
    tell("monitoring", f"window {window.position}  {decision.cause}  {decision.action}  {_told(decision)}")
    if decision.action != "none":
        announce(params, decision)
    return decision


def _told(decision: Decision) -> str:
    """Say what speaks for the cause, and what the policy says of it."""
    lead, last = next((r for r in decision.reasons if not r.passed), decision.reasons[-1]), decision.reasons[-1]
    return lead.text if last.about != "policy" or last == lead else f"{lead.text}; {last.text}"


def last_sound(params: Params, stores: Stores) -> ModelVersion | None:
    """Find the last good version whose bytes verify: what damaged the champion may have damaged others."""
    with open_ledger(stores).reading() as view:
        former = list({head.version: head.reference() for head in view.good(params.name)}.values())
    return next((version for version in former if still_good(stores, version)), None)


def remembered(params: Params, stores: Stores, champion: ModelVersion | None, position: int) -> History:
    """Build from ledger and watch what the policy may know: nothing else remembers, so a restart forgets nothing."""
    with open_ledger(stores).reading() as view:
        taken = list(stream_decisions(view, params.name))
        outcomes = {d.position: outcome_of(view, params.name, d.position) or {} for d in taken if d.action in ACTED}
        good = view.last_good(params.name)
        carried_out, counted = rollbacks(view, params.name), since_cleared(view, params.name)
    mine = [d for d in taken if champion and d.champion and d.champion.digest == champion.digest]
    made = [d.position for d in taken if champion and d.action == "retrain"
            and outcomes.get(d.position, {}).get("made") == champion.version]  # fmt: skip
    signals = () if champion is None else open_watch(params, stores).signals(champion.digest)
    return History(
        former=taken[0].cause if taken else None,
        episode=taken[0].episode if taken else None,
        excess=tuple(signal.effect for signal in signals if signal.detector == HARM),
        gains=tuple(signal.details.get("gain") for signal in signals if signal.detector == HARM),
        harmed=tuple(sorted(int(d.position or 0) for d in mine if d.cause == "harmful_drift")),
        retrainings=tuple(
            Spent(position=int(d.position or 0), labels=int(outcomes[d.position].get("labels", 0)),
                  minutes=float(outcomes[d.position].get("minutes", 0.0)))
            for d in taken if d.action == "retrain"
        ),
        rollbacks=(*(int(d.position or 0) for d in taken if d.action in {"rollback", "fall_back"}), *carried_out),
        carried_out=counted,
        promoted=max((int(p) for p in made if p is not None), default=None),
        admissible=len(admissible(params, stores, position)),
        good=None if good is None else good.reference(),
    )  # fmt: skip


@task(cache_policy=NO_CACHE)
def set_aside(params: Params, stores: Stores, decision: Decision) -> str:
    """Put the windows that a decision is about into quarantine: they train nothing until a person releases them."""
    watch, windows = open_watch(params, stores), windows_of(decision)
    why = "rows at fault, beside damage" if decision.cause == "damaged_artefact" else str(decision.cause)
    for position in windows:
        watch.move(position, "quarantined", why)
    named = ", ".join(map(str, windows))
    return f"window{'s' if len(windows) > 1 else ''} {named} in quarantine"


@task(cache_policy=NO_CACHE)
def obstacle(params: Params, stores: Stores, decision: Decision) -> str:
    """Say what keeps a decided version from serving, since the decision was taken; empty where nothing does.

    A decision that can never be carried out would hold the stream for good: it is closed, and the next window's is new.
    What only the version's answers tell, `roll_back` raises. A version that serves already was hindered by nothing.
    """
    good, believed = decision.candidate, decision.champion
    if good is None:
        return "no version to go back to is named"
    with open_ledger(stores).reading() as view:
        head, condemned = view.head(params.name), view.condemned(params.name)
    if head is not None and head.version == good.version:
        return ""
    if (head and (head.version, head.digest)) != (believed and (believed.version, believed.digest)):
        serves, served = (f"version {each.version}" if each else "nobody" for each in (head, believed))
        return f"{serves} is champion now, and {served} was when this was decided"
    if good.version in condemned:
        return f"version {good.version} was judged bad meanwhile"
    return "" if still_good(stores, good) else f"no copy of version {good.version}'s bytes verifies"


@task(cache_policy=NO_CACHE)
def roll_back(params: Params, stores: Stores, snapshot: DataSnapshot, decision: Decision) -> str:
    """Make the last good version champion again; digest and answers are verified before the alias moves.

    Raises:
        ArtefactError: its bytes are not those that reigned.
        ModelError: it does not answer as a model should, or is none with the code of now; nothing was moved.
    """
    good, ledger = decision.candidate, open_ledger(stores)
    if good is None:
        raise ModelError(
            f"model {params.name}", found="no former champion that nobody condemned", expected="one to go back to",
            remedy="Retrain, or promote a version by hand.",
        )  # fmt: skip
    if not _serves(ledger, good):  # one that serves was asked before it did: a killed run goes on behind it
        _go_back(params, stores, snapshot, decision, good)
    show_champion(stores, ledger, params.name)
    return f"back to version {good.version}"


def _go_back(params: Params, stores: Stores, snapshot: DataSnapshot, decision: Decision, good: ModelVersion) -> None:
    located, ledger = tracking.get_version(stores, good.name, good.version), open_ledger(stores)
    if located is None:
        raise ModelError(
            f"{good.name} version {good.version}", found="no such version in the registry",
            expected="the last good one", remedy="Restore the registry.",
        )  # fmt: skip
    located = located.model_copy(update={"digest": good.digest})
    _smoke(params, stores, snapshot, located)
    if _serves(ledger, good):  # by somebody else, meanwhile
        return
    head = ledger.head(params.name)
    back = decision.model_copy(update={"candidate": located, "action": "rollback"})  # falling back is one too
    promote(
        ledger, tracking.MlflowProjection(stores), back, expected=None if head is None else head.promotion,
        who=stores.named_actor(), why=decision.reasons[-1].text,
    )  # fmt: skip


def _serves(ledger: Ledger, version: ModelVersion) -> bool:
    head = ledger.head(version.name)
    return head is not None and head.version == version.version


def _smoke(params: Params, stores: Stores, snapshot: DataSnapshot, version: ModelVersion) -> None:
    """Hold a version to finite answers on rows it must know, and to what it was judged by, before it serves.

    Raises:
        ModelError: it gives none, or gets surely more rows wrong than it did.
    """
    target = load_model(tracking.fetch_model(stores, version), version.digest, pick_device(params.device))
    data = load_data(stores, params, snapshot)
    rows = data.samples("calibration", space=target.space)
    with torch.no_grad():
        finite = target.logits(rows.x[:256].to(target.device)).isfinite().all()
    if not finite:
        raise ModelError(
            f"{version.name} version {version.version}", found="outputs that are not finite", expected="answers",
            remedy=further(version),
        )  # fmt: skip
    hold_to_record(stores, version, target, data)


def by_hand(params: Params, stores: Stores, why: str) -> Decision:
    """Put a person's decision to roll back on record: from the champion to the last good version before it.

    Raises:
        ModelError: nobody else ever reigned, or all who did were condemned.
    """
    with open_ledger(stores).reading() as view:
        head, good = view.head(params.name), view.last_good(params.name)
    if head is None or good is None:
        raise ModelError(
            f"model {params.name}", found="no former champion that nobody condemned", expected="one to go back to",
            remedy="`holdfast audit` lists the versions; `holdfast promote N` puts one through the gate.",
        )  # fmt: skip
    decision = Decision(
        action="rollback", champion=head.reference(), candidate=good.reference(),
        reasons=(Reason(about=stores.named_actor(), passed=True, text=why),),
    )  # fmt: skip
    return record_decision(params, stores, decision)


def release_window(params: Params, stores: Stores, position: int, why: str) -> None:
    """Put a window back into escrow, or take back what its screening suspects, in the caller's name and on record.

    One that passed its screening and that no detector looked at, as where the champion was damaged, may then train too.

    Raises:
        DataError: nobody can read it: it would judge nobody and train nothing.
        StoreError: it is not in quarantine, not suspected, and no detector's look is all that it lacks.
    """
    watch, looked_over = open_watch(params, stores), overlooked(params, stores, position)
    if not looked_over:
        watch.require_held(position)
    fault = unread(params, stores, position)
    if fault:
        raise DataError(
            f"window {position}", found=f"it cannot be read ({fault})", expected="rows and labels that can be",
            remedy="It stays as it is, and stops nothing; where it came so it never trains, for what a stream gives is"
            " taken once. Where escrow was changed, restore its folder from a backup;"
            " where params say otherwise than they did, as data.classes may, put that back; then release it again.",
        )  # fmt: skip
    body = {"about": "window", "position": position, "why": why}
    open_ledger(stores).append("release", who=stores.named_actor(), model=params.name, body=body)
    if not looked_over:  # whose release is that record alone: it was not held
        watch.release(position, why)  # after its record: a kill leaves no window released that nobody answers for


def unread(params: Params, stores: Stores, position: int) -> str:
    """Say why nobody can read the window at a place; empty where it can be read.

    Raises:
        StoreError: escrow, ledger or registry do not answer.
    """
    records = open_watch(params, stores).windows()
    return next((unreadable(params, stores, each) for each in records if each.position == position), "")


@task(cache_policy=NO_CACHE)
def restore(params: Params, stores: Stores) -> str:
    """Fetch the champion's bytes anew where the copy here is spoilt; where it is not, a process answers wrongly.

    Raises:
        ModelError: the registry's bytes are spoilt too: nothing answers until a good version is promoted.
    """
    head = open_ledger(stores).head(params.name)
    sound = head is not None and lies_here(stores, head.reference())
    if head is None or not still_good(stores, head.reference()):
        raise ModelError(
            f"model {params.name}", found="no copy of the champion's bytes that verifies", expected="one",
            remedy="Restore the artefact store from a backup, or roll back; nothing is answered until then.",
        )  # fmt: skip
    if sound:
        return f"version {head.version}'s bytes verify, digest {head.digest[:16]}: whoever serves must be started anew"
    return f"version {head.version} restored, digest {head.digest[:16]}"


@task(cache_policy=NO_CACHE)
def responded(
    params: Params,
    stores: Stores,
    decision: Decision,
    outcome: str,
    labels: int = 0,
    minutes: float = 0.0,
    refused_by: str = "",
    candidate: ModelVersion | None = None,
) -> None:
    """Record that a response is finished, and what it came to and took; or who refused it, and that it made nobody.

    A retraining made its ``candidate`` champion where that one reigns now and did not when this was decided, whatever
    the gate said last: done again after a kill, it finds its candidate champion already, and promotes nobody.
    """
    ledger = open_ledger(stores)
    head = None if refused_by else ledger.head(params.name)
    serving = None if head is None else head.version
    body = {
        "about": "response", "position": decision.position, "action": decision.action, "outcome": outcome,
        "champion": serving, "labels": labels, "minutes": round(minutes, 5),
        "made": _made(decision, serving, candidate),
    }  # fmt: skip
    key = f"responded:{params.name}:{decision.position}"
    with ledger.writing() as transaction:
        if next(transaction.entries(key=key), None) is None:
            transaction.append("run", who=refused_by or "holdfast", model=params.name, body=body, key=key)
    took = f" ({60 * minutes:.1f} s)" if minutes and decision.action in _TIMED else ""
    tell("recovery", f"window {decision.position}  {decision.action}: {outcome}{took}")


def _made(decision: Decision, serving: int | None, candidate: ModelVersion | None) -> int | None:
    before = decision.champion.version if decision.champion else None
    return serving if candidate is not None and before != serving == candidate.version else None


@task(cache_policy=NO_CACHE)
def labels_of(snapshot: DataSnapshot, base: DataSnapshot) -> int:
    """Count the labelled rows that a retraining had beside the pinned data's."""
    return sum(s.rows for s in snapshot.roles.values()) - sum(
        s.rows for role, s in base.roles.items() if role != "drill"
    )


@task(cache_policy=NO_CACHE)
def handled(params: Params, stores: Stores, window: WindowRecord, decision: Decision, outcome: str) -> Handled:
    """Say what became of a window."""
    head = open_ledger(stores).head(params.name)
    return Handled(
        position=window.position, window=window.digest, rows=window.rows, cause=str(decision.cause),
        action=decision.action, outcome=outcome, champion=None if head is None else head.version,
    )  # fmt: skip


@task(cache_policy=NO_CACHE)
def hindered(params: Params, decision: Decision, outcome: str) -> None:
    """Tell people that a decision could not be carried out and is closed; why is the last of its reasons then."""
    why = Reason(about=decision.action, passed=False, text=outcome)
    announce(params, decision.model_copy(update={"reasons": (*decision.reasons, why)}), HINDERED)


def announce(params: Params, decision: Decision, event: str | None = None) -> None:
    """Tell Prefect's automations of a decision, that is on record already; told twice it is answered once.

    Args:
        params: what names the model.
        decision: told with its cause and reasons.
        event: what happened to it; that it was taken where left out.
    """
    emit_event(
        event=f"holdfast.{event or decision.action}",
        resource={"prefect.resource.id": f"holdfast.model.{params.name}"},
        payload={"cause": decision.cause, "position": decision.position, "reasons": [r.text for r in decision.reasons]},
    )
