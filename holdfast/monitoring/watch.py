"""The watch: windows and their state, signals and what detectors remember, in the ledger's database."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Boolean, Column, Index, Integer, MetaData, Table, Text, func, insert, select, update
from sqlalchemy.schema import CreateIndex, CreateTable

from holdfast.errors import StoreError
from holdfast.recovery.chain import answering, connect, display, parse, stamp
from holdfast.results import Signal, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from sqlalchemy import Connection

    from holdfast.results import Json
    from holdfast.stores import Clock

State = Literal["escrowed", "admitted", "quarantined", "pruned"]
SET_ASIDE: frozenset[State] = frozenset({"quarantined", "pruned"})
"""States of windows whose rows nothing may read: a person's to release, or gone."""
Verdict = Literal["clean", "suspected", "released"]
"""What the screening of a labelled window said, or a person after it."""
_METADATA = MetaData()
WINDOWS = Table(
    "holdfast_windows",
    _METADATA,
    Column("model", Text, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("matured", Boolean, nullable=False),
    Column("labels", Text, nullable=False),
    Column("at", Text, nullable=False),
)
SIGNALS = Table(
    "holdfast_signals",
    _METADATA,
    Column("model", Text, primary_key=True),
    Column("champion", Text, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("detector", Text, primary_key=True),
    Column("body", Text, nullable=False),
    Column("memory", Text, nullable=False),
    Column("at", Text, nullable=False),
    Index("holdfast_signals_detector", "model", "champion", "detector", "position"),
)
SCREENINGS = Table(
    "holdfast_screenings",
    _METADATA,
    Column("model", Text, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("verdict", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("at", Text, nullable=False),
)


class WindowRecord(Value):
    """A window by reference: where it stands, and what became of it."""

    position: int
    digest: str
    rows: int
    state: State
    why: str
    matured: bool
    """Whether its labels are there."""
    labels: str = ""
    """Digest of its labels, which escrow holds under that name; empty until they mature."""


class Watch:
    """What was watched of one model. Every method is one transaction, and safe to take twice.

    Args:
        url: of the ledger, which must be there.
        model: registered model.
        clock: tells the time of records.
        patience: seconds to wait for another writer.
    """

    def __init__(self, url: str, model: str, clock: Clock, *, patience: float = 30.0) -> None:
        self.url, self.model, self.clock = parse(url), model, clock
        self._engine = connect(self.url, patience)
        with self._writing() as connection:
            for table in (WINDOWS, SIGNALS, SCREENINGS):
                connection.execute(CreateTable(table, if_not_exists=True))
                for index in table.indexes:
                    connection.execute(CreateIndex(index, if_not_exists=True))

    def arrive(self, position: int, digest: str, rows: int) -> WindowRecord:
        """Record a window that came, in escrow.

        Raises:
            StoreError: another window is recorded at this place, or a place before it is empty.
        """
        with self._writing() as connection:
            known = self._window(connection, position)
            if known is None:
                if position != self._count(connection):
                    raise self._refused(f"window {position} after {self._count(connection)} windows", "the next one")
                row = {"model": self.model, "position": position, "digest": digest, "rows": rows, "state": "escrowed",
                       "why": "", "matured": False, "labels": "", "at": stamp(self.clock.now())}  # fmt: skip
                connection.execute(insert(WINDOWS).values(row))
                return WindowRecord.model_validate({k: v for k, v in row.items() if k not in {"model", "at"}})
        if known.digest != digest:
            raise self._refused(f"window {digest[:16]} at place {position}", f"{known.digest[:16]}, as it came first")
        return known

    def mature(self, position: int, labels: str) -> None:
        """Record that a window's labels are there, and which they are: from then on no others can be its.

        Raises:
            StoreError: there is no such window, or it has other labels.
        """
        with self._writing() as connection:
            known = self._window(connection, position)
            if known is None or (known.matured and known.labels != labels):
                raise self._refused(f"labels {labels[:16]} for window {position}", "those that matured first")
            connection.execute(self._update(position).values(matured=True, labels=labels))

    def move(self, position: int, state: State, why: str) -> None:
        """Admit a window, or set it aside; one that was set aside or admitted stays so unless a person says otherwise.

        Raises:
            StoreError: there is no such window.
        """
        with self._writing() as connection:
            known = self._window(connection, position)
            if known is None:
                raise self._refused(f"no window {position}", "one that came")
            if known.state in {"escrowed", state}:
                connection.execute(self._update(position).values(state=state, why=why))

    def release(self, position: int, why: str) -> None:
        """Put a window that was set aside back into escrow, in a person's name that the ledger holds.

        Where its screening had set it aside, or would have, the person's word takes the place of the verdict.

        Raises:
            StoreError: it was not set aside, and is not suspected.
        """
        with self._writing() as connection:
            self._require_held(connection, position)
            connection.execute(self._update(position).values(state="escrowed", why=why))
            mine = (SCREENINGS.c.model == self.model, SCREENINGS.c.position == position)
            connection.execute(update(SCREENINGS).where(*mine).values(verdict="released"))

    def prune(self, position: int, why: str) -> None:
        """Record that a window's rows are gone from escrow; its place, digest, verdict and signals stay.

        Raises:
            StoreError: there is no such window, or its labels are still awaited.
        """
        with self._writing() as connection:
            known = self._window(connection, position)
            if known is None or not (known.matured or known.state == "quarantined"):
                raise self._refused(f"window {position}, {'not matured' if known else 'unknown'}", "one that matured")
            connection.execute(self._update(position).values(state="pruned", why=why))

    def held(self) -> frozenset[str]:
        """Give the digests of rows and labels of the windows of every model that lie in escrow."""
        query = select(WINDOWS.c.digest, WINDOWS.c.labels).where(WINDOWS.c.state != "pruned")
        with self._reading() as connection:
            return frozenset(digest for row in connection.execute(query) for digest in row if digest)

    def screened(self, position: int, verdict: Verdict, body: str) -> None:
        """Record what the screening of a window said, once: a verdict that is there stays."""
        row = {"model": self.model, "position": position, "verdict": verdict, "body": body,
               "at": stamp(self.clock.now())}  # fmt: skip
        with self._writing() as connection:
            if self._verdicts(connection, position):
                return
            connection.execute(insert(SCREENINGS).values(row))

    def verdicts(self) -> dict[int, Verdict]:
        """Give the verdict on each window that was screened, by its place."""
        with self._reading() as connection:
            return self._verdicts(connection)

    def require_held(self, position: int) -> None:
        """Refuse a window that there is nothing to release of.

        Raises:
            StoreError: it was not set aside, and is not suspected.
        """
        with self._reading() as connection:
            self._require_held(connection, position)

    def suspects(self, position: int) -> bool:
        """Tell whether a window in escrow did not pass its screening, and nobody released it."""
        with self._reading() as connection:
            return self._suspects(connection, self._window(connection, position))

    def screening(self, position: int) -> str | None:
        """Give what was recorded with a window's verdict; None where it was not screened."""
        query = select(SCREENINGS.c.body).where(SCREENINGS.c.model == self.model, SCREENINGS.c.position == position)
        with self._reading() as connection:
            return connection.execute(query).scalar_one_or_none()

    def windows(self) -> tuple[WindowRecord, ...]:
        """List every window, in the order of the stream."""
        query = select(WINDOWS).where(WINDOWS.c.model == self.model).order_by(WINDOWS.c.position)
        with self._reading() as connection:
            return tuple(_record(row) for row in connection.execute(query).mappings())

    def count(self) -> int:
        """Count the windows that came: the place of the next one."""
        with self._reading() as connection:
            return self._count(connection)

    def keep(self, champion: str, signals: Sequence[Signal], memories: Mapping[str, Json]) -> None:
        """Record the signals about one window under one champion, with what their detectors remember, together."""
        with self._writing() as connection:
            for signal in signals:
                row = {"model": self.model, "champion": champion, "position": signal.position,
                       "detector": signal.detector, "body": signal.model_dump_json(),
                       "memory": json.dumps(memories.get(signal.detector, {})),
                       "at": stamp(self.clock.now())}  # fmt: skip
                same = (SIGNALS.c[name] == row[name] for name in ("model", "champion", "position", "detector"))
                if connection.execute(select(SIGNALS.c.position).where(*same)).first() is None:
                    connection.execute(insert(SIGNALS).values(row))

    def signals(self, champion: str | None = None, position: int | None = None) -> tuple[Signal, ...]:
        """List signals in the order of windows and detectors, of one champion or window where asked."""
        query = select(SIGNALS.c.body).where(SIGNALS.c.model == self.model)
        query = query if champion is None else query.where(SIGNALS.c.champion == champion)
        query = query if position is None else query.where(SIGNALS.c.position == position)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(SIGNALS.c.position, SIGNALS.c.detector))
            return tuple(Signal.model_validate_json(body) for (body,) in rows)

    def looked_at(self) -> frozenset[int]:
        """Give the places of the windows at which a detector that needs no labels looked, under any champion."""
        mine = SIGNALS.c.model == self.model
        with self._reading() as connection:
            seen = connection.execute(select(SIGNALS.c.detector, SIGNALS.c.position).where(mine).distinct()).all()
            one = {name: select(SIGNALS.c.body).where(mine, SIGNALS.c.detector == name).limit(1) for name, _ in seen}
            needs = {name: json.loads(connection.execute(query).scalar_one())["needs"] for name, query in one.items()}
        return frozenset(position for name, position in seen if needs[name] != "labels")

    def memories(self, champion: str) -> dict[str, Json]:
        """Give what each detector remembers of one champion's windows."""
        query = select(SIGNALS.c.detector, SIGNALS.c.position, SIGNALS.c.body, SIGNALS.c.memory)
        query = query.where(SIGNALS.c.model == self.model, SIGNALS.c.champion == champion)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        # The last that was looked at, which need not be the last that came: one may be released late.
        rows = sorted(rows, key=lambda row: (json.loads(row.body).get("turn") or row.position, row.position))
        return {row.detector: json.loads(row.memory) for row in rows}

    def _window(self, connection: Connection, position: int) -> WindowRecord | None:
        query = select(WINDOWS).where(WINDOWS.c.model == self.model, WINDOWS.c.position == position)
        row = connection.execute(query).mappings().first()
        return None if row is None else _record(row)

    def _verdicts(self, connection: Connection, position: int | None = None) -> dict[int, Verdict]:
        query = select(SCREENINGS.c.position, SCREENINGS.c.verdict).where(SCREENINGS.c.model == self.model)
        query = query if position is None else query.where(SCREENINGS.c.position == position)
        return {row.position: row.verdict for row in connection.execute(query)}

    def _suspects(self, connection: Connection, known: WindowRecord | None) -> bool:
        if known is None or known.state != "escrowed":
            return False
        return self._verdicts(connection, known.position).get(known.position) == "suspected"

    def _require_held(self, connection: Connection, position: int) -> None:
        known = self._window(connection, position)
        if known is None or not (known.state == "quarantined" or self._suspects(connection, known)):
            found = f"window {position}, {known.state if known else 'unknown'}"
            expected = "one in quarantine, or in escrow and suspected, or one that is clean and no detector looked at"
            raise self._refused(found, expected)

    def _count(self, connection: Connection) -> int:
        query = select(func.count()).select_from(WINDOWS).where(WINDOWS.c.model == self.model)
        return int(connection.execute(query).scalar_one())

    def _update(self, position: int) -> Any:  # noqa: ANN401  SQLAlchemy's statement
        return update(WINDOWS).where(WINDOWS.c.model == self.model, WINDOWS.c.position == position)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with answering(self.url), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        sqlite = self.url.get_backend_name() == "sqlite"
        with answering(self.url), self._engine.connect() as connection:
            chosen = connection.execution_options(sqlite_begin="BEGIN IMMEDIATE") if sqlite else connection
            with chosen.begin():
                yield chosen

    def _refused(self, found: str, expected: str) -> StoreError:
        return StoreError(
            display(self.url), found=found, expected=expected,
            remedy="The stream and its record disagree: restore the stream, or watch under another model name.",
        )  # fmt: skip


def _record(row: Any) -> WindowRecord:  # noqa: ANN401  a row mapping
    return WindowRecord.model_validate({name: row[name] for name in WindowRecord.model_fields})
