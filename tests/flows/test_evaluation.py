"""Evaluation: what broke earlier versions is asked before any attack, and beside test rows alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flows import evaluation

PACK = ("attacks/fgsm", "probes/regression_corpus", "probes/quality", "probes/regression_corpus-few")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the flow run on a stand-in for its chore, and tell what was asked together, and what was reported."""

    def run(role: Any) -> tuple[list[list[str]], list[str]]:
        together: list[list[str]] = []

        def ask(paths: list[str], scenarios: list[str], **_: Any) -> Any:
            assert [f"built {path}" for path in paths] == scenarios
            together.append(paths)
            answers = [SimpleNamespace(finding=path, reused=False) for path in paths]
            return SimpleNamespace(result=lambda: answers)

        reported: list[str] = []
        monkeypatch.setattr(evaluation, "run_scenario", SimpleNamespace(map=ask))
        monkeypatch.setattr(evaluation, "cross_check", lambda findings: reported.extend(findings) or ())
        monkeypatch.setattr(evaluation, "record", lambda *_: None)
        params: Any = SimpleNamespace(scenarios=lambda _: {path: f"built {path}" for path in PACK})
        version: Any = SimpleNamespace(digest="d1")
        evaluation.evaluation.fn(params, None, None, version, "standard", role, "run")
        return together, reported

    return run


def test_earlier_successes_are_put_to_a_version_before_attacks_add_to_them(asked: Any) -> None:
    """The corpus is asked for alone and first, whatever its place in the pack, and reported in that place."""
    together, reported = asked("test")
    assert together == [
        ["probes/regression_corpus", "probes/regression_corpus-few"],
        ["attacks/fgsm", "probes/quality"],
    ]
    assert reported == list(PACK)


def test_no_corpus_is_asked_beside_gate_rows(asked: Any) -> None:
    """It grows between the two sides of a gate, which must be asked alike."""
    together, reported = asked("gate")
    assert together == [["attacks/fgsm", "probes/quality"]]
    assert reported == ["attacks/fgsm", "probes/quality"]
