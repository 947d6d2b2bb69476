"""Where state lives and what time it is: frozen values handed down, never read from globals."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import SecretStr

from holdfast.digests import digest_json
from holdfast.errors import StoreError
from holdfast.results import Value

AnyValue = TypeVar("AnyValue", bound=Value)


class Clock(Protocol):
    """What time it is: the wall clock in production, stream time in replays."""

    def now(self) -> datetime:
        """Tell the time, with its zone."""
        ...


class WallClock(Value):
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        """Tell the time in UTC."""
        return datetime.now(UTC)


class Stores(Value):
    """Every place that outlives a process. Another set of stores is another world: a drill's sandbox, a test's."""

    project: Path
    """The working copy that holds ``data.dvc`` and ``embedded/``."""
    root: Path
    """Folder of local state."""
    tracking: SecretStr
    """MLflow tracking URI."""
    ledger: SecretStr
    """SQLAlchemy URL of the ledger."""
    stream: SecretStr | None = None
    """SQLAlchemy URL of the database that the stream reads; None where it reads none."""
    actor: str = ""
    """Who acts on these stores; where nobody is named, nothing is recorded that needs a name."""

    @classmethod
    def local(
        cls,
        project: Path,
        root: Path,
        tracking: str | None = None,
        ledger: str | None = None,
        *,
        stream: str | None = None,
        actor: str = "",
    ) -> Stores:
        """Keep everything below one folder, but for what a URL names."""
        return cls(
            project=project,
            root=root,
            tracking=SecretStr(tracking or f"sqlite:///{root / 'mlflow.db'}"),
            ledger=SecretStr(ledger or f"sqlite:///{root / 'ledger.db'}"),
            stream=None if stream is None else SecretStr(stream),
            actor=actor,
        )

    def named_actor(self) -> str:
        """Give the person or service account that acts, for the record.

        Raises:
            StoreError: nobody was named.
        """
        if not self.actor:
            raise StoreError(
                str(self.root), found="stores that name nobody who acts", expected="whoever the record will name",
                remedy="Open the stores as the front door does, or with actor=.",
            )  # fmt: skip
        return self.actor

    @property
    def artifacts(self) -> Path:
        """MLflow's artefacts, where tracking has no server."""
        return self.root / "artifacts"

    @property
    def models(self) -> Path:
        """Model artefacts by digest."""
        return self.root / "models"

    @property
    def results(self) -> ResultStore:
        """Results by cache key."""
        return ResultStore(self.root / "results")

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of trainings under way, by cache key."""
        return self.root / "checkpoints"

    @property
    def shards(self) -> Path:
        """Shards of attacks under way that are done, by the question that they answer."""
        return self.root / "shards"

    @property
    def quarantine(self) -> Path:
        """Quarantined rows, with reasons."""
        return self.root / "quarantine"

    @property
    def escrow(self) -> Path:
        """Windows as they came."""
        return self.root / "escrow"

    @property
    def corpus(self) -> Path:
        """Rows that attacks broke versions with, by model, data set and attack."""
        return self.root / "corpus"

    @property
    def predictions(self) -> Path:
        """The prediction log."""
        return self.root / "predictions.db"

    @property
    def reports(self) -> Path:
        """Report pages, by version."""
        return self.root / "reports"


class ResultStore:
    """Finished work by cache key, as JSON: read back only when the text still has the digest it was written with.

    Pickle is never a result format, and only the file that a key names is ever opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str, kind: type[AnyValue]) -> AnyValue | None:
        """Give the value that was put under this key, or None when there never was one.

        Raises:
            StoreError: the file is there and is not what was written.
        """
        path = self._path(key)
        try:
            body = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refused(path, error) from error
        try:
            record = json.loads(body.decode())
            sound = record["digest"] == digest_json(record["value"])
            value = kind.model_validate(record["value"]) if sound else None
        except (ValueError, KeyError, TypeError):  # no UTF-8, no JSON and no such value are among them
            value = None
        if value is None:
            raise StoreError(
                str(path),
                found="a result that is not what was written",
                expected="unchanged JSON",
                remedy="Delete the file to compute the result again, and find out who changed it.",
            )
        return value

    def put(self, key: str, value: Value) -> None:
        """Keep a value; a reader sees all of it or nothing, also after a kill.

        Raises:
            StoreError: the folder is full or read-only.
        """
        body = value.model_dump(mode="json")
        write_atomically(self._path(key), json.dumps({"digest": digest_json(body), "value": body}))


REMEDY = "Free space or mend the permissions; `holdfast doctor` shows which. Nothing was lost."


def write_atomically(path: Path, body: str | bytes, *, remedy: str = REMEDY) -> None:
    """Write a file so that a kill, or a full disk, leaves the former one or none: bytes on disk before their name is.

    Args:
        path: where to; folders are made.
        body: what; a text is written as UTF-8.
        remedy: what people can do where the folder cannot be written.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    except OSError as error:
        raise refused(path, error, remedy) from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(body.encode() if isinstance(body, str) else body)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise refused(path, error, remedy) from error


def refused(path: Path, error: OSError, remedy: str = REMEDY) -> StoreError:
    """Say of a file system that refused what people can do about it."""
    return StoreError(
        str(path),
        found=error.strerror or type(error).__name__,
        expected="a folder with room that this user may write",
        remedy=remedy,
    )
