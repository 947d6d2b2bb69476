"""Services: Prefect server, worker, deployments and automations of one machine, brought up, told of, taken down."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flows.environment import (
    SERVER_START_SECONDS,
    close_abandoned,
    named_api,
    no_server,
    one_at_a_time,
    own_database,
    pointed_at,
    service_environment,
)
from flows.processes import (
    ServicesRecord,
    answers,
    end,
    free_port,
    post,
    read_services,
    services,
    services_file,
    spawn,
    standing_server,
    wait,
)
from holdfast.errors import StoreError
from holdfast.results import Reason, Value
from holdfast.stores import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.params import Params
    from holdfast.stores import Stores
    from tasks.doctor import Checkup

WORKER = "holdfast"
_PATIENCE = 60.0
"""Seconds that a worker may take to give a sign of life, and that services may take over their own end."""


class Up(Value):
    """What ``holdfast up --json`` prints."""

    url: str
    """Page of the Prefect server; its API is below ``/api``."""
    server: int
    """Process id of the server."""
    worker: int
    """Process id of the worker."""
    deployments: tuple[str, ...]
    """What runs by itself, and when."""
    logs: tuple[str, ...]
    """Paths of the logs of server and worker."""


def up(params: Params, stores: Stores, overlays: list[str], assignments: list[str], webhook: str | None) -> Up:
    """Start what does not run yet, and tell the server of deployments and automations; done again, nothing changes.

    Args:
        params: what the overlays and assignments come to.
        stores: whose services.
        overlays: of params, as runs will read them.
        assignments: as of ``--set``, as above.
        webhook: URL that notifications are sent to, if any.

    Raises:
        StoreError: the environment names another server, another command holds the stores, or a service does not
            start; where nothing ran before, nothing is left running.
    """
    if named_api() is not None:
        raise StoreError(
            "PREFECT_API_URL", found="set: another server records the runs", expected="unset",
            remedy="Unset it, or run `holdfast deploy` and a worker of that server.",
        )  # fmt: skip
    home = stores.root / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(stores, lock="up.lock"):
        begun = bool(services(stores.root))
        try:
            record = _server(stores, home)
            with pointed_at(record.url):
                from flows.deployments import deploy, deployments  # noqa: PLC0415  Prefect reads its settings at import

                told = tuple(each.told(params.name) for each in deployments(params))
                deploy(params, stores.project, overlays, assignments, webhook)
            worker = _worker(stores, home, record)
        except BaseException:
            if not begun:  # what ran before is left as it is
                _take_down(stores)
            raise
    logs = (str(home / "server.log"), str(home / "worker.log"))
    return Up(url=record.url.removesuffix("/api"), server=record.server, worker=worker, deployments=told, logs=logs)


def down(stores: Stores) -> tuple[int, ...]:
    """End what `up` started, and what that started: the worker and its runs first, then the server.

    Raises:
        StoreError: a process does not end.
    """
    with one_at_a_time(stores, lock="up.lock"):
        return _take_down(stores)


def _take_down(stores: Stores) -> tuple[int, ...]:
    begun = services(stores.root)
    try:
        record = read_services(stores)
    except StoreError:  # then all are ended at once
        record = None
    server = frozenset() if record is None else _group(stores, record.server)
    end(lambda: services(stores.root) - server, _PATIENCE)
    if not end(lambda: services(stores.root), _PATIENCE):
        raise StoreError(
            str(stores.root), found=f"processes that do not end: {sorted(services(stores.root))}",
            expected="none left", remedy="End them by hand.",
        )  # fmt: skip
    services_file(stores).unlink(missing_ok=True)
    return tuple(sorted(begun))


def check_up(params: Params, stores: Stores) -> Checkup:
    """Have the doctor look at everything, and at these services."""
    from tasks.doctor import Checkup, examine  # noqa: PLC0415  seconds of imports, that no other service needs

    found = examine(params, stores, named_api() or standing_server(stores))
    return Checkup(checks=(*found.checks, standing(stores)))


def standing(stores: Stores) -> Reason:
    """Say for the doctor whether server and worker run and answer."""
    record = read_services(stores)
    if record is None:
        return Reason(about="services", passed=True, text="not up: `holdfast up` runs schedules and automations")
    alive = services(stores.root)
    faults = [
        *(
            []
            if record.server in alive and answers(record.url)
            else [f"no answer from the server, pid {record.server}"]
        ),
        *([] if record.worker in alive else [f"no worker, pid {record.worker}"]),
    ]
    if faults:
        text = f"{'; '.join(faults)}: `holdfast up` starts again what is missing, `holdfast down` ends the rest"
        return Reason(about="services", passed=False, text=text)
    text = f"up: {record.url.removesuffix('/api')}, server pid {record.server}, worker pid {record.worker}"
    return Reason(about="services", passed=True, text=text)


def _server(stores: Stores, home: Path) -> ServicesRecord:
    """Give the server that runs and answers, or start one: on the port it had, which the worker knows."""
    record, alive = read_services(stores), services(stores.root)
    if record is not None and record.server in alive and answers(record.url):
        return record
    if record is not None:
        end(lambda: _group(stores, record.server), 10.0)
    port = free_port(None if record is None else urlsplit(record.url).port)
    url = f"http://127.0.0.1:{port}/api"
    alone = not services(stores.root)  # else a run of the worker that is left may hold the lock, and is not abandoned
    with one_at_a_time(stores) if alone else nullcontext():
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        pid = spawn(command, home / "server.log", service_environment(stores, url)).pid
        fresh = ServicesRecord(url=url, server=pid, worker=None if record is None else record.worker)
        write_atomically(services_file(stores), fresh.model_dump_json())
        wait(lambda: answers(url) or pid not in services(stores.root), SERVER_START_SECONDS)
        if not answers(url) or pid not in services(stores.root):
            raise no_server(home)
        if alone and own_database():
            close_abandoned(url)
    return fresh


def _worker(stores: Stores, home: Path, record: ServicesRecord) -> int:
    """Give the worker that runs and reports, or start one, and wait for its sign of life."""
    since = datetime.now(UTC)
    pid = record.worker
    if pid is None or pid not in services(stores.root):
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", WORKER, "--type", "process",
                   "--name", WORKER, "--install-policy", "never"]  # fmt: skip
        pid = spawn(command, home / "worker.log", service_environment(stores, record.url), stores.project).pid
        fresh = record.model_copy(update={"worker": pid})
        write_atomically(services_file(stores), fresh.model_dump_json())
    worker = pid
    wait(lambda: _reports(record.url, since) or worker not in services(stores.root), _PATIENCE)
    if worker not in services(stores.root) or not _reports(record.url, since):
        raise StoreError(
            f"worker (pid {worker})", found="no sign of life", expected="one that asks the server for work",
            remedy=f"Read {home / 'worker.log'}; `holdfast down` ends it.",
        )  # fmt: skip
    return worker


def _reports(url: str, since: datetime) -> bool:
    """Tell whether the worker was heard of since a moment."""
    try:
        known = post(f"{url}/work_pools/{WORKER}/workers/filter", {})
    except (OSError, ValueError):
        return False
    heard = [datetime.fromisoformat(each["last_heartbeat_time"]) for each in known if each["name"] == WORKER]
    return any(moment >= since for moment in heard)


def _group(stores: Stores, leader: int) -> frozenset[int]:
    """List those services that share a process group, such as a server and its own child."""
    return frozenset(pid for pid in services(stores.root) if _leader(pid) == leader)


def _leader(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
