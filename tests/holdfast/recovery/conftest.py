"""Ledgers to test on, in both dialects; an alias in a file; processes that can be killed."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
