"""Recovery: who serves. Promotion by the gate, and what the loop does by itself about drift and damage."""

from __future__ import annotations

from time import monotonic

from prefect import flow

from flows.evaluation import evaluation
from flows.heartbeat import one_heartbeat
from flows.integrity import integrity
from flows.training import training
from holdfast.errors import ArtefactError, ModelError
from holdfast.params import Params
from holdfast.results import DataSnapshot, Decision, ModelVersion, Reason, StageReport
from holdfast.stores import Stores
from tasks.approval import WAITS, waits
from tasks.demotion import held_back, own_data, predecessor, sentence
from tasks.heldout import hold_out
from tasks.parts import told_apart
from tasks.publishing import publish
from tasks.recovery import crown, find_version, judge, resolve_champion, settle
from tasks.replicas import mend_copies
from tasks.responses import hindered, labels_of, obstacle, responded, restore, roll_back, set_aside, unanswered
from tasks.runs import about, begin, failing, finish
from tasks.training import require_model, starting_point
from tasks.transfer import transfer
from tasks.windows import admit_windows


@flow(name="promotion")
def promotion(
    params: Params, stores: Stores, snapshot: DataSnapshot, candidate: ModelVersion, scorecard: StageReport, run_id: str
) -> Decision:
    """Compare a candidate with the champion on gate rows that neither learned from; the alias is moved by who asked."""
    champion = resolve_champion(params, stores)
    pack = params.evaluation.uses.gate
    ours = theirs = StageReport(stage="evaluation", subject="")
    about_rows: tuple[Reason, ...] = ()
    if champion is None or champion.digest != candidate.digest:
        rows = hold_out(params, stores, snapshot, candidate, champion)
        if rows.decision is not None:
            return rows.decision
        about_rows = rows.reasons
        ours = evaluation(params, stores, snapshot, candidate, pack, "gate", run_id, left_out=rows.left_out)
        if champion is not None:
            theirs = evaluation(
                params, stores, snapshot, champion, pack, "gate", run_id, side="champion", left_out=rows.left_out
            )
            about_rows += told_apart(params, stores, snapshot, rows.left_out, ours, theirs)
    return judge(params, stores, candidate, champion, ours.findings, theirs.findings, scorecard.findings, about_rows)


@flow(name="recovery")
def recovery(params: Params, stores: Stores) -> str:
    """Carry out the decision about the stream that nobody has carried out yet, and say what it came to, if any."""
    with one_heartbeat():
        require_model(params)
        settle(params, stores)
        decision = unanswered(params, stores)
        if decision is None:
            return ""
        if waits(params, stores, decision):
            return WAITS
        snapshot, data = integrity(params, stores)
        return respond(params, stores, snapshot, data, decision)


@flow(name="reexamination")
def reexamination(params: Params, stores: Stores) -> Decision:
    """Put the champion through the nightly pack; one that is below a floor now gives way to the last good version.

    That version must pass the same floors on the same rows. What was not measured, or is not valid, demotes nobody:
    a person is told. So where rollbacks wait for a person, the breaker holds them, or that version cannot serve. First
    of all both copies of their bytes are verified, and a spoilt one is restored.
    """
    with one_heartbeat():
        settle(params, stores)
        mend_copies(params, stores)
        pinned, _ = integrity(params, stores)
        champion = find_version(params, stores, None)
        snapshot = own_data(stores, pinned, champion)
        found = _nightly(params, stores, snapshot, champion)
        good = predecessor(params, stores, champion, found)
        try:
            spare, mute = None if good is None else _nightly(params, stores, snapshot, good), ""
        except ModelError as refusal:  # of a version that does not serve: the champion's own is raised above
            spare, mute = None, str(refusal)
        decision = sentence(params, stores, champion, found, good, spare, mute)
        if decision.action == "rollback":
            _, stopped = _gone_back(params, stores, snapshot, decision)
            return held_back(params, stores, decision, stopped) if stopped else decision
        return decision


def _nightly(params: Params, stores: Stores, snapshot: DataSnapshot, version: ModelVersion) -> StageReport:
    pack, params = params.evaluation.uses.nightly, params.retrained() if snapshot.manifest else params
    run_id = about(params, stores, snapshot, version, "evaluation", pack)
    with failing(params, stores, run_id):
        report = evaluation(params, stores, snapshot, version, pack, "test", run_id)
        finish(stores, run_id, ())
    return report


def respond(params: Params, stores: Stores, snapshot: DataSnapshot, data: StageReport, decision: Decision) -> str:
    """Do what was decided about a window, and say what it came to; safe to do again after a kill."""
    began, stopped = monotonic(), ""
    match decision.action:
        case "retrain":
            return retraining(params, stores, snapshot, data, decision)
        case "rollback" | "fall_back":
            outcome, stopped = _gone_back(params, stores, snapshot, decision)
        case "repair":
            outcome = restore(params, stores)
            mend_copies(params, stores)  # what spoilt one copy may have spoilt others
        case "quarantine":
            outcome = set_aside(params, stores, decision)
        case _:
            return ""
    if decision.windows and decision.action != "quarantine":
        outcome = f"{outcome}; {set_aside(params, stores, decision)}"
    if stopped:
        hindered(params, decision, outcome)
    responded(params, stores, decision, outcome, minutes=0.0 if stopped else (monotonic() - began) / 60)
    return outcome


def _gone_back(params: Params, stores: Stores, snapshot: DataSnapshot, decision: Decision) -> tuple[str, str]:
    """Go back to a version, and say what it came to, and what stopped it where it can never be done.

    No outage is among these: one of a store raises, and so do bytes that changed since they were verified just now.
    """
    stopped = obstacle(params, stores, decision)
    if not stopped:
        try:
            return roll_back(params, stores, snapshot, decision), ""
        except ArtefactError:
            raise
        except ModelError as refusal:
            stopped = str(refusal).removesuffix(".")
    return f"not done: {stopped}", stopped


@flow(name="retraining")
def retraining(params: Params, stores: Stores, snapshot: DataSnapshot, data: StageReport, decision: Decision) -> str:
    """Admit windows, train a candidate on them beside the pinned data, and put it through the gate like any other."""
    began = monotonic()
    taught, former = params.retrained(), starting_point(params, stores, decision)
    grown = admit_windows(params, stores, snapshot, decision)
    runs, pack = begin(taught, stores, grown, former), params.evaluation.uses.gate
    with failing(params, stores, runs.lifecycle):
        version, trained = training(taught, stores, grown, runs.training, former)
        scored = about(taught, stores, grown, version, "evaluation", pack)
        compared = about(taught, stores, grown, version, "promotion", pack)
        findings = evaluation(taught, stores, grown, version, pack, "test", scored)
        verdict = promotion(taught, stores, grown, version, findings, compared)
        kept = transfer(taught, stores, grown, decision, version, scored)
        publish(taught, stores, grown, data, trained, findings, verdict, runs.lifecycle, kept, pack)
        if verdict.action == "promote":
            crown(params, stores, verdict)
        finish(stores, runs.lifecycle, (runs.training, scored, compared), verdict)
    outcome = f"version {version.version}: {verdict.action}"
    minutes = (monotonic() - began) / 60
    responded(params, stores, decision, outcome, labels_of(grown, snapshot), minutes, candidate=version)
    return outcome
