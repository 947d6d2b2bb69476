"""The ledger: one chain, append-only, which answers or raises."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import traceback
import tracemalloc
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from holdfast.errors import HoldfastError, LedgerError, StoreError
from holdfast.recovery.chain import ENTRIES, GENESIS, seal
from holdfast.recovery.ledger import Ledger
from holdfast.stores import WallClock

LENGTH = 8
COLUMNS = [column.name for column in ENTRIES.columns]


def write(ledger, i=0, **changes):
    return ledger.append(**{"kind": "run", "who": "tester", "model": "loans", "body": {"i": i}, **changes})


def refusals(function, *arguments):
    """Every text in which an error could show itself."""
    with pytest.raises(HoldfastError) as caught:
        function(*arguments)
    error = caught.value
    assert error.found
    assert error.expected
    assert error.remedy
    return error, "\n".join([str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)])


def test_each_entry_seals_the_one_before_it(url, clock):
    """Entries are numbered from 1, timed by the clock in UTC, and each names the hash of the one before it."""
    ledger = Ledger.create(url, clock)
    assert ledger.verify().model_dump() == {
        "valid": True, "length": 0, "head": GENESIS, "bad_seq": None, "problem": None,
    }  # fmt: skip
    entries = [write(ledger, i, body={"i": i, "text": "ü\0"}) for i in range(3)]
    assert [entry.seq for entry in entries] == [1, 2, 3]
    assert [entry.previous for entry in entries] == [GENESIS, entries[0].hash, entries[1].hash]
    assert [entry.at for entry in entries] == [datetime(2026, 1, 1, 0, 0, s, tzinfo=UTC) for s in (1, 2, 3)]
    assert list(ledger.history("loans")) == entries
    assert list(ledger.history("loans", after=2)) == entries[2:]
    assert list(ledger.history("other")) == []
    report = ledger.verify(expected_heads=(entries[1].hash,))
    assert (report.valid, report.length, report.head) == (True, 3, entries[2].hash)


def test_a_hash_covers_every_column(url, clock):
    """Two rows that differ in any one column have different hashes."""
    row = dict.fromkeys(COLUMNS, "a") | {"seq": 1, "version": 1}
    assert len({seal(row), *(seal({**row, name: "b"}) for name in COLUMNS if name != "hash")}) == len(COLUMNS)


def test_the_same_step_twice_is_one_entry(url, clock):
    """A known key gives the entry that is there; with other content it is refused."""
    ledger = Ledger.create(url, clock)
    once = write(ledger, key="step")
    assert write(ledger, key="step", who="someone else") == once
    for other in ({"i": 1}, {"kind": "alert"}, {"version": 3}, {"model": "spam"}):
        with pytest.raises(LedgerError, match="of other content"):
            write(ledger, key="step", **other)
    assert ledger.verify().length == 1


@pytest.mark.parametrize("change", [{"who": ""}, {"model": ""}, {"who": "a\nb"}, {"kind": "champion"}])
def test_what_has_no_name_is_not_recorded(tmp_path, clock, change):
    """Nobody, nothing and unknown kinds are refused, and the chain stays empty."""
    ledger = Ledger.create(f"sqlite:///{tmp_path / 'l.db'}", clock)
    with pytest.raises(LedgerError):
        write(ledger, **change)
    assert ledger.verify().length == 0


def test_a_time_without_a_zone_is_refused(tmp_path):
    """A clock that does not say where it stands cannot order a ledger."""

    class Naive:
        def now(self):
            return datetime(2026, 1, 1)  # noqa: DTZ001  the fault that is planted

    ledger = Ledger.create(f"sqlite:///{tmp_path / 'l.db'}", Naive())
    with pytest.raises(LedgerError, match="without a time zone"):
        write(ledger)


COPY = "INSERT OR REPLACE INTO holdfast_ledger SELECT {} FROM holdfast_ledger WHERE seq = 1"
REWRITES = {
    "both": [
        "UPDATE holdfast_ledger SET who = 'mallory' WHERE seq = 1",
        "DELETE FROM holdfast_ledger WHERE seq = 2",
        "DELETE FROM holdfast_ledger_head",
        "UPDATE holdfast_ledger_head SET seq = 1",
        "UPDATE holdfast_ledger_head SET hash = 'x'",
    ],
    "postgresql": ["TRUNCATE holdfast_ledger", "TRUNCATE holdfast_ledger_head"],
    "sqlite": [
        "INSERT OR REPLACE INTO holdfast_ledger_head VALUES (1, 1, 'x')",
        COPY.format("seq, at, 'mallory', model, version, kind, promotion, key, body, previous, hash"),
        COPY.format("3, at, who, model, version, kind, promotion, key, body, 'p', 'h'"),
    ],
}


def test_the_database_itself_refuses_to_rewrite(url, clock):
    """UPDATE, DELETE, TRUNCATE and REPLACE by hand are refused by triggers, and nothing changes."""
    ledger = Ledger.create(url, clock)
    write(ledger, 0, key="a")
    before = write(ledger, 1, key="b")
    engine = create_engine(url, poolclass=NullPool)
    for statement in REWRITES["both"] + REWRITES[url.partition(":")[0].partition("+")[0]]:
        with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
            connection.execute(text(statement))
    assert ledger.verify(expected_heads=(before.hash,)).length == 2


@pytest.fixture(scope="module")
def template():
    """A ledger file of ``LENGTH`` entries without its triggers, as one who owns the file can have it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        ledger = Ledger.create(f"sqlite:///{path}", WallClock())
        for i in range(LENGTH):
            write(ledger, i, key=f"k{i}", version=i, promotion=f"p{i}")
        with closing(sqlite3.connect(path)) as connection, connection:
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {name}")
        yield path, ledger.verify().head


def tampered(template, statements):
    """Run statements on a copy of the file, and verify the copy with and without the head that was kept elsewhere."""
    path, kept = template
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "ledger.db"
        shutil.copy(path, copy)
        with closing(sqlite3.connect(copy)) as connection, connection:
            before = connection.execute("SELECT * FROM holdfast_ledger ORDER BY seq").fetchall()
            try:
                for statement, values in statements:
                    connection.execute(statement, values)
            except sqlite3.IntegrityError:  # NOT NULL and UNIQUE alone refused this one
                assume(False)
            assume(connection.execute("SELECT * FROM holdfast_ledger ORDER BY seq").fetchall() != before)
        ledger = Ledger(f"sqlite:///{copy}", WallClock())
        return ledger.verify(), ledger.verify(expected_heads=(kept,))


SEQ = st.integers(1, LENGTH)
ANYTHING = st.one_of(
    st.none(), st.integers(-5, 50), st.text(st.characters(codec="utf-8"), max_size=5), st.binary(max_size=5)
)


@settings(max_examples=80, deadline=None)
@given(seq=SEQ, column=st.sampled_from([name for name in COLUMNS if name != "seq"]), value=ANYTHING)
def test_a_changed_value_is_found_where_it_is(template, seq, column, value):
    """Any change of any value in any row is found at that row."""
    statement = f"UPDATE holdfast_ledger SET {column} = ? WHERE seq = ?"  # noqa: S608  our own column names
    report, _ = tampered(template, [(statement, (value, seq))])
    assert not report.valid
    assert report.bad_seq == seq
    assert report.length == seq - 1


@settings(max_examples=30, deadline=None)
@given(seq=SEQ)
def test_a_removed_row_is_found(template, seq):
    """A hole is found at its place, and at the tail by the head row."""
    report, _ = tampered(template, [("DELETE FROM holdfast_ledger WHERE seq = ?", (seq,))])
    assert (report.valid, report.bad_seq) == (False, seq)


@settings(max_examples=30, deadline=None)
@given(one=SEQ, other=SEQ)
def test_reordered_rows_are_found(template, one, other):
    """Two rows that changed places are found at the first of them."""
    assume(one != other)
    moves = [(one, -1), (other, one), (-1, other)]
    report, _ = tampered(template, [("UPDATE holdfast_ledger SET seq = ? WHERE seq = ?", move[::-1]) for move in moves])
    assert (report.valid, report.bad_seq) == (False, min(one, other))


@settings(max_examples=20, deadline=None)
@given(kept=st.integers(0, LENGTH - 1))
def test_a_cut_tail_is_found_by_a_head_kept_elsewhere(template, kept):
    """Cutting the tail and moving the head row leaves a sound chain, which is not the one that was published."""
    tip = "coalesce((SELECT hash FROM holdfast_ledger WHERE seq = ?), ?)"
    cut = ("DELETE FROM holdfast_ledger WHERE seq > ?", (kept,))
    move = (f"UPDATE holdfast_ledger_head SET seq = ?, hash = {tip}", (kept, kept, GENESIS))  # noqa: S608  constant
    report, against = tampered(template, [cut, move])
    assert (report.valid, report.length) == (True, kept)
    assert (against.valid, against.bad_seq) == (False, kept + 1)
    assert "cut off or rewritten" in against.problem


def test_a_table_rewritten_as_a_whole_is_found_by_a_head_kept_elsewhere(template):
    """Hashes recomputed from a forged first entry on convince the table, and not the published head."""
    with closing(sqlite3.connect(template[0])) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM holdfast_ledger ORDER BY seq")]
    previous, statements = GENESIS, []
    for row in rows:
        forged = {**row, "who": "mallory", "previous": previous}
        previous = seal(forged)
        change = (forged["who"], forged["previous"], previous, row["seq"])
        statements.append(("UPDATE holdfast_ledger SET who = ?, previous = ?, hash = ? WHERE seq = ?", change))
    statements.append(("UPDATE holdfast_ledger_head SET hash = ?", (previous,)))
    report, against = tampered(template, statements)
    assert report.valid
    assert not against.valid


def test_what_is_read_is_checked_and_what_is_cut_is_not_built_on(template, tmp_path):
    """A changed entry is not read, and nothing is appended after a cut tail."""
    copy = shutil.copy(template[0], tmp_path / "ledger.db")
    ledger = Ledger(f"sqlite:///{copy}", WallClock())
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("UPDATE holdfast_ledger SET body = '{}' WHERE seq = 3")
    with pytest.raises(LedgerError, match="entry 3, which does not match its hash"):
        list(ledger.history("loans"))
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("DELETE FROM holdfast_ledger WHERE seq = ?", (LENGTH,))
    with pytest.raises(LedgerError, match="a chain that ends at entry 7 under a head row that names entry 8"):
        write(ledger)


def test_twenty_writers_make_one_chain(url, clock, fork):
    """Twenty processes that append at once never fork the chain and lose nothing."""
    ledger = Ledger.create(url, clock)

    def work():
        for i in range(5):
            write(ledger, i, who=str(os.getpid()))

    children = [fork(work) for _ in range(20)]
    assert [child.wait() for child in children] == [0] * 20
    report = ledger.verify()
    assert (report.valid, report.length) == (True, 100)
    for child in children:
        assert [entry.body["i"] for entry in ledger.history("loans") if entry.who == str(child.pid)] == [0, 1, 2, 3, 4]


def test_a_writer_killed_inside_its_transaction_leaves_nothing(url, clock, fork):
    """Neither rows nor a lock stay behind a kill -9 between append and commit."""
    ledger = Ledger.create(url, clock, patience=5)

    def work():
        with ledger.writing() as transaction:
            write(transaction)
            os.kill(os.getpid(), signal.SIGKILL)

    assert fork(work).wait() == -signal.SIGKILL
    assert write(ledger).seq == 1
    assert ledger.verify().length == 1


def test_an_error_inside_a_transaction_leaves_nothing(url, clock):
    """All that is appended under one lock commits together or not at all."""
    ledger = Ledger.create(url, clock)

    def work():
        with ledger.writing() as transaction:
            write(transaction)
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        work()
    assert ledger.verify().length == 0


def test_a_reader_sees_one_moment(url, clock):
    """What commits while a reader asks is not seen by half."""
    ledger = Ledger.create(url, clock)
    write(ledger)
    with ledger.reading() as view:
        assert view.tip()[0] == 1
        write(ledger)
        assert view.tip()[0] == 1
        assert len(list(view.entries())) == 1
    assert ledger.verify().length == 2


def test_creators_may_race_and_a_ledger_is_never_made_anew(url, clock, fork):
    """Eight processes create one ledger; creating again keeps what is in it."""
    children = [fork(lambda: write(Ledger.create(url, clock))) for _ in range(8)]
    assert [child.wait() for child in children] == [0] * 8
    assert Ledger.create(url, clock).verify().length == 8


def test_a_long_chain_is_read_in_little_memory(url, clock):
    """Verifying 5 MB of ledger takes less than 3 MB."""
    ledger = Ledger.create(url, clock)
    with ledger.writing() as transaction:
        for i in range(1200):
            write(transaction, body={"i": i, "text": "x" * 4000})
    ledger.verify()
    tracemalloc.start()
    assert ledger.verify().length == 1200
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3e6


def test_a_ledger_that_is_not_there_is_not_an_empty_one(tmp_path, clock):
    """Opening a missing file, a file that is no ledger, or a folder raises, and creates nothing."""
    for path in (tmp_path / "gone" / "l.db", tmp_path / "l.db", tmp_path):
        error, _ = refusals(Ledger(f"sqlite:///{path}", clock).head, "loans")
        assert type(error) is StoreError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty.db").touch()
    error, _ = refusals(Ledger(f"sqlite:///{tmp_path / 'empty.db'}", clock).head, "loans")
    assert "no such table" in error.found
    error, _ = refusals(Ledger.create, f"sqlite:///{tmp_path / 'empty.db'}", clock)
    assert "no such table" in error.found
    (tmp_path / "file").touch()
    error, _ = refusals(Ledger.create, f"sqlite:///{tmp_path / 'file' / 'l.db'}", clock)
    assert type(error) is StoreError


def test_a_database_without_a_ledger_is_refused(postgres, clock):
    """An empty PostgreSQL database answers no question about champions."""
    error, _ = refusals(Ledger(postgres, clock).head, "loans")
    assert "does not exist" in error.found
    assert "Create the ledger" in error.remedy


@pytest.mark.parametrize("at", [0, 4096])
def test_a_corrupt_file_is_refused(tmp_path, clock, at):
    """Garbage in the header or in the pages raises, and is never read as *no champion*."""
    path = tmp_path / "l.db"
    ledger = Ledger.create(f"sqlite:///{path}", clock)
    write(ledger)
    with path.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(at)
        stream.write(b"\xa5" * (size - at))
    for question in (lambda: ledger.head("loans"), ledger.verify, lambda: write(ledger)):
        error, _ = refusals(question)
        assert "backup" in error.remedy


def test_a_locked_ledger_is_refused_after_patience(url, clock):
    """A lock that is not to be had raises when patience ends, and reading goes on beside it."""
    ledger = Ledger.create(url, clock)
    hasty = Ledger(url, clock, patience=0.1)
    with ledger.writing():
        error, _ = refusals(write, hasty)
        assert "Another process holds the ledger" in error.remedy
        assert hasty.head("loans") is None
    assert write(hasty).seq == 1


def test_a_read_only_ledger_is_refused(tmp_path, clock):
    """A file that may not be written gives an error that says so, also to root without its privileges."""
    path = tmp_path / "l.db"
    write(Ledger.create(f"sqlite:///{path}", clock))
    script = (
        "import sys\nfrom holdfast.recovery.ledger import Ledger\nfrom holdfast.stores import WallClock\n"
        "Ledger(sys.argv[1], WallClock()).append('run', who='a', model='b', body={})"
    )
    command = [sys.executable, "-c", script, f"sqlite:///{path}"]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root ignores permissions, and there is no setpriv to make it heed them")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    finally:
        tmp_path.chmod(0o755)
    assert done.returncode == 1
    assert "StoreError" in done.stderr.splitlines()[-1]
    assert "readonly" in done.stderr or "unable to open" in done.stderr
    path.chmod(0o644)
    assert Ledger(f"sqlite:///{path}", clock).verify().length == 1


def test_a_full_disk_is_refused_and_loses_nothing(tmp_path, clock, fork):
    """A write for which there is no room raises, and the chain is as it was."""
    ledger = Ledger.create(f"sqlite:///{tmp_path / 'l.db'}", clock)
    before = write(ledger)

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        with pytest.raises(StoreError):
            write(ledger, body={"text": "x" * 500_000})

    assert fork(work).wait() == 0
    report = ledger.verify(expected_heads=(before.hash,))
    assert (report.valid, report.length) == (True, 1)


def test_no_password_in_any_error(cluster, clock):
    """Wrong password, closed port, missing driver or malformed URL: the secret is in no text of the error."""
    secret = "tr0ub4dor-and-3"  # noqa: S105  planted, to be looked for
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    place = cluster.rpartition("@")[2]
    for url in (
        f"postgresql+psycopg2://holdfast:{secret}@{place}/postgres",
        f"postgresql+psycopg2://holdfast@{place}/postgres?password={secret}",
        f"postgresql+psycopg2://holdfast:{secret}@127.0.0.1:{closed}/ledger",
    ):
        ledger = Ledger(url, clock)
        assert secret not in repr(ledger)
        for question in (lambda ledger=ledger: ledger.head("loans"), lambda url=url: Ledger.create(url, clock)):
            error, texts = refusals(question)
            assert type(error) is StoreError
            assert secret not in texts
    for url in (
        f"postgresql://holdfast:{secret}@{place}/postgres",
        f"mysql://holdfast:{secret}@{place}/postgres",
        f"postgresql+psycopg2://holdfast:{secret}@{place}:port/postgres",
        f"postgresql+psycopg2:holdfast:{secret}",
        "sqlite://",
        "sqlite:///:memory:",
    ):
        error, texts = refusals(lambda url=url: Ledger(url, clock))
        assert secret not in texts
        assert "postgresql+psycopg2://" in error.expected
