"""Recovery: the ledger opened, the champion resolved, decisions recorded, the alias moved by the saga."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.errors import ModelError, StoreError
from holdfast.model import digest_of
from holdfast.params import Params
from holdfast.recovery.audit import AuditReport, checked_champion, reconcile
from holdfast.recovery.gate import decide, formerly, reexamine
from holdfast.recovery.ledger import ChampionHead, Ledger
from holdfast.recovery.promotion import Projection, Promotion, promote, recover
from holdfast.results import Decision, Finding, ModelVersion, Reason
from holdfast.stores import Stores, WallClock
from tasks import tracking
from tasks.progress import tell
from tasks.tracking.artefacts import holds_weights


def open_ledger(stores: Stores) -> Ledger:
    """Open the ledger, and make it at the very first start.

    A fresh ledger beside a registry that has a champion is a disagreement, which every loader refuses.
    """
    return Ledger.create(stores.ledger.get_secret_value(), WallClock())


@task(cache_policy=NO_CACHE)
def settle(params: Params, stores: Stores) -> tuple[Promotion, ...]:
    """Finish or undo what a killed run left in flight, and refuse to start where the alias disagrees then.

    Raises:
        ProjectionError: the alias was moved from outside: a registry that is not ours to trust gets no version.
    """
    tracking.prepare(stores, params.name)
    ledger, projection = open_ledger(stores), tracking.MlflowProjection(stores)
    _require_kept_heads(stores, ledger, params.name)
    settled = recover(ledger, projection, lambda v: still_good(stores, v), who=stores.named_actor())
    for promotion in settled:
        tell("recovery", f"promotion of version {promotion.candidate.version} was interrupted: {promotion.status} now")
    trusted_champion(stores, ledger, params.name)
    show_champion(stores, ledger, params.name)
    return settled


def still_good(stores: Stores, version: ModelVersion, *, mend: bool = True) -> bool:
    """Tell whether a candidate's bytes verify; nothing is built from them.

    A version or an artefact that is gone is an answer, and an outage is none: it raises. A local copy is a copy:
    where it does not verify, the registry's bytes are fetched and decide; with ``mend`` they take its place when good.
    """
    found = tracking.get_version(stores, version.name, version.version)
    if found is None:
        return False
    local = stores.models / version.digest
    if lies_here(stores, version):
        return True
    stores.models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".afresh-", dir=stores.models) as scratch:
        fetched = _verified(stores, found, version, Path(scratch))
        if fetched is not None and mend:
            shutil.rmtree(local, ignore_errors=True)
            fetched.rename(local)
    return fetched is not None


def lies_here(stores: Stores, version: ModelVersion) -> bool:
    """Tell whether the local copy is there and has a version's very bytes."""
    return verifies(stores.models / version.digest, version)


def in_registry(stores: Stores, version: ModelVersion) -> bool:
    """Tell whether the registry has a version's very bytes, whatever lies here; an outage is no answer: it raises."""
    found = tracking.get_version(stores, version.name, version.version)
    with tempfile.TemporaryDirectory() as scratch:
        return found is not None and _verified(stores, found, version, Path(scratch)) is not None


def _verified(stores: Stores, found: ModelVersion, version: ModelVersion, scratch: Path) -> Path | None:
    """Fetch what the registry has of a version below an empty folder; None where these are not the version's bytes."""
    found = found.model_copy(update={"digest": version.digest})  # the ledger's, not the registry's tag
    if not holds_weights(stores, found):
        return None
    fetched = tracking.fetch_model(stores.model_copy(update={"root": scratch}), found)
    return fetched if verifies(fetched, version) else None


def verifies(folder: Path, version: ModelVersion) -> bool:
    """Tell whether a folder holds a version's very bytes; nothing is built from them."""
    try:
        return digest_of(folder) == version.digest
    except ModelError:  # a file is missing
        return False


def _require_kept_heads(stores: Stores, ledger: Ledger, name: str) -> None:
    heads = tracking.kept_heads(stores, name)  # first: what is kept then is on the chain that is read afterwards
    with ledger.reading() as view:
        view.require_whole(expected_heads=heads)


def trusted_champion(stores: Stores, ledger: Ledger, name: str) -> ChampionHead | None:
    """Resolve the champion as every loader must: from a chain that is whole and holds every head kept on a version.

    A rewritten entry with a hash of its own leaves the chain, and a chain rewritten as a whole leaves the kept heads.

    Raises:
        ProjectionError: the alias disagrees with the ledger.
        LedgerError: the ledger was tampered with.
        StoreError: ledger or registry do not answer.
    """
    heads = tracking.kept_heads(stores, name)
    return checked_champion(ledger, tracking.MlflowProjection(stores), name, expected_heads=heads)


def audited(ledger: Ledger, projection: Projection, stores: Stores, name: str) -> AuditReport:
    """Reconcile ledger and alias, and hold the chain against every head that was written on a version.

    A hash chain alone does not stop one who rewrites the whole table; a head kept elsewhere does.
    """
    return reconcile(ledger, projection, name, expected_heads=tracking.kept_heads(stores, name))


@task(cache_policy=NO_CACHE)
def resolve_champion(params: Params, stores: Stores) -> ModelVersion | None:
    """Resolve the champion from the ledger, its alias in agreement; None only when the ledger says there is none."""
    head = trusted_champion(stores, open_ledger(stores), params.name)
    return None if head is None else located(stores, head)


@task(cache_policy=NO_CACHE)
def find_version(params: Params, stores: Stores, version: int | None) -> ModelVersion:
    """Find a registered version by number, the champion when none is named.

    Raises:
        StoreError: there is no such version, or no champion.
    """
    if version is None:
        champion = resolve_champion.fn(params, stores)
        found = champion
    else:
        found = tracking.get_version(stores, params.name, version)
        recorded = None
        if found is not None:
            with open_ledger(stores).reading() as view:
                recorded = view.digest(params.name, version)
        # The ledger's digest, not the registry's tag: a version it never heard of came by another way.
        found = found.model_copy(update={"digest": recorded}) if found and recorded else None
    if found is None:
        absent = "no champion" if version is None else f"no version {version} in ledger and registry"
        raise StoreError(
            f"model {params.name}", found=absent,
            expected="a registered version", remedy="`holdfast audit` lists the versions.",
        )  # fmt: skip
    return found


def located(stores: Stores, head: ChampionHead) -> ModelVersion:
    """Find where the registry keeps the champion that the ledger names.

    Raises:
        ModelError: the registry has no such version.
    """
    found = tracking.get_version(stores, head.model, head.version)
    if found is None:
        raise ModelError(
            f"{head.model} version {head.version}", found="no such version in the registry",
            expected="the champion that the ledger names",
            remedy="Restore the registry, or roll back with `holdfast promote`.",
        )  # fmt: skip
    return found.model_copy(update={"digest": head.digest})  # the ledger's digest, not the registry's tag


@task(cache_policy=NO_CACHE)
def judge(
    params: Params,
    stores: Stores,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    candidate_gate: tuple[Finding, ...],
    champion_gate: tuple[Finding, ...],
    scorecard: tuple[Finding, ...],
    about_rows: tuple[Reason, ...] = (),
) -> Decision:
    """Decide by the gate, and record the decision once with its evidence and what is said of the gate's rows.

    A candidate that serves already is compared with nobody: floors and validity are held against its fresh scorecard,
    and a failure is on record and moves nothing, since who serves instead is no question of this gate.
    """
    if champion is not None and candidate.digest == champion.digest:
        same = "is the champion already" if candidate.version == champion.version else "has the champion's very bytes"
        now = (
            Reason(about="champion", passed=True, text=f"the candidate {same}"),
            *reexamine(params.recovery.gates, candidate, scorecard, params.metric),
        )
        former = map(formerly, _crowned_for(stores, champion))
        standing = Decision(action="none", candidate=candidate, champion=champion, reasons=(*now, *former))
        return standing if all(reason.passed for reason in now) else record_decision(params, stores, standing)
    if bad := _judged_bad(stores, candidate):
        return record_decision(
            params, stores,
            Decision(action="block", candidate=candidate, champion=champion, reasons=(*about_rows, bad)),
        )  # fmt: skip
    decision = decide(
        params.recovery.gates,
        candidate,
        champion,
        candidate_gate,
        champion_gate,
        params.metric,
        scorecard,
        params.costs,
    )
    decision = decision.model_copy(update={"reasons": (*about_rows, *decision.reasons)})
    return record_decision(params, stores, decision)


def _judged_bad(stores: Stores, candidate: ModelVersion) -> Reason | None:
    """Say why a version that was judged bad stays out, whatever its numbers; None where nobody judged it so."""
    with open_ledger(stores).reading() as view:
        bad = view.judged_bad(candidate)
    if bad is None:
        return None
    same = "" if bad == candidate.version else f", which has the very bytes of version {candidate.version},"
    text = (
        f"version {bad}{same} was judged bad, or rolled back from; "
        f"`holdfast clear {bad} --why ...` takes that back in a person's name"
    )
    return Reason(about="judgement", passed=False, text=text)


def record_decision(params: Params, stores: Stores, decision: Decision) -> Decision:
    """Put a decision on record, once, and give it."""
    open_ledger(stores).append(
        "decision", who=stores.named_actor(), model=params.name,
        version=decision.candidate.version if decision.candidate else None,
        body=decision.model_dump(mode="json"), key=f"decision:{decision.fingerprint()}",
    )  # fmt: skip
    return decision


def _crowned_for(stores: Stores, champion: ModelVersion) -> tuple[Reason, ...]:
    """Give the reasons that made a version champion, as they were recorded."""
    with open_ledger(stores).reading() as view:
        entries = view.entries(model=champion.name, version=champion.version, kinds=("decision",), backwards=True)
        decisions = (Decision.model_validate(entry.body) for entry in entries)
        return next((decision.reasons for decision in decisions if decision.action == "promote"), ())


@task(cache_policy=NO_CACHE)
def crown(params: Params, stores: Stores, decision: Decision) -> Promotion:
    """Make the candidate champion by the saga: intent, alias, read back, done."""
    ledger = open_ledger(stores)
    head = ledger.head(params.name)
    promotion = promote(
        ledger, tracking.MlflowProjection(stores), decision, expected=None if head is None else head.promotion,
        who=stores.named_actor(), why="passed the gate",
    )  # fmt: skip
    show_champion(stores, ledger, params.name)
    return promotion


def show_champion(stores: Stores, ledger: Ledger, name: str) -> None:
    """Write on the versions who is champion, and the ledger's head where a rewriter of the ledger cannot reach it.

    Where the tags say so already, nothing is written; what a kill left out is made up for at the next start.
    """
    head = ledger.head(name)
    for version, tags, _ in tracking.list_versions(stores, name):
        crowned = tags.get("holdfast.status") == "champion"
        if head is not None and version.version == head.version and not crowned:
            known = {"holdfast.ledger_head": ledger.verify().head, "holdfast.status": "champion"}
            tracking.tag_version(stores, version, known)
        elif crowned and (head is None or version.version != head.version):
            tracking.tag_version(stores, version, {"holdfast.status": "former"})
