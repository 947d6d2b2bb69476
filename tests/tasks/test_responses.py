"""What the loop remembers: who made the champion, which rollbacks were its own, and what a person cleared."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.monitoring.watch import Watch
from holdfast.recovery.policy import History, Policy, respond
from holdfast.recovery.promotion import promote
from holdfast.results import Decision, Diagnosis, ModelVersion, Reason, Signal
from holdfast.stores import Stores, WallClock
from tasks import approval, recovery, responses

PARAMS: Any = SimpleNamespace(name="people", recovery=SimpleNamespace(policy=Policy()))
QUICK = Policy(breaker=1, cooldown=0)
HARM = Diagnosis(cause="harmful_drift", reasons=())


class Loop:
    """A ledger with an alias in memory, and a short name for each thing that the loop and people do."""

    def __init__(self, stores: Stores) -> None:
        self.stores, self.alias = stores, None
        self.ledger = recovery.open_ledger(stores)

    def read(self, model: str) -> int | None:
        return self.alias

    def write(self, model: str, version: int | None) -> None:
        self.alias = version

    def move(self, decision: Decision) -> None:
        """Make the candidate of a decision champion."""
        head = self.ledger.head("people")
        promote(self.ledger, self, decision, expected=head and head.promotion, who="alice", why="w")

    def crown(self, number: int) -> None:
        self.move(self.decision("promote", number))

    def decision(self, action: Any, candidate: int | None = None, position: int | None = None, about: str = "policy") -> Decision:  # fmt: skip
        head = self.ledger.head("people")
        return Decision(
            action=action, position=position, champion=head and head.reference(), cause="harmful_drift",
            candidate=None if candidate is None else version(candidate),
            reasons=(Reason(about=about, passed=True, text="w"),),
        )  # fmt: skip

    def decide(self, action: Any, position: int, candidate: int | None = None) -> Decision:
        """Put a decision about the stream on record."""
        decision = self.decision(action, candidate, position)
        self.ledger.append("decision", who="holdfast", model="people", body=decision.model_dump(mode="json"))
        return decision

    def end(self, decision: Decision, outcome: str = "done", candidate: int | None = None) -> None:
        named = {} if candidate is None else {"candidate": version(candidate)}
        responses.responded.fn(PARAMS, self.stores, decision, outcome, **named)

    def history(self, position: int = 20) -> History:
        head = self.ledger.head("people")
        history = responses.remembered(PARAMS, self.stores, head and head.reference(), position)
        return history.model_copy(update={"admissible": 4})

    def answer(self, position: int = 20, policy: Policy = QUICK) -> str:
        """Say what would be done about harm now."""
        return respond(HARM, self.history(position), policy, position, None).action


def version(number: int) -> ModelVersion:
    return ModelVersion(name="people", version=number, digest=f"{number}" * 64)


@pytest.fixture
def loop(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """Versions 1 to 3 reigned in turn, by their gate."""
    made = Loop(Stores.local(tmp_path, tmp_path, actor="alice"))
    for number in (1, 2, 3):
        made.crown(number)
    monkeypatch.setattr(responses, "admissible", lambda *_: ())
    return made


def test_a_retraining_whose_candidate_was_kept_out_made_nobody(loop: Loop) -> None:
    """Who reigned before it reigns after it, and was made by an earlier one, or by none of the loop's."""
    loop.end(loop.decide("retrain", 2), "version 4: keep", candidate=4)
    assert loop.history().promoted is None
    due = loop.decide("retrain", 5)
    loop.crown(4)
    loop.end(due, "version 4: promote", candidate=4)
    assert loop.history().promoted == 5
    loop.end(loop.decide("retrain", 9), "version 5: inconclusive", candidate=5)
    assert loop.history().promoted == 5


def test_a_retraining_that_is_done_again_after_a_kill_made_its_candidate_champion(loop: Loop) -> None:
    """The gate finds the candidate champion already, and says *none* of it; another that ends there made nobody."""
    due = loop.decide("retrain", 5)
    loop.crown(4)
    loop.end(due, "version 4: none", candidate=4)
    assert loop.history().promoted == 5
    loop.end(loop.decide("retrain", 9), "version 4: none", candidate=4)
    assert loop.history().promoted == 5


def test_a_gain_that_could_not_be_told_leaves_its_window_in_place(loop: Loop) -> None:
    """Gains and errors are of the same windows: one that says nothing of the version before it is no window less."""
    watch = Watch(loop.stores.ledger.get_secret_value(), "people", WallClock())
    for position, details in enumerate(({"gain": 0.1}, {}, {"gain": 0.3})):
        signals = [
            Signal(
                detector=name, about="harm", needs="labels", window="w", position=position, n=10, statistic=0.0,
                threshold=1.0, alarm=False, effect=float(position), effect_unit="share", details=details,
            )
            for name in ("harm", "surprise")
        ]  # fmt: skip
        watch.keep(version(3).digest, signals, {})
    assert (loop.history().excess, loop.history().gains) == ((0.0, 1.0, 2.0), (0.1, None, 0.3))


def test_the_breaker_counts_a_rollback_that_was_carried_out(loop: Loop) -> None:
    """By the saga's record: the version has moved."""
    due = loop.decide("rollback", 5, candidate=2)
    assert loop.answer() == "retrain"
    loop.move(due)
    loop.end(due, "back to version 2")
    assert loop.answer() == "freeze"


@pytest.mark.parametrize("refused", [False, True])
def test_a_rollback_that_came_to_nothing_cools_down_and_does_not_freeze(loop: Loop, *, refused: bool) -> None:
    """Hindered or refused, it moved nobody; nor is it asked again at once."""
    due = loop.decide("rollback", 18, candidate=2)
    if refused:
        params = SimpleNamespace(name="people", recovery=SimpleNamespace(policy=Policy(approve=("rollback",))))
        approval.refuse(params, loop.stores, 18, "not now")  # type: ignore[arg-type]
    else:
        loop.end(due, "not done: no copy of version 2's bytes verifies")
    assert loop.answer() == "retrain"
    assert loop.answer(policy=Policy(breaker=1, cooldown=3)) == "alert"
    assert loop.answer(position=22, policy=Policy(breaker=1, cooldown=3)) == "retrain"


def test_a_rollback_of_the_night_stands_at_the_last_window_before_it(loop: Loop) -> None:
    """It freezes the loop as one of the stream does, leaves its stretch as one does, and begins a cooldown."""
    loop.decide("alert", 7)
    loop.move(loop.decision("rollback", 2, about="demotion"))
    loop.decide("alert", 8)
    assert loop.answer() == "freeze"
    assert loop.answer(position=86) == "freeze"
    assert loop.answer(position=87) == "retrain"
    assert loop.answer(position=10, policy=Policy(cooldown=3)) == "alert"
    assert loop.answer(position=11, policy=Policy(cooldown=3)) == "retrain"


def test_a_rollback_by_a_person_is_none_of_the_loops(loop: Loop) -> None:
    """Who looked at it needs no breaker that makes somebody look."""
    loop.decide("alert", 7)
    loop.move(responses.by_hand(PARAMS, loop.stores, "a better one is known"))
    assert loop.ledger.head("people").version == 2
    assert loop.answer() == "retrain"


def test_a_person_clears_the_rollbacks_up_to_now_and_none_after_it(loop: Loop) -> None:
    """Between two windows the breaker may be cleared, and a night roll back again."""
    loop.move(loop.decision("rollback", 2, about="demotion"))  # before any window came
    assert loop.answer() == "freeze"
    assert approval.unfreeze(PARAMS, loop.stores, "looked at it") == 0
    assert loop.answer() == "retrain"
    loop.move(loop.decision("rollback", 1, about="demotion"))
    assert loop.answer() == "freeze"
