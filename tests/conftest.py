"""What every test shares: one thread each, for the commands they start too, and a private PostgreSQL for who asks."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

torch.set_num_threads(1)
PASSWORD = "open-sesame-41"  # noqa: S105  of a cluster that lives as long as the tests


class Postgres:
    """A private PostgreSQL on a free loopback port, that can be killed and started again."""

    def __init__(self, folder: Path, binaries: Path, user: list[str]) -> None:
        self.folder, self._binaries, self._user = folder, binaries, user
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql+psycopg2://holdfast:{PASSWORD}@127.0.0.1:{self.port}"

    def make(self) -> None:
        """Make its files."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run("initdb", "--no-sync", "--no-locale", "-E", "UTF8", "-U", "holdfast", "--auth=scram-sha-256",
                  f"--pwfile={secret}")  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "-o", settings, "-l", str(self.folder / "log"), "-w", "start")

    def stop(self) -> None:
        """Stop it at once."""
        self._run("pg_ctl", "-m", "immediate", "-w", "stop")

    def kill(self) -> None:
        """Kill its first process with SIGKILL, and wait until those it began have noticed."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        group = [int(each.name) for each in Path("/proc").glob("[0-9]*") if _parent(each) == pid]
        os.kill(pid, signal.SIGKILL)
        for _ in range(600):
            if not any(Path(f"/proc/{each}").exists() for each in (pid, *group)):
                return
            time.sleep(0.1)
        pytest.fail("PostgreSQL's own processes did not end after their first one was killed")

    def _run(self, name: str, *arguments: str) -> None:
        command = [*self._user, str(self._binaries / name), "-D", str(self.folder / "data"), *arguments]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)


def _parent(proc: Path) -> int:
    try:
        return int((proc / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.fixture(scope="session")
def own_postgres() -> Iterator[Postgres]:
    """A private PostgreSQL, started."""
    initdb = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if initdb is None:
        pytest.skip("PostgreSQL's initdb is not installed")
    folder, user = Path(tempfile.mkdtemp(prefix="holdfast-pg-")), []
    try:
        if os.geteuid() == 0:  # PostgreSQL refuses root
            try:
                shutil.chown(folder, "postgres", "postgres")
            except LookupError:
                pytest.skip("root cannot run PostgreSQL and there is no user postgres")
            user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        server = Postgres(folder, Path(initdb).parent, user)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cluster(own_postgres: Postgres) -> str:
    """The URL of a private PostgreSQL, without a database."""
    return own_postgres.url
