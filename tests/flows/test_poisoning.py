"""Poison in the stream, through the front door: the window is set aside, and what trains afterwards holds none of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from holdfast.monitoring.watch import Watch
from holdfast.stores import WallClock
from tasks.storage import read_manifest

pytestmark = pytest.mark.timeout(900)  # whole runs, on a machine that may have other work

TINY = ("--params", "profiles/tiny.yaml")
FEED = (
    "--set", "monitoring.stream={source: parquet_folder, settings: {path: feed, label: charged_off}}",
    "--set", "monitoring.detectors={harm: {}}", "--set", "monitoring.budget=0.5",
    "--set", "recovery.policy.least_windows=1", "--set", "monitoring.replays=200",
    "--set", "recovery.policy.cooldown=0",
)  # fmt: skip


def feed(project: Any) -> None:
    """Write three windows, matured at once; the second has one slice of its labels turned."""
    table = pd.read_parquet(project.folder / "embedded" / "sba_loans_small.parquet")
    folder = project.folder / "feed"
    (folder / "labels").mkdir(parents=True)
    for place, year in enumerate((2000, 2000, 2001)):
        rows = table[(table.fy == year) & table.low_doc.isin(["Y", "N"]) & table.rev_line_cr.isin(["Y", "N", "0"])]
        rows = rows[700 * (place % 2) :][:700].reset_index(drop=True)
        if place == 1:
            inside = np.flatnonzero(rows.naics2.isin([44, 45]))[:70]
            rows.loc[inside, "charged_off"] = 1 - rows.loc[inside, "charged_off"]
        rows.drop(columns="charged_off").to_parquet(folder / f"{place}.parquet")
        rows[["charged_off"]].to_parquet(folder / "labels" / f"{place}.parquet")


@pytest.mark.slow
def test_a_poisoned_window_is_set_aside_and_trains_nothing(champion: Any) -> None:
    """One slice's labels turned: quarantine of that window, no harm read off it, a retraining later without its rows."""
    feed(champion)
    report = champion.holdfast("monitor", *TINY, *FEED, "--json").document["windows"]
    assert (report[1]["cause"], report[1]["action"]) == ("suspected_poisoning", "quarantine")
    assert report[1]["outcome"] == "window 1 in quarantine"
    watch = Watch(f"sqlite:///{champion.root / 'ledger.db'}", "tiny", WallClock())
    assert watch.verdicts() == {0: "clean", 1: "suspected", 2: "clean"}
    assert watch.windows()[1].state == "quarantined"
    assert not [signal for signal in watch.signals() if signal.needs == "labels" and signal.position == 1]
    (decision,) = [e.body for e in champion.entries("decision") if e.body.get("cause") == "suspected_poisoning"]
    assert decision["windows"] == [1]
    assert any(reason["about"] == "screening" and "naics2 " in reason["text"] for reason in decision["reasons"])
    assert report[2]["action"] == "retrain"
    lineage = champion.entries("registered")[-1].body["lineage"]
    manifest = read_manifest(champion.folder, lineage["data"]["manifest"])
    assert [w.position for w in manifest.windows] == [0, 2]
    assert watch.windows()[1].digest not in {w.digest for w in manifest.windows}
    champion.holdfast("data", "release-window", "1", "--why", "looked at it", *TINY)
    again = Watch(f"sqlite:///{champion.root / 'ledger.db'}", "tiny", WallClock())
    assert (again.windows()[1].state, again.verdicts()[1]) == ("escrowed", "released")
    assert json.loads(again.screening(1) or "")["poison"]
