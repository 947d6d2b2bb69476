"""Every version through one pack, as a story: a gap stops nobody, an outage stops all."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from flows import cli, lifecycle
from holdfast.errors import ArtefactError, ModelError, ParamsError, StoreError
from holdfast.results import ModelVersion, StageReport
from tasks.history import History, ScoredVersion

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS = tuple(ModelVersion(name="people", version=n, digest=str(n) * 64) for n in (1, 2, 3))
PARAMS: Any = SimpleNamespace(pack_digest=lambda pack: f"digest of {pack}")
SPOILT = ArtefactError("version 2", found="other bytes", expected="its own", remedy="Run `holdfast audit`.")
AWAY = StoreError("MLflow", found="no answer", expected="one", remedy="Start it.")


def filled(monkeypatch: pytest.MonkeyPatch, stopped: Exception) -> tuple[History, list[int]]:
    """Let the flow run on stand-ins for its chores; the second version ends in an error."""
    asked: list[int] = []

    def evaluate(*arguments: Any) -> StageReport:
        asked.append(arguments[3].version)
        if arguments[3].version == 2:
            raise stopped
        return StageReport(stage="evaluation", subject=arguments[3].digest)

    def headed(*arguments: Any) -> ScoredVersion:
        assert arguments[3].subject == arguments[2].digest  # its own report
        return ScoredVersion(version=arguments[2], headlines={"robustness": "0.9"})

    chores = {
        "one_heartbeat": nullcontext(), "settle": None, "integrity": (None, None), "every_version": VERSIONS,
        "about": "run", "failing": nullcontext(), "finish": None,
    }  # fmt: skip
    for name, answer in chores.items():
        monkeypatch.setattr(lifecycle, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(lifecycle, "evaluation", evaluate)
    monkeypatch.setattr(lifecycle, "headlines", headed)
    nothing: Any = None
    return lifecycle.history.fn(PARAMS, nothing, "standard"), asked


def test_a_version_whose_bytes_are_spoilt_keeps_none_of_the_others_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with the reason, and has no headlines of this pack."""
    found, asked = filled(monkeypatch, SPOILT)
    assert asked == [1, 2, 3]
    assert [bool(each.headlines) for each in found.versions] == [True, False, True]
    assert (found.refused, found.pack, found.pack_digest) == ((2,), "standard", "digest of standard")
    assert "other bytes" in found.versions[1].line()


def test_an_outage_is_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a store does not answer, nothing is known of the version, and the command ends."""
    with pytest.raises(StoreError):
        filled(monkeypatch, AWAY)


def test_gaps_are_told_and_end_the_command_in_their_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule sees from the exit code that history has a gap."""

    @contextmanager
    def session(*_: Any, early: Any, **__: Any) -> Iterator[Any]:
        early()
        uses = SimpleNamespace(run="standard")
        yield SimpleNamespace(
            params=SimpleNamespace(evaluation=SimpleNamespace(uses=uses), scenarios=lambda _: {}), stores=None
        )

    gap = ScoredVersion(version=VERSIONS[0], refused="spoilt")
    whole = History(pack="standard", pack_digest="d", versions=(ScoredVersion(version=VERSIONS[1]),))
    monkeypatch.setattr(cli, "session", session)
    for history, code in ((whole, 0), (whole.model_copy(update={"versions": (gap,)}), ModelError.exit_code)):
        monkeypatch.setattr(lifecycle, "history", lambda *_, history=history: history)
        assert CliRunner().invoke(cli.app, ["evaluate", "--all-versions"]).exit_code == code
    refused = CliRunner().invoke(cli.app, ["evaluate", "--all-versions", "--version", "1"])
    assert isinstance(refused.exception, ParamsError)
