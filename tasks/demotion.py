"""Demotion: a champion held to its floors again, and what follows where it no longer meets them."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.params import Params
from holdfast.recovery.gate import reexamine
from holdfast.recovery.policy import tripped
from holdfast.results import DataSnapshot, Decision, ModelVersion, Reason, StageReport
from holdfast.stores import Stores
from tasks.lineage import registered
from tasks.on_record import DEMOTION, pending, since_cleared
from tasks.progress import tell
from tasks.recovery import find_version, open_ledger, record_decision
from tasks.responses import announce, last_sound


@task(cache_policy=NO_CACHE)
def own_data(stores: Stores, pinned: DataSnapshot, champion: ModelVersion) -> DataSnapshot:
    """Give the data that a champion came from, admitted windows and all; the pinned data where that has moved on."""
    kept = registered(stores, champion).get("data")
    own = pinned if kept is None else DataSnapshot.model_validate(kept)
    return own if own.md5 == pinned.md5 else pinned


@task(cache_policy=NO_CACHE)
def predecessor(params: Params, stores: Stores, champion: ModelVersion, found: StageReport) -> ModelVersion | None:
    """Give the last good version whose bytes verify, where a valid number of the champion is below a floor."""
    if not _below(params, champion, found):
        return None
    good = last_sound(params, stores)
    return None if good is None else find_version.fn(params, stores, good.version)


@task(cache_policy=NO_CACHE)
def sentence(
    params: Params,
    stores: Stores,
    champion: ModelVersion,
    found: StageReport,
    good: ModelVersion | None,
    spare: StageReport | None,
    mute: str = "",
) -> Decision:
    """Decide by the floors whether the champion stays; whatever is wrong is on record and told, once for each finding.

    Where rollbacks wait for a person, or the breaker is tripped, it stays and a person is told what to do.

    Args:
        params: what names the floors.
        stores: where the ledger is.
        champion: who serves.
        found: its findings, role ``test``.
        good: whom it would give way to, where it is below a floor.
        spare: that version's findings on the same rows.
        mute: why it could not be asked, where it could not.
    """
    reasons = reexamine(params.recovery.gates, champion, found.findings, params.metric)
    if all(reason.passed for reason in reasons):
        tell("recovery", f"version {champion.version} meets its floors")
        return Decision(action="none", champion=champion, reasons=reasons)
    theirs = () if good is None or spare is None else reexamine(
        params.recovery.gates, good, spare.findings, params.metric
    )  # fmt: skip
    better = bool(theirs) and all(reason.passed for reason in theirs)
    held = _held(params, stores) if better else ""
    instead = better and not held
    decision = Decision(
        action="rollback" if instead else "alert", champion=champion, candidate=good if instead else None,
        reasons=(*reasons, _instead(params, champion, found, good, better=better, held=held, mute=mute)),
        evidence=tuple(sorted(f.fingerprint() for f in (*found.findings, *(spare.findings if spare else ())))),
    )  # fmt: skip
    tell("recovery", f"version {champion.version}: {decision.action}: {decision.reasons[-1].text}")
    record_decision(params, stores, decision)
    announce(params, decision)
    return decision


@task(cache_policy=NO_CACHE)
def held_back(params: Params, stores: Stores, decision: Decision, why: str) -> Decision:
    """Put on record that a rollback of the night could not be done, and tell a person: the champion stays."""
    told = Reason(about=DEMOTION, passed=False, text=f"not done: {why}")
    decision = decision.model_copy(
        update={"action": "alert", "candidate": None, "reasons": (*decision.reasons, told)}
    )  # fmt: skip
    tell("recovery", f"version {decision.champion.version if decision.champion else None}: alert: {told.text}")
    record_decision(params, stores, decision)
    announce(params, decision)
    return decision


def _below(params: Params, champion: ModelVersion, found: StageReport) -> bool:
    """Tell whether nothing is wrong but floors, each missed by a finding that is scored and valid."""
    reasons = reexamine(params.recovery.gates, champion, found.findings, params.metric)
    failed = {reason.about for reason in reasons if not reason.passed}
    measured = {finding.path for finding in found.findings if finding.score is not None and finding.valid}
    return bool(failed) and failed <= measured & set(params.recovery.gates.floors)


def _instead(
    params: Params,
    champion: ModelVersion,
    found: StageReport,
    good: ModelVersion | None,
    *,
    better: bool,
    held: str,
    mute: str,
) -> Reason:
    if good is not None and better:
        text = f"version {good.version} reigned before, and meets every floor on the same rows{held}"
    elif good is not None and mute:
        text = f"version {good.version} reigned before, and cannot be asked: {mute}"
    elif good is not None:
        text = f"version {good.version} reigned before, and does not meet the floors either: nothing was demoted"
    elif _below(params, champion, found):
        text = "no former champion that nobody condemned, and whose bytes verify: nothing was demoted"
    else:
        text = "what was not measured, or is not valid, demotes nobody: a person must look"
    return Reason(about=DEMOTION, passed=better and not held, text=text)


def _held(params: Params, stores: Stores) -> str:
    """Say why the loop may not roll back now, and what a person does instead; empty where it may."""
    policy, place = params.recovery.policy, pending(params, stores)[0]
    with open_ledger(stores).reading() as view:
        stop = tripped(since_cleared(view, params.name), policy, place)
    if stop:
        return f"; {stop}: `holdfast rollback --why ...` goes back to it, `holdfast unfreeze --why ...` frees the loop"
    if "rollback" in policy.approve:
        return "; rollbacks wait for a person: `holdfast rollback --why ...` goes back to it"
    return ""
