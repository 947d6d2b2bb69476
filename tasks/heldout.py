"""Rows that no version learned from: what is kept at registration, and what is left out when versions are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import ValidationError

from holdfast.data.source import RowsSeen
from holdfast.digests import digest_json
from holdfast.errors import RoleError, StoreError
from holdfast.params import Params
from holdfast.results import DataSnapshot, Decision, ModelVersion, Reason, Value
from holdfast.stores import Stores
from tasks import tracking
from tasks.progress import tell
from tasks.recovery import open_ledger, record_decision
from tasks.storage import load_data

if TYPE_CHECKING:
    from holdfast.data.source import Array, Loaded

ROWS_SEEN = "rows_seen.json"


class RowIds(Value):
    """Ids of rows, as the result store keeps them."""

    ids: tuple[int, ...]


class LeftOut(Value):
    """Gate rows that are left out, by reference."""

    key: str
    """Where the result store keeps their ids."""
    rows: int


class GateRows(Value):
    """What is left of the gate for one comparison, or why there is none."""

    left_out: LeftOut | None = None
    """None when no version that is compared learned from a gate row."""
    decision: Decision | None = None
    """Set when nothing can be compared: blocked, and recorded."""
    reasons: tuple[Reason, ...] = ()
    """How many gate rows may be compared on and how many were left out, for the decision that follows."""


def keep_rows_seen(stores: Stores, run_id: str, seen: RowsSeen) -> None:
    """Keep with a training run which rows its version learned from, once."""
    if tracking.read_text(stores, run_id, ROWS_SEEN) is None:
        tracking.log_text(stores, run_id, ROWS_SEEN, seen.model_dump_json())


def left_out_ids(stores: Stores, left_out: LeftOut | None) -> tuple[int, ...]:
    """Give the ids of the rows that are left out; none for None.

    Raises:
        StoreError: the result store has them no more, or others.
    """
    if left_out is None:
        return ()
    known = stores.results.get(left_out.key, RowIds)
    if known is None or len(known.ids) != left_out.rows:
        raise StoreError(
            str(stores.results.folder), found="no ids of the rows that are left out of the gate",
            expected=f"{left_out.rows} ids under {left_out.key[:16]}", remedy="Run again: they are told anew.",
        )  # fmt: skip
    return known.ids


@task(cache_policy=NO_CACHE)
def hold_out(
    params: Params, stores: Stores, snapshot: DataSnapshot, candidate: ModelVersion, champion: ModelVersion | None
) -> GateRows:
    """Leave out of the gate what either version learned from; where that cannot be told, or is all, block.

    Roles follow from params and features: when these change, a row that trained the champion can become a gate row.

    Raises:
        StoreError: tracking does not answer, or holds no record of what a version learned from, or another one.
    """
    data = load_data(stores, params, snapshot)
    gate = data.holds("gate")
    seen = np.zeros(len(data), dtype=bool)
    for version in (candidate, *((champion,) if champion else ())):
        try:
            seen |= data.recognise(rows_seen(stores, version))
        except RoleError as error:
            who = f"{version.name} version {version.version}"
            text = f"which gate rows {who} learned from cannot be told: {error}"
            return GateRows(decision=_block(params, stores, candidate, champion, text))
    if not (gate & ~seen).any():
        text = f"{_counted(gate, seen)}: none is left"
        return GateRows(decision=_block(params, stores, candidate, champion, text))
    told = Reason(about="gate rows", passed=True, text=f"{_counted(gate, seen)}; each scenario says its n")
    return GateRows(left_out=_left_out(stores, data, gate & seen), reasons=(told,))


def _counted(gate: Array, seen: Array) -> str:
    kept, out = int((gate & ~seen).sum()), int((gate & seen).sum())
    return f"{kept} compared; {out} left out that the candidate or champion had seen"


def rows_seen(stores: Stores, version: ModelVersion) -> RowsSeen:
    """Read which rows a version learned from, as the ledger recorded it at registration.

    Raises:
        StoreError: tracking or ledger do not answer, or the record is missing, malformed or not what was registered.
    """
    seen = _recorded(stores, version)
    if isinstance(seen, RowsSeen):
        return seen
    raise StoreError(
        f"{version.name} version {version.version}, run {version.run_id or 'unknown'}",
        found=seen,
        expected="the record of the rows it learned from, as registered: without it no gate row is known to be fresh",
        remedy=f"Restore {ROWS_SEEN} to that run in MLflow; or delete it and run `holdfast train` with the code,"
        " params and data of that version, which writes it again;"
        " a version registered without its digest is trained anew.",
    )


def fault_of_rows_seen(stores: Stores, version: ModelVersion) -> str:
    """Say what is wrong with the record of what a version learned from; empty when it is what was registered.

    Raises:
        StoreError: tracking or ledger do not answer.
    """
    seen = _recorded(stores, version)
    return "" if isinstance(seen, RowsSeen) else seen


def _recorded(stores: Stores, version: ModelVersion) -> RowsSeen | str:
    """Read the record and hold it against the ledger's digest of it, or say what is wrong with it."""
    with open_ledger(stores).reading() as view:
        entries = view.entries(model=version.name, version=version.version, kinds=("registered",))
        found = [entry.body["lineage"].get("rows_seen") for entry in entries]  # all: a cursor must not outlive its view
    registered = found[0] if found else None
    text = tracking.read_text(stores, version.run_id, ROWS_SEEN) if version.run_id else None
    if text is None:
        return f"no {ROWS_SEEN}"
    try:
        seen = RowsSeen.model_validate_json(text)
    except ValidationError:
        return f"a malformed {ROWS_SEEN}"
    if registered is None:
        return f"{ROWS_SEEN} of a version that was registered without its digest"
    if seen.fingerprint() != registered:
        return f"{ROWS_SEEN} with digest {seen.fingerprint()[:16]}, registered with {str(registered)[:16]}"
    return seen


def _left_out(stores: Stores, data: Loaded, rows: Array) -> LeftOut | None:
    left = keep_left_out(stores, data, rows)
    if left is not None:
        tell("recovery", f"{left.rows} gate rows that a version learned from are left out for both")
    return left


def keep_left_out(stores: Stores, data: Loaded, rows: Array) -> LeftOut | None:
    """Keep which rows (n,) bool are left out of a question, and give the reference; None for none."""
    if not rows.any():
        return None
    ids = RowIds(ids=tuple(np.sort(data.ids[rows]).tolist()))
    key = digest_json(["left out", ids.ids])
    stores.results.put(key, ids)
    return LeftOut(key=key, rows=len(ids.ids))


def _block(
    params: Params, stores: Stores, candidate: ModelVersion, champion: ModelVersion | None, text: str
) -> Decision:
    decision = Decision(
        action="block", candidate=candidate, champion=champion,
        reasons=(Reason(about="gate rows", passed=False, text=text),),
    )  # fmt: skip
    return record_decision(params, stores, decision)
