"""Pruning through the front door: what lives goes on as before, and a run under way is left alone."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from typing import Any

import pandas as pd
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # whole commands, on a machine that may have other work

PROFILE = ("--params", "profiles/tiny.yaml")
AT_ONCE = ("--set", "prune={copies: 0, records: 0}")


def plant(project: Any) -> list[str]:
    """Lay down what nothing needs: bytes of no version, a training cut off, an answer to a question of older code."""
    planted = [f"models/{'9' * 64}", f"checkpoints/{'8' * 64}"]
    for name in planted:
        (project.root / name).mkdir(parents=True)
        (project.root / name / "file").write_text("planted")
    return planted


def test_after_a_prune_everything_goes_on(champion: Any) -> None:
    """Told first and deleted when asked; the champion answers, the audit holds, and the next run reuses its training."""
    planted = plant(champion)
    told = champion.holdfast("prune", *PROFILE, *AT_ONCE, "--json").document
    assert all((champion.root / name).exists() for name in planted)
    done = champion.holdfast("prune", *PROFILE, *AT_ONCE, "--apply", "--json").document
    assert {(h["kind"], h["name"]) for h in done["holdings"] if h["goes"]} == {
        (h["kind"], h["name"]) for h in told["holdings"] if h["goes"]
    }
    assert not any((champion.root / name).exists() for name in planted)
    (entry,) = champion.entries("run")
    assert entry.body["taken"]["model"] == ["9" * 64]
    audit = champion.holdfast("audit", *PROFILE, "--json").document
    assert (audit["chain_valid"], audit["agrees"], audit["champion"], audit["problems"]) == (True, True, 1, [])
    rows = pd.read_parquet(champion.folder / "embedded" / "sba_loans_small.parquet").head(50)
    rows.to_parquet(champion.folder / "rows.parquet")
    champion.holdfast("predict", "rows.parquet", "--out", "answers.parquet", *PROFILE)
    assert len(pd.read_parquet(champion.folder / "answers.parquet")) == 50
    again = champion.run()
    assert "reused: digest" in again.words
    assert "probes/quality" in again.words
    assert [entry.version for entry in champion.entries("registered")] == [1]
    champion.hold()


def test_a_run_under_way_is_not_pruned(champion: Any) -> None:
    """Whoever holds the run lock is waited for by nobody: the command is refused, and nothing went."""
    planted = plant(champion)
    with (champion.root / "run.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = champion.holdfast("prune", *PROFILE, *AT_ONCE, "--apply", "--json", expect=7)
    assert "a run under way" in refused.document["error"]["found"]
    assert all((champion.root / name).exists() for name in planted)


def test_a_ledger_that_was_changed_says_nothing_of_what_lives(champion: Any) -> None:
    """Where the chain does not verify, nothing is deleted."""
    planted = plant(champion)
    with sqlite3.connect(champion.root / "ledger.db") as database:
        for (name,) in database.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            database.execute(f"drop trigger {name}")
        database.execute("update holdfast_ledger set body = ? where seq = 2", (json.dumps({"digest": "0"}),))
    champion.holdfast("prune", *PROFILE, *AT_ONCE, "--apply", expect=7)
    assert all((champion.root / name).exists() for name in planted)
