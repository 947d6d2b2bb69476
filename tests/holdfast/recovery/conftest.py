"""Ledgers to test on, in both dialects; an alias in a file; processes that can be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PASSWORD = "open-sesame-41"  # noqa: S105  of a cluster that lives as long as the tests


class StepClock:
    """A clock that moves one second each time it is read."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment


class FileAlias:
    """An alias in a file, which outlives a killed process as a registry does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, model: str) -> int | None:
        return json.loads(self.path.read_text()).get(model) if self.path.exists() else None

    def write(self, model: str, version: int | None) -> None:
        aliases = json.loads(self.path.read_text()) if self.path.exists() else {}
        aliases[model] = version
        draft = self.path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(aliases))
        draft.replace(self.path)


class Fork:
    """A child process that runs one function and ends: 0 when it returned, 1 when it raised, -9 when it was killed."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


@pytest.fixture
def alias(tmp_path: Path) -> FileAlias:
    return FileAlias(tmp_path / "aliases.json")


@pytest.fixture
def fork() -> type[Fork]:
    return Fork


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """A private PostgreSQL on a free loopback port, as a URL without a database."""
    initdb = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if initdb is None:
        pytest.skip("PostgreSQL's initdb is not installed")
    binaries, folder, user = Path(initdb).parent, Path(tempfile.mkdtemp(prefix="holdfast-pg-")), []
    if os.geteuid() == 0:  # PostgreSQL refuses root
        try:
            shutil.chown(folder, "postgres", "postgres")
        except LookupError:
            pytest.skip("root cannot run PostgreSQL and there is no user postgres")
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*command: str) -> None:
        subprocess.run([*user, *command], check=True, cwd="/", stdout=subprocess.DEVNULL)

    data = str(folder / "data")
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    arguments = ["--no-locale", "-E", "UTF8", "-U", "holdfast", "--auth=scram-sha-256", f"--pwfile={secret}"]
    try:
        run(str(binaries / "initdb"), "-D", data, "--no-sync", *arguments)
        run(str(binaries / "pg_ctl"), "-D", data, "-o", settings, "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"postgresql+psycopg2://holdfast:{PASSWORD}@127.0.0.1:{port}"
        finally:
            run(str(binaries / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgres(cluster: str) -> str:
    """A fresh schema, which costs less than a database."""
    name = "t" + os.urandom(6).hex()
    with create_engine(f"{cluster}/postgres", poolclass=NullPool).begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    return f"{cluster}/postgres?options=-csearch_path%3D{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a ledger, in each dialect."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return str(request.getfixturevalue("postgres"))
