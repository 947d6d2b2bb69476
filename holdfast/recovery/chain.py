"""The append-only, hash-chained table under the ledger, in SQLite or PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from sqlalchemy import CheckConstraint, Column, Index, Integer, MetaData, Table, Text, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex, CreateTable

from holdfast.digests import digest_json
from holdfast.errors import LedgerError, StoreError
from holdfast.results import Json, Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from sqlalchemy import Connection, Engine

Kind = Literal[
    "registered",  # a version came to be
    "decision",  # what a gate or a person decided
    "intent",  # a promotion or rollback is about to move the alias
    "done",  # it did: this version is champion
    "undone",  # it did not: the champion before it stays
    "outside_move",  # a person accepted an alias that was moved from outside: that version is champion
    "projected",  # the alias was set again to what the ledger says
    "condemned",  # a version was judged bad
    "cleared",  # and a named person took the judgement back
    "alert",
    "run",
    "quarantine",
    "release",
]
GENESIS = digest_json({"ledger": "holdfast", "format": 1})
"""What the first entry names as its previous hash."""

_METADATA = MetaData()
ENTRIES = Table(
    "holdfast_ledger",
    _METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("version", Integer),
    Column("kind", Text, nullable=False),
    Column("promotion", Text),
    Column("key", Text, unique=True),
    Column("body", Text, nullable=False),
    Column("previous", Text, nullable=False, unique=True),  # a fork would need the same previous hash twice
    Column("hash", Text, nullable=False, unique=True),
    Index("holdfast_ledger_kind", "model", "kind", "seq"),
    Index("holdfast_ledger_version", "model", "version", "seq"),
    Index("holdfast_ledger_promotion", "promotion", "kind"),
)
HEAD = Table(
    "holdfast_ledger_head",
    _METADATA,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
    Column("hash", Text, nullable=False),
)
_SEALED = tuple(column.name for column in ENTRIES.columns if column.name != "hash")
_FIRST_HEAD = f"INSERT INTO holdfast_ledger_head (id, seq, hash) VALUES (1, 0, '{GENESIS}')"  # noqa: S608  our own hex

# INSERT OR REPLACE deletes without firing delete triggers, hence the two on INSERT.
_SQLITE_TRIGGERS = tuple(
    f"CREATE TRIGGER holdfast_{name} BEFORE {when} BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    for name, when in {
        "ledger_update": "UPDATE ON holdfast_ledger",
        "ledger_delete": "DELETE ON holdfast_ledger",
        "ledger_replace": "INSERT ON holdfast_ledger WHEN EXISTS (SELECT 1 FROM holdfast_ledger WHERE seq = NEW.seq"
        " OR hash = NEW.hash OR previous = NEW.previous OR key = NEW.key)",
        "head_update": "UPDATE ON holdfast_ledger_head WHEN NEW.seq IS NOT OLD.seq + 1",
        "head_delete": "DELETE ON holdfast_ledger_head",
        "head_replace": "INSERT ON holdfast_ledger_head WHEN EXISTS (SELECT 1 FROM holdfast_ledger_head)",
    }.items()
)
_REFUSE = """CREATE FUNCTION holdfast_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$"""
_POSTGRES_TRIGGERS = (
    _REFUSE,
    *(
        f"CREATE TRIGGER holdfast_{name} BEFORE {when} EXECUTE FUNCTION holdfast_refuse()"
        for name, when in {
            "ledger_rows": "UPDATE OR DELETE ON holdfast_ledger FOR EACH ROW",
            "ledger_truncate": "TRUNCATE ON holdfast_ledger FOR EACH STATEMENT",
            "head_update": "UPDATE ON holdfast_ledger_head FOR EACH ROW WHEN (NEW.seq IS DISTINCT FROM OLD.seq + 1)",
            "head_delete": "DELETE ON holdfast_ledger_head FOR EACH ROW",
            "head_truncate": "TRUNCATE ON holdfast_ledger_head FOR EACH STATEMENT",
        }.items()
    ),
)
_CREATION_LOCK = 0x686F6C64  # any constant of our own: one creator at a time in PostgreSQL
_REMEDIES = {
    "readonly": "Make the file and its folder writable for this user.",
    "read-only": "Give this user the right to write.",
    "permission denied": "Give this user the right to read and append.",
    "locked": "Another process holds the ledger: wait for it, or end it.",
    "lock timeout": "Another process holds the ledger: wait for it, or end it.",
    "full": "Free some space; what was committed is safe.",
    "not a database": "Restore the file from a backup.",
    "malformed": "Restore the file from a backup.",
    "no such column": "Another development state of Holdfast made this database: begin with a new one.",
    "no such table": "Create the ledger first, or correct its URL.",
    "does not exist": "Create the ledger first, or correct its URL.",
    "unable to open": "Create the ledger first, or correct its path.",
}


class Entry(Value):
    """One entry of the ledger, as it was written; ``hash`` seals all of it together with ``previous``."""

    seq: int
    at: datetime
    who: str
    model: str
    version: int | None
    kind: str
    """A `Kind`; open for reading, so that a ledger written by a later release can be read."""
    promotion: str | None
    key: str | None
    body: Json
    previous: str
    hash: str


class ChainReport(Value):
    """What reading the whole chain showed."""

    valid: bool
    length: int
    """Entries that are sound, counted from the first."""
    head: str
    """Hash of the last sound entry."""
    bad_seq: int | None = None
    problem: str | None = None


def stamp(at: datetime) -> str:
    """Write a moment in one way only: UTC, microseconds, so that text order is time order.

    Raises:
        LedgerError: the moment names no time zone.
    """
    if at.tzinfo is None:
        raise LedgerError(
            "ledger clock", found=f"{at} without a time zone", expected="an aware time", remedy="Use UTC."
        )
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def seal(row: Mapping[str, Any]) -> str:
    """Hash a row: sha256 over the canonical JSON of every column but the hash itself."""
    return digest_json({name: row[name] for name in _SEALED})


def _fault(row: Mapping[str, Any], seq: int, previous: str) -> str | None:
    if row["seq"] != seq:
        return f"entry {seq} is missing: {row['seq']} stands in its place"
    if row["previous"] != previous:
        return f"entry {seq} does not follow the entry before it"
    try:
        sealed = seal(row)
    except TypeError:  # SQLite keeps bytes in a text column when told to
        return f"entry {seq} holds a value that was never written"
    return None if sealed == row["hash"] else f"entry {seq} was changed: it does not match its hash"


def verify_rows(
    rows: Iterable[Mapping[str, Any]], head: tuple[int, str], expected_heads: Collection[str] = ()
) -> ChainReport:
    """Walk the chain once, in constant memory.

    Args:
        rows: all rows in order of ``seq``.
        head: seq and hash in the head row, which moves with every append.
        expected_heads: hashes held outside the database; each lies on the chain, or the chain was cut or rewritten.
    """
    seq, last, missing = 0, GENESIS, set(expected_heads) - {GENESIS}
    for row in rows:
        problem = _fault(row, seq + 1, last)
        if problem is not None:
            return ChainReport(valid=False, length=seq, head=last, bad_seq=seq + 1, problem=problem)
        seq, last = row["seq"], row["hash"]
        missing.discard(last)
    problem = None
    if head != (seq, last):
        problem = f"the chain ends at entry {seq}, but its head row names entry {head[0]}"
    elif missing:
        problem = f"the expected head {min(missing)} is not on the chain: its tail was cut off or rewritten"
    return ChainReport(
        valid=problem is None, length=seq, head=last, bad_seq=None if problem is None else seq + 1, problem=problem
    )


def display(url: URL) -> str:
    """Name a database for people: no password, and no query, which may hold one too."""
    return url.set(query={}).render_as_string(hide_password=True)


def _scrubbed(error: DBAPIError, url: URL) -> str:
    """Give the driver's own words, without SQL, without parameters, without secrets of the URL."""
    words = " ".join(str(error.orig).split())
    secrets = [str(url.password or ""), *(str(value) for name, value in url.query.items() if "pass" in name)]
    for secret in filter(None, secrets):
        words = words.replace(secret, "***")
    return words


@contextmanager
def answering(url: URL) -> Iterator[None]:
    """Turn the database's errors into ours, so that no answer is ever read as *no champion*.

    Raises:
        LedgerError: the database refused a row that would fork, repeat or rewrite the chain.
        StoreError: it is unreachable, locked, read-only, full or corrupt.
    """
    try:
        yield
    except IntegrityError as error:
        remedy = "Run the audit: something else than Holdfast writes here."
        raise LedgerError(
            display(url), found=_scrubbed(error, url), expected="an append to one chain", remedy=remedy
        ) from error
    except DBAPIError as error:
        words = _scrubbed(error, url)
        remedy = next(
            (cure for sign, cure in _REMEDIES.items() if sign in words.lower()), "Check that the database is up."
        )
        raise StoreError(display(url), found=words, expected="a ledger that answers", remedy=remedy) from error


def parse(url: str) -> URL:
    """Read a ledger's URL: ``sqlite:///file`` or ``postgresql+psycopg2://``; anything else is refused."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # its message may quote the URL, and the URL may hold a password
        raise _bad_url("something that is no URL") from None
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        if parsed.database in {None, "", ":memory:"}:
            raise _bad_url("a database in memory, which no kill survives")
    elif parsed.drivername != "postgresql+psycopg2":
        raise _bad_url(f"the driver {parsed.drivername!r}")
    return parsed


def _bad_url(found: str) -> StoreError:
    expected = "sqlite:///path/to/file or postgresql+psycopg2://user@host/database"
    return StoreError("ledger URL", found=found, expected=expected, remedy="Correct the ledger's URL in the stores.")


def connect(url: URL, patience: float) -> Engine:
    """Make an engine that keeps no connection between transactions and never creates a database by opening it.

    Args:
        url: from `parse`.
        patience: seconds to wait for the lock that another writer holds.
    """
    if url.get_backend_name() == "sqlite":
        path = f"file:{quote(str(Path(str(url.database)).absolute()))}?mode=rw"
        engine = create_engine(
            url, poolclass=NullPool, hide_parameters=True, creator=lambda: _open_sqlite(path, patience)
        )
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    options = " ".join(
        (
            str(url.query.get("options", "")),
            "-c synchronous_commit=on",  # a done that a crash can lose is no done
            f"-c lock_timeout={round(patience * 1000)}",
            # A host that died without a word must not hold the lock.
            "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
        )
    )
    arguments = {"options": options.strip(), "connect_timeout": 10}
    return create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)


def _open_sqlite(path: str, patience: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, uri=True, timeout=patience, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA trusted_schema=OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def create(url: URL, patience: float) -> None:
    """Make the tables where there are none; a ledger that exists is left as it is, and creators may race."""
    if url.get_backend_name() == "sqlite":
        path = Path(str(url.database)).absolute()
        if not path.exists():
            try:
                _create_sqlite(path)
            except (OSError, sqlite3.Error) as error:
                remedy = "Check that the folder exists, can be written and has space."
                raise StoreError(display(url), found=str(error), expected="a new ledger", remedy=remedy) from error
        return
    engine = connect(url, patience)
    with answering(url), engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _CREATION_LOCK})
        if not engine.dialect.has_table(connection, HEAD.name):
            for statement in _schema(engine):
                connection.exec_driver_sql(statement)


def _create_sqlite(path: Path) -> None:
    """Build the file aside and link it into place, so that a kill leaves a whole ledger or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        draft = Path(folder) / "draft.db"
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # kept in the file: readers never block the writer
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN")
            for statement in _schema(create_engine("sqlite://")):
                connection.execute(statement)
            connection.execute("COMMIT")
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # another creator was first, and theirs is whole too
    folder_handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder_handle)
    finally:
        os.close(folder_handle)


def _schema(engine: Engine) -> Iterator[str]:
    for table in (ENTRIES, HEAD):
        yield str(CreateTable(table).compile(engine))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            yield str(CreateIndex(index).compile(engine))
    yield _FIRST_HEAD
    yield from _SQLITE_TRIGGERS if engine.dialect.name == "sqlite" else _POSTGRES_TRIGGERS
