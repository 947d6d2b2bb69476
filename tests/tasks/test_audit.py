"""The audit of one version: what it learned from is shown, and a record that was changed is a problem."""

from types import SimpleNamespace

import pytest

from holdfast.data.source import RowsSeen
from holdfast.model import ModelSpec, save_model
from holdfast.recovery.promotion import promote
from holdfast.recovery.promotion import register as record_version
from holdfast.results import Decision, Reason
from holdfast.space import Feature, Table
from holdfast.stores import Stores
from tasks import tracking
from tasks.audit import answer
from tasks.heldout import ROWS_SEEN, keep_rows_seen
from tasks.recovery import open_ledger

PARAMS = SimpleNamespace(
    name="people",
    evaluation=SimpleNamespace(uses=SimpleNamespace(run="standard")),
    pack_digest=lambda pack: f"of {pack}",
)
SEEN = RowsSeen(columns=("age",), ids=(1, 2, 3))
SPEC = ModelSpec(
    factory="holdfast.networks:mlp", settings={"width": 4}, classes=("no", "yes"),
    space=Table(features=(Feature(name="age", kind="number", median=40, iqr=10),)),
)  # fmt: skip


@pytest.fixture
def stores(tmp_path):
    made = Stores.local(tmp_path, tmp_path / "root", actor="alice")
    parent = tracking.open_run(made, "people", "l", title="lifecycle") if tracking.prepare(made, "people") else ""
    run_id = tracking.open_run(made, "people", "t", title="training", parent=parent)
    digest = save_model(tmp_path / "m", SPEC.build(seed=0), SPEC)
    keep_rows_seen(made, run_id, SEEN)
    version = tracking.register(made, "people", tmp_path / "m", SPEC, run_id, "key", digest)
    record_version(open_ledger(made), version, who="t", lineage={"rows_seen": SEEN.fingerprint()})
    return made


def test_the_record_of_rows_seen_is_shown_and_verified(stores):
    """As registered its digest is shown; with one row taken out the audit names the version and fails."""
    audit = answer(PARAMS, stores, version=1)
    assert audit.stale == (1,)  # it was never scored
    assert audit.origin.lineage["rows_seen"] == SEEN.fingerprint()
    assert (audit.origin.rows_seen, audit.problems) == ("as registered", ())
    changed = SEEN.model_copy(update={"ids": (1, 2)})
    tracking.log_text(stores, audit.origin.run_id, ROWS_SEEN, changed.model_dump_json())
    audit = answer(PARAMS, stores, version=1)
    assert audit.origin.rows_seen.startswith(f"{ROWS_SEEN} with digest {changed.fingerprint()[:16]}")
    (problem,) = audit.problems
    assert problem.startswith("version 1: ")
    assert audit.exit_code != 0


def test_a_version_that_was_left_says_by_whom_and_why(stores, tmp_path):
    """A rollback is part of the story of both versions, and so is its decision; a page of text says it, not one of JSON."""
    ledger, shelf = open_ledger(stores), tracking.MlflowProjection(stores)
    digest = save_model(tmp_path / "m2", SPEC.build(seed=1), SPEC)
    run_id = tracking.get_version(stores, "people", 1).run_id
    second = tracking.register(stores, "people", tmp_path / "m2", SPEC, run_id, "key2", digest)
    record_version(ledger, second, who="t", lineage={"parent": {"version": 1}, "recipe": "standard"})
    first = tracking.get_version(stores, "people", 1)
    for action, candidate, champion, who, why in (
        ("promote", first, None, "bob", "the first"), ("promote", second, first, "bob", "better"),
        ("rollback", first, second, "alice", "gained nothing"),
    ):  # fmt: skip
        reason = Reason(about=who, passed=True, text=why)
        decision = Decision(action=action, reasons=(reason,), candidate=candidate, champion=champion)
        number = candidate.version
        ledger.append("decision", who=who, model="people", version=number, body=decision.model_dump(mode="json"))
        head = ledger.head("people")
        promote(ledger, shelf, decision, expected=head and head.promotion, who=who, why=why)
    told = {number: answer(PARAMS, stores, version=number) for number in (1, 2)}
    assert [(each["who"], each["what"], each["why"]) for each in told[2].origin.history] == [
        ("t", "registered", ""), ("bob", "promoted", "better"),
        ("alice", "left by a rollback to version 1", "gained nothing"),
    ]  # fmt: skip
    assert [each["what"] for each in told[1].origin.history] == [
        "registered", "promoted", "followed by version 2", "gone back to",
    ]  # fmt: skip
    assert [each["action"] for each in told[2].origin.decisions] == ["promote", "rollback"]
    lines = told[2].lines()
    assert any(line.endswith("alice: left by a rollback to version 1: gained nothing") for line in lines)
    assert "  rollback: gained nothing" in lines
    assert not any(line.startswith("{") for line in lines)
