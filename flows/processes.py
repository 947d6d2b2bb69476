"""Processes that outlive the command which started them: marked as ours, found again, ended by pid; and their API."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from holdfast.errors import StoreError
from holdfast.results import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from holdfast.stores import Stores

MARK = "HOLDFAST_SERVICES"
"""Variable by which a process, and whatever it starts, is known for a service of the stores whose root it names."""


def spawn(
    command: list[str], log: Path, environment: Mapping[str, str], folder: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, which no terminal's signal reaches; it outlives this one."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        return subprocess.Popen(  # noqa: S603  our own interpreter
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=dict(environment), cwd=folder,
            start_new_session=True,
        )  # fmt: skip


def services(root: Path) -> frozenset[int]:
    """List the live processes that are marked as services of these stores, and what those started."""
    found, wanted = set(), f"{MARK}={root}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's, or gone meanwhile
            if wanted in (entry / "environ").read_bytes().split(b"\0") and not _ended(entry):
                found.add(int(entry.name))
    return frozenset(found)


def _ended(entry: Path) -> bool:
    """Tell a process that only waits for its parent to read how it ended."""
    return (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"


def end(pids: Callable[[], Collection[int]], patience: float) -> bool:
    """End processes: SIGTERM, what is left after some seconds SIGKILL; tell whether none is left.

    Args:
        pids: lists those that are still there.
        patience: seconds that they may take over their own end.
    """
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        for pid in pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if wait(lambda: not pids(), seconds):
            return True
    return False


def wait(until: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is so, at most some seconds; tell whether it came to be."""
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def free_port(wanted: int | None = None) -> int:
    """Find a free port on loopback: the wanted one where it is free."""
    for port in (*([] if wanted is None else [wanted]), 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise AssertionError("unreachable: the system gives port 0 a free one")


def answers(url: str) -> bool:
    """Tell whether a Prefect API is in health."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as response:  # noqa: S310  loopback, or what the user named
            return bool(response.status == 200)  # noqa: PLR2004  HTTP
    except (OSError, urllib.error.URLError, ValueError):
        return False


def post(url: str, body: dict[str, Any]) -> Any:  # noqa: ANN401  any JSON
    """Ask an API by POST, and give its answer.

    Raises:
        OSError: it does not answer, or refuses.
        ValueError: the answer is no JSON.
    """
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)  # noqa: S310  loopback
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310  loopback
        return json.load(response)


class ServicesRecord(Value):
    """What `holdfast up` left running: pids are believed only of processes that bear its mark."""

    url: str
    """API of the Prefect server."""
    server: int
    worker: int | None = None


def services_file(stores: Stores) -> Path:
    """Name the file that says what `holdfast up` left running."""
    return stores.root / "prefect" / "up.json"


def read_services(stores: Stores) -> ServicesRecord | None:
    """Read what `holdfast up` left running; None where it never was up, or is down.

    Raises:
        StoreError: the record cannot be read.
    """
    path = services_file(stores)
    try:
        return ServicesRecord.model_validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StoreError(
            str(path), found="a record that cannot be read", expected="what `holdfast up` wrote",
            remedy="Run `holdfast down`: it ends what bears the mark of these stores, and removes the record.",
        ) from error  # fmt: skip


def standing_server(stores: Stores) -> str | None:
    """Find the server that `holdfast up` started on these stores; None where none of its processes lives.

    Raises:
        StoreError: it lives and does not answer.
    """
    record = read_services(stores)
    if record is None or record.server not in services(stores.root):
        return None
    if not answers(record.url):
        raise StoreError(
            f"the Prefect server of `holdfast up` (pid {record.server})", found="no answer", expected="one in health",
            remedy=f"Read {stores.root / 'prefect' / 'server.log'}; `holdfast up` starts it again.",
        )  # fmt: skip
    return record.url
