"""Recovery: decisions on record with all that was said, and a rewritten ledger told by the heads outside it."""

import sqlite3
from types import SimpleNamespace

import pytest

from holdfast.errors import LedgerError
from holdfast.recovery.gate import Gates
from holdfast.recovery.ledger import Ledger
from holdfast.results import ModelVersion, Reason
from holdfast.stores import Stores, WallClock
from tasks import recovery, tracking


class Alias:
    def read(self, model):
        return None

    def write(self, model, version):
        raise AssertionError("nothing is to be written")


@pytest.fixture
def ledger(tmp_path):
    made = Ledger.create(f"sqlite:///{tmp_path / 'ledger.db'}", WallClock())
    for number in range(3):
        made.append("alert", who="alice", model="people", body={"number": number})
    return made


def test_a_rewritten_ledger_is_convicted_by_a_head_kept_elsewhere(ledger, tmp_path, monkeypatch):
    """Another chain, sound in itself, does not hold the head that a version's tag remembers."""
    stores = Stores.local(tmp_path, tmp_path)
    kept = ledger.verify().head
    monkeypatch.setattr(tracking, "kept_heads", lambda *_: (kept,))
    ledger.append("alert", who="alice", model="people", body={"number": 3})  # honest growth
    assert recovery.audited(ledger, Alias(), stores, "people").chain_valid
    (tmp_path / "forged").mkdir()
    forged = Ledger.create(f"sqlite:///{tmp_path / 'forged' / 'ledger.db'}", WallClock())
    for number in range(4):
        forged.append("alert", who="mallory", model="people", body={"number": number})
    assert forged.verify().valid
    assert not recovery.audited(forged, Alias(), stores, "people").chain_valid
    with pytest.raises(LedgerError, match="not on the chain"):
        recovery._require_kept_heads(stores, forged, "people")


def test_a_broken_chain_stays_broken_without_any_kept_head(ledger, tmp_path, monkeypatch):
    """No head outside: the chain alone must convict a changed entry."""
    monkeypatch.setattr(tracking, "kept_heads", lambda *_: ())
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        for (trigger,) in database.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            database.execute(f'drop trigger "{trigger}"')
        database.execute("update holdfast_ledger set who = 'mallory' where seq = 2")
    assert not recovery.audited(ledger, Alias(), Stores.local(tmp_path, tmp_path), "people").chain_valid


def test_a_decision_says_which_rows_it_stands_on(tmp_path):
    """What is said of the gate's rows is the first reason, in the decision and on record."""
    stores = Stores.local(tmp_path, tmp_path)
    params = SimpleNamespace(
        name="people", metric="accuracy", costs=None, recovery=SimpleNamespace(gates=Gates()),
    )  # fmt: skip
    told = Reason(about="gate rows", passed=True, text="7 compared; 2 left out")
    candidate = ModelVersion(name="people", version=1, digest="a" * 64)
    decision = recovery.judge.fn(params, stores, candidate, None, (), (), (), (told,))
    assert decision.reasons[0] == told
    assert len(decision.reasons) > 1
    (entry,) = [entry for entry in recovery.open_ledger(stores).history("people") if entry.kind == "decision"]
    assert entry.body == decision.model_dump(mode="json")
