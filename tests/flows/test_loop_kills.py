"""The loop under fire: worker, servers and database killed at moments nobody chose; nothing is lost, nothing done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from flows.processes import wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
KILLS = 20
AT_ONCE = 3
YEARS = (2000, 2006, 2007, 2008)
ROWS = 300
COUNT = AT_ONCE + KILLS // 2
WATCHED = ("--params", "profiles/tiny.yaml", "--params", "profiles/watched.yaml", "--set", "schedule.notify=null")


def windows(project: Any) -> list[pd.DataFrame]:
    """Cut windows from calm years and from the crisis, as many as are streamed."""
    rows = pd.read_parquet(project.folder / "embedded" / "sba_loans_small.parquet")
    years = [rows[rows["fy"] == year] for year in YEARS]
    cut = [part[at : at + ROWS].reset_index(drop=True) for part in years for at in range(0, len(part) - ROWS, ROWS)]
    assert len(cut) >= COUNT
    return cut[:: len(cut) // COUNT][:COUNT]


def put(project: Any, number: int, window: pd.DataFrame) -> None:
    """Lay a window and its labels in the feed; the window last, whole at once."""
    feed = project.folder / "feed"
    (feed / "labels").mkdir(parents=True, exist_ok=True)
    window[["charged_off"]].to_parquet(feed / "labels" / f"{number}.parquet")
    window.drop(columns="charged_off").to_parquet(feed / f".{number}")
    (feed / f".{number}").rename(feed / f"{number}.parquet")


def below(pid: int) -> set[int]:
    """List a process and all that descend from it."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, fresh = {pid}, {pid}
    while fresh := {child for child, parent in parents.items() if parent in fresh} - found:
        found |= fresh
    return found


class Database:
    """The PostgreSQL of the stack, known by its port."""

    def __init__(self, url: URL) -> None:
        self.url = url.set(database="postgres")
        self.command, self.folder, self.owner = self._postmaster()

    def _postmaster(self) -> tuple[list[str], Path, int]:
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes().decode().split("\0")[:-1]
                if "-D" in command and f"-p{self.url.port}" in "".join(command):
                    return command, Path(command[command.index("-D") + 1]), (entry / "status").stat().st_uid
        raise AssertionError(f"no PostgreSQL on port {self.url.port}")

    @property
    def pid(self) -> int:
        return int((self.folder / "postmaster.pid").read_text().split()[0])

    def answers(self) -> bool:
        """Tell whether it takes connections."""
        engine = create_engine(self.url, poolclass=NullPool)
        with suppress(DBAPIError), engine.connect():
            return True
        return False

    def start(self) -> None:
        """Start it again as it was, a child of nobody here; what the killed one left behind may take it some tries."""

        def tried() -> bool:
            started = ("setsid", "--fork", *self.command)
            done = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run(started, user=self.owner, group=self.owner, extra_groups=[], cwd="/", check=True, **done)
            return wait(self.answers, 10)

        assert wait(tried, 120)


class Fire:
    """Kills one part of the stack, and starts it again as compose would."""

    def __init__(self, world: Any) -> None:
        self.world, self.database = world, Database(make_url(world.secrets["LEDGER_URL"]))

    def kill(self, victim: str) -> None:
        """Kill a service and all that it started, or the database."""
        pid = self.database.pid if victim == "database" else self.world.stack.running[victim].pid
        for each in below(pid):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        if victim != "database":
            self.world.stack.running[victim].wait(30)

    def mend(self) -> None:
        """Start whatever ended, as ``restart: unless-stopped`` does."""
        if not self.database.answers():
            self.database.start()
        for name, process in list(self.world.stack.running.items()):
            if process.poll() is not None:
                self.world.stack.start(name)


def test_twenty_kills_lose_no_window_and_use_none_twice(world: Any, make: Any, request: pytest.FixtureRequest) -> None:
    """Under fire the loop decides, retrains and promotes what an unbroken one does, each thing once."""
    seed = random.SystemRandom().randrange(10**6)
    moments = random.Random(seed)
    feed = windows(world.project)
    for number in range(AT_ONCE):
        put(world.project, number, feed[number])
    world.holdfast("run")
    world.stack.start("worker")
    world.stack.wait("worker", 900)
    fire, story = Fire(world), []
    for strike in range(KILLS):
        time.sleep(moments.uniform(5, 60))
        victim = moments.choice(("worker", "prefect", "mlflow", "database"))
        story.append(f"{victim} after {len(decided(world.entries('decision')))} windows")
        fire.kill(victim)
        time.sleep(moments.uniform(0, 5))
        fire.mend()
        if strike % 2:
            put(world.project, AT_ONCE + strike // 2, feed[AT_ONCE + strike // 2])
    request.node.add_report_section("call", "kills", f"seed {seed}: {'; '.join(story)}")
    assert wait(lambda: fire.mend() or done(world), 3600), (story, decided(world.entries("decision")))
    assert world.ledger().verify().valid
    calm = make("calm")
    for number, window in enumerate(feed):
        put(calm, number, window)
    (calm.folder / "profiles" / "watched.yaml").write_text(
        (world.project.folder / "profiles" / "watched.yaml").read_text()
    )
    calm.holdfast("run", *WATCHED)
    calm.holdfast("monitor", *WATCHED)
    assert course(world.entries) == course(calm.entries)
    assert world.ledger().head("tiny").digest == calm.ledger().head("tiny").digest
    audit = world.holdfast("audit", "--json").document
    assert (audit["chain_valid"], audit["agrees"], audit["orphans"]) == (True, True, [])


def decided(entries: list[Any]) -> list[Any]:
    return [entry for entry in entries if entry.body.get("position") is not None]


def done(world: Any) -> bool:
    """Tell whether every window is decided about and every response ended."""
    with suppress(Exception):  # a server that only just comes back
        taken = decided(world.entries("decision"))
        due = [entry for entry in taken if entry.body["action"] in {"retrain", "quarantine", "rollback", "repair"}]
        return len(taken) >= COUNT and len(world.responded()) >= len(due)
    return False


def course(entries: Any) -> dict[str, Any]:
    """Tell all that the loop did: decisions, responses, versions and what they learned from, promotions; in order."""
    return {
        "decisions": [
            (e.body["position"], e.body["cause"], e.body["action"]) for e in decided(entries("decision"))
        ],
        "responses": [
            (e.body["position"], e.body["action"], e.body["champion"], e.body["outcome"])
            for e in entries("run") if e.body.get("about") == "response"
        ],
        "versions": [
            (e.version, e.body["digest"], (e.body["lineage"].get("data") or {}).get("manifest"))
            for e in entries("registered")
        ],
        "promotions": [(e.version, e.body.get("action")) for e in entries("done")],
    }  # fmt: skip
