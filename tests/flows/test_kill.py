"""Kills: wherever a run is cut off, the next one ends right and repeats nothing that was finished."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(900)  # whole runs, on a machine that may have other work

# Every place in the order in which a run comes by, so that each run of a chain of kills reaches the next.
POINTS = [
    ("tasks.integrity:materialise", "after", 1),
    ("tasks.integrity:snapshot", "after", 1),
    ("tasks.integrity:run_checks", "before", 1),
    ("tasks.integrity:run_checks", "after", 1),
    ("holdfast.stores:ResultStore.put", "after", 1),
    ("holdfast.integrity.quarantine:Quarantine.add", "before", 1),
    ("holdfast.integrity.quarantine:Quarantine.add", "after", 1),
    ("tasks.tracking:open_run", "after", 1),
    ("tasks.tracking:open_run", "after", 2),
    ("holdfast.training.checkpoints:CheckpointFolder.write", "before", 1),
    ("holdfast.training.checkpoints:CheckpointFolder.write", "after", 1),
    ("holdfast.training.checkpoints:CheckpointFolder.write", "after", 1),  # of the second epoch
    ("tasks.training:save_model", "before", 1),
    ("tasks.training:save_model", "after", 1),
    ("tasks.training:_keep", "after", 1),
    ("flows.training:register", "before", 1),
    ("mlflow:MlflowClient.create_logged_model", "after", 1),
    ("mlflow:MlflowClient.log_model_artifacts", "before", 1),
    ("mlflow:MlflowClient.log_model_artifacts", "after", 1),
    ("mlflow:MlflowClient.finalize_logged_model", "after", 1),
    ("mlflow:MlflowClient.create_model_version", "before", 1),
    ("mlflow:MlflowClient.create_model_version", "after", 1),
    ("tasks.training:record_version", "before", 1),
    ("tasks.training:record_version", "after", 1),
    ("tasks.tracking:log_history", "after", 1),
    ("tasks.tracking:open_run", "after", 4),  # of evaluation and promotion
    ("holdfast.scenarios.base:OnModel.run", "before", 1),
    ("holdfast.scenarios.attacks._shards:Kept.put", "after", 1),
    ("holdfast.scenarios.base:OnModel.run", "after", 2),
    ("tasks.tracking:log_finding", "after", 1),
    ("flows.lifecycle:promotion", "before", 1),
    ("tasks.recovery:decide", "after", 1),
    ("flows.recovery:judge", "after", 1),
    ("tasks.recovery:promote", "before", 1),
    ("holdfast.recovery.promotion:_intend", "after", 1),  # the intent written, not committed
    ("holdfast.recovery.promotion:settle", "before", 1),  # the intent committed
    ("tasks.tracking:MlflowProjection.write", "before", 1),
    ("tasks.tracking:MlflowProjection.write", "after", 1),
    ("holdfast.recovery.promotion:show", "after", 1),  # read back, not done
    ("flows.lifecycle:publish", "before", 1),
    ("tasks.publishing:write_atomically", "after", 1),
    ("flows.lifecycle:finish", "before", 1),
    ("tasks.tracking:close_run", "after", 2),
    ("flows.lifecycle:finish", "after", 1),
]
SAGA = [
    ("holdfast.recovery.promotion:_intend", "after", 1),
    ("holdfast.recovery.promotion:settle", "before", 1),
    ("tasks.tracking:MlflowProjection.write", "before", 1),
    ("tasks.tracking:MlflowProjection.write", "after", 1),
    ("holdfast.recovery.promotion:show", "after", 1),
    ("tasks.recovery:promote", "after", 1),
    ("flows.lifecycle:crown", "after", 1),
    ("flows.lifecycle:publish", "after", 1),
]
STAGES = [
    ("holdfast.integrity.quarantine:Quarantine.add", "before", 1),
    ("tasks.training:_keep", "after", 1),
    ("mlflow:MlflowClient.finalize_logged_model", "after", 1),
    ("mlflow:MlflowClient.create_model_version", "after", 1),
    ("holdfast.scenarios.base:OnModel.run", "after", 2),
]


@pytest.mark.slow
def test_a_chain_of_kills_with_servers_of_its_own_ends_right(make: Callable[..., Any]) -> None:
    """Killed in training, in evaluation, and between intent and alias, a run goes on, and the last one ends right."""
    project = make().alone()
    project.killed("holdfast.training.checkpoints:CheckpointFolder.write", "after")
    second = project.killed("holdfast.scenarios.base:OnModel.run", "after", 2)
    assert "epoch 1/2" not in second.words
    assert "epoch 2/2" in second.words
    third = project.killed("tasks.tracking:MlflowProjection.write", "before")
    assert "epoch" not in third.words
    assert len(project.processes()) > 0  # the killed run's server, for the next to find
    last = project.run("--json")
    assert "promotion of version 1 was interrupted: done now" in last.words
    assert "epoch" not in last.words
    assert last.words.count("reused") >= 3
    with sqlite3.connect(project.root / "prefect" / "server.db") as prefect:
        states = [state for (state,) in prefect.execute("select state_type from flow_run")]
    assert states.count("CRASHED") >= 3
    assert set(states) == {"CRASHED", "COMPLETED"}
    project.hold()


def test_an_interrupt_leaves_everything_consistent_and_the_next_run_goes_on(make: Callable[..., Any]) -> None:
    """Ctrl-C after the first epoch exits 130, and the next run trains the second epoch alone."""
    project = make()
    done = project.killed("holdfast.training.checkpoints:CheckpointFolder.write", "after", stroke="INT")
    assert "interrupted" in done.words
    assert project.no_process_left()
    assert project.ledger().verify().valid
    assert project.ledger().head("tiny") is None
    last = project.run()
    assert "epoch 1/2" not in last.words
    assert "epoch 2/2" in last.words
    project.hold()


@pytest.mark.slow
def test_sigterm_in_training_ends_the_server_and_loses_nothing(make: Callable[..., Any]) -> None:
    """SIGTERM after the first epoch exits 143, ends the run's own server, and leaves its run recorded as crashed."""
    project = make().alone()
    done = project.killed("holdfast.training.checkpoints:CheckpointFolder.write", "after", stroke="TERM")
    assert "terminated: what is finished is kept" in done.words
    assert "Traceback" not in done.err
    assert project.no_process_left(), project.processes()
    assert not (project.root / "prefect" / "server.pid").exists()
    assert list(project.root.joinpath("checkpoints").iterdir())
    assert project.ledger().verify().valid
    with sqlite3.connect(project.root / "prefect" / "server.db") as prefect:
        assert {state for (state,) in prefect.execute("select state_type from flow_run")} <= {"CRASHED", "COMPLETED"}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_chain_of_kills_at_every_place_ends_right(make: Callable[..., Any]) -> None:
    """Killed at every place in turn, the project ends with one champion, and nothing finished was repeated."""
    project, epochs = make(), ""
    for point in POINTS:
        epochs += project.killed(*point).words
        assert project.ledger().verify().valid
    last = project.run("--json")
    assert last.document["decision"]["candidate"]["version"] == 1
    assert all((epochs + last.words).count(f"epoch {n}/2") <= 1 for n in (1, 2))  # a kill may come before it is told
    project.hold()
    again = project.run("--json")
    assert "epoch" not in again.words
    project.hold()


@pytest.mark.slow
@pytest.mark.parametrize("point", [*STAGES, *SAGA], ids=lambda point: f"{point[0]}-{point[1]}")
def test_the_run_after_a_kill_ends_right(make: Callable[..., Any], point: tuple[str, str, int]) -> None:
    """Killed once, at this place, a fresh project is put right by the very next run."""
    project = make()
    project.killed(*point)
    assert project.ledger().verify().valid
    last = project.run("--json").document
    assert last["chain_valid"]
    assert last["decision"]["candidate"]["version"] == 1
    project.hold()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_three_random_kills_on_the_loans_end_right(make: Callable[..., Any], request: pytest.FixtureRequest) -> None:
    """Killed three times at moments nobody chose, the default profile ends with one champion."""
    seed = random.SystemRandom().randrange(10**6)
    request.node.add_report_section("call", "seed", str(seed))
    project, moments = make().alone(), random.Random(seed)
    for _ in range(3):
        process = project.start(project.command, "run")
        time.sleep(moments.uniform(10, 90))  # together they reach past the gate
        process.send_signal(signal.SIGKILL)
        process.communicate()
    decision = project.holdfast("run", "--json").document["decision"]
    assert decision["candidate"]["version"] == 1
    audit = project.holdfast("audit", "--json", expect=0).document
    assert audit["champion"] == 1
    assert audit["chain_valid"]
    assert audit["agrees"]
    assert audit["orphans"] == []
    assert project.no_process_left()


@pytest.mark.parametrize(("stroke", "word", "code"), [("INT", "interrupted", 130), ("TERM", "terminated", 143)])
def test_a_signal_while_the_server_starts_leaves_none_behind(
    make: Callable[..., Any], stroke: str, word: str, code: int
) -> None:
    """Ctrl-C or SIGTERM in the first seconds has its exit code and ends the server that was starting."""
    project = make().alone()
    process = project.start(project.command, "run", "--params", "profiles/tiny.yaml")
    pid = project.root / "prefect" / "server.pid"
    while not pid.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.Signals[f"SIG{stroke}"])
    assert word in project.ended(process, code).words
    assert project.no_process_left()
