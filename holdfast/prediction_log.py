"""The prediction log: what was asked of which model, by whom, when, and what it answered."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex, CreateTable

from holdfast.errors import StoreError
from holdfast.results import ModelVersion, Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from sqlalchemy import Engine

    from holdfast.stores import Clock

_METADATA = MetaData()
PREDICTIONS = Table(
    "holdfast_predictions",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("model", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("input", String, nullable=False),
    Column("output", String),
    Column("confidence", Float),
    Column("abstained", Boolean, nullable=False),
    Column("reason", String, nullable=False),
    Column("client", String, nullable=False),
    Index("holdfast_predictions_version", "model", "version", "id"),
    Index("holdfast_predictions_input", "model", "input"),
    sqlite_autoincrement=True,
)
_PATIENCE = 30  # seconds to wait for another writer


class Answer(Value):
    """What a model said of one row."""

    input: str
    """sha256 of the row as the model reads it: its values encoded, or its pixels."""
    output: str | None
    """Name of the class; None where the model abstained."""
    confidence: float | None
    """Probability of the likeliest class in [0, 1]; None where the model gave no finite number."""
    reason: str = ""
    """Why the model abstained; empty where it answered."""

    @property
    def abstained(self) -> bool:
        """Whether there is no answer."""
        return self.output is None


class LoggedAnswer(Answer):
    """An answer as it was logged."""

    id: int
    at: datetime
    version: ModelVersion
    client: str


class PredictionLog:
    """Answers in SQLite, appended in one transaction a batch; a batch is in it whole, or not at all.

    Args:
        path: the database; created where there is none.
        clock: what time it is.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path, self.clock = path, clock
        self._engine: Engine | None = None

    def append(self, version: ModelVersion, answers: Sequence[Answer], client: str) -> None:
        """Write one batch; when this returns, it is on disk.

        Raises:
            StoreError: it could not be written; the answers must not be given.
        """
        at = self.clock.now()
        rows = [
            {
                "at": at, "model": version.name, "version": version.version, "digest": version.digest,
                "input": answer.input, "output": answer.output, "confidence": answer.confidence,
                "abstained": answer.abstained, "reason": answer.reason, "client": client,
            }
            for answer in answers
        ]  # fmt: skip
        with self._answering() as engine, engine.begin() as connection:
            if rows:
                connection.execute(insert(PREDICTIONS), rows)

    def count(self, version: ModelVersion | None = None) -> int:
        """Count the answers, of one version where asked.

        Raises:
            StoreError: the log cannot be read.
        """
        query = select(func.count()).select_from(PREDICTIONS)
        with self._answering() as engine, engine.connect() as connection:
            return int(connection.execute(_only(query, version)).scalar_one())

    def read(self, version: ModelVersion | None = None, after: int = 0, limit: int = 1000) -> tuple[LoggedAnswer, ...]:
        """Read answers in the order of their writing.

        Args:
            version: of this version only, where given.
            after: id of the last answer read before.
            limit: answers at most.

        Raises:
            StoreError: the log cannot be read.
        """
        query = select(PREDICTIONS).where(PREDICTIONS.c.id > after).order_by(PREDICTIONS.c.id).limit(limit)
        with self._answering() as engine, engine.connect() as connection:
            return tuple(_logged(row) for row in connection.execute(_only(query, version)).mappings())

    def served(self, version: ModelVersion, inputs: Collection[str]) -> dict[str, Answer]:
        """Give the last answer that a version's bytes were given out with, for each of some rows that was asked about.

        Args:
            version: whose answers; its digest counts, for one number may hide other bytes.
            inputs: digests of the rows, as `Answer.input` has them.

        Raises:
            StoreError: the log cannot be read.
        """
        asked = func.json_each(json.dumps(list(inputs))).table_valued("value")  # one variable, however many rows
        log = PREDICTIONS.c
        last = select(func.max(log.id)).where(
            log.model == version.name, log.digest == version.digest, log.input.in_(select(asked.c.value))
        )
        query = select(PREDICTIONS).where(log.id.in_(last.group_by(log.input)))
        with self._answering() as engine, engine.connect() as connection:
            return {row["input"]: _answer(row) for row in connection.execute(query).mappings()}

    def aged(self, model: str, before: datetime) -> tuple[int, int]:
        """Count a model's answers, and those of them given before a moment.

        Raises:
            StoreError: the log cannot be read.
        """
        mine = select(func.count()).select_from(PREDICTIONS).where(PREDICTIONS.c.model == model)
        with self._answering() as engine, engine.connect() as connection:
            old = connection.execute(mine.where(PREDICTIONS.c.at < before)).scalar_one()
            return int(connection.execute(mine).scalar_one()), int(old)

    def forget(self, model: str, before: datetime) -> None:
        """Delete a model's answers given before a moment; new ones take their room inside the file.

        Raises:
            StoreError: the log cannot be written; all of them are still there.
        """
        with self._answering() as engine, engine.begin() as connection:
            connection.execute(delete(PREDICTIONS).where(PREDICTIONS.c.model == model, PREDICTIONS.c.at < before))

    @contextmanager
    def _answering(self) -> Iterator[Engine]:
        try:
            if self._engine is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._engine = _open(self.path)
            yield self._engine
        except (SQLAlchemyError, OSError) as error:
            raise StoreError(
                str(self.path),
                found=str(getattr(error, "orig", None) or error).partition("\n")[0],
                expected="a prediction log that can be written",
                remedy="Free space or mend the permissions; nothing is answered that is not logged.",
            ) from error


def _open(path: Path) -> Engine:
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args={"timeout": _PATIENCE})
    event.listen(engine, "connect", _set_up)
    with engine.begin() as connection:
        connection.execute(CreateTable(PREDICTIONS, if_not_exists=True))
        for index in sorted(PREDICTIONS.indexes, key=lambda each: str(each.name)):  # of a file without them too
            connection.execute(CreateIndex(index, if_not_exists=True))
    return engine


def _set_up(connection: Any, _: object) -> None:  # noqa: ANN401  SQLAlchemy's signature
    connection.execute("PRAGMA journal_mode=WAL")  # readers never block the writer
    connection.execute("PRAGMA synchronous=FULL")  # an answer that was given was logged, also after a power cut


def _only(query: Any, version: ModelVersion | None) -> Any:  # noqa: ANN401  any select
    if version is None:
        return query
    return query.where(PREDICTIONS.c.model == version.name, PREDICTIONS.c.version == version.version)


def _answer(row: Any) -> Answer:  # noqa: ANN401  a row mapping
    return Answer(input=row["input"], output=row["output"], confidence=row["confidence"], reason=row["reason"])


def _logged(row: Any) -> LoggedAnswer:  # noqa: ANN401  a row mapping
    return LoggedAnswer(
        id=row["id"], at=row["at"].replace(tzinfo=UTC), input=row["input"], output=row["output"],
        confidence=row["confidence"], reason=row["reason"], client=row["client"],
        version=ModelVersion(name=row["model"], version=row["version"], digest=row["digest"]),
    )  # fmt: skip
