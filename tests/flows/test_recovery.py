"""Promotion as a story: what is left out of the gate is left out for both, and a block asks nobody anything."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from flows import evaluation as evaluating
from flows import recovery
from holdfast.errors import ArtefactError, ModelError, StoreError
from holdfast.results import Decision, Finding, ModelVersion, Provenance, Reason, StageReport
from tasks.heldout import GateRows, LeftOut

PARAMS: Any = SimpleNamespace(evaluation=SimpleNamespace(uses=SimpleNamespace(gate="gate")))
CANDIDATE, CHAMPION = (ModelVersion(name="people", version=n, digest=str(n) * 64) for n in (2, 1))
SCORECARD = StageReport(stage="evaluation", subject=CANDIDATE.digest)
FOUND = Finding(
    path="probes/quality", dimension="robustness", family="quality", settings={}, unscored="not asked",
    provenance=Provenance(subject="s", data="d", role="gate", seed=0, library="l", versions={}, device="cpu"),
)  # fmt: skip
KEPT = Decision(action="keep", reasons=(), candidate=CANDIDATE)

APART = Reason(about="probes/quality, rows of windows", passed=True, text="right 0.9, the champion 0.8")


def promoted(
    monkeypatch: pytest.MonkeyPatch, rows: GateRows, heard: list[tuple[Any, ...]] | None = None
) -> tuple[Decision, list[tuple[Any, ...]]]:
    """Let the flow run on stand-ins for its chores, and list whom it evaluated without which rows."""
    asked: list[tuple[Any, ...]] = []

    def evaluate(*arguments: Any, side: str = "", left_out: LeftOut | None = None) -> StageReport:
        asked.append((arguments[3], side, left_out))
        return SCORECARD

    def judge(*arguments: Any) -> Decision:
        if heard is not None:
            heard.append(arguments)
        return KEPT

    chores = {"resolve_champion": CHAMPION, "hold_out": rows, "told_apart": (APART,)}
    for name, answer in chores.items():
        monkeypatch.setattr(recovery, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(recovery, "judge", judge)
    monkeypatch.setattr(recovery, "evaluation", evaluate)
    stores: Any = None
    snapshot: Any = None
    return recovery.promotion.fn(PARAMS, stores, snapshot, CANDIDATE, SCORECARD, "run"), asked


@pytest.mark.parametrize("left_out", [None, LeftOut(key="k", rows=3)])
def test_both_sides_are_asked_without_the_same_rows(monkeypatch: pytest.MonkeyPatch, left_out: LeftOut | None) -> None:
    """Candidate and champion get one reference to the rows that are left out."""
    decision, asked = promoted(monkeypatch, GateRows(left_out=left_out))
    assert asked == [(CANDIDATE, "", left_out), (CHAMPION, "champion", left_out)]
    assert decision == KEPT


def test_the_judge_hears_how_many_rows_were_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of the gate's rows is handed to the decision."""
    told = (Reason(about="gate rows", passed=True, text="7 compared; 0 left out"),)
    heard: list[tuple[Any, ...]] = []
    promoted(monkeypatch, GateRows(reasons=told), heard)
    assert [arguments[-1] for arguments in heard] == [(*told, APART)]


def test_a_block_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the rows cannot be told apart nothing is evaluated, and the block is the decision."""
    block = Decision(action="block", reasons=(), candidate=CANDIDATE, champion=CHAMPION)
    assert promoted(monkeypatch, GateRows(decision=block)) == (block, [])


def test_every_scenario_hears_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference reaches each scenario of the pack."""
    heard: dict[str, Any] = {}

    def fan_out(*_: Any, **named: Any) -> Any:
        heard.update(named)
        return SimpleNamespace(result=lambda: [SimpleNamespace(finding=FOUND, reused=False)])

    monkeypatch.setattr(evaluating, "run_scenario", SimpleNamespace(map=fan_out))
    monkeypatch.setattr(evaluating, "cross_check", lambda findings: findings)
    monkeypatch.setattr(evaluating, "record", lambda *_: None)
    params: Any = SimpleNamespace(scenarios=lambda _: {"probes/quality": None})
    nothing: Any = None
    left_out = LeftOut(key="k", rows=3)
    evaluating.evaluation.fn(params, nothing, nothing, CANDIDATE, "gate", "gate", "run", left_out=left_out)
    assert heard["left_out"].value == left_out


def test_a_retraining_names_its_candidate_to_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the gate said: who is champion then tells whether this retraining made it so."""
    heard: dict[str, Any] = {}
    runs = SimpleNamespace(lifecycle="l", training="t")
    chores = {
        "starting_point": None, "admit_windows": None, "begin": runs, "failing": nullcontext(), "about": "run",
        "training": (CANDIDATE, None), "evaluation": SCORECARD, "promotion": KEPT, "transfer": None, "publish": None,
        "finish": None, "labels_of": 7,
    }  # fmt: skip
    for name, answer in chores.items():
        monkeypatch.setattr(recovery, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(recovery, "responded", lambda *_, **named: heard.update(named))
    params: Any = SimpleNamespace(retrained=lambda: PARAMS, evaluation=PARAMS.evaluation)
    nothing: Any = None
    due = Decision(action="retrain", reasons=(), position=3)
    assert recovery.retraining.fn(params, nothing, nothing, SCORECARD, due) == "version 2: keep"
    assert heard == {"candidate": CANDIDATE}


def test_the_night_sees_to_the_copies_before_it_reads_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spoilt bytes answer nothing: what can be restored is, before the champion is asked for its floors."""
    asked: list[str] = []

    def chore(name: str) -> Any:
        return lambda *_, **__: (asked.append(name), CHAMPION)[1]

    chores = ("settle", "mend_copies", "find_version", "own_data", "_nightly")
    for name in chores:
        monkeypatch.setattr(recovery, name, chore(name))
    monkeypatch.setattr(recovery, "integrity", lambda *_: (None, None))
    monkeypatch.setattr(recovery, "predecessor", lambda *_: None)
    monkeypatch.setattr(recovery, "sentence", lambda *_: KEPT)
    stores: Any = None
    assert recovery.reexamination.fn(PARAMS, stores) == KEPT
    assert asked == list(chores)


BACK = Decision(action="rollback", reasons=(), candidate=CHAMPION, champion=CANDIDATE)


def night(monkeypatch: pytest.MonkeyPatch, *, spare: Any = None, back: Any = "done") -> tuple[Decision, list[Any]]:
    """Let the night run on stand-ins; ``spare`` and ``back`` are what asking and going back come to. List who is told."""
    told: list[Any] = []

    def come_to(what: Any) -> Any:
        if isinstance(what, Exception):
            raise what
        return what

    def sentence(*arguments: Any) -> Decision:
        told.append(arguments[-1])
        return KEPT if arguments[-1] else BACK

    chores = {"settle": None, "mend_copies": None, "find_version": CANDIDATE, "own_data": None, "obstacle": "",
              "predecessor": CHAMPION, "integrity": (None, None)}  # fmt: skip
    for name, answer in chores.items():
        monkeypatch.setattr(recovery, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(recovery, "_nightly", lambda *a: come_to(spare) if a[-1] is CHAMPION else SCORECARD)
    monkeypatch.setattr(recovery, "sentence", sentence)
    monkeypatch.setattr(recovery, "roll_back", lambda *_: come_to(back))
    monkeypatch.setattr(recovery, "held_back", lambda *a: told.append(a[-1]) or KEPT)
    stores: Any = None
    return recovery.reexamination.fn(PARAMS, stores), told


def refusal(kind: type[ModelError | StoreError]) -> Any:
    return kind("people version 1", found="an edited module", expected="its own", remedy="Check it out.")


def test_the_night_goes_back_and_tells_nobody_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done as decided is the decision."""
    assert night(monkeypatch) == (BACK, [""])


def test_a_rollback_that_cannot_be_done_does_not_break_the_night(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where the other version cannot be asked, nor where it does not serve: each is told with its reason."""
    assert night(monkeypatch, spare=refusal(ModelError)) == (KEPT, [str(refusal(ModelError))])
    assert night(monkeypatch, back=refusal(ModelError)) == (KEPT, ["", str(refusal(ModelError)).removesuffix(".")])


@pytest.mark.parametrize("kind", [StoreError, ArtefactError])
def test_an_outage_is_no_reason_not_to_go_back(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    """A store that does not answer, or bytes that change while they are read, end the night: the next one asks again."""
    with pytest.raises(kind):
        night(monkeypatch, back=refusal(kind))
