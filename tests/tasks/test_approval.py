"""Approval: who said yes or no to what, on record, once; and the breaker cleared in a person's name."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.errors import StoreError
from holdfast.recovery.policy import Policy
from holdfast.recovery.promotion import promote, register
from holdfast.results import Decision, ModelVersion, Reason
from holdfast.stores import Stores
from tasks import approval, on_record, recovery, responses
from tasks.monitoring import open_watch

PARAMS: Any = SimpleNamespace(name="people", recovery=SimpleNamespace(policy=Policy(approve=("retrain",))))
CAUTIOUS: Any = SimpleNamespace(name="people", recovery=SimpleNamespace(policy=Policy(approve=("quarantine",))))


@pytest.fixture
def stores(tmp_path: Any) -> Stores:
    return Stores.local(tmp_path, tmp_path, actor="alice")


def decide(stores: Stores, position: int, action: Any, windows: tuple[int, ...] = ()) -> Decision:
    decision = Decision(action=action, reasons=(), cause="harmful_drift", position=position, windows=windows)
    recovery.open_ledger(stores).append(
        "decision", who="holdfast", model="people", body=decision.model_dump(mode="json"),
        key=f"response:people:{position}",
    )  # fmt: skip
    return decision


def last(stores: Stores) -> Any:
    with recovery.open_ledger(stores).reading() as view:
        return next(view.entries(backwards=True))


def test_what_asks_for_a_person_waits_until_one_approves(stores: Stores) -> None:
    """Approved it waits no more, in the approver's name, and is still to be done."""
    decision = decide(stores, 0, "retrain")
    assert approval.waits(PARAMS, stores, decision)
    assert approval.approve(PARAMS, stores, 0, "looked at it") == decision
    entry = last(stores)
    assert (entry.kind, entry.who, entry.body["why"]) == ("release", "alice", "looked at it")
    assert not approval.waits(PARAMS, stores, decision)
    assert on_record.pending(PARAMS, stores) == (0, decision)
    with pytest.raises(StoreError, match="found none that waits"):
        approval.approve(PARAMS, stores, 0, "again")


def test_what_is_refused_is_over_and_counts_as_a_response(stores: Stores) -> None:
    """Nothing is pending after it, the record names who refused, and it cannot be approved any more."""
    decide(stores, 0, "retrain")
    approval.refuse(PARAMS, stores, 0, "not now")
    entry = last(stores)
    assert (entry.kind, entry.who, entry.body["outcome"]) == ("run", "alice", "refused: not now")
    assert on_record.pending(PARAMS, stores) == (1, None)
    with pytest.raises(StoreError, match="found none that waits"):
        approval.approve(PARAMS, stores, 0, "after all")


@pytest.mark.parametrize("action", ["rollback", "alert"])
def test_only_what_params_name_waits(stores: Stores, action: str) -> None:
    """An action that asks for nobody is neither held up nor approved."""
    decision = decide(stores, 0, action)
    assert not approval.waits(PARAMS, stores, decision)
    for say in (approval.approve, approval.refuse):
        with pytest.raises(StoreError, match="found none that waits"):
            say(PARAMS, stores, 0, "w")


def test_a_window_must_be_named_rightly(stores: Stores) -> None:
    """A yes to another window than the one that waits is no yes."""
    decision = decide(stores, 0, "retrain")
    with pytest.raises(StoreError, match="found window 0 that waits; expected window 1"):
        approval.approve(PARAMS, stores, 1, "w")
    assert approval.waits(PARAMS, stores, decision)


def test_a_question_says_what_waits_and_an_answer_holds_for_it_alone(stores: Stores) -> None:
    """People read window, action, cause and reasons; another window or other reasons make it another question."""
    assert approval.waiting(PARAMS, stores) is None
    decision = decide(stores, 3, "retrain")
    assert approval.waiting(PARAMS, stores) == decision
    because = decision.model_copy(update={"reasons": (Reason(about="harm", passed=False, text="2 % more errors"),)})
    told = approval.question(PARAMS, because)
    for words in ("people: may the loop retrain?", "**window**: 3", "harmful_drift", "- 2 % more errors", "approve 3"):
        assert words in told
    others = (because, decision.model_copy(update={"position": 4}))
    assert len({approval.known_as(each) for each in (decision, *others)}) == 3
    approval.approve(PARAMS, stores, 3, "looked at it")
    assert approval.waiting(PARAMS, stores) is None


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """Say why which windows cannot be read."""
    told: dict[int, str] = {}
    for module in (approval, responses):
        monkeypatch.setattr(module, "unread", lambda _, __, place: told.get(place, ""))
    monkeypatch.setattr(responses, "overlooked", lambda *_: False)
    return told


def test_windows_that_nobody_can_read_stay_out_whoever_refuses_their_quarantine(
    stores: Stores, unread: dict[int, str]
) -> None:
    """The refusal is over and is not asked again; the outcome and the window's own record say why it stays out."""
    watch = open_watch(CAUTIOUS, stores)
    for position in range(2):
        watch.arrive(position, str(position), 5)
        watch.screened(position, "suspected", "{}")
    unread[0] = "a label of no class: maybe"
    decide(stores, 1, "quarantine", windows=(0, 1))
    approval.refuse(CAUTIOUS, stores, 1, "a true change of the law")
    assert watch.verdicts() == {0: "suspected", 1: "released"}
    assert [w.state for w in watch.windows()] == ["quarantined", "escrowed"]
    assert watch.windows()[0].why == "it cannot be read: a label of no class: maybe"
    outcome = last(stores).body["outcome"]
    assert outcome.startswith("refused: a true change of the law; window 0 in quarantine all the same")
    assert outcome.endswith("a label of no class: maybe")
    assert not any(map(watch.suspects, (0, 1)))
    assert on_record.pending(CAUTIOUS, stores) == (2, None)


@pytest.mark.usefixtures("unread")
def test_windows_whose_quarantine_is_refused_are_suspected_no_more(stores: Stores) -> None:
    """Released in the refuser's name, they are not asked about again; what nobody suspected is as it was."""
    watch = open_watch(CAUTIOUS, stores)
    for position, verdict in enumerate(("suspected", "clean", "suspected", "")):
        watch.arrive(position, str(position), 5)
        if verdict:
            watch.screened(position, verdict, "{}")
    decide(stores, 3, "quarantine", windows=(0, 1, 3))
    approval.refuse(CAUTIOUS, stores, 3, "a true change of the law")
    assert watch.verdicts() == {0: "released", 1: "clean", 2: "suspected"}
    assert {window.state for window in watch.windows()} == {"escrowed"}
    with recovery.open_ledger(stores).reading() as view:
        released = [(entry.who, entry.body) for entry in view.entries(kinds=("release",))]
    assert released == [("alice", {"about": "window", "position": 0, "why": "a true change of the law"})]
    assert on_record.pending(CAUTIOUS, stores) == (4, None)


def test_a_quarantine_that_is_approved_is_no_release(stores: Stores) -> None:
    """The windows stay suspected until it is carried out."""
    watch = open_watch(CAUTIOUS, stores)
    watch.arrive(0, "0", 5)
    watch.screened(0, "suspected", "{}")
    decide(stores, 0, "quarantine")
    approval.approve(CAUTIOUS, stores, 0, "so it is")
    assert watch.verdicts() == {0: "suspected"}


def test_the_breaker_is_cleared_up_to_now(stores: Stores) -> None:
    """The last window that was decided on is named, and why, in the caller's name."""
    with pytest.raises(StoreError, match="no decision about the stream"):
        approval.unfreeze(PARAMS, stores, "w")
    for position in range(3):
        decide(stores, position, "freeze")
    assert approval.unfreeze(PARAMS, stores, "looked at it") == 2
    assert (last(stores).who, last(stores).body["why"]) == ("alice", "looked at it")


class Shelf:
    """An alias in memory, on which a registry that goes away leaves a promotion in flight."""

    version: int | None = None
    away = False

    def read(self, model: str) -> int | None:
        return self.version

    def write(self, model: str, version: int | None) -> None:
        if self.away:
            raise StoreError("registry", found="no answer", expected="one", remedy="Wait.")
        self.version = version


def reigned(stores: Stores, shelf: Shelf, *numbers: int) -> None:
    """Make versions champion in turn."""
    ledger = recovery.open_ledger(stores)
    for number in numbers:
        head, version = ledger.head("people"), ModelVersion(name="people", version=number, digest=f"{number}" * 64)
        decision = Decision(action="promote", reasons=(), candidate=version, champion=head and head.reference())
        register(ledger, version, who="t", lineage={})
        promote(ledger, shelf, decision, expected=head and head.promotion, who="t", why="w")


def test_a_version_that_a_person_judges_bad_is_gone_back_to_no_more(stores: Stores) -> None:
    """The last good version is the one before it then, in the caller's name and reason; taken back, it is it again."""
    reigned(stores, Shelf(), 1, 2, 3)
    ledger = recovery.open_ledger(stores)
    assert ledger.last_good("people").version == 2
    approval.condemn(PARAMS, stores, 2, "answers nothing")
    entry = last(stores)
    assert (entry.kind, entry.who, entry.version, entry.body["why"]) == ("condemned", "alice", 2, "answers nothing")
    assert ledger.last_good("people").version == 1
    assert responses.by_hand(PARAMS, stores, "w").candidate.version == 1
    approval.clear(PARAMS, stores, 2, "mended")
    assert ledger.last_good("people").version == 2


def test_nobody_promotes_a_version_while_it_is_judged(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the look at who serves to the word on record the ledger takes no other writer."""
    reigned(stores, Shelf(), 1, 2, 3)
    judge = approval.judge_bad

    def meanwhile(*given: Any, **more: Any) -> Any:
        other = sqlite3.connect(stores.root / "ledger.db", timeout=0)
        with closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        return judge(*given, **more)

    monkeypatch.setattr(approval, "judge_bad", meanwhile)
    approval.condemn(PARAMS, stores, 2, "answers nothing")
    assert last(stores).kind == "condemned"


def test_who_serves_or_is_not_known_is_not_judged_bad(stores: Stores) -> None:
    """Each refusal says what a person does instead, and leaves nothing on record."""
    shelf = Shelf()
    reigned(stores, shelf, 1, 2)
    shelf.away = True
    with pytest.raises(StoreError, match="no answer"):
        reigned(stores, shelf, 3)
    before = last(stores)
    for number, found, remedy in (
        (2, "version 2, which is champion", "holdfast rollback --why"),
        (3, "version 3, whose promotion was interrupted", "holdfast monitor --windows 0"),
        (7, "version 7, which is not on record", "holdfast audit"),
    ):
        with pytest.raises(StoreError, match=found) as refused:
            approval.condemn(PARAMS, stores, number, "w")
        assert remedy in refused.value.remedy
    assert last(stores) == before
