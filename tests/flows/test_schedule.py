"""On schedule and on event: a drifting stream on real servers, retrained because an automation heard of it."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import urllib.error
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, make_url, text

from flows.processes import free_port, wait
from holdfast.recovery.ledger import Ledger
from holdfast.stores import WallClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
REPOSITORY = Path(__file__).parents[2]
LONG = 900.0  # seconds for what takes a minute or two on a quiet machine
RECOVER = "holdfast: recover tiny"
PARAMS = ("--params", "infra/stores.yaml", "--params", "profiles/tiny.yaml", "--params", "profiles/watched.yaml")
WATCHED = """
metric: accuracy
training: {settings: {balance_classes: false}}
monitoring:
  stream: {replace: true, source: parquet_folder, settings: {path: feed, label: charged_off}}
  detectors: {replace: true, harm: {}}
  budget: 0.05
  replays: 200
recovery: {policy: {least_windows: 1}}
schedule: {monitoring: "* * * * *", notify: "env:HOLDFAST_WEBHOOK"}
"""


class Told(BaseHTTPRequestHandler):
    """Somebody who is told by a webhook."""

    def do_POST(self) -> None:
        self.server.told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing of each call."""


@pytest.fixture
def somebody() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Told)
    server.told = []
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class World:
    """The stack with a project on it, and what its servers answer."""

    def __init__(self, project: Any, stack: Any, ports: dict[str, int]) -> None:
        self.project, self.stack = project, stack
        self.prefect, self.mlflow = (f"http://127.0.0.1:{ports[name]}" for name in ("prefect", "mlflow"))
        self.secrets = stack.environment("worker")

    def ask(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """Ask the Prefect server."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.prefect}/api{path}", data=data, headers=headers, method=method)  # noqa: S310  loopback
        with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310  loopback
            return json.loads(response.read() or "null")

    def holdfast(self, command: str, *arguments: str) -> Any:
        """Run a command with the worker's environment."""
        return self.project.holdfast(command, *PARAMS, *arguments, **self.secrets)

    def ledger(self) -> Ledger:
        return Ledger(self.secrets["LEDGER_URL"], WallClock())

    def entries(self, *kinds: str) -> list[Any]:
        with self.ledger().reading() as view:
            return list(view.entries(kinds=kinds))

    def decided(self, action: str) -> list[Any]:
        return [entry for entry in self.entries("decision") if entry.body["action"] == action]

    def responded(self) -> list[Any]:
        return [entry for entry in self.entries("run") if entry.body.get("about") == "response"]

    def events(self, name: str) -> int:
        return len(self.ask("/events/filter", {"filter": {"event": {"name": [name]}}})["events"])

    def runs(self, flow: str, *states: str) -> list[Any]:
        body: dict[str, Any] = {"flows": {"name": {"any_": [flow]}}}
        if states:
            body["flow_runs"] = {"state": {"type": {"any_": list(states)}}}
        return self.ask("/flow_runs/filter", body)

    def automations(self, name: str) -> list[Any]:
        return self.ask("/automations/filter", {"automations": {"name": {"any_": [name]}}})

    def until(self, so: Callable[[], Any], what: str) -> Any:
        """Poll until something is so, and give it; no service may end meanwhile."""
        found: list[Any] = []
        dead = lambda: [name for name, each in self.stack.running.items() if each.poll() is not None]  # noqa: E731
        wait(lambda: bool(found.append(so()) or found[-1] or dead()), LONG)
        log = (self.stack.logs / "worker.log").read_text()[-3000:]
        assert found[-1], f"not after {LONG} s: {what}; ended: {dead()}\n{log}"
        return found[-1]


@pytest.fixture
def world(drifting: Any, cluster: str, somebody: Any, tmp_path: Path) -> Iterator[World]:
    """PostgreSQL, Prefect server and MLflow server as ``infra/`` has them, and a project whose world moved."""
    bare = drifting
    database, ports = make_url(cluster), {name: free_port() for name in ("prefect", "mlflow", "worker")}
    shutil.copytree(REPOSITORY / "infra", bare.folder / "infra")
    (bare.folder / "profiles" / "watched.yaml").write_text(WATCHED)
    engine = create_engine(f"{cluster}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in (REPOSITORY / "infra" / "databases.sql").read_text().split(";"):
            if statement.strip():
                connection.execute(text(statement))
    engine.dispose()
    settings = {
        "POSTGRES_PASSWORD": str(database.password), "HOLDFAST_WEBHOOK": f"http://127.0.0.1:{somebody.server_port}",
        "HOLDFAST_PARAMS": "--params profiles/tiny.yaml --params profiles/watched.yaml",
    }  # fmt: skip
    moved = {
        "postgres:5432": f"127.0.0.1:{database.port}", "prefect:4200": f"127.0.0.1:{ports['prefect']}",
        "mlflow:5000": f"127.0.0.1:{ports['mlflow']}", "4200": str(ports["prefect"]), "5000": str(ports["mlflow"]),
        "8080": str(ports["worker"]), "0.0.0.0": "127.0.0.1",  # noqa: S104  what a container binds
        "/artifacts": str(bare.folder / "artifacts"), "/project": str(bare.folder),
        "/tmp": str(bare.folder / "home"),  # noqa: S108  a container's
    }  # fmt: skip
    (bare.folder / "home").mkdir()
    stack = runpy.run_path(str(Path(__file__).with_name("stack.py")))["Stack"](settings, moved, bare.folder, tmp_path)
    try:
        for name in ("prefect", "mlflow"):
            stack.start(name)
        for name in ("prefect", "mlflow"):
            stack.wait(name, LONG)
        yield World(bare, stack, ports)
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for each in (*stack.running.values(), *stack.running.values()):
                with suppress(ProcessLookupError):
                    os.killpg(each.pid, number)
            for told in bare.processes():
                with suppress(ProcessLookupError):
                    os.kill(int(told.split()[0]), number)
            wait(lambda: not bare.processes(), 60)
        for each in stack.running.values():
            each.wait(30)
        assert not bare.processes()


def test_an_event_starts_the_retraining_that_the_schedule_found_due(world: World, somebody: Any) -> None:
    """Without its automation a retraining stays decided and undone, watch after watch; with it, it is done once."""
    world.holdfast("run")
    world.stack.start("worker")
    (automation,) = world.until(lambda: world.automations(RECOVER), "automations made")
    world.ask(f"/automations/{automation['id']}", method="DELETE")
    world.stack.wait("worker", LONG)
    (due,) = world.until(lambda: world.decided("retrain"), "harm found by the scheduled watch")
    world.until(lambda: world.events("holdfast.retrain") > 1, "a later watch that told of it again")
    assert world.automations(RECOVER) == world.runs("recover") == world.responded() == []
    assert world.decided("retrain") == [due]
    assert world.ledger().head("tiny").version == 1
    world.holdfast("deploy")
    (done,) = world.until(world.responded, "the retraining")
    assert (done.body["position"], done.body["action"], done.body["champion"]) == (due.body["position"], "retrain", 2)
    position = 2  # the last window of the feed
    world.until(lambda: world.entries("decision")[-1].body["position"] == position, "the end of the feed watched")
    world.until(lambda: not world.runs("recover", "SCHEDULED", "PENDING", "RUNNING"), "all that was started ended")
    _hold(world, somebody)
    _nightly(world, ["probes/quality: 0.99"], "COMPLETED")
    (alert,) = [entry for entry in world.decided("alert") if entry.body["position"] is None]
    assert "does not meet the floors either: nothing was demoted" in alert.body["reasons"][-1]["text"]
    assert world.ledger().head("tiny").version == 2


def _hold(world: World, somebody: Any) -> None:
    """Hold what must be so after one retraining: one candidate, one champion, no window twice, no secret told."""
    assert [entry.version for entry in world.entries("registered")] == [1, 2]
    assert len(world.runs("retraining")) == 1
    assert {run["state_type"] for run in world.runs("recover")} == {"COMPLETED"}
    places = [entry.body["position"] for entry in world.entries("decision") if entry.body["position"] is not None]
    assert places == sorted(set(places))
    head = world.ledger().head("tiny")
    assert world.ledger().verify().valid
    from mlflow import MlflowClient  # noqa: PLC0415  beside its one use

    alias = MlflowClient(world.mlflow, registry_uri=world.mlflow).get_model_version_by_alias("tiny", "champion")
    assert (int(alias.version), alias.tags["holdfast.digest"]) == (head.version, head.digest)
    world.until(lambda: any("holdfast.retrain" in each for each in somebody.told), "somebody told")
    password = make_url(world.secrets["LEDGER_URL"]).password
    told = [world.ask(f"/{kind}/filter", {}) for kind in ("deployments", "flow_runs", "automations")]
    logs = [path.read_text() for path in world.stack.logs.glob("*.log")]
    assert not [each for each in (json.dumps(told), *somebody.told, *logs) if password in each]
    assert world.secrets["HOLDFAST_WEBHOOK"] not in json.dumps(told)
    for host, code in ((f"mlflow:{world.mlflow.rpartition(':')[2]}", 200), ("elsewhere", 403)):
        request = urllib.request.Request(f"{world.mlflow}/", headers={"Host": host})  # noqa: S310  loopback
        try:
            with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310  loopback
                found = response.status
        except urllib.error.HTTPError as error:
            found = error.code
        assert found == code


def _nightly(world: World, floors: list[str], state: str) -> None:
    """Run the nightly evaluation now, with other floors."""
    deployment = world.ask("/deployments/name/nightly/tiny", method="GET")
    asked = deployment["parameters"] | {"assignments": [f"recovery.gates.floors={{{', '.join(floors)}}}"]}
    run = world.ask(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": asked})
    ended = ("COMPLETED", "FAILED", "CRASHED")
    found = world.until(
        lambda: (one := world.ask(f"/flow_runs/{run['id']}", method="GET"))["state_type"] in ended and one, "nightly"
    )
    assert found["state_type"] == state, found["state"]["message"]
