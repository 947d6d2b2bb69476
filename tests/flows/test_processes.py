"""Processes that outlive a command: only those that bear the mark of the stores are found, told of and ended."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from flows.environment import one_at_a_time
from flows.processes import (
    MARK,
    ServicesRecord,
    end,
    read_services,
    services,
    services_file,
    spawn,
    standing_server,
    wait,
)
from flows.services import down, standing
from holdfast.errors import StoreError
from holdfast.stores import Stores

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

BEGUN: list[subprocess.Popen[bytes]] = []
SLEEP = "import time; time.sleep(600)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}], start_new_session=True)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEP}"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], Stores]]:
    """Stores whose services are ended after the test, whatever it came to."""
    made: list[Stores] = []

    def stores(name: str) -> Stores:
        made.append(Stores.local(tmp_path, tmp_path / name))
        (made[-1].root / "prefect").mkdir(parents=True)
        return made[-1]

    yield stores
    for each in made:
        assert end(lambda each=each: services(each.root), 0.1)
    while BEGUN:
        BEGUN.pop().wait()


def begin(stores: Stores, code: str) -> int:
    command = [sys.executable, "-c", code]
    BEGUN.append(spawn(command, stores.root / "log", os.environ | {MARK: str(stores.root)}))
    return BEGUN[-1].pid


def record(stores: Stores, server: int, worker: int | None = None) -> None:
    known = ServicesRecord(url="http://127.0.0.1:9/api", server=server, worker=worker)
    services_file(stores).write_text(known.model_dump_json())


def test_down_ends_what_bears_the_mark_and_nothing_else(make: Callable[[str], Stores]) -> None:
    """A service and what it started in a session of its own end; a neighbour's service lives on."""
    stores, neighbour = make("state"), make("state2")
    other, first = begin(neighbour, SLEEP), begin(stores, PARENT)
    assert wait(lambda: len(services(stores.root)) == 2, 60)
    record(stores, server=first)
    begun = services(stores.root)
    assert down(stores) == tuple(sorted(begun))
    assert services(stores.root) == frozenset()
    assert read_services(stores) is None
    assert services(neighbour.root) == {other}
    assert down(stores) == ()


def test_who_does_not_hear_is_killed(make: Callable[[str], Stores]) -> None:
    """A process that ignores SIGTERM ends all the same when its time is over."""
    stores = make("state")
    begin(stores, DEAF)
    assert wait(lambda: "deaf" in (stores.root / "log").read_text(), 60)
    assert end(lambda: services(stores.root), 0.5)


def test_a_pid_alone_is_not_believed(make: Callable[[str], Stores]) -> None:
    """A record that names a process of somebody else is a server that is gone: it is neither asked nor ended."""
    stores, neighbour = make("state"), make("state2")
    stranger = begin(neighbour, SLEEP)
    record(stores, server=stranger, worker=stranger)
    assert standing_server(stores) is None
    told = standing(stores)
    assert not told.passed
    assert f"no worker, pid {stranger}" in told.text
    down(stores)
    assert services(neighbour.root) == {stranger}


def test_a_server_that_lives_and_does_not_answer_is_no_server_to_be_passed_over(make: Callable[[str], Stores]) -> None:
    """Whoever would record at it is refused: a second server beside it would split the record."""
    stores = make("state")
    record(stores, server=begin(stores, SLEEP))
    assert wait(lambda: bool(services(stores.root)), 60)
    with pytest.raises(StoreError, match="found no answer"):
        standing_server(stores)


def test_a_record_that_cannot_be_read_is_no_absence(make: Callable[[str], Stores]) -> None:
    """A spoilt record is refused by who would use it, and removed by `down`."""
    stores = make("state")
    services_file(stores).write_text("{")
    with pytest.raises(StoreError, match="found a record that cannot be read"):
        standing_server(stores)
    down(stores)
    assert standing_server(stores) is None


def test_a_run_waits_for_another_as_long_as_it_was_told(make: Callable[[str], Stores]) -> None:
    """With patience the lock is had when the other run ends; without, it is refused, and the holder is named."""
    stores, begun, ending = make("state"), threading.Event(), threading.Event()

    def hold() -> None:
        with one_at_a_time(stores):
            begun.set()
            ending.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert begun.wait(60)
        with pytest.raises(StoreError, match=f"pid {os.getpid()}"), one_at_a_time(stores):
            pass
        threading.Timer(0.3, ending.set).start()
        with one_at_a_time(stores, patience=60):
            assert ending.is_set()
    finally:
        ending.set()
        holder.join()
