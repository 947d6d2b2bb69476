"""The audit: what every loader asks, what a person is told, and how a disagreement ends."""

from __future__ import annotations

import os
import signal
import socket

import pytest
from sqlalchemy import delete, insert, select, update

from holdfast.errors import LedgerError, ProjectionError, StoreError
from holdfast.recovery.audit import AuditReport, checked_champion, reconcile, repair
from holdfast.recovery.chain import ENTRIES, HEAD, seal
from holdfast.recovery.ledger import Ledger
from holdfast.recovery.promotion import condemn, promote, recover, register
from holdfast.results import Decision, ModelVersion

MODEL = "loans"


def version(number):
    return ModelVersion(name=MODEL, version=number, digest=f"digest-{number}")


def crown(ledger, alias, number, action="promote"):
    head = ledger.head(MODEL)
    champion = None if head is None else head.reference()
    decision = Decision(action=action, reasons=(), candidate=version(number), champion=champion)
    expected = None if head is None else head.promotion
    return promote(ledger, alias, decision, expected=expected, who="tester", why="test")


def kinds(ledger):
    return [entry.kind for entry in ledger.history(MODEL)]


class DiesAfterWriting:
    """An alias whose process is killed as soon as it has moved."""

    def __init__(self, alias):
        self.read, self.alias = alias.read, alias

    def write(self, model, number):
        self.alias.write(model, number)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def ledger(tmp_path, clock):
    return Ledger.create(f"sqlite:///{tmp_path / 'ledger.db'}", clock)


def test_no_champion_is_what_both_say(url, clock, alias):
    """None only when a ledger that answered has none and a registry that answered has no alias."""
    ledger = Ledger.create(url, clock)
    assert checked_champion(ledger, alias, MODEL) is None
    alias.write(MODEL, 4)
    with pytest.raises(ProjectionError, match="found version 4; expected no alias, as the ledger says"):
        checked_champion(ledger, alias, MODEL)
    assert kinds(ledger) == ["alert"]


def test_a_ledger_that_does_not_answer_has_no_champion_to_tell(tmp_path, clock, alias):
    """An outage of the ledger raises, also where there is no alias either."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    for url in (f"sqlite:///{tmp_path / 'gone.db'}", f"postgresql+psycopg2://u@127.0.0.1:{closed}/ledger"):
        for ask in (checked_champion, reconcile):
            with pytest.raises(StoreError):
                ask(Ledger(url, clock), alias, MODEL)


def test_a_registry_that_does_not_answer_lets_nobody_load(ledger, alias):
    """An outage of the registry raises, and writes no alert: nobody moved anything."""

    class Outage:
        def read(self, model):
            raise StoreError("registry", found="no answer", expected="an answer", remedy="Start it.")

    crown(ledger, alias, 1)
    for ask in (checked_champion, reconcile):
        with pytest.raises(StoreError, match="no answer"):
            ask(ledger, Outage(), MODEL)
    assert kinds(ledger) == ["intent", "done"]


def test_an_alias_moved_by_hand_is_refused_with_one_alert(url, clock, alias):
    """Loaders are refused each time, and the ledger says so once for each disagreement."""
    ledger = Ledger.create(url, clock)
    crown(ledger, alias, 1)
    assert checked_champion(ledger, alias, MODEL) == ledger.head(MODEL)
    for moved in (2, 3, None):
        alias.write(MODEL, moved)
        for _ in range(3):
            with pytest.raises(ProjectionError, match="expected version 1, as the ledger says"):
                checked_champion(ledger, alias, MODEL)
    assert kinds(ledger) == ["intent", "done", "alert", "alert", "alert"]
    alert = list(ledger.history(MODEL))[2]
    assert (alert.version, alert.body["alias"], alert.body["champion"]) == (2, 2, 1)


def test_a_repair_shows_the_champion_again(ledger, alias):
    """The alias goes back, the person is on record, and the same move later is another disagreement."""
    crown(ledger, alias, 1)
    for _ in range(2):
        alias.write(MODEL, 7)
        report = repair(ledger, alias, MODEL, who="Ada", why="nobody decided that")
        assert (report.agrees, report.alias_version, report.champion.version) == (True, 1, 1)
        assert checked_champion(ledger, alias, MODEL).version == 1
    assert kinds(ledger) == ["intent", "done", "alert", "projected", "alert", "projected"]
    assert list(ledger.history(MODEL))[3].who == "Ada"
    before = ledger.verify().head
    repair(ledger, alias, MODEL, who="Ada", why="nothing to do")
    assert ledger.verify().head == before


def test_an_outside_move_becomes_a_persons_decision(url, clock, alias):
    """Accepted, the moved version is champion in that person's name, and the next promotion builds on it."""
    ledger = Ledger.create(url, clock)
    crown(ledger, alias, 1)
    register(ledger, version(7), who="trainer", lineage={})
    alias.write(MODEL, 7)
    report = repair(ledger, alias, MODEL, who="Ada", why="hotfix", accept_outside=True)
    assert (report.agrees, report.champion.version, report.champion.digest) == (True, 7, "digest-7")
    assert kinds(ledger) == ["intent", "done", "registered", "alert", "outside_move"]
    assert checked_champion(ledger, alias, MODEL).reference() == version(7)
    assert ledger.last_good(MODEL).version == 1
    assert crown(ledger, alias, 8).previous == version(7)


def test_an_outside_removal_can_be_accepted_too(ledger, alias):
    """A person may decide that nobody is champion; until then a missing alias is a disagreement."""
    crown(ledger, alias, 1)
    alias.write(MODEL, None)
    assert repair(ledger, alias, MODEL, who="Ada", why="withdrawn", accept_outside=True).champion is None
    assert checked_champion(ledger, alias, MODEL) is None
    assert ledger.last_good(MODEL).version == 1
    assert crown(ledger, alias, 2).previous is None


def test_a_version_without_a_digest_is_not_accepted(ledger, alias):
    """What the ledger cannot verify by its bytes never becomes champion."""
    crown(ledger, alias, 1)
    alias.write(MODEL, 7)
    with pytest.raises(LedgerError, match="no digest"):
        repair(ledger, alias, MODEL, who="Ada", why="trust me", accept_outside=True)
    assert ledger.head(MODEL).version == 1


def test_a_promotion_in_flight_is_recovered_and_not_repaired(ledger, alias, fork):
    """An interrupted promotion is refused to loaders, named in the audit and refused to repair."""
    crown(ledger, alias, 1)
    assert fork(lambda: crown(ledger, DiesAfterWriting(alias), 2)).wait() == -signal.SIGKILL
    with pytest.raises(ProjectionError, match="A promotion was interrupted"):
        checked_champion(ledger, alias, MODEL)
    report = reconcile(ledger, alias, MODEL)
    assert [(one.candidate, one.previous, one.status) for one in report.in_flight] == [
        (version(2), version(1), "in_flight")
    ]
    assert len(report.problems) == 2
    for accept in (True, False):
        with pytest.raises(LedgerError, match="in flight"):
            repair(ledger, alias, MODEL, who="Ada", why="w", accept_outside=accept)
    recover(ledger, alias, lambda _: True, who="start")
    assert reconcile(ledger, alias, MODEL).problems == ()


def test_an_alias_moved_by_hand_and_later_by_a_killed_promotion_is_two_disagreements(ledger, alias, fork):
    """Moved to a version, put back, then set to it by a promotion that was killed: two alerts, and no loader confused."""
    crown(ledger, alias, 1)
    alias.write(MODEL, 2)
    with pytest.raises(ProjectionError, match="audit --repair"):
        checked_champion(ledger, alias, MODEL)
    alias.write(MODEL, 1)
    assert fork(lambda: crown(ledger, DiesAfterWriting(alias), 2)).wait() == -signal.SIGKILL
    for _ in range(2):
        with pytest.raises(ProjectionError, match="A promotion was interrupted"):
            checked_champion(ledger, alias, MODEL)
    assert kinds(ledger) == ["intent", "done", "alert", "intent", "alert"]


def test_loaders_beside_promotions_never_see_a_disagreement(url, clock, alias, fork):
    """While champions change, a loader gets one or the other and never a false alarm."""
    ledger = Ledger.create(url, clock)
    crown(ledger, alias, 1)

    def work():
        for number in range(2, 12):
            crown(ledger, alias, number)

    owner, seen = fork(work), []
    while not seen or seen[-1] != 11:
        seen.append(checked_champion(ledger, alias, MODEL).version)
        assert reconcile(ledger, alias, MODEL).agrees
    assert owner.wait() == 0
    assert seen == sorted(seen)
    assert "alert" not in kinds(ledger)


def test_the_report_knows_every_version(url, clock, alias, fork):
    """Champion, former, condemned, undone, in flight and merely registered, each with its digest."""
    ledger = Ledger.create(url, clock)
    register(ledger, version(1), who="trainer", lineage={})
    for number in (2, 3, 4):
        crown(ledger, alias, number)
    crown(ledger, alias, 3, "rollback")
    assert fork(lambda: crown(ledger, DiesAfterWriting(alias), 5)).wait() == -signal.SIGKILL
    recover(ledger, alias, lambda _: False, who="start")
    assert fork(lambda: crown(ledger, DiesAfterWriting(alias), 6)).wait() == -signal.SIGKILL
    report = reconcile(ledger, alias, MODEL)
    assert {record.version: record.status for record in report.versions} == {
        1: "registered", 2: "former", 3: "champion", 4: "condemned", 5: "undone", 6: "in_flight",
    }  # fmt: skip
    assert all(record.digest == f"digest-{record.version}" for record in report.versions)
    with ledger.reading() as view:
        done = {(e.body["action"], e.version): e.at for e in view.entries(kinds=("done",))}
    since = {record.version: record.at for record in report.versions}
    assert since[4] == done["rollback", 3]  # judged by the rollback that left it, and not when it was crowned
    assert since[2] == done["promote", 3]  # and its reign ended when another's began
    assert since[3] == done["rollback", 3]
    assert report.chain_length == len(kinds(ledger))
    assert report.chain_head == ledger.verify().head
    assert AuditReport.model_validate_json(report.model_dump_json()) == report


def test_a_condemned_champion_is_a_problem(ledger, alias):
    """A champion that was judged bad still serves, and the audit says so."""
    crown(ledger, alias, 1)
    condemn(ledger, version(1), who="triage", why="backdoor")
    assert reconcile(ledger, alias, MODEL).problems == ("the champion, version 1, was judged bad",)


def rewritten(ledger, template):
    """Change the crowning entry in place, hash and all, and each entry after it where the chain is to look sound."""
    with ledger._engine.begin() as connection:
        for (trigger,) in connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            connection.exec_driver_sql(f"DROP TRIGGER {trigger}")
        rows = [dict(row) for row in connection.execute(select(ENTRIES).order_by(ENTRIES.c.seq)).mappings()]
        first = next(number for number, row in enumerate(rows) if row["kind"] == "done")
        rows[first]["body"] = rows[first]["body"].replace("digest-1", "digest-X")
        last = rows[first]["previous"]
        for row in rows[first:] if template == "the chain after it too" else rows[first : first + 1]:
            row["previous"], row["hash"] = last, ""
            last = row["hash"] = seal(row)
        connection.execute(delete(ENTRIES))
        connection.execute(insert(ENTRIES), rows)
        connection.execute(update(HEAD).values(hash=rows[-1]["hash"]))


@pytest.mark.parametrize("how", ["that entry alone", "the chain after it too"])
def test_a_rewritten_crowning_is_refused_to_loaders(ledger, alias, how):
    """With a hash of its own the entry leaves the chain; with the whole chain rewritten it leaves the kept head."""
    crown(ledger, alias, 1)
    kept = ledger.verify().head
    ledger.append("alert", who="tester", model=MODEL, body={"about": "honest growth"})
    assert checked_champion(ledger, alias, MODEL, expected_heads=(kept,)).digest == "digest-1"
    rewritten(ledger, how)
    assert ledger.head(MODEL).digest == "digest-X", "each entry matches its own hash"
    with pytest.raises(LedgerError, match="does not follow" if how == "that entry alone" else "not on the chain"):
        checked_champion(ledger, alias, MODEL, expected_heads=(kept,))
    alias.write(MODEL, 2)
    with pytest.raises(LedgerError):  # before anything is said of the alias
        checked_champion(ledger, alias, MODEL, expected_heads=(kept,))


def test_a_broken_chain_is_the_only_thing_said(ledger, alias):
    """Of a chain that was tampered with, or is not the published one, no champion is reported."""
    crown(ledger, alias, 1)
    report = reconcile(ledger, alias, MODEL, expected_heads=("f" * 64,))
    assert (report.chain_valid, report.agrees, report.champion, report.alias_version) == (False, False, None, 1)
    assert "cut off or rewritten" in report.problems[0]
    published = ledger.verify().head
    with ledger._engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER holdfast_ledger_update")
        connection.exec_driver_sql("UPDATE holdfast_ledger SET version = 9 WHERE kind = 'done'")
    report = reconcile(ledger, alias, MODEL, expected_heads=(published,))
    assert (report.chain_valid, report.chain_length, report.champion) == (False, 1, None)
    assert "entry 2 was changed" in report.problems[0]
    with pytest.raises(LedgerError, match="does not match its hash"):
        checked_champion(ledger, alias, MODEL)
