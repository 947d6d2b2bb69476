"""The audit, answered from ledger and MLflow together: who serves, who served, and where a version comes from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from holdfast.errors import LedgerError, ParamsError, ProjectionError
from holdfast.recovery.audit import AuditReport, repair
from holdfast.recovery.ledger import Ledger
from holdfast.results import Value
from holdfast.stores import WallClock
from tasks import tracking
from tasks.history import stale
from tasks.recovery import audited

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.params import Params
    from holdfast.recovery.chain import Entry
    from holdfast.stores import Stores
    from tasks.replicas import Copies


AS_REGISTERED = "as registered"


class Origin(Value):
    """Where one version comes from."""

    version: int
    digest: str
    lineage: dict[str, Any]
    """Data md5 and revision, roles, quarantined rows, rows seen (digest), params, recipe, seed, code: as registered."""
    findings: dict[str, str]
    """Scenario path and role to the digest of the finding, as decisions name it in their evidence."""
    decisions: tuple[dict[str, Any], ...]
    """Every decision about it, as champion or candidate, with its reasons and evidence."""
    history: tuple[dict[str, str], ...]
    """What became of it: ``at``, ``who``, ``what`` and ``why``: registered, promoted, left by a rollback, condemned."""
    run_id: str
    rows_seen: str
    """``as registered``, or what is wrong with the record of the rows it learned from: then it is never compared."""
    ledger_head: str
    """The chain's head that was written on the version when it was crowned."""

    def lines(self) -> list[str]:
        """Say it in some lines."""
        known, data, parent = self.lineage, self.lineage.get("data", {}), self.lineage.get("parent")
        after = f"after version {parent['version']}" if parent else "the first"
        pinned = f"data {data.get('md5', 'not on record')}, manifest {data.get('manifest') or 'none'}"
        lines = [
            f"version {self.version}: digest {self.digest[:16]}, run {self.run_id}",
            f"  {pinned}, revision {str(data.get('revision'))[:16]}; rows it learned from: {self.rows_seen}",
            f"  {after}, recipe {known.get('recipe')}, seed {known.get('seed')}, code {str(known.get('library'))[:16]}",
        ]
        lines += [f"  {each['at']}  {each['who']}: {each['what']}{_because(each['why'])}" for each in self.history]
        for decision in self.decisions:
            if decision["action"] not in {"none", "alert"}:
                place = "" if decision.get("position") is None else f"window {decision['position']}: "
                lines.append(f"  {place}{decision['action']}{_because(_said(decision))}")
        return [*lines, f"  {len(self.decisions)} decisions and {len(self.findings)} findings: `--json` gives all"]


def _because(why: str) -> str:
    return f": {why}" if why else ""


def _said(decision: dict[str, Any]) -> str:
    reasons = [reason["text"] for reason in decision.get("reasons", ())]
    return "" if not reasons else reasons[-1]


class Audit(Value):
    """What ``holdfast audit --json`` prints."""

    chain_valid: bool
    chain_length: int
    chain_head: str
    champion: int | None
    champion_digest: str | None
    alias_version: int | None
    agrees: bool
    problems: tuple[str, ...]
    versions: tuple[dict[str, Any], ...]
    served_at: dict[str, Any] | None = None
    origin: Origin | None = None
    orphans: tuple[int, ...] = ()
    """Versions in the registry that the ledger has never heard of: registered by hand, or cut off by a kill."""
    stale: tuple[int, ...] = ()
    """Versions whose headlines are of another pack than `run` asks now, or that have none: they compare with none."""
    restored: tuple[str, ...] = ()
    """Copies of the champion or of the last good version that were spoilt, and that a repair restored."""

    @property
    def exit_code(self) -> int:
        """Exit code of the command, when there are problems."""
        if not self.chain_valid:
            return LedgerError.exit_code
        return ProjectionError.exit_code if not self.agrees else 1

    def lines(self) -> list[str]:
        """Say it in a few lines."""
        chain = "whole" if self.chain_valid else "BROKEN"
        lines = [f"chain {chain}, {self.chain_length} entries, head {self.chain_head[:16]}"]
        lines.append(f"champion {self.champion}, alias {self.alias_version}, {'agree' if self.agrees else 'DISAGREE'}")
        lines += [
            f"  version {v['version']}: {v['status']} since {v['at']}, digest {v['digest'][:16]}" for v in self.versions
        ]
        lines += [f"  version {number}: in the registry, not in the ledger" for number in self.orphans]
        if self.stale:
            named = ", ".join(map(str, self.stale))
            lines.append(f"headlines of another pack, or none: {named}; `holdfast evaluate --all-versions` gives them")
        if self.served_at is not None:
            lines.append(
                f"served then: version {self.served_at['version']}"
                if self.served_at["version"]
                else "nothing served then"
            )
        if self.origin is not None:
            lines += self.origin.lines()
        lines += self.restored
        return lines + [f"PROBLEM: {problem}" for problem in self.problems]


def answer(
    params: Params,
    stores: Stores,
    *,
    at: str | None = None,
    version: int | None = None,
    repair: str | None = None,
    accept_outside: bool = False,
) -> Audit:
    """Audit the ledger, repair alias and spoilt copies where a reason is given, and answer the questions asked.

    Raises:
        StoreError: ledger or registry do not answer.
        LedgerError: a repair was asked for and cannot be made.
        ParamsError: ``at`` is no time.
    """
    ledger, projection = Ledger(stores.ledger.get_secret_value(), WallClock()), tracking.MlflowProjection(stores)
    mended: tuple[str, ...] = ()
    lost: tuple[Copies, ...] = ()
    if repair is not None:
        found = _repair(ledger, projection, params.name, stores.named_actor(), repair, accept_outside=accept_outside)
        from tasks.replicas import restored  # noqa: PLC0415  loads DVC, which no question needs

        mended, lost = restored(params, stores)
    else:
        found = audited(ledger, projection, stores, params.name)
    document = _document(params, stores, ledger, found, at, version)
    problems = (*document.problems, *(f"{copies.told}: nothing was restored" for copies in lost))
    return document.model_copy(update={"restored": mended, "problems": problems})


def _repair(
    ledger: Ledger, projection: tracking.MlflowProjection, name: str, who: str, why: str, *, accept_outside: bool
) -> AuditReport:
    return repair(ledger, projection, name, who=who, why=why, accept_outside=accept_outside)


def _document(
    params: Params, stores: Stores, ledger: Ledger, found: AuditReport, at: str | None, version: int | None
) -> Audit:
    known = {record.version for record in found.versions}
    registered = [v.version for v, _, _ in tracking.list_versions(stores, params.name)]
    head = found.champion
    origin = _origin(params, stores, ledger, version) if version is not None else None
    unlike = origin.rows_seen if origin is not None and origin.rows_seen != AS_REGISTERED else ""
    problems = (f"version {version}: {unlike}, so it is never compared",) if unlike else ()
    return Audit(
        chain_valid=found.chain_valid, chain_length=found.chain_length, chain_head=found.chain_head,
        champion=head.version if head else None, champion_digest=head.digest if head else None,
        alias_version=found.alias_version, agrees=found.agrees, problems=(*found.problems, *problems),
        versions=tuple(record.model_dump(mode="json") for record in found.versions),
        served_at=_served(ledger, params.name, at) if at else None,
        origin=origin,
        orphans=tuple(number for number in registered if number not in known),
        stale=tuple(number for number in stale(params, stores) if number in known),
    )  # fmt: skip


def _served(ledger: Ledger, name: str, at: str) -> dict[str, Any]:
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise ParamsError(
            "--at", found=at, expected="an ISO time such as 2026-01-31T12:00:00+00:00", remedy="Write it so."
        ) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    head = ledger.served_at(name, moment)
    return {
        "at": moment.isoformat(),
        "version": head.version if head else None,
        "digest": head.digest if head else None,
    }


def _origin(params: Params, stores: Stores, ledger: Ledger, version: int) -> Origin:
    """Collect what ledger and registry say of one version.

    Raises:
        LedgerError: the ledger has no record of it.
    """
    with ledger.reading() as view:
        entries = list(view.entries(model=params.name))
    from tasks.heldout import fault_of_rows_seen  # noqa: PLC0415  loads DVC, which no other question needs

    registered = next((e for e in entries if e.kind == "registered" and e.version == version), None)
    found = tracking.get_version(stores, params.name, version)
    if registered is None or found is None:
        raise LedgerError(
            f"{params.name} version {version}",
            found="no record of its registration" if found else "no such version",
            expected="a version that a run registered",
            remedy="`holdfast audit` lists the versions.",
        )
    return Origin(
        version=version,
        digest=str(registered.body["digest"]),
        lineage=registered.body["lineage"],
        findings=tracking.finding_tags(stores, found),
        decisions=tuple(entry.body for entry in entries if entry.kind == "decision" and _concerns(entry, version)),
        history=tuple(_history(entries, version)),
        run_id=found.run_id,
        rows_seen=fault_of_rows_seen(stores, found) or AS_REGISTERED,
        ledger_head=tracking.version_tags(stores, found).get("holdfast.ledger_head", ""),
    )


def _concerns(entry: Entry, version: int) -> bool:
    """Tell whether an entry is about a version, or names it as the champion of then or the candidate."""
    named = (entry.body.get("champion"), entry.body.get("candidate"))
    return entry.version == version or any(each and each.get("version") == version for each in named)


def _history(entries: list[Entry], version: int) -> Iterator[dict[str, str]]:
    """Say what became of a version, in order, and for what reason; a promotion's reason is in its intent."""
    asked = {entry.promotion: str(entry.body["why"]) for entry in entries if entry.kind == "intent"}
    for entry in entries:
        previous = (entry.body.get("previous") or {}).get("version")
        what = _what(entry, version, previous)
        if what:
            why = str(entry.body.get("why") or asked.get(entry.promotion, ""))
            yield {"at": entry.at.isoformat(), "who": entry.who, "what": what, "why": why}


def _what(entry: Entry, version: int, previous: int | None) -> str:
    went_back = entry.body.get("action") == "rollback"
    match entry.kind, entry.version == version:
        case ("registered" | "condemned" | "cleared") as kind, True:
            return kind
        case "done", True:
            return "gone back to" if went_back else "promoted"
        case "undone", True:
            return "promotion undone"
        case "outside_move", True:
            return "made champion from outside"
        case (("done" | "outside_move"), False) if previous == version:
            return f"left by a rollback to version {entry.version}" if went_back else f"followed by {_next(entry)}"
    return ""


def _next(entry: Entry) -> str:
    return "nobody" if entry.version is None else f"version {entry.version}"
