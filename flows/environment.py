"""The one place where the environment is read: stores, the Prefect API, switches."""

from __future__ import annotations

import fcntl
import importlib
import os
import pwd
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from flows.processes import MARK, answers, free_port, post, standing_server, wait
from holdfast.errors import ParamsError, StoreError
from holdfast.stores import Stores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.params import Params

_QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # At the end of each run MLflow would print its URL, password and all, into the command's one document.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_PATIENT = {
    # An unreachable tracking server is a clear error within seconds, not after MLflow's seven minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # Prefect's record keeps every log line; the terminal shows ours, and one message when something is refused.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
_DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
_MEANWHILE = (
    "flows.lifecycle", "mlflow.store.tracking.sqlalchemy_store", "matplotlib.backends.backend_svg", "matplotlib.figure",
)  # fmt: skip
"""What a run imports sooner or later: seconds that cost nothing while its server boots."""
SERVER_START_SECONDS = 120
"""Seconds that a local Prefect server may take to answer."""


def prepare(stores: Stores) -> None:
    """Set what libraries read at import: no telemetry, quiet logs, Prefect's home inside the store."""
    for name, value in _QUIET.items():
        os.environ[name] = value
    for name, value in _PATIENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_HOME", str(stores.root / "prefect"))


def open_stores(params: Params, project: Path, *, writing: bool = True) -> Stores:
    """Resolve the stores that params name; ``env:NAME`` reads the environment, here and nowhere below.

    Args:
        params: what names them.
        project: the working copy.
        writing: make the folder of local state, and hold that it can be written.

    Raises:
        ParamsError: a named variable is not set.
        StoreError: the folder of local state cannot be made or written.
    """
    root = project / params.stores.root
    if writing:
        _require_writable(root)
    tracking, ledger, stream = (
        _resolve(f"stores.{n}", getattr(params.stores, n), project) for n in ("tracking", "ledger", "stream")
    )
    return Stores.local(project, root, tracking, ledger, stream=stream, actor=acting())


def acting() -> str:
    """Name who acts, for the record: the account of this process, which no environment variable can forge."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a container may run as a user that nobody named
        return f"uid:{number}"


def _require_writable(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / ".writable"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise StoreError(
            str(root), found=error.strerror or type(error).__name__, expected="a folder that this user may write",
            remedy="Mend its permissions, free space, or set stores.root; `holdfast doctor` says which.",
        ) from error  # fmt: skip


def in_a_sandbox(module: str, *arguments: str) -> None:
    """Run a module in a process of its own, with a Prefect server and a home of its own; its words are shown.

    Raises:
        StoreError: it did not end well.
    """
    ours = {"PREFECT_API_URL", "PREFECT_HOME", _DATABASE}  # what would record rehearsals among production's runs
    environment = {k: v for k, v in os.environ.items() if k not in ours}
    process = subprocess.Popen(  # noqa: S603  our own interpreter
        [sys.executable, "-m", module, *arguments], stdin=subprocess.DEVNULL, stdout=sys.stderr, env=environment
    )
    try:
        code = process.wait()
    except BaseException:  # an interrupt ends it too
        process.terminate()
        process.wait()
        raise
    if code != 0:
        raise StoreError(
            f"{module} {' '.join(arguments)}", found=f"exit code {code}", expected="0",
            remedy="Mend what its words above name; what it finished is kept, and the same command goes on from there.",
        )  # fmt: skip


def named_api() -> str | None:
    """Give the Prefect API that the environment names; None where a command starts a server of its own."""
    return os.environ.get("PREFECT_API_URL") or None


def webhook(params: Params) -> str | None:
    """Give the URL that notifications are sent to; None where nobody is told, or a block of the server tells them.

    Raises:
        ParamsError: the named variable is not set.
    """
    named = params.schedule.notify
    return _resolve("schedule.notify", named, Path()) if named and named.startswith("env:") else None


def _resolve(place: str, value: str | None, project: Path) -> str | None:
    if value is None or not value.startswith("env:"):
        if value and value.startswith("sqlite:///") and not value.startswith("sqlite:////"):
            return f"sqlite:///{project / value.removeprefix('sqlite:///')}"
        return value
    name = value.removeprefix("env:")
    if name not in os.environ:
        raise ParamsError(
            place, found=f"environment variable {name} is not set", expected="its value", remedy=f"Export {name}."
        )
    return os.environ[name]


@contextmanager
def one_at_a_time(stores: Stores, *, patience: float = 0.0, lock: str = "run.lock") -> Iterator[None]:
    """Hold the run lock of these stores; the kernel drops it with the process, however that ends.

    Args:
        stores: whose.
        patience: seconds to wait for another run to end.
        lock: file that is held, for what must be alone and is no run.

    Raises:
        StoreError: another run holds it.
    """
    path = stores.root / lock
    with path.open("a+") as stream:
        try:
            _lock(stream, patience)
        except OSError as error:
            stream.seek(0)
            raise StoreError(
                str(path), found=f"a run under way (pid {stream.read().strip() or 'unknown'})",
                expected="one run at a time on one folder of state",
                remedy="Wait for it, or stop it: what it finished is kept.",
            ) from error  # fmt: skip
        stream.seek(0)
        stream.truncate()
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def _lock(stream: IO[str], patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.5)
        else:
            return


@contextmanager
def prefect_server(stores: Stores) -> Iterator[str]:
    """Give the API that records runs: what ``PREFECT_API_URL`` names, what `holdfast up` started, else one of our own.

    Raises:
        StoreError: the named server does not answer, or ours does not start.
    """
    if url := named_api():
        if not answers(url):
            raise StoreError(
                "PREFECT_API_URL", found="no answer", expected="a Prefect server in health",
                remedy="Start it, or unset PREFECT_API_URL to use a local one.",
            )  # fmt: skip
        yield url
        return
    if url := standing_server(stores):
        with pointed_at(url):
            yield url
        return
    end_orphan(stores)
    server, url = _start_server(stores)
    try:
        close_abandoned(url)
        yield url
    finally:
        try:
            _flush()
        finally:  # a signal that comes while records are sent leaves no server behind
            del os.environ["PREFECT_API_URL"]
            _end(server)
            _pid_file(stores).unlink(missing_ok=True)


@contextmanager
def pointed_at(url: str) -> Iterator[None]:
    """Let Prefect record at an API from here on, and send it what is still held before it is left."""
    os.environ["PREFECT_API_URL"] = url  # Prefect reads it when it is imported
    try:
        yield
    finally:
        try:
            _flush()
        finally:
            del os.environ["PREFECT_API_URL"]


def own_database() -> bool:
    """Tell whether a server of `holdfast up` keeps its records below the stores, and not where others keep some."""
    return not os.environ.get(_DATABASE)


def service_environment(stores: Stores, url: str) -> dict[str, str]:
    """Give the environment of a long-lived service: this one's, secrets and all, and what keeps its state in place."""
    home = stores.root / "prefect"
    return os.environ | {
        MARK: str(stores.root),
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_UI_API_URL": url,
        "PREFECT_UI_STATIC_DIRECTORY": str(home / "ui"),
        _DATABASE: os.environ.get(_DATABASE) or f"sqlite+aiosqlite:///{home / 'server.db'}",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "holdfast",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_WORKER_QUERY_SECONDS": "5",
        "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
        "PYTHONUNBUFFERED": "1",
    }


def _flush() -> None:
    """Send what Prefect still holds for the server, before it ends."""
    from prefect.events.worker import EventsWorker  # noqa: PLC0415  only where flows ran
    from prefect.logging.handlers import APILogWorker  # noqa: PLC0415

    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)


def _pid_file(stores: Stores) -> Path:
    return stores.root / "prefect" / "server.pid"


def _start_server(stores: Stores) -> tuple[subprocess.Popen[bytes], str]:
    home = stores.root / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_UI_API_URL": url,
        _DATABASE: f"sqlite+aiosqlite:///{home / 'server.db'}",
        "PREFECT_SERVER_UI_ENABLED": "false",
    }
    with (home / "server.log").open("ab") as log:
        server = subprocess.Popen(  # noqa: S603  our own interpreter
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
        )  # fmt: skip
    _pid_file(stores).write_text(str(server.pid))
    os.environ["PREFECT_API_URL"] = url  # Prefect reads it when it is imported
    try:
        for module in _MEANWHILE:
            importlib.import_module(module)
        _wait_for(server, url, home)
    except BaseException:  # an interrupt leaves no server behind either
        del os.environ["PREFECT_API_URL"]
        _end(server)
        raise
    return server, url


def _wait_for(server: subprocess.Popen[bytes], url: str, home: Path) -> None:
    wait(lambda: answers(url) or server.poll() is not None, SERVER_START_SECONDS)
    if not answers(url):
        raise no_server(home)


def no_server(home: Path) -> StoreError:
    """Say that a local server did not start."""
    return StoreError(
        "local Prefect server", found="no answer to /health", expected="a server on loopback",
        remedy=f"Read {home / 'server.log'}; `holdfast doctor` checks versions and disk.",
    )  # fmt: skip


def close_abandoned(url: str) -> None:
    """Record as crashed what a kill cut off: the run lock and the server are ours, so nothing can be under way.

    Raises:
        StoreError: the server does not take it.
    """
    unfinished = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}}
    crashed = {"state": {"type": "CRASHED", "message": "The process was killed."}, "force": True}
    try:
        for run in post(f"{url}/flow_runs/filter", unfinished):
            post(f"{url}/flow_runs/{run['id']}/set_state", crashed)
    except (OSError, ValueError) as error:
        raise StoreError(
            "local Prefect server", found=str(error), expected="its records to be read and written",
            remedy="Read prefect/server.log in the folder of state; `holdfast doctor` checks versions and disk.",
        ) from error  # fmt: skip


def _end(server: subprocess.Popen[bytes]) -> None:
    """End a server and its children, which share its process group."""
    for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        try:
            os.killpg(server.pid, number)
            server.wait(timeout=patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        else:
            return


def end_orphan(stores: Stores) -> None:
    """End the server of a run that was killed; only a process that is a Prefect server of these stores is touched."""
    try:
        pid = int(_pid_file(stores).read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        home = Path(f"/proc/{pid}/environ").read_bytes()
    except (OSError, ValueError):
        return
    if b"prefect" in command and str(stores.root / "prefect").encode() in home:
        os.killpg(pid, signal.SIGTERM)
        for _ in range(100):
            if not Path(f"/proc/{pid}").exists():
                break
            time.sleep(0.1)
    _pid_file(stores).unlink(missing_ok=True)
