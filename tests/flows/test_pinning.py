"""Pinning through the front door: what a retraining learned becomes the pinned data, and the loop goes on beside it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # whole runs, on a machine that may have other work

WATCHED = """
metric: accuracy
training: {settings: {balance_classes: false}}
monitoring:
  stream: {replace: true, source: parquet_folder, settings: {path: feed, label: charged_off}}
  detectors: {replace: true, harm: {}}
  budget: 0.05
  replays: 200
recovery: {policy: {least_windows: 1}}
integrity: {replace: true, provenance: {}}
"""
PARAMS = ("--params", "profiles/tiny.yaml", "--params", "profiles/watched.yaml")


def test_a_retraining_is_pinned_and_the_loop_goes_on(drifting: Any) -> None:
    """Proposed, applied, asked again; then the champion is watched on, and a run trains from the pinned data."""
    (drifting.folder / "profiles" / "watched.yaml").write_text(WATCHED)
    drifting.holdfast("run", *PARAMS, expect=None)
    report = drifting.holdfast("monitor", *PARAMS, "--json").document
    assert "retrain" in [window["action"] for window in report["windows"]]
    lineage = drifting.entries("registered")[-1].body["lineage"]
    before = (drifting.folder / "data.dvc").read_text()
    told = drifting.holdfast("data", "pin", "--version", "2", *PARAMS, "--json").document
    assert (drifting.folder / "data.dvc").read_text() == before
    assert (told["manifest"], told["applied"]) == (lineage["data"]["manifest"], False)
    done = drifting.holdfast("data", "pin", "--version", "2", "--apply", *PARAMS, "--json").document
    assert done["after"] == told["after"] != told["before"]
    assert done["after"].removesuffix(".dir") in (drifting.folder / "data.dvc").read_text()
    assert drifting.holdfast("data", *PARAMS, "--json").document["md5"] == done["after"]
    again = drifting.holdfast("data", "pin", "--version", "2", *PARAMS, "--json").document
    assert again["before"] == again["after"] == done["after"]
    rows = pd.read_parquet(drifting.folder / "embedded" / "sba_loans_small.parquet").query("fy == 2008")
    window = rows[:300].reset_index(drop=True)
    window[["charged_off"]].to_parquet(drifting.folder / "feed" / "labels" / "3.parquet")
    window.drop(columns="charged_off").to_parquet(drifting.folder / "feed" / "3.parquet")
    report = drifting.holdfast("monitor", *PARAMS, "--json").document
    assert [each["position"] for each in report["windows"]][-1] == 3
    drifting.holdfast("run", *PARAMS, expect=None)
    made = drifting.entries("registered")[-1].body["lineage"]["data"]
    assert (made["manifest"], made["md5"], made["last_window"]) == ("", done["after"], max(told["windows"]))
    assert drifting.holdfast("audit", *PARAMS, "--json").document["chain_valid"]
