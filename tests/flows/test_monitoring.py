"""The loop through the front door: windows watched, harm answered once, and nothing forgotten over a kill."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.monitoring.watch import Watch
from holdfast.stores import WallClock

pytestmark = pytest.mark.timeout(900)  # whole runs, on a machine that may have other work

LEAN = (
    "--set", "monitoring.detectors={harm: {}, evidently: {}}", "--set", "monitoring.stream.settings.label_delay=0",
    "--set", "monitoring.budget=0.5", "--set", "recovery.policy.least_windows=1",
)  # fmt: skip
TINY = ("--params", "profiles/tiny.yaml")


def watched(project: Any) -> Watch:
    return Watch(f"sqlite:///{project.root / 'ledger.db'}", "tiny", WallClock())


def killed(project: Any, target: str, when: str, *arguments: str) -> None:
    launcher = str(Path(__file__).with_name("kill_at.py"))
    process = project.start(sys.executable, launcher, target, when, "1", "KILL", "monitor", *TINY, *LEAN, *arguments)
    project.ended(process, -9)


def decided(project: Any) -> list[Any]:
    return [entry for entry in project.entries("decision") if entry.body.get("position") is not None]


def test_harm_is_answered_once_however_often_it_is_cut_off(champion: Any) -> None:
    """Killed after the decision and again after the retraining, the loop ends it once, and goes on with the next window."""
    pin = (champion.folder / "data.dvc").read_text()
    killed(champion, "flows.recovery:training", "before")
    (harm,) = [entry for entry in decided(champion) if entry.body["action"] == "retrain"]
    position = harm.body["position"]
    assert {w.state for w in watched(champion).windows()} == {"admitted"}
    killed(champion, "flows.recovery:responded", "before")
    assert champion.ledger().head("tiny").version == 2
    report = champion.holdfast("monitor", *TINY, *LEAN, "--windows", "2", "--json").document
    first, second = report["windows"]
    assert (first["position"], first["action"], first["champion"]) == (position, "retrain", 2)
    assert second["position"] == position + 1
    assert [entry.body["position"] for entry in decided(champion)] == list(range(position + 2))
    assert [entry.version for entry in champion.entries("registered")] == [1, 2]
    lineage = champion.entries("registered")[1].body["lineage"]
    assert lineage["data"]["manifest"]
    assert lineage["parent"]["version"] == 1
    assert (champion.folder / "data.dvc").read_text() == pin
    first_run = champion.registry().get_model_version("tiny", "1").run_id
    (page,) = champion.registry().list_artifacts(
        first_run, "drift"
    )  # one page where the alarm began, none for each window
    assert page.path == "drift/window-0.html"
    windows = watched(champion).windows()
    assert [w.position for w in windows] == list(range(position + 2))
    assert len({w.digest for w in windows}) == len(windows)
    judged = {
        s.position for s in watched(champion).signals(champion.ledger().head("tiny").digest) if s.needs == "labels"
    }
    assert judged == {position + 1}  # the new champion is not judged by windows that it learned from
    audit = champion.holdfast("audit", "--json", *TINY).document
    assert (audit["chain_valid"], audit["agrees"], audit["champion"]) == (True, True, 2)
    champion.hold(versions=2)
    champion.holdfast("rollback", "--why", "the new one is worse", *TINY)
    assert champion.ledger().head("tiny").version == 1
    assert champion.ledger().verify().valid
    assert champion.registry().get_model_version_by_alias("tiny", "champion").version in {1, "1"}
    again = champion.holdfast("rollback", "--why", "further back", *TINY, expect=5)
    assert "no former champion that nobody condemned" in again.words


@pytest.mark.slow
def test_a_broken_feed_is_set_aside_and_a_tampered_champion_restored(champion: Any) -> None:
    """A window that breaks its declaration trains nothing, spoilt bytes are fetched anew, and nothing is retrained."""
    import numpy as np  # noqa: PLC0415  beside its one use
    import pandas as pd  # noqa: PLC0415  as above

    rows = pd.read_parquet(champion.folder / "embedded" / "sba_loans_small.parquet").query("fy == 2000")
    feed = champion.folder / "feed"
    feed.mkdir()
    rows = rows.drop(columns="charged_off").reset_index(drop=True)
    rows[:200].to_parquet(feed / "0.parquet")
    rows[200:400].assign(term=np.int64(0)).reset_index(drop=True).to_parquet(feed / "1.parquet")
    rows[400:600].reset_index(drop=True).to_parquet(feed / "2.parquet")
    stream = ("--set", "monitoring.stream={source: parquet_folder, settings: {path: feed, label: charged_off}}")
    arguments = ("monitor", *TINY, *LEAN, *stream, "--json")
    assert [w["action"] for w in champion.holdfast(*arguments, "--windows", "2").document["windows"]][1] == "quarantine"
    held = watched(champion).windows()
    assert [w.state for w in held] == ["escrowed", "quarantined"]
    champion.holdfast("data", "release-window", "1", "--why", "looked at it", *TINY)
    assert watched(champion).windows()[1].state == "escrowed"
    assert champion.entries("release")[-1].body == {"about": "window", "position": 1, "why": "looked at it"}
    (local,) = champion.root.joinpath("models").glob("*/model.safetensors")
    local.chmod(0o644)
    local.write_bytes(local.read_bytes()[:-1] + b"\x00")
    (last,) = champion.holdfast(*arguments).document["windows"]
    assert (last["cause"], last["action"], last["champion"]) == ("damaged_artefact", "repair", 1)
    assert champion.holdfast("predict", "feed/2.parquet", "--out", "answers.csv", *TINY).code == 0
    assert champion.holdfast(*arguments).document["windows"] == []
    champion.hold()
