"""The promotion saga: one champion, one chain, and an alias that shows it, whatever was killed."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.errors import LedgerError, ProjectionError, StoreError
from holdfast.recovery.audit import checked_champion, reconcile, repair
from holdfast.recovery.ledger import Ledger
from holdfast.recovery.promotion import clear, condemn, promote, recover, register
from holdfast.results import Decision, ModelVersion, Reason

MODEL = "loans"


def version(number, digest=None):
    return ModelVersion(name=MODEL, version=number, digest=digest or f"digest-{number}")


def decide(ledger, candidate, action="promote"):
    head = ledger.head(candidate.name)
    return Decision(
        action=action,
        reasons=(Reason(about="test", passed=True, text="because"),),
        candidate=candidate,
        champion=None if head is None else head.reference(),
        evidence=("finding-1",),
    )


def go(ledger, alias, number, action="promote", **changes):
    head = ledger.head(MODEL)
    expected = None if head is None else head.promotion
    arguments = {"expected": expected, "who": "tester", "why": "test", **changes}
    return promote(ledger, alias, decide(ledger, version(number), action), **arguments)


def kinds(ledger):
    return [entry.kind for entry in ledger.history(MODEL)]


def assert_settled(ledger, alias, number):
    """One champion, a sound chain, an alias that agrees, nothing in flight."""
    report = reconcile(ledger, alias, MODEL)
    assert report.problems == ()
    assert (report.chain_valid, report.agrees, report.in_flight) == (True, True, ())
    assert report.alias_version == number
    assert (None if report.champion is None else report.champion.version) == number
    assert sum(record.status == "champion" for record in report.versions) == (number is not None)


class Memory:
    """An alias in memory that can be told to fail."""

    def __init__(self):
        self.versions, self.fail_in = {}, None

    def read(self, model):
        self._count()
        return self.versions.get(model)

    def write(self, model, version):
        self._count()
        self.versions[model] = version

    def _count(self):
        if self.fail_in is not None:
            self.fail_in -= 1
            if self.fail_in == 0:
                self.fail_in = None
                raise StoreError("registry", found="no answer", expected="an answer", remedy="Start it.")


def test_a_promotion_is_intent_alias_and_done(url, clock, alias):
    """The record says who, why, on what evidence and after whom; the alias names the version."""
    ledger = Ledger.create(url, clock)
    first = go(ledger, alias, 3)
    second = go(ledger, alias, 4, evidence=("report-1",))
    assert kinds(ledger) == ["intent", "done"] * 2
    assert (first.previous, second.previous) == (None, version(3))
    assert (second.status, second.who, second.why, second.action) == ("done", "tester", "test", "promote")
    assert second.evidence == ("finding-1", "report-1")
    intent = list(ledger.history(MODEL))[2]
    assert Decision.model_validate(intent.body["decision"]).reasons[0].text == "because"
    head = ledger.head(MODEL)
    assert (head.version, head.digest, head.promotion, head.seq) == (4, "digest-4", second.promotion, second.seq)
    assert ledger.head("spam") is None
    assert ledger.served_at(MODEL, head.at) == head
    assert ledger.served_at(MODEL, head.at - timedelta(microseconds=1)).version == 3
    assert_settled(ledger, alias, 4)


def test_models_do_not_disturb_each_other(url, clock, alias):
    """Each model has its own champion, and one in flight blocks no other."""
    ledger = Ledger.create(url, clock)
    go(ledger, alias, 1)
    other = ModelVersion(name="spam", version=9, digest="s")
    failing = Memory()
    failing.fail_in = 4
    with pytest.raises(StoreError):
        promote(ledger, failing, decide(ledger, other), expected=None, who="a", why="b")
    go(ledger, alias, 2)
    assert_settled(ledger, alias, 2)
    recover(ledger, alias, lambda _: True, who="start")
    assert ledger.head("spam").version == alias.read("spam") == 9


def test_the_same_call_twice_is_one_promotion(url, clock, alias):
    """A retry after all was done changes nothing and tells the same."""
    ledger = Ledger.create(url, clock)
    decision = decide(ledger, version(1))
    calls = [promote(ledger, alias, decision, expected=None, who="w", why="y") for _ in range(3)]
    assert calls[0] == calls[1] == calls[2]
    assert kinds(ledger) == ["intent", "done"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"expected": None}, "the champion has changed"),
        ({"expected": "another"}, "the champion has changed"),
        ({"number": 1}, "champion already"),
        ({"number": 2, "digest": "forged"}, "as version 2 was recorded"),
        ({"number": 5}, "judged bad"),
        ({"champion": None}, "a decision against champion None"),
        ({"champion": version(1, "other bytes")}, "one against champion"),
        ({"action": "keep"}, "a decision to keep"),
        ({"action": "inconclusive"}, "a decision to inconclusive"),
        ({"candidate": None}, "promote or rollback, with a candidate"),
        ({"action": "rollback", "number": 2}, "a former champion with these bytes"),
        ({"action": "rollback", "number": 0, "digest": "other"}, "digest other"),
    ],
)
def test_what_may_not_become_champion_changes_nothing(tmp_path, clock, alias, change, match):
    """A stale head, a stale comparison, forged bytes, a condemned version or no decision at all is refused."""
    ledger = Ledger.create(f"sqlite:///{tmp_path / 'l.db'}", clock)
    go(ledger, alias, 0)
    head = go(ledger, alias, 1).promotion
    register(ledger, version(2), who="trainer", lineage={"data": "md5"})
    condemn(ledger, version(5), who="triage", why="backdoor")
    before = ledger.verify().head
    candidate = version(change.pop("number", 2), change.pop("digest", None))
    expected = change.pop("expected", head)
    decision = decide(ledger, candidate).model_copy(update=change)
    with pytest.raises(LedgerError, match=match):
        promote(ledger, alias, decision, expected=expected, who="w", why="y")
    assert ledger.verify().head == before
    assert_settled(ledger, alias, 1)


def test_bytes_that_were_judged_bad_come_back_under_no_other_number(tmp_path, clock, alias):
    """Trained again they are the same model; whoever reigned with them before may still be gone back to."""
    ledger = Ledger.create(f"sqlite:///{tmp_path / 'l.db'}", clock)
    go(ledger, alias, 0)
    first = go(ledger, alias, 1).promotion
    register(ledger, version(2), who="trainer", lineage={})
    condemn(ledger, version(2), who="triage", why="backdoor")
    again = version(3, version(2).digest)
    with pytest.raises(LedgerError, match="bytes of version 2, which was judged bad"):
        promote(ledger, alias, decide(ledger, again), expected=first, who="w", why="y")
    register(ledger, version(4, version(0).digest), who="trainer", lineage={})
    condemn(ledger, version(4, version(0).digest), who="triage", why="late")
    back = decide(ledger, version(0)).model_copy(update={"action": "rollback"})
    promote(ledger, alias, back, expected=first, who="w", why="y")
    assert_settled(ledger, alias, 0)


def test_a_version_is_registered_once(tmp_path, clock):
    """The same version with the same lineage is one entry; with other bytes it is refused."""
    ledger = Ledger.create(f"sqlite:///{tmp_path / 'l.db'}", clock)
    assert register(ledger, version(1), who="t", lineage={}) == register(ledger, version(1), who="t", lineage={})
    with pytest.raises(LedgerError):
        register(ledger, version(1, "other"), who="t", lineage={})


def test_nothing_is_promoted_on_a_broken_chain(tmp_path, clock, alias):
    """A chain that was tampered with refuses promotion and recovery before anything moves."""
    ledger = Ledger.create(f"sqlite:///{tmp_path / 'l.db'}", clock)
    go(ledger, alias, 1)
    head = ledger.head(MODEL).promotion
    with ledger._engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER holdfast_ledger_update")
        connection.exec_driver_sql("UPDATE holdfast_ledger SET who = 'mallory' WHERE seq = 1")
    for act in (
        lambda: go(ledger, alias, 2, expected=head),
        lambda: recover(ledger, alias, lambda _: True, who="start"),
        lambda: repair(ledger, alias, MODEL, who="p", why="w"),
    ):
        with pytest.raises(LedgerError, match="entry 1 was changed"):
            act()
    assert alias.read(MODEL) == 1


def test_an_alias_moved_from_outside_stops_the_next_promotion(tmp_path, clock, alias):
    """Somebody's move is refused with an alert, and not silently written over."""
    ledger = Ledger.create(f"sqlite:///{tmp_path / 'l.db'}", clock)
    go(ledger, alias, 1)
    alias.write(MODEL, 7)
    for _ in range(2):
        with pytest.raises(ProjectionError, match="found version 7; expected version 1"):
            go(ledger, alias, 2)
    assert kinds(ledger) == ["intent", "done", "alert"]
    assert alias.read(MODEL) == 7


# --- kills ---


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class DeadlyAlias:
    """An alias whose process is killed at its n-th read or write, before or after it takes effect."""

    def __init__(self, alias, point):
        self.alias, self.point = alias, point
        self.calls = {"read": 0, "write": 0}

    def _pass(self, name, act):
        self.calls[name] += 1
        here = f"{name} {self.calls[name]}"
        if self.point == f"before {here}":
            die()
        answer = act()
        if self.point == f"after {here}":
            die()
        return answer

    def read(self, model):
        return self._pass("read", lambda: self.alias.read(model))

    def write(self, model, number):
        return self._pass("write", lambda: self.alias.write(model, number))


class DeadlyLedger(Ledger):
    """A ledger whose process is killed before or after an append, or before or after a commit."""

    point = ""

    @contextmanager
    def writing(self):
        taken = []
        with super().writing() as transaction:
            append = transaction.append

            def deadly(kind, **content):
                if self.point == f"before {kind}":
                    die()
                entry = append(kind, **content)
                taken.append(kind)
                if self.point == f"after {kind}":
                    die()
                return entry

            transaction.append = deadly
            yield transaction
        if any(self.point == f"after commit of {kind}" for kind in taken):
            die()


# Reads: 1 agreement before the intent, 2 strangers before the alias moves, 3 read back.
BEFORE_INTENT = ["before read 1", "after read 1", "before intent", "after intent"]
ALIAS_UNMOVED = ["after commit of intent", "before read 2", "after read 2", "before write 1"]
ALIAS_MOVED = ["after write 1", "before read 3", "after read 3", "before done", "after done"]
AFTER_DONE = ["after commit of done"]
POINTS = BEFORE_INTENT + ALIAS_UNMOVED + ALIAS_MOVED + AFTER_DONE


@pytest.mark.parametrize("previous", [None, 1])
@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_step_is_finished_or_undone(tmp_path, clock, alias, fork, point, good, previous):
    """Kill -9 in each gap: recovery leaves one champion, a sound chain and an agreeing alias, and the same call ends it."""
    url = f"sqlite:///{tmp_path / 'l.db'}"
    ledger = Ledger.create(url, clock)
    if previous is not None:
        go(ledger, alias, previous)
    head, decision = ledger.head(MODEL), decide(ledger, version(2))
    expected = None if head is None else head.promotion
    deadly = DeadlyLedger(url, clock)
    deadly.point = point
    again = {"decision": decision, "expected": expected, "who": "w", "why": "y"}

    child = fork(lambda: promote(deadly, DeadlyAlias(alias, point), **again))
    assert child.wait() == -signal.SIGKILL
    assert alias.read(MODEL) == (2 if point in ALIAS_MOVED + AFTER_DONE else previous)
    interrupted = point in ALIAS_UNMOVED + ALIAS_MOVED
    if interrupted:
        assert reconcile(ledger, alias, MODEL).in_flight[0].candidate == version(2)
        with pytest.raises(LedgerError, match="in flight"):
            go(ledger, alias, 3)

    asked = []
    ended = recover(ledger, alias, lambda candidate: asked.append(candidate) or good, who="start")
    assert asked == ([version(2)] if interrupted else [])
    assert [promotion.status for promotion in ended] == (["done" if good else "undone"] if interrupted else [])
    champion = 2 if point in AFTER_DONE or (interrupted and good) else previous
    assert_settled(ledger, alias, champion)
    assert recover(ledger, alias, lambda _: False, who="start") == ()

    promote(ledger, alias, **again)
    assert_settled(ledger, alias, 2)
    assert kinds(ledger).count("done") == (1 if previous is None else 2)


@pytest.mark.parametrize("point", ["before read 1", "before write 1", "after write 1", "after read 2", "after undone"])
def test_a_kill_inside_the_recovery_is_recovered(tmp_path, clock, alias, fork, point):
    """Undoing is safe to take twice too."""
    url = f"sqlite:///{tmp_path / 'l.db'}"
    ledger = Ledger.create(url, clock)
    go(ledger, alias, 1)
    child = fork(lambda: go(ledger, DeadlyAlias(alias, "after write 1"), 2))
    assert child.wait() == -signal.SIGKILL
    deadly = DeadlyLedger(url, clock)
    deadly.point = point
    child = fork(lambda: recover(deadly, DeadlyAlias(alias, point), lambda _: False, who="start"))
    assert child.wait() == -signal.SIGKILL
    assert [ended.status for ended in recover(ledger, alias, lambda _: False, who="start")] == ["undone"]
    assert_settled(ledger, alias, 1)


def test_a_kill_on_postgresql_frees_the_lock(postgres, clock, alias, fork):
    """A process killed while it moves the alias leaves no lock in the server, and its promotion is finished."""
    ledger = Ledger.create(postgres, clock, patience=5)
    go(ledger, alias, 1)
    assert fork(lambda: go(ledger, DeadlyAlias(alias, "after write 1"), 2)).wait() == -signal.SIGKILL
    assert [ended.status for ended in recover(ledger, alias, lambda _: True, who="start")] == ["done"]
    assert_settled(ledger, alias, 2)


# --- outages and owners that still live ---


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_an_outage_at_any_step_is_ended_later(tmp_path, clock, call):
    """A registry that stops answering raises; what was begun is ended by a recovery or by the same call."""
    for ending in ("recover", "again"):
        ledger, alias = Ledger.create(f"sqlite:///{tmp_path / ending}.db", clock), Memory()
        again = {"decision": decide(ledger, version(1)), "expected": None, "who": "w", "why": "y"}
        alias.fail_in = call
        with pytest.raises(StoreError, match="no answer"):
            promote(ledger, alias, **again)
        assert ledger.head(MODEL) is None
        if ending == "recover":
            recover(ledger, alias, lambda _: True, who="start")
            assert_settled(ledger, alias, None if call == 1 else 1)
        promote(ledger, alias, **again)
        assert_settled(ledger, alias, 1)
        assert kinds(ledger) == ["intent", "done"]


def test_a_recovery_that_cannot_tell_decides_nothing(tmp_path, clock, alias, fork):
    """When the bytes cannot be looked at, the promotion stays in flight."""
    ledger = Ledger.create(f"sqlite:///{tmp_path / 'l.db'}", clock)
    assert fork(lambda: go(ledger, DeadlyAlias(alias, "after write 1"), 2)).wait() == -signal.SIGKILL
    before = ledger.verify().head

    def outage(_):
        raise StoreError("models", found="no answer", expected="bytes", remedy="Mount it.")

    with pytest.raises(StoreError):
        recover(ledger, alias, outage, who="start")
    assert ledger.verify().head == before
    assert len(reconcile(ledger, alias, MODEL).in_flight) == 1


def test_an_alias_that_does_not_take_is_no_promotion(tmp_path, clock):
    """A write that the registry swallowed is found by reading back, and nobody is champion by it."""

    class Deaf(Memory):
        def write(self, model, version):
            pass

    ledger = Ledger.create(f"sqlite:///{tmp_path / 'l.db'}", clock)
    with pytest.raises(ProjectionError, match="right after it was set"):
        go(ledger, Deaf(), 1)
    assert ledger.head(MODEL) is None
    assert kinds(ledger) == ["intent"]


def test_a_stranger_during_a_promotion_is_on_record(tmp_path, clock, alias, fork):
    """An alias moved by somebody while a promotion is in flight is written over, after an alert."""
    ledger = Ledger.create(f"sqlite:///{tmp_path / 'l.db'}", clock)
    go(ledger, alias, 1)
    assert fork(lambda: go(ledger, DeadlyAlias(alias, "after write 1"), 2)).wait() == -signal.SIGKILL
    alias.write(MODEL, 66)
    recover(ledger, alias, lambda _: True, who="start")
    assert_settled(ledger, alias, 2)
    assert kinds(ledger) == ["intent", "done", "intent", "alert", "done"]
    assert list(ledger.history(MODEL))[3].body["alias"] == 66


@pytest.mark.parametrize("good", [True, False])
def test_recovery_while_the_owner_moves_the_alias_waits_for_it(url, tmp_path, clock, alias, fork, good):
    """A recoverer that comes while the owner lives and holds the lock finds the promotion done, and undoes nothing."""
    ledger = Ledger.create(url, clock)
    go(ledger, alias, 1)
    inside, asked = tmp_path / "inside", tmp_path / "asked"

    class Slow:
        read = staticmethod(alias.read)

        def write(self, model, number):
            inside.touch()
            while not asked.exists():  # the recoverer has seen the intent and is about to want the lock
                time.sleep(0.01)
            time.sleep(0.2)
            alias.write(model, number)

    owner = fork(lambda: go(ledger, Slow(), 2))
    while not inside.exists():
        time.sleep(0.01)
    ended = recover(ledger, alias, lambda _: asked.touch() or good, who="start")
    assert owner.wait() == 0
    assert [promotion.status for promotion in ended] == ["done"]
    assert_settled(ledger, alias, 2)
    assert kinds(ledger) == ["intent", "done"] * 2


@pytest.mark.parametrize("good", [True, False])
def test_recovery_before_the_owner_moves_the_alias_binds_the_owner(url, clock, alias, good):
    """An owner that was recovered between intent and alias finds its promotion ended, and moves nothing."""

    class Interrupted(Ledger):
        interrupted = False

        @contextmanager
        def writing(self):
            begun = "intent" in kinds(ledger)[2:]
            if begun and not self.interrupted:
                self.interrupted = True
                recover(ledger, alias, lambda _: good, who="start")
            with super().writing() as transaction:
                yield transaction

    ledger = Ledger.create(url, clock)
    go(ledger, alias, 1)
    owner = Interrupted(url, clock)
    if good:
        assert go(owner, alias, 2).status == "done"
    else:
        with pytest.raises(LedgerError, match="undone by a recovery"):
            go(owner, alias, 2)
    assert owner.interrupted
    assert_settled(ledger, alias, 2 if good else 1)
    assert kinds(ledger) == ["intent", "done", "intent", "done" if good else "undone"]


def test_of_twenty_promoters_one_wins(url, clock, alias, fork):
    """Twenty processes promote twenty candidates from one head: one becomes champion, nineteen are refused."""
    ledger = Ledger.create(url, clock)
    decisions = [decide(ledger, version(number)) for number in range(1, 21)]

    def work(decision):
        try:
            promote(ledger, alias, decision, expected=None, who=str(os.getpid()), why="race")
        except LedgerError:
            os._exit(3)

    children = [fork(lambda decision=decision: work(decision)) for decision in decisions]
    assert sorted(child.wait() for child in children) == [0] + [3] * 19
    assert kinds(ledger) == ["intent", "done"]
    assert_settled(ledger, alias, ledger.head(MODEL).version)


@pytest.mark.slow
def test_twenty_promoters_that_try_again_all_reign_once_on_postgresql(postgres, clock, alias, fork):
    """The same over the network, where nineteen losers at a time keep the server busy."""
    codes, reigns = race_until_each_won(postgres, clock, alias, fork)
    assert codes == [0] * 20
    assert sorted(reigns) == list(range(1, 21))


def test_twenty_promoters_that_try_again_all_reign_once(tmp_path, clock, alias, fork):
    """Each of twenty processes reads the head anew until it wins: twenty reigns on one chain, alias and ledger agree."""
    codes, reigns = race_until_each_won(f"sqlite:///{tmp_path / 'l.db'}", clock, alias, fork)
    assert codes == [0] * 20
    assert sorted(reigns) == list(range(1, 21))


def race_until_each_won(url, clock, alias, fork):
    """Let twenty processes try until each won; give their exit codes and who reigned in turn, on one sound chain."""
    ledger = Ledger.create(url, clock)

    def work(number):
        while True:
            try:
                go(ledger, alias, number)
            except LedgerError:
                time.sleep(0.005 * (number % 7))
            else:
                return

    children = [fork(lambda number=number: work(number)) for number in range(1, 21)]
    codes = [child.wait() for child in children]
    done = [entry for entry in ledger.history(MODEL) if entry.kind == "done"]
    for former, entry in pairwise(done):
        assert entry.body["previous"]["version"] == former.version
    assert_settled(ledger, alias, done[-1].version)
    return codes, [entry.version for entry in done]


# --- rollback ---


def test_a_rollback_goes_to_the_last_good_version(url, clock, alias):
    """Not to the highest number, not to one that was judged bad, and never back to what it left."""
    ledger = Ledger.create(url, clock)
    for number in (2, 9, 5, 7):
        go(ledger, alias, number)
    condemn(ledger, version(5), who="triage", why="poisoned")
    assert ledger.last_good(MODEL).version == 9
    assert go(ledger, alias, 9, "rollback").action == "rollback"
    assert_settled(ledger, alias, 9)
    assert ledger.last_good(MODEL).version == 2
    for bad in (5, 7):
        with pytest.raises(LedgerError, match="judged bad"):
            go(ledger, alias, bad)
    clear(ledger, version(7), who="Ada", why="the labels were wrong, not the model")
    assert ledger.last_good(MODEL).version == 7
    go(ledger, alias, 2, "rollback")
    assert ledger.last_good(MODEL).version == 7


def test_without_a_former_champion_there_is_no_rollback_target(tmp_path, clock, alias):
    """None for an empty ledger and for a first champion."""
    ledger = Ledger.create(f"sqlite:///{tmp_path / 'l.db'}", clock)
    assert ledger.last_good(MODEL) is None
    go(ledger, alias, 1)
    assert ledger.last_good(MODEL) is None


class LifeOfAModel(RuleBasedStateMachine):
    """Promotions, rollbacks, outages, verdicts and outside moves in any order, against a model in plain Python."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.ticks = 0
        self.ledger = Ledger.create(f"sqlite:///{Path(self.folder.name) / 'l.db'}", self)
        self.alias = Memory()
        self.reigns, self.bad, self.pending = [], set(), None

    def now(self):
        self.ticks += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.ticks)

    def teardown(self):
        self.folder.cleanup()

    @property
    def champion(self):
        return self.reigns[-1][0] if self.reigns else None

    @property
    def good(self):
        former = [number for number, _ in self.reigns if number != self.champion and number not in self.bad]
        return former[-1] if former else None

    def crown(self, number):
        self.reigns.append((number, self.now()))

    @initialize(number=st.integers(1, 6))
    def first(self, number):
        go(self.ledger, self.alias, number)
        self.crown(number)

    @precondition(lambda self: self.pending is None)
    @rule(number=st.integers(1, 6), fail_in=st.sampled_from([None, None, 1, 2, 3, 4]))
    def promote(self, number, fail_in):
        allowed = number != self.champion and number not in self.bad
        self.alias.fail_in = fail_in if allowed else None
        try:
            go(self.ledger, self.alias, number)
        except LedgerError:
            assert not allowed
        except StoreError:
            self.pending = number if fail_in > 1 else None
        else:
            assert allowed
            self.crown(number)

    @precondition(lambda self: self.pending is not None)
    @rule(good=st.booleans())
    def recover(self, good):
        (ended,) = recover(self.ledger, self.alias, lambda _: good, who="start")
        assert ended.candidate.version == self.pending
        if good:
            self.crown(self.pending)
        self.pending = None

    @precondition(lambda self: self.pending is None and self.good is not None)
    @rule()
    def roll_back(self):
        left, target = self.champion, self.ledger.last_good(MODEL)
        go(self.ledger, self.alias, target.version, "rollback")
        self.bad.add(left)
        self.crown(target.version)

    @rule(number=st.integers(1, 6))
    def condemn(self, number):
        condemn(self.ledger, version(number), who="triage", why="bad")
        self.bad.add(number)

    @rule(number=st.integers(1, 6))
    def clear(self, number):
        clear(self.ledger, version(number), who="Ada", why="good")
        self.bad.discard(number)

    @precondition(lambda self: self.pending is None)
    @rule(number=st.integers(1, 6), accept=st.booleans())
    def move_from_outside(self, number, accept):
        register(self.ledger, version(number), who="trainer", lineage={})
        self.alias.write(MODEL, number)
        if number != self.champion:
            with pytest.raises(ProjectionError):
                checked_champion(self.ledger, self.alias, MODEL)
        repair(self.ledger, self.alias, MODEL, who="Ada", why="so be it", accept_outside=accept)
        if accept and number != self.champion:
            self.crown(number)

    @invariant()
    def the_ledger_says_what_happened(self):
        head = self.ledger.head(MODEL)
        assert (None if head is None else head.version) == self.champion
        target = self.ledger.last_good(MODEL)
        assert (None if target is None else target.version) == self.good
        assert self.ledger.verify().valid
        if self.pending is None and self.reigns:
            assert checked_champion(self.ledger, self.alias, MODEL) == head

    @invariant()
    def every_moment_has_its_champion(self):
        for number, at in self.reigns:
            assert self.ledger.served_at(MODEL, at).version == number
        assert self.ledger.served_at(MODEL, datetime(2025, 1, 1, tzinfo=UTC)) is None


TestLifeOfAModel = LifeOfAModel.TestCase
TestLifeOfAModel.settings = settings(
    max_examples=8, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
