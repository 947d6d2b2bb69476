"""The ledger: who decided what about which version, when and why, and which version is champion."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, cast, get_args

from sqlalchemy import Select, insert, select, update

from holdfast.digests import canonical
from holdfast.errors import LedgerError
from holdfast.recovery.chain import (
    ENTRIES,
    GENESIS,
    HEAD,
    ChainReport,
    Entry,
    Kind,
    answering,
    connect,
    create,
    display,
    parse,
    seal,
    stamp,
    verify_rows,
)
from holdfast.results import ModelVersion, Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.engine import URL

    from holdfast.results import Json
    from holdfast.stores import Clock

CROWNING: tuple[Kind, ...] = ("done", "outside_move")
"""The kinds that change who is champion."""
_CHUNK = 500  # rows fetched at a time
_KINDS = frozenset(get_args(Kind))


class ChampionHead(Value):
    """A champion as the ledger says it: the authority, of which the alias is a projection."""

    model: str
    version: int
    digest: str
    promotion: str
    """Names the promotion, rollback or accepted outside move: what a compare-and-set compares."""
    seq: int
    at: datetime

    def reference(self) -> ModelVersion:
        """Give the reference that loaders resolve; the digest is what they must find in the bytes."""
        return ModelVersion(name=self.model, version=self.version, digest=self.digest)


def _crowned(entry: Entry) -> ChampionHead | None:
    """Read a champion off an entry of a `CROWNING` kind; an accepted removal of the alias crowns nobody."""
    if entry.version is None:
        return None
    return ChampionHead(
        model=entry.model, version=entry.version, digest=str(entry.body["digest"]), promotion=str(entry.promotion),
        seq=entry.seq, at=entry.at,
    )  # fmt: skip


class LedgerView:
    """What the ledger said at one moment: every question is answered from one snapshot.

    Every entry that is read is checked against its own hash.
    """

    def __init__(self, connection: Connection, url: URL) -> None:
        self._connection, self._url = connection, url

    def entries(
        self,
        *,
        model: str | None = None,
        kinds: Sequence[str] = (),
        version: int | None = None,
        promotion: str | None = None,
        key: str | None = None,
        after: int = 0,
        backwards: bool = False,
    ) -> Iterator[Entry]:
        """Stream the entries with ``seq > after`` that match all that is given, in order or backwards.

        Raises:
            LedgerError: an entry does not match its hash.
            StoreError: the database does not answer.
        """
        wanted = {"model": model, "version": version, "promotion": promotion, "key": key}
        query = select(ENTRIES).where(ENTRIES.c.seq > after)
        for name, value in wanted.items():
            if value is not None:
                query = query.where(ENTRIES.c[name] == value)
        if kinds:
            query = query.where(ENTRIES.c.kind.in_(kinds))
        query = query.order_by(ENTRIES.c.seq.desc() if backwards else ENTRIES.c.seq)
        return (self._entry(row) for row in self.rows(query))

    def head(self, model: str) -> ChampionHead | None:
        """Tell the champion; None only when a ledger that answered has none."""
        entry = next(self.entries(model=model, kinds=CROWNING, backwards=True), None)
        return None if entry is None else _crowned(entry)

    def served_at(self, model: str, at: datetime) -> ChampionHead | None:
        """Tell which version was champion at a moment."""
        moment = stamp(at)
        for entry in self.entries(model=model, kinds=CROWNING, backwards=True):
            if stamp(entry.at) <= moment:
                return _crowned(entry)
        return None

    def last_good(self, model: str) -> ChampionHead | None:
        """Tell where a rollback goes: the last champion before this one that nobody judged bad.

        By order of reign, never by version number; None when there is no such version.
        """
        return next(self.good(model), None)

    def good(self, model: str) -> Iterator[ChampionHead]:
        """Stream the former champions that nobody judged bad, the last reign first."""
        champion, condemned = self.head(model), self.condemned(model)
        present = None if champion is None else champion.version
        for entry in self.entries(model=model, kinds=CROWNING, backwards=True):
            former = _crowned(entry)
            if former is not None and former.version != present and former.version not in condemned:
                yield former

    def condemned(self, model: str) -> frozenset[int]:
        """Tell the versions that were judged bad, by a verdict or a rollback that left them, and not cleared since."""
        bad: set[int] = set()
        for entry in self.entries(model=model, kinds=("condemned", "cleared", "done")):
            if entry.kind == "done":
                left = entry.body["previous"]
                bad |= {int(left["version"])} if entry.body["action"] == "rollback" and left else set()
            elif entry.version is not None and entry.kind == "condemned":
                bad.add(entry.version)
            elif entry.version is not None:
                bad.discard(entry.version)
        return frozenset(bad)

    def judged_bad(self, version: ModelVersion) -> int | None:
        """Tell the condemned version that this one is, or has the bytes of; None where nobody judged either."""
        bad = self.condemned(version.name)
        same = (number for number in sorted(bad) if self.digest(version.name, number) == version.digest)
        return version.version if version.version in bad else next(same, None)

    def in_flight(self, model: str | None = None) -> Iterator[Entry]:
        """Stream the intents that are neither done nor undone: at most one for each model."""
        ended = ENTRIES.alias()
        settled = select(ended.c.seq).where(
            ended.c.promotion == ENTRIES.c.promotion, ended.c.kind.in_(("done", "undone"))
        )
        query = select(ENTRIES).where(ENTRIES.c.kind == "intent", ~settled.exists()).order_by(ENTRIES.c.seq)
        if model is not None:
            query = query.where(ENTRIES.c.model == model)
        return (self._entry(row) for row in self.rows(query))

    def digest(self, model: str, version: int) -> str | None:
        """Tell the digest under which a version was first recorded; None when it never was."""
        for entry in self.entries(model=model, version=version, kinds=("registered", "intent")):
            return str(entry.body["digest"])
        return None

    def tip(self) -> tuple[int, str]:
        """Give seq and hash of the chain's head; an empty chain's are 0 and `GENESIS`.

        Raises:
            LedgerError: there is no head row.
        """
        return self._tip(select(HEAD))

    def verify(self, *, expected_heads: Collection[str] = ()) -> ChainReport:
        """Read the whole chain once and say whether anything was changed, removed, reordered or cut off.

        Args:
            expected_heads: heads that were kept elsewhere (versions' tags, a report). Without any, a table
                that was rewritten as a whole, hashes and all, looks sound.
        """
        return verify_rows(self.rows(select(ENTRIES).order_by(ENTRIES.c.seq)), self.tip(), expected_heads)

    def require_whole(self, *, expected_heads: Collection[str] = ()) -> None:
        """Refuse to believe or to act on a ledger that was tampered with; see `verify`.

        Raises:
            LedgerError: an entry was changed, removed or reordered, or an expected head is not on the chain.
        """
        report = self.verify(expected_heads=expected_heads)
        if not report.valid:
            raise self._broken(str(report.problem))

    def rows(self, query: Select[Any]) -> Iterator[Mapping[str, Any]]:
        """Stream rows as they are in the database, unchecked, a few hundred in memory at a time."""
        with answering(self._url):
            result = self._connection.execute(query, execution_options={"yield_per": _CHUNK}).mappings()
        try:
            while True:
                with answering(self._url):
                    row = result.fetchone()
                if row is None:
                    return
                yield cast("Mapping[str, Any]", row)
        finally:
            result.close()

    def _tip(self, query: Select[Any]) -> tuple[int, str]:
        with answering(self._url):  # not streamed: a lock is taken when rows are fetched, and this one takes it
            row = self._connection.execute(query).mappings().first()
        if row is None:
            raise self._broken("no head row")
        return row["seq"], row["hash"]

    def _entry(self, row: Mapping[str, Any]) -> Entry:
        try:
            sealed = seal(row)
        except TypeError:  # SQLite keeps bytes in a text column when told to
            sealed = ""
        if sealed != row["hash"]:
            raise self._broken(f"entry {row['seq']}, which does not match its hash")
        return Entry.model_validate({**row, "body": json.loads(row["body"])})

    def _broken(self, found: str) -> LedgerError:
        remedy = "Run `holdfast audit`, restore the ledger from a backup; nothing is served or promoted until then."
        return LedgerError(display(self._url), found=found, expected="an unbroken chain", remedy=remedy)


class LedgerTransaction(LedgerView):
    """The ledger under its lock: what is read here stays true until the block ends; appends commit together."""

    def __init__(self, connection: Connection, url: URL, clock: Clock) -> None:
        super().__init__(connection, url)
        self._clock = clock
        self._seq, self._hash = self._tip(select(HEAD).with_for_update())
        last = next(self.rows(select(ENTRIES.c.seq, ENTRIES.c.hash).order_by(ENTRIES.c.seq.desc()).limit(1)), None)
        tail = (0, GENESIS) if last is None else (last["seq"], last["hash"])
        if tail != (self._seq, self._hash):
            raise self._broken(f"a chain that ends at entry {tail[0]} under a head row that names entry {self._seq}")

    def append(
        self,
        kind: Kind,
        *,
        who: str,
        model: str,
        body: Json,
        version: int | None = None,
        promotion: str | None = None,
        key: str | None = None,
    ) -> Entry:
        """Append one entry, or with a key that is known give the entry that is already there.

        Args:
            kind: what happened.
            who: the person or the part of the system that did it.
            model: registered model that it is about.
            body: any JSON object.
            version: version that it is about.
            promotion: promotion that it belongs to.
            key: idempotency key: the same step taken twice is one entry.

        Raises:
            LedgerError: the key names an entry of other content, or a name is empty or not printable.
            StoreError: the database does not answer.
        """
        for name, value in {"who": who, "model": model}.items():
            if not value or not value.isprintable():
                raise self._refused(f"{name} = {value!r}", "a printable name", "Say who acts, and on what.")
        if kind not in _KINDS:
            raise self._refused(f"kind {kind!r}", f"one of {', '.join(sorted(_KINDS))}", "Correct the caller.")
        content = {
            "kind": kind, "model": model, "version": version, "promotion": promotion, "key": key,
            "body": canonical(body),
        }  # fmt: skip
        known = None if key is None else next(self.entries(key=key), None)
        if known is not None:
            return self._same(known, content)
        row = {**content, "seq": self._seq + 1, "at": stamp(self._clock.now()), "who": who, "previous": self._hash}
        row["hash"] = seal(row)
        with answering(self._url):
            self._connection.execute(insert(ENTRIES).values(row))
            self._connection.execute(update(HEAD).values(seq=row["seq"], hash=row["hash"]))
        self._seq, self._hash = self._seq + 1, str(row["hash"])
        return self._entry(row)

    def _same(self, known: Entry, content: Json) -> Entry:
        if {**known.model_dump(include=set(content)), "body": canonical(known.body)} == content:
            return known
        found = f"entry {known.seq} ({known.kind}) of other content under the key {known.key!r}"
        raise self._refused(
            found, "one content for each key", "Another step was taken first: read it, and decide again."
        )

    def _refused(self, found: str, expected: str, remedy: str) -> LedgerError:
        return LedgerError(display(self._url), found=found, expected=expected, remedy=remedy)


class Ledger:
    """An append-only, hash-chained ledger in SQLite or PostgreSQL.

    Opening never creates: a ledger that is not there must not read as one that has no champion.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg2://user@host/database``.
        clock: tells the time of entries.
        patience: seconds to wait for the lock that another writer holds.

    Raises:
        StoreError: the URL is no such URL. Every method raises it when the database does not answer.
    """

    def __init__(self, url: str, clock: Clock, *, patience: float = 30.0) -> None:
        self.url, self.clock, self.patience = parse(url), clock, patience
        self._engine = connect(self.url, patience)

    @classmethod
    def create(cls, url: str, clock: Clock, *, patience: float = 30.0) -> Self:
        """Open a ledger, and make it first where there is none; creators may race."""
        create(parse(url), patience)
        ledger = cls(url, clock, patience=patience)
        with ledger.reading() as view:
            view.tip()
        return ledger

    def __repr__(self) -> str:
        return f"Ledger({display(self.url)!r})"

    @contextmanager
    def reading(self) -> Iterator[LedgerView]:
        """Ask several questions of one snapshot, without a lock."""
        with self._connection("BEGIN", "REPEATABLE READ") as connection:
            yield LedgerView(connection, self.url)

    @contextmanager
    def writing(self) -> Iterator[LedgerTransaction]:
        """Hold the ledger's lock: one writer at a time; an error or a kill inside leaves nothing behind.

        Raises:
            LedgerError: the chain's end is not what its head row says.
            StoreError: the lock was not to be had in time, or the database does not answer.
        """
        with self._connection("BEGIN IMMEDIATE", "READ COMMITTED") as connection:
            yield LedgerTransaction(connection, self.url, self.clock)

    def append(
        self,
        kind: Kind,
        *,
        who: str,
        model: str,
        body: Json,
        version: int | None = None,
        promotion: str | None = None,
        key: str | None = None,
    ) -> Entry:
        """Append one entry in a transaction of its own; see `LedgerTransaction.append`."""
        with self.writing() as transaction:
            return transaction.append(
                kind, who=who, model=model, body=body, version=version, promotion=promotion, key=key
            )

    def verify(self, *, expected_heads: Collection[str] = ()) -> ChainReport:
        """Read the whole chain once; see `LedgerView.verify`."""
        with self.reading() as view:
            return view.verify(expected_heads=expected_heads)

    def head(self, model: str) -> ChampionHead | None:
        """Tell the champion; None only when a ledger that answered has none."""
        with self.reading() as view:
            return view.head(model)

    def served_at(self, model: str, at: datetime) -> ChampionHead | None:
        """Tell which version was champion at a moment."""
        with self.reading() as view:
            return view.served_at(model, at)

    def last_good(self, model: str) -> ChampionHead | None:
        """Tell where a rollback goes; see `LedgerView.last_good`."""
        with self.reading() as view:
            return view.last_good(model)

    def history(self, model: str, *, after: int = 0) -> Iterator[Entry]:
        """Stream everything that was recorded of a model after an entry, in order."""
        with self.reading() as view:
            yield from view.entries(model=model, after=after)

    @contextmanager
    def _connection(self, begin: str, isolation: str) -> Iterator[Connection]:
        options = {"sqlite_begin": begin} if self.url.get_backend_name() == "sqlite" else {"isolation_level": isolation}
        with answering(self.url):
            connection = self._engine.connect()
        try:
            with answering(self.url):
                connection = connection.execution_options(**options)
                connection.begin()
            yield connection
            with answering(self.url):
                connection.commit()
        finally:
            connection.close()
