"""A question on Prefect's page: asked once, answered for the decision that was shown and no other, in a person's name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Self
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import State, StateDetails, StateType
from pydantic import ValidationError

from flows import approval as asking
from holdfast.recovery.policy import Policy
from holdfast.results import Decision
from holdfast.stores import Stores
from tasks import approval, on_record, recovery

PARAMS: Any = SimpleNamespace(name="people", recovery=SimpleNamespace(policy=Policy(approve=("retrain",))))
YES = asking.Answer(approve=True, why="looked at it", who="Ada Lovelace")


class Suspended(BaseException):
    """What ends a run that suspends."""


def run(*keys: str, state: StateType = StateType.PAUSED) -> Any:
    form = {"schema": f"suspended-{keys[0]}-schema"} if keys and state is StateType.PAUSED else None
    return SimpleNamespace(
        id=uuid4(), deployment_id=UUID(int=7),
        state=State(type=state, state_details=StateDetails(run_input_keyset=form)),
        empirical_policy=SimpleNamespace(pause_keys=set(keys)),
    )  # fmt: skip


class Server:
    """A Prefect server with runs of `ask`, which suspends a run until somebody answers."""

    def __init__(self, own: Any, *others: Any) -> None:
        self.own, self.others = own, others
        self.answer: asking.Answer | None = None
        self.form: Any = None
        self.closed: list[UUID] = []
        self.events: list[str] = []
        self.formless: set[UUID] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read_flow_run(self, _: object) -> Any:
        return self.own

    def read_flow_runs(self, flow_run_filter: Any) -> tuple[Any, ...]:
        assert flow_run_filter.deployment_id.any_ == [self.own.deployment_id]
        assert flow_run_filter.id.not_any_ == [self.own.id]
        return self.others

    def filter_flow_run_input(self, ident: UUID, key_prefix: str, limit: int, exclude_keys: set[str]) -> list[str]:
        (asks,) = (each for each in self.others if each.id == ident)
        assert (limit, exclude_keys) == (1, set())
        assert key_prefix == asks.state.state_details.run_input_keyset["schema"]
        return [] if ident in self.formless else [key_prefix]

    def set_flow_run_state(self, ident: UUID, state: Any) -> None:
        assert state.type is StateType.CANCELLED
        self.closed.append(ident)

    def suspend(self, *, wait_for_input: Any, key: str) -> asking.Answer:
        self.form = wait_for_input
        if key in self.own.empirical_policy.pause_keys and self.answer is not None:
            return self.answer
        self.own.empirical_policy.pause_keys.add(key)
        raise Suspended


@pytest.fixture
def stores(tmp_path: Any) -> Stores:
    return Stores.local(tmp_path, tmp_path, actor="worker")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, stores: Stores) -> Any:
    """Put a server in Prefect's place, and ask."""

    def ask(server: Server, answer: asking.Answer | None = None) -> Server:
        server.answer = answer
        monkeypatch.setattr(asking, "get_client", lambda **_: server)
        monkeypatch.setattr(asking, "suspend_flow_run", server.suspend)
        monkeypatch.setattr(asking, "announce", lambda *told: server.events.append(told[-1]))
        asking.ask_a_person(PARAMS, stores)
        return server

    return ask


def decide(stores: Stores, position: int) -> Decision:
    decision = Decision(action="retrain", reasons=(), cause="harmful_drift", position=position)
    recovery.open_ledger(stores).append(
        "decision", who="holdfast", model="people", body=decision.model_dump(mode="json"),
        key=f"response:people:{position}",
    )  # fmt: skip
    return decision


def last(stores: Stores) -> Any:
    with recovery.open_ledger(stores).reading() as view:
        return next(view.entries(backwards=True))


@pytest.mark.parametrize("yes", [True, False])
def test_an_answer_is_on_record_in_the_name_of_who_gave_it(stores: Stores, serve: Any, *, yes: bool) -> None:
    """The first time the run suspends with the question; resumed, it puts yes or no on record and tells of a yes."""
    decision = decide(stores, 0)
    server = Server(run())
    with pytest.raises(Suspended):
        serve(server)
    assert server.form._description == approval.question(PARAMS, decision)
    assert last(stores).kind == "decision"
    serve(server, YES.model_copy(update={"approve": yes}))
    entry = last(stores)
    assert entry.who == "Ada Lovelace, as said on Prefect's page"
    assert entry.kind == ("release" if yes else "run")
    assert (entry.body["why"] if yes else entry.body["outcome"]) == ("looked at it" if yes else "refused: looked at it")
    assert server.events == (["approval.given"] if yes else [])
    assert on_record.pending(PARAMS, stores) == ((0, decision) if yes else (1, None))


@pytest.mark.parametrize("state", [StateType.PAUSED, StateType.SCHEDULED])
def test_one_that_is_asked_already_is_not_asked_again(stores: Stores, serve: Any, state: StateType) -> None:
    """Whether that run still waits for its answer or was answered and is about to go on."""
    key = approval.known_as(decide(stores, 0))
    assert serve(Server(run(), run(key, state=state))).closed == []
    assert last(stores).kind == "decision"


def test_a_question_that_nobody_can_answer_is_closed_and_asked_again(stores: Stores, serve: Any) -> None:
    """Killed after it was suspended and before its form was kept, a run takes no answer; one beside it that does, counts."""
    key = approval.known_as(decide(stores, 0))
    mute, sound = run(key), run(key)
    server = Server(run(), mute)
    server.formless.add(mute.id)
    with pytest.raises(Suspended):
        serve(server)
    assert server.closed == [mute.id]
    server = Server(run(), mute, sound)
    server.formless.add(mute.id)
    serve(server)
    assert (server.closed, server.form) == ([mute.id], None)


def test_a_question_that_is_over_is_closed_when_the_next_is_asked(stores: Stores, serve: Any) -> None:
    """Only one decision waits at a time; a run that has asked nothing yet is left alone."""
    stale, fresh = run("0-answered"), run(state=StateType.SCHEDULED)
    decide(stores, 1)
    server = Server(run(), stale, fresh)
    with pytest.raises(Suspended):
        serve(server)
    assert server.closed == [stale.id]


@pytest.mark.parametrize("word", [approval.approve, approval.refuse])
@pytest.mark.parametrize("waits_again", [False, True])
def test_an_answer_that_comes_after_a_command_does_nothing(
    stores: Stores, serve: Any, word: Any, *, waits_again: bool
) -> None:
    """Not even where another decision waits by then: the answer was about the one that was shown."""
    decide(stores, 0)
    server = Server(run())
    with pytest.raises(Suspended):
        serve(server)
    word(PARAMS, stores, 0, "by command")
    if waits_again:
        decide(stores, 1)
    before = last(stores)
    serve(server, YES)
    assert last(stores) == before
    assert server.events == []
    assert len(server.own.empirical_policy.pause_keys) == 1


@pytest.mark.parametrize("wrong", [{"why": ""}, {"why": "   "}, {"who": ""}, {"who": " "}, {"who": "a\nb"}])
def test_an_answer_without_name_or_reason_is_none(wrong: dict[str, str]) -> None:
    """The form refuses it, and the page tells which field it is."""
    with pytest.raises(ValidationError):
        asking.Answer(**YES.model_dump() | wrong)
