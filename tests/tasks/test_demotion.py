"""Demotion: only a valid number below a floor moves a champion, and only to a version that meets the floors itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.recovery.gate import Gates
from holdfast.recovery.policy import Policy
from holdfast.recovery.promotion import promote
from holdfast.results import Check, DataSnapshot, Decision, Finding, ModelVersion, Provenance, Score, StageReport
from holdfast.stores import Stores
from tasks import demotion, recovery, responses
from tasks.approval import unfreeze

FLOORED = "probes/quality"


def with_policy(policy: Policy) -> Any:
    gates = Gates(floors={FLOORED: 0.6})
    return SimpleNamespace(name="people", metric="accuracy", recovery=SimpleNamespace(gates=gates, policy=policy))


PARAMS: Any = with_policy(Policy())


class Shelf:
    """An alias in memory."""

    version: int | None = None

    def read(self, model: str) -> int | None:
        return self.version

    def write(self, model: str, version: int | None) -> None:
        self.version = version


def version(number: int) -> ModelVersion:
    return ModelVersion(name="people", version=number, digest=f"{number}" * 64)


def found(number: int, low: float | None, *checks: str) -> StageReport:
    """Give one finding about a version: its low end, None for unscored, and the states of its checks."""
    score = None if low is None else Score(value=low + 0.05, low=low, high=low + 0.1, n=100, method="wilson")
    provenance = Provenance(
        subject=f"{number}" * 64, data="d", role="test", seed=0, library="l", versions={}, device="cpu"
    )
    finding = Finding(
        path=FLOORED, dimension="robustness", family="probes", settings={}, provenance=provenance, score=score,
        unscored="an outage" if score is None else None,
        checks=tuple(Check(name="c", status=status, reason="r") for status in checks),
    )  # fmt: skip
    return StageReport(stage="evaluation", subject=f"{number}" * 64, findings=(finding,))


@pytest.fixture
def stores(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Stores:
    """Stores whose ledger has version 2 as champion, after version 1; whoever is told is listed."""
    made = Stores.local(tmp_path, tmp_path, actor="alice")
    ledger, alias = recovery.open_ledger(made), Shelf()
    for number in (1, 2):
        head = ledger.head("people")
        decision = Decision(action="promote", reasons=(), candidate=version(number), champion=head and head.reference())
        promote(ledger, alias, decision, expected=head and head.promotion, who="alice", why="w")
    monkeypatch.setattr(responses, "still_good", lambda *_: True)
    monkeypatch.setattr(demotion, "find_version", SimpleNamespace(fn=lambda _p, _s, number: version(number)))
    return made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Decision]:
    heard: list[Decision] = []
    monkeypatch.setattr(demotion, "announce", lambda _, decision: heard.append(decision))
    return heard


def sentenced(
    stores: Stores, champion: StageReport, spare: StageReport | None, params: Any = PARAMS, number: int = 2
) -> Decision:
    good = demotion.predecessor.fn(params, stores, version(number), champion)
    assert (good is None) or spare is not None
    return demotion.sentence.fn(params, stores, version(number), champion, good, None if good is None else spare)


def recorded(stores: Stores) -> list[Any]:
    with recovery.open_ledger(stores).reading() as view:
        return [entry.body["action"] for entry in view.entries(kinds=("decision",))]


def test_a_champion_above_its_floors_stays_and_nothing_is_said(stores: Stores, told: list[Decision]) -> None:
    """No other version is asked, nothing is recorded, and nobody is told."""
    assert sentenced(stores, found(2, 0.61, "passed"), None).action == "none"
    assert recorded(stores) == told == []


def test_a_champion_below_a_floor_gives_way_to_the_last_good_version(stores: Stores, told: list[Decision]) -> None:
    """The rollback names both, is recorded once however often it is taken, and is one that the saga accepts."""
    decision = sentenced(stores, found(2, 0.59, "passed"), found(1, 0.6))
    assert (decision.action, decision.candidate, decision.champion) == ("rollback", version(1), version(2))
    assert sentenced(stores, found(2, 0.59, "passed"), found(1, 0.6)) == decision
    assert recorded(stores) == ["rollback"]
    assert told == [decision, decision]
    ledger, alias = recovery.open_ledger(stores), Shelf()
    alias.version = 2
    promote(ledger, alias, decision, expected=ledger.head("people").promotion, who="alice", why="w")
    assert (ledger.head("people").version, alias.version) == (1, 1)


def test_where_rollbacks_wait_for_a_person_the_night_only_tells(stores: Stores, told: list[Decision]) -> None:
    """What is below a floor stays champion; who is told hears which version would do, and how to go back to it."""
    params = with_policy(Policy(approve=("rollback",)))
    decision = sentenced(stores, found(2, 0.59, "passed"), found(1, 0.6), params)
    assert (decision.action, decision.candidate, decision.reasons[-1].passed) == ("alert", None, False)
    assert "version 1 reigned before, and meets every floor" in decision.reasons[-1].text
    assert "`holdfast rollback --why ...`" in decision.reasons[-1].text
    assert recorded(stores) == ["alert"]
    assert told == [decision]
    params = with_policy(Policy(approve=("retrain",)))
    assert sentenced(stores, found(2, 0.59, "passed"), found(1, 0.6), params).action == "rollback"


def test_a_tripped_breaker_holds_the_night_too(stores: Stores, told: list[Decision]) -> None:
    """A second night moves nobody where one rollback is the most; a person clears it, and then it may."""
    params, alias = with_policy(Policy(breaker=1)), Shelf()
    ledger, alias.version = recovery.open_ledger(stores), 2

    def move(decision: Decision) -> None:
        promote(ledger, alias, decision, expected=ledger.head("people").promotion, who="alice", why="w")

    move(Decision(action="promote", reasons=(), candidate=version(3), champion=version(2)))
    move(sentenced(stores, found(3, 0.59, "passed"), found(2, 0.6), params, 3))
    assert alias.version == 2
    held = sentenced(stores, found(2, 0.59, "passed"), found(1, 0.6), params)
    assert (held.action, held.candidate) == ("alert", None)
    assert "1 rollbacks" in held.reasons[-1].text
    assert "`holdfast rollback --why ...`" in held.reasons[-1].text
    unfreeze(params, stores, "looked at it")
    assert sentenced(stores, found(2, 0.59, "passed"), found(1, 0.6), params).action == "rollback"


@pytest.mark.parametrize(
    ("champion", "spare", "why"),
    [
        (found(2, 0.59), found(1, 0.59), "does not meet the floors either"),
        (found(2, 0.59), found(1, None), "does not meet the floors either"),
        (found(2, 0.59), found(1, 0.9, "failed"), "does not meet the floors either"),
        (found(2, None), None, "not measured"),
        (found(2, 0.59, "failed"), None, "not measured"),
        (found(2, 0.9, "failed"), None, "not measured"),
        (StageReport(stage="evaluation", subject="2" * 64), None, "not measured"),
    ],
)
def test_what_is_not_known_demotes_nobody(
    stores: Stores, told: list[Decision], champion: StageReport, spare: StageReport | None, why: str
) -> None:
    """Unscored, missing or invalid findings, on either side, are told to a person and move nothing."""
    decision = sentenced(stores, champion, spare)
    assert (decision.action, decision.candidate) == ("alert", None)
    assert why in decision.reasons[-1].text
    assert not decision.reasons[-1].passed
    assert recorded(stores) == ["alert"]
    assert told == [decision]


def test_without_a_good_version_nothing_is_demoted(stores: Stores, told: list[Decision]) -> None:
    """A version that was condemned is nowhere to go back to."""
    recovery.open_ledger(stores).append(
        "condemned", who="alice", model="people", version=1, body={"digest": "1" * 64, "why": "w"}
    )
    decision = sentenced(stores, found(2, 0.59), None)
    assert decision.action == "alert"
    assert "no former champion" in decision.reasons[-1].text
    assert told == [decision]


def test_the_night_goes_back_to_bytes_that_verify(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is spoilt is passed over, for the version before it; where no other is sound, nobody is named."""
    ledger, alias = recovery.open_ledger(stores), Shelf()
    alias.version = 2
    decision = Decision(action="promote", reasons=(), candidate=version(3), champion=version(2))
    promote(ledger, alias, decision, expected=ledger.head("people").promotion, who="alice", why="w")
    for spoilt, expected in ((set(), version(2)), ({2}, version(1)), ({1, 2}, None)):
        monkeypatch.setattr(responses, "still_good", lambda _, good, spoilt=spoilt: good.version not in spoilt)
        assert demotion.predecessor.fn(PARAMS, stores, version(3), found(3, 0.59, "passed")) == expected


def test_a_version_that_cannot_be_asked_demotes_nobody(stores: Stores, told: list[Decision]) -> None:
    """A person hears why, and what would do."""
    decision = demotion.sentence.fn(
        PARAMS, stores, version(2), found(2, 0.59, "passed"), version(1), None, "an edited module. Check it out."
    )
    assert (decision.action, decision.candidate) == ("alert", None)
    assert decision.reasons[-1].text == "version 1 reigned before, and cannot be asked: an edited module. Check it out."
    assert told == [decision]


def test_a_rollback_of_the_night_that_cannot_be_done_is_on_record_and_told(
    stores: Stores, told: list[Decision]
) -> None:
    """As an alert with the reason, once for each finding; the champion stays."""
    due = sentenced(stores, found(2, 0.59, "passed"), found(1, 0.6))
    for _ in range(2):
        held = demotion.held_back.fn(PARAMS, stores, due, "no finite answers")
        assert (held.action, held.candidate, held.champion) == ("alert", None, version(2))
        assert (held.reasons[-1].text, held.reasons[-1].passed) == ("not done: no finite answers", False)
    assert recorded(stores) == ["rollback", "alert"]
    assert told == [due, held, held]


def test_the_champion_is_asked_about_its_own_data_while_the_pin_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """A retrained champion is held to the data it came from; where the pin has moved on, to the pinned data."""
    pinned = DataSnapshot(name="n", path="p", md5="a", file_md5="f", revision="none", rows=1, period=None)
    own = pinned.model_copy(update={"manifest": "m"})
    stores = Stores.local(tmp_path, tmp_path)
    for lineage, expected in (
        ({"data": own.model_dump(mode="json")}, own),
        ({"data": own.model_copy(update={"md5": "b"}).model_dump(mode="json")}, pinned),
        ({}, pinned),
    ):
        monkeypatch.setattr(demotion, "registered", lambda *_, lineage=lineage: lineage)
        assert demotion.own_data.fn(stores, pinned, version(1)) == expected
