"""Integrity: the snapshot taken, examined, and its faulty rows set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.digests import work_key
from holdfast.errors import DataError, IntegrityError, ParamsError
from holdfast.integrity.base import Material, run_checks, verdict
from holdfast.integrity.quarantine import Quarantine
from holdfast.integrity.schema import Schema
from holdfast.params import Params
from holdfast.registry import code_of
from holdfast.results import DataSnapshot, StageReport
from holdfast.stores import Stores, WallClock
from tasks.progress import tell
from tasks.recovery import open_ledger
from tasks.storage import load_data, materialise, provenance, snapshot

if TYPE_CHECKING:
    from pathlib import Path


@task(cache_policy=NO_CACHE)
def found_data(params: Params, stores: Stores) -> DataSnapshot:
    """Materialise what ``data.dvc`` pins, verify it, and name all of it, quarantined rows included."""
    materialise(stores.project)
    return snapshot(params, stores)


@task(cache_policy=NO_CACHE)
def usable_data(params: Params, stores: Stores, report: StageReport) -> DataSnapshot:
    """Name what may train: the examined data without the rows that the report sets aside and nobody released.

    Raises:
        DataError: other data is pinned by now than was examined.
    """
    found = snapshot(params, stores, Quarantine(stores.quarantine).holding(report.integrity))
    if found.file_md5 != report.subject:
        raise DataError(
            found.path, found=f"md5 {found.file_md5}", expected=f"{report.subject}, as was examined",
            remedy="Somebody pinned other data meanwhile: run again.",
        )  # fmt: skip
    return found


def describe(params: Params, stores: Stores) -> DataSnapshot:
    """Give the snapshot of the pinned data, without the rows in quarantine where a run has examined it already."""
    materialise(stores.project)
    found = snapshot(params, stores)
    held = _held_back(params, stores, found)
    return snapshot(params, stores, held) if held else found


@task(cache_policy=NO_CACHE)
def examine(params: Params, stores: Stores, found: DataSnapshot) -> StageReport:
    """Put the snapshot through every check of ``params.integrity``, once for the same bytes of the data set and checks.

    A check of where the bytes come from is asked anew each time: its answer is about all of ``data/`` and the pin.
    """
    checks = params.checks()
    key = _key(params, found)
    known = stores.results.get(key, StageReport)
    answered = {} if known is None else {finding.check: finding for finding in known.integrity}
    if answered:
        tell("integrity", f"{len(answered)} checks reused: same data, same checks")
    material = _material(params, stores, found)
    findings = []
    for number, check in enumerate(checks, start=1):
        finding = answered.get(check.name())
        if finding is None:
            (finding,) = run_checks([check], material)
            tell("integrity", f"{finding.check}  {finding.verdict}  {finding.reason}", done=number, total=len(checks))
        findings.append(finding)
    if known is None:
        lasting = tuple(f for f, check in zip(findings, checks, strict=True) if not check.about_origin)
        stores.results.put(key, StageReport(stage="integrity", subject=found.file_md5, integrity=lasting))
    return StageReport(stage="integrity", subject=found.file_md5, integrity=tuple(findings))


def _key(params: Params, found: DataSnapshot) -> str:
    """Name an examination: the bytes of the data set, how it is read, the checks with their settings, code and seed."""
    code = (code_of(type(check)) for check in params.checks() if not check.about_origin)
    return work_key("integrity", params.section_digest("data", "integrity"), found.file_md5, *code, seed=params.seed)


@task(cache_policy=NO_CACHE)
def refuse_blocked(params: Params, stores: Stores, report: StageReport) -> None:
    """Stop here when a check blocked the data: it never trains.

    Raises:
        IntegrityError: a check blocked, or none was asked for.
    """
    if report.integrity and verdict(report.integrity) != "block":
        return
    blocked = [f"{finding.check}: {finding.reason}" for finding in report.integrity if finding.verdict == "block"]
    open_ledger(stores).append(
        "alert", who=stores.named_actor(), model=params.name,
        body={"about": "integrity blocked the data", "reasons": blocked},
        key=f"blocked:{params.name}:{report.fingerprint()}",
    )  # fmt: skip
    raise IntegrityError(
        f"data of {params.name}",
        found="; ".join(blocked) or "no integrity check at all",
        expected="data that passes, or whose faulty rows can be quarantined",
        remedy="Mend the data and `holdfast data add` it, or change the policy under integrity in params.yaml.",
    )


@task(cache_policy=NO_CACHE)
def quarantine(params: Params, stores: Stores, found: DataSnapshot, report: StageReport) -> None:
    """Set faulty rows aside with their reasons, and say how many; the same finding twice adds once."""
    store, faulty = Quarantine(stores.quarantine), [finding for finding in report.integrity if finding.rows]
    added = store.add(faulty, _material(params, stores, found), found.file_md5) if faulty else 0
    held = store.holding(report.integrity)
    if held:
        as_before = "" if added else ", as before"
        tell("integrity", f"{len(held)} rows quarantined{as_before}; `holdfast data quarantine` lists them")
    if freed := len(store.excluded(found.file_md5) - held):
        tell("integrity", f"{freed} rows that other checks or settings once held are used: params hold them no more")
    if not faulty:
        return
    open_ledger(stores).append(
        "quarantine", who=stores.named_actor(), model=params.name,
        key=f"quarantine:{params.name}:{report.fingerprint()}",
        body={"rows": sum(len(f.rows) for f in faulty), "data": found.file_md5, "report": report.fingerprint()},
    )  # fmt: skip


def _material(params: Params, stores: Stores, found: DataSnapshot) -> Material:
    return load_data(stores, params, found).material(
        seed=params.seed, provenance=provenance(stores, found), progress=lambda text: tell("integrity", text)
    )


def data_docs(params: Params, stores: Stores) -> Path:
    """Write Data Docs of the pinned data, and give their index page.

    Raises:
        ParamsError: params ask for no schema check.
    """
    schema = next((check for check in params.checks() if isinstance(check, Schema)), None)
    if schema is None:
        raise ParamsError(
            "integrity.schema", found="no schema check", expected="one to document",
            remedy="Declare the columns under integrity.schema.",
        )  # fmt: skip
    materialise(stores.project)
    return schema.write_data_docs(_material(params, stores, snapshot(params, stores)), stores.root / "data_docs")


def quarantined(params: Params, stores: Stores) -> tuple[list[dict[str, Any]], set[int] | None, str]:
    """List every row ever set aside in these stores, with its reason, and who released it where somebody did.

    Returns:
        The rows; the ids of those that the checks of params hold now, None where no run has examined the data with
        them yet, or the data is not what is pinned; and the md5 of the data that params name, empty where it is not.
    """
    rows = [row.model_dump(mode="json") for row in Quarantine(stores.quarantine).list()]
    try:
        found = snapshot(params, stores)
    except DataError as error:
        tell("integrity", f"which rows are held now is not known: {error}")
        return rows, None, ""
    return rows, _held_back(params, stores, found), found.file_md5


def _held_back(params: Params, stores: Stores, found: DataSnapshot) -> set[int] | None:
    known = stores.results.get(_key(params, found), StageReport)
    return None if known is None else Quarantine(stores.quarantine).holding(known.integrity)


def release(params: Params, stores: Stores, ids: tuple[int, ...], why: str) -> int:
    """Release rows in the caller's name, on record in the store and in the ledger.

    Raises:
        DataError: a row was never set aside, or no reason is given.
    """
    who = stores.named_actor()
    count = Quarantine(stores.quarantine).release(ids, who, why, WallClock().now())
    if count:
        body = {"rows": list(ids), "why": why}
        open_ledger(stores).append("release", who=who, model=params.name, body=body)
    return count
