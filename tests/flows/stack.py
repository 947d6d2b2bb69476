"""The services of ``infra/compose.yaml`` without containers: their own commands, environments and health checks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

COMPOSE = Path(__file__).parents[2] / "infra" / "compose.yaml"
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
