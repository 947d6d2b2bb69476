"""Kills of the loop: whoever is killed while a stream is watched, it ends as it would have undisturbed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from flows.processes import wait
from holdfast.monitoring.watch import Watch
from holdfast.stores import WallClock

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]
KILLS, ROWS, A_ROUND = 20, 200, 2
RESTS = A_ROUND * KILLS // 10
"""Commands of ten windows each that end what is left."""
LOOP = ("--params", "profiles/tiny.yaml", "--params", "profiles/watched.yaml")
ON_SERVERS = ("--params", "infra/stores.yaml", *LOOP)
UNANSWERED = 7
"""Exit code of a command for which a store did not answer."""


def feed(folder: Path, windows: range) -> None:
    """Lay windows of the crisis into the feed, with their labels, each moved there whole."""
    import pandas as pd  # noqa: PLC0415  seconds, that not every test needs

    rows = pd.read_parquet(folder / "embedded" / "sba_loans_small.parquet").query("2005 <= fy <= 2010")
    rows = rows.sample(frac=1.0, random_state=0).reset_index(drop=True)
    (folder / "feed" / "labels").mkdir(parents=True, exist_ok=True)
    for number in windows:
        window = rows[ROWS * number :][:ROWS].reset_index(drop=True)
        for part, place in ((window[["charged_off"]], "feed/labels"), (window.drop(columns="charged_off"), "feed")):
            part.to_parquet(folder / "arriving")
            (folder / "arriving").rename(folder / place / f"{number:02}.parquet")


def killed(world: Any, database: Any, who: str, process: subprocess.Popen[str]) -> None:
    """Kill one of those who take part, with SIGKILL, and start it again as whoever keeps services up does."""
    if who == "worker":
        process.send_signal(signal.SIGKILL)
    elif who == "database":
        database.kill()
        database.start()
    else:
        victim = world.stack.running[who]
        with suppress(ProcessLookupError):
            os.killpg(victim.pid, signal.SIGKILL)
        victim.wait(60)
        world.stack.start(who)
    for name in ("prefect", "mlflow"):
        if world.stack.running[name].poll() is not None:  # it may end when its database does
            world.stack.start(name)
        world.stack.wait(name, 300)


def watching(world: Any, log: Path) -> subprocess.Popen[bytes]:
    """Start the loop as a command, its words in a file, and wait until it has begun."""
    project = world.project
    with log.open("wb") as words:
        process = subprocess.Popen(
            (project.command, "monitor", *ON_SERVERS), cwd=project.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=words, env=os.environ | project.environment | world.secrets,
        )  # fmt: skip
    assert wait(lambda: b"integrity" in log.read_bytes() or process.poll() is not None, 300), log.read_text()
    return process


def taken(ledger: Any) -> list[tuple[Any, ...]]:
    """List what was decided about every window, and who served."""
    with ledger.reading() as view:
        told = [each.body for each in view.entries(kinds=("decision",)) if each.body.get("position") is not None]
    return [(b["position"], b["cause"], b["action"], b["champion"]["digest"]) for b in told]


def answered(entries: list[Any]) -> list[tuple[Any, ...]]:
    """List what every response came to."""
    told = [each.body for each in entries if each.body.get("about") == "response"]
    return [(b["position"], b["action"], b["outcome"], b["champion"], b["labels"]) for b in told]


def test_twenty_kills_change_nothing_of_what_the_loop_does(
    world: Any, own_postgres: Any, make: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Worker, servers and database killed at moments nobody chose: the same decisions, windows and champions."""
    seed = random.SystemRandom().randrange(10**6)
    request.node.add_report_section("call", "seed", str(seed))
    drawn, project, ends = random.Random(seed), world.project, []
    for path in project.folder.glob("feed/**/*.parquet"):
        path.unlink()
    assert world.holdfast("run").code == 0
    victims = [*["worker"] * 8, *["database"] * 4, *["prefect"] * 4, *["mlflow"] * 4]
    assert len(victims) == KILLS
    drawn.shuffle(victims)
    for number, who in enumerate(victims):
        feed(project.folder, range(A_ROUND * number, A_ROUND * (number + 1)))
        log = tmp_path / f"watch-{number}.log"
        process = watching(world, log)
        time.sleep(drawn.uniform(0, 10))
        ended_before = process.poll() is not None
        killed(world, own_postgres, who, process)
        try:
            process.wait(600)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"seed {seed}, kill {number} of {who}: no end\n{log.read_text()[-3000:]}")
        ends.append((who, "ended before" if ended_before else process.returncode))
        right = {0, UNANSWERED, -signal.SIGKILL}
        assert process.returncode in right, f"seed {seed}, {ends}\n{log.read_text()[-4000:]}"
        assert world.ledger().verify().valid
    request.node.add_report_section("call", "ends", str(ends))
    assert sum(end != "ended before" for _, end in ends) >= KILLS // 2, ends  # else nothing was disturbed
    for _ in range(RESTS):
        world.holdfast("monitor", "--windows", "10")

    calm = make("calm").alone()
    shutil.copy(project.folder / "profiles" / "watched.yaml", calm.folder / "profiles")
    feed(calm.folder, range(A_ROUND * KILLS))
    calm.holdfast("run", *LOOP)
    for _ in range(RESTS):
        calm.holdfast("monitor", *LOOP, "--windows", "10")

    assert taken(world.ledger()) == taken(calm.ledger())
    assert [place for place, *_ in taken(world.ledger())] == list(range(A_ROUND * KILLS))
    hold_as(watch_of(world.secrets["LEDGER_URL"]), watch_of(f"sqlite:///{calm.root / 'ledger.db'}"))
    responses = answered(world.entries("run"))
    assert responses == answered(calm.entries("run"))
    retrained = sum(action == "retrain" for _, action, *_ in responses)
    assert retrained, "a stream that asks for no retraining shows nothing"
    assert len(world.entries("registered")) == 1 + retrained
    with world.ledger().reading() as view:
        assert not list(view.in_flight("tiny"))
    audit = world.holdfast("audit", "--json").document
    assert (audit["chain_valid"], audit["agrees"], audit["orphans"]) == (True, True, [])
    assert world.ledger().head("tiny").digest == calm.ledger().head("tiny").digest


def watch_of(url: str) -> Watch:
    return Watch(url, "tiny", WallClock())


def hold_as(disturbed: Watch, calm: Watch) -> None:
    """Hold that every window came once, and became what it becomes undisturbed."""
    ours, theirs = disturbed.windows(), calm.windows()
    assert [(w.position, w.digest, w.state) for w in ours] == [(w.position, w.digest, w.state) for w in theirs]
    assert len({w.digest for w in ours}) == len(ours)
    assert disturbed.verdicts() == calm.verdicts()
