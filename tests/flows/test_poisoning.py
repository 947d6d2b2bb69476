"""Poison in the stream, through the front door: the window is set aside, and what trains afterwards holds none of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from holdfast.data.escrow import Escrow
from holdfast.monitoring.watch import Watch
from holdfast.stores import WallClock
from tasks.storage import read_manifest

pytestmark = pytest.mark.timeout(900)  # whole runs, on a machine that may have other work

TINY = ("--params", "profiles/tiny.yaml")
FEED = (
    "--set", "monitoring.stream={source: parquet_folder, settings: {path: feed, label: charged_off}}",
    "--set", "monitoring.detectors={harm: {}}", "--set", "monitoring.budget=0.5",
    "--set", "recovery.policy.least_windows=1",
)  # fmt: skip


def feed(project: Any) -> list[pd.DataFrame]:
    """Write five windows of 1999 to 2008, matured at once; the third has one slice of its labels turned."""
    table = pd.read_parquet(project.folder / "embedded" / "sba_loans_small.parquet")
    folder = project.folder / "feed"
    (folder / "labels").mkdir(parents=True)
    windows = []
    for place, year in enumerate((2000, 2001, 2002, 2003, 2008)):
        rows = table[(table.fy == year) & table.low_doc.isin(["Y", "N"]) & table.rev_line_cr.isin(["Y", "N", "0"])]
        rows = rows[:1000].reset_index(drop=True)
        if place == 2:
            inside = np.flatnonzero(rows.state.isin(["CA", "TX"]))[:100]
            rows.loc[inside, "charged_off"] = 1 - rows.loc[inside, "charged_off"]
        rows.drop(columns="charged_off").to_parquet(folder / f"{place}.parquet")
        rows[["charged_off"]].to_parquet(folder / "labels" / f"{place}.parquet")
        windows.append(rows)
    return windows


@pytest.mark.slow
def test_a_poisoned_window_is_set_aside_and_trains_nothing(champion: Any) -> None:
    """One slice's labels turned: quarantine of that window, no harm read off it, a retraining later without its rows."""
    feed(champion)
    report = champion.holdfast("monitor", *TINY, *FEED, "--json").document["windows"]
    assert (report[2]["cause"], report[2]["action"]) == ("suspected_poisoning", "quarantine")
    assert report[2]["outcome"] == "window 2 in quarantine"
    assert [w["cause"] for w in report[:2]] == ["none", "none"]
    watch = Watch(f"sqlite:///{champion.root / 'ledger.db'}", "tiny", WallClock())
    assert {p: v for p, v in watch.verdicts().items() if p < 4} == {0: "clean", 1: "clean", 2: "suspected", 3: "clean"}
    assert watch.windows()[2].state == "quarantined"
    assert not [signal for signal in watch.signals() if signal.needs == "labels" and signal.position == 2]
    (decision,) = [e.body for e in champion.entries("decision") if e.body.get("cause") == "suspected_poisoning"]
    assert decision["windows"] == [2]
    assert any(reason["about"] == "screening" and "state" in reason["text"] for reason in decision["reasons"])
    assert report[4]["action"] == "retrain"
    lineage = champion.entries("registered")[1].body["lineage"]
    manifest = read_manifest(champion.folder, lineage["data"]["manifest"])
    assert [w.position for w in manifest.windows] == [0, 1, 3, 4]
    digest = watch.windows()[2].digest
    assert digest not in {w.digest for w in manifest.windows}
    assert len(Escrow(champion.root / "escrow").labels(digest, 2)) == 1000
    champion.holdfast("data", "release-window", "2", "--why", "looked at it", *TINY)
    again = Watch(f"sqlite:///{champion.root / 'ledger.db'}", "tiny", WallClock())
    assert (again.windows()[2].state, again.verdicts()[2]) == ("escrowed", "released")
    assert json.loads(again.screening(2) or "")["poison"]
