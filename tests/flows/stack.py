"""The services of ``infra/compose.yaml`` without containers, by their own commands and health checks; a project on them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flows.processes import wait
from holdfast.recovery.ledger import Ledger
from holdfast.stores import WallClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

COMPOSE = Path(__file__).parents[2] / "infra" / "compose.yaml"
LONG = 900.0  # seconds for what takes a minute or two on a quiet machine
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
_VARIABLE = re.compile(r"\$\{(\w+)(?::(-|\?)([^}]*))?\}")


def compose(settings: Mapping[str, str]) -> dict[str, Any]:
    """Read the file as compose would, with these settings for its variables.

    Raises:
        KeyError: a variable that must be set is not.
    """

    def given(match: re.Match[str]) -> str:
        name, kind, text = match.groups()
        if settings.get(name):
            return settings[name]
        if kind == "-":
            return text
        raise KeyError(name)

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(value) for key, value in node.items()}
        if isinstance(node, list):
            return [filled(value) for value in node]
        return _VARIABLE.sub(given, node).replace("$$", "$") if isinstance(node, str) else node

    return filled(yaml.safe_load(COMPOSE.read_text()))


class Stack:
    """Services that are started as compose would start them, on loopback and on ports of their own."""

    def __init__(self, settings: Mapping[str, str], moved: Mapping[str, str], folder: Path, logs: Path) -> None:
        self.services = compose(settings)["services"]
        self.moved, self.folder, self.logs = moved, folder, logs
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def here(self, text: str, *, hosts: bool = False) -> str:
        """Put the ports and folders of this machine for those of the containers, and their hosts' names where asked."""
        known = {there: here for there, here in self.moved.items() if hosts or ":" not in there}
        places = "|".join(map(re.escape, known))  # in one pass: what was put in is not to be found again
        return re.sub(rf"(?<![\w.])({places})(?![\w.])", lambda match: known[match[1]], text)

    def environment(self, name: str) -> dict[str, str]:
        own = {key: self.here(str(value), hosts=True) for key, value in self.services[name]["environment"].items()}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {key: os.environ[key] for key in ("PYTHONPATH", "LANG") if key in os.environ}
        return {**kept, "PATH": path, "OMP_NUM_THREADS": "1", **own}

    def start(self, name: str) -> None:
        """Start a service by its own command, in a session of its own."""
        command = [self.here(str(part)) for part in self.services[name]["command"]]
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command, cwd=self.folder, env=self.environment(name), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def wait(self, name: str, seconds: float) -> None:
        """Wait until a service's own health check passes."""
        _, *check = [self.here(str(part)) for part in self.services[name]["healthcheck"]["test"]]
        deadline = time.monotonic() + seconds
        while subprocess.run(check, env=self.environment(name), capture_output=True, check=False).returncode:
            ended = self.running[name].poll()
            log = (self.logs / f"{name}.log").read_text()[-3000:]
            assert ended is None, f"{name} ended with {ended}\n{log}"
            assert time.monotonic() < deadline, f"{name} is not in health after {seconds} s\n{log}"
            time.sleep(1)


class Told(BaseHTTPRequestHandler):
    """Somebody who is told by a webhook."""

    def do_POST(self) -> None:
        self.server.told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing of each call."""


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
