"""What every test shares: one thread each, for the commands they start too, and a private PostgreSQL for who asks."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

torch.set_num_threads(1)
PASSWORD = "open-sesame-41"  # noqa: S105  of a cluster that lives as long as the tests


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
