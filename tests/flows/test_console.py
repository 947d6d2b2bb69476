"""The console: a decision is said so that nobody takes the former reasons for the current ones."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from flows import cli
from flows.console import decision_lines
from holdfast.errors import ParamsError
from holdfast.params import load
from holdfast.recovery.gate import formerly
from holdfast.recovery.ledger import Ledger
from holdfast.results import Decision, Finding, ModelVersion, Provenance, Reason, Score, StageReport
from holdfast.stores import Stores, WallClock
from tasks.publishing import promoted_at

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE, TWO = (ModelVersion(name="loans", version=number, digest=f"{number}" * 64) for number in (1, 2))
NOW = Reason(about="champion", passed=True, text="the candidate is the champion already")
ONCE = Reason(about="champion", passed=True, text="there is no champion: floors and validity alone decide")
FAILED = Reason(about="attacks/pgd", passed=False, text="floor 0.3000: below it")


def test_the_current_reason_comes_first_and_the_former_ones_are_told_as_former() -> None:
    """After a run that changed nothing, the promotion's reasons stand below a line with its date."""
    decision = Decision(action="none", candidate=ONE, champion=ONE, reasons=(NOW, formerly(ONCE)))
    assert decision_lines(decision, datetime(2026, 11, 21, 11, 4, tzinfo=UTC)) == [
        "none: loans version 1 (digest 1111111111111111); version 1 stays champion",
        "  ok   champion: the candidate is the champion already",
        "promoted on 2026-11-21 11:04 UTC because:",
        "  ok   champion: there is no champion: floors and validity alone decide",
    ]
    assert decision_lines(decision, None)[2] == "promoted because:"
    assert len(decision_lines(decision.model_copy(update={"reasons": (NOW,)}), None)) == 2


def test_a_champion_that_fails_its_gate_now_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line and a FAIL above the former reasons say it, and the command ends as the gate's refusal does."""
    decision = Decision(action="none", candidate=ONE, champion=ONE, reasons=(NOW, FAILED, formerly(ONCE)))
    first, _, failed, *_ = decision_lines(decision, None)
    assert first.endswith("version 1 stays champion, and FAILS its gate now: nothing was demoted")
    assert failed == "  FAIL attacks/pgd: floor 0.3000: below it"
    assert [ended(monkeypatch, *command, decision) for command in COMMANDS] == [10, 10]
    sound = decision.model_copy(update={"reasons": (NOW, formerly(ONCE))})
    assert [ended(monkeypatch, *command, sound) for command in COMMANDS] == [0, 0]


COMMANDS = (("run", "lifecycle"), ("promote", "promote_version"))


def ended(monkeypatch: pytest.MonkeyPatch, command: str, flow: str, decision: Decision) -> int:
    """Run a command whose flow decides so, and give its exit code."""

    @contextmanager
    def session(*_: Any, **__: Any) -> Iterator[Any]:
        yield SimpleNamespace(params=None, stores=None)

    card = SimpleNamespace(dimensions=())
    report = SimpleNamespace(decision=decision, scorecard=card, chain_valid=True, ledger_head="", report="")
    flows = SimpleNamespace(lifecycle=lambda *_: report, promote_version=lambda *_: decision)
    monkeypatch.setitem(sys.modules, "flows.lifecycle", flows)
    monkeypatch.setattr(cli, "session", session)
    monkeypatch.setattr(cli, "_promoted", lambda *_: None)
    return CliRunner().invoke(cli.app, [command, *(["1"] if command == "promote" else [])]).exit_code


def test_any_pack_can_be_asked_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack that lacks what the gate's floors name is asked all the same; one that is not there is refused first."""
    params, asked = load(Path("params.yaml")), []

    @contextmanager
    def session(*_: Any, **__: Any) -> Iterator[Any]:
        yield SimpleNamespace(params=params, stores=None)

    def scorecard(*arguments: Any) -> StageReport:
        asked.append(arguments[-1])
        return StageReport(stage="evaluation", subject="")

    monkeypatch.setitem(sys.modules, "flows.lifecycle", SimpleNamespace(scorecard=scorecard))
    monkeypatch.setattr(cli, "session", session)
    for pack in (*params.evaluation.packs, None):
        told = ["--pack", pack] if pack else []
        assert CliRunner().invoke(cli.app, ["evaluate", *told]).exit_code == 0
    assert asked == [*params.evaluation.packs, params.evaluation.uses.run]
    refused = CliRunner().invoke(cli.app, ["evaluate", "--pack", "smokey"])
    assert isinstance(refused.exception, ParamsError)
    assert len(asked) == len(params.evaluation.packs) + 1


def test_a_bound_is_printed_as_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an attack did not break may still break: the line says at most."""
    score = Score(value=0.5, low=0.4, high=0.6, n=200, method="wilson", kind="upper_bound")
    origin = Provenance(subject="5e", data="d4", role="test", seed=7, library="11", versions={}, device="cpu")
    found = Finding(
        path="attacks/pgd", dimension="defence", family="evasion", settings={}, score=score, provenance=origin
    )
    report = StageReport(stage="evaluation", subject="", findings=(found,))

    @contextmanager
    def session(*_: Any, **__: Any) -> Iterator[Any]:
        yield SimpleNamespace(params=load(Path("params.yaml")), stores=None)

    monkeypatch.setitem(sys.modules, "flows.lifecycle", SimpleNamespace(scorecard=lambda *_: report))
    monkeypatch.setattr(cli, "session", session)
    assert CliRunner().invoke(cli.app, ["evaluate"]).stdout == "attacks/pgd: <= 0.500 [0.400, 0.600] n=200\n"


def test_a_drill_without_incidents_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rehearsing nothing is no success: it is said where incidents are listed."""

    @contextmanager
    def session(*_: Any, **__: Any) -> Iterator[Any]:
        yield SimpleNamespace(params=load(Path("params.yaml")), stores=None)

    monkeypatch.setattr(cli, "session", session)
    refused = CliRunner().invoke(cli.app, ["drill"]).exception
    assert isinstance(refused, ParamsError)
    assert "rehearse-incidents" in refused.remedy


@pytest.mark.parametrize("action", ["keep", "inconclusive", "block"])
@pytest.mark.parametrize(
    ("champion", "standing"), [(None, "there is still no champion"), (ONE, "version 1 stays champion")]
)
def test_a_decision_that_moves_nothing_says_who_serves(action: Any, champion: Any, standing: str) -> None:
    """Where there is no champion, none is said to stay."""
    decision = Decision(action=action, candidate=TWO, champion=champion, reasons=(FAILED,))
    first, *reasons = decision_lines(decision, None)
    assert first == f"{action}: loans version 2 (digest 2222222222222222); {standing}"
    assert reasons == ["  FAIL attacks/pgd: floor 0.3000: below it"]


def test_a_promotion_says_no_more_than_its_reasons() -> None:
    """A promoted candidate replaces its champion, which stays nothing."""
    decision = Decision(action="promote", candidate=TWO, champion=ONE, reasons=(NOW,))
    assert decision_lines(decision, None)[0] == "promote: loans version 2 (digest 2222222222222222)"


def test_the_promotions_date_is_the_ledgers(tmp_path: Any) -> None:
    """The last decision that promoted the version counts; decisions that kept it out, or speak of others, do not."""
    stores = Stores.local(tmp_path, tmp_path)
    ledger = Ledger.create(stores.ledger.get_secret_value(), WallClock())
    assert promoted_at(stores, ONE) is None
    for action, version in (("promote", ONE), ("keep", ONE), ("promote", TWO)):
        body = Decision(action=action, candidate=version, reasons=(NOW,)).model_dump(mode="json")  # type: ignore[arg-type]  of the cases above
        ledger.append("decision", who="me", model="loans", version=version.version, body=body)
    with ledger.reading() as view:
        first, _, last = view.entries(kinds=("decision",))
    assert (promoted_at(stores, ONE), promoted_at(stores, TWO)) == (first.at, last.at)
