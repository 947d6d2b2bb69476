"""The quarantine store: rows set aside, why, and who let which of them go."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import pandas as pd
from pydantic import ValidationError

from holdfast.digests import digest_json
from holdfast.errors import DataError, StoreError
from holdfast.results import Value
from holdfast.stores import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from holdfast.integrity.base import Material
    from holdfast.results import IntegrityFinding


class Release(Value):
    """One person's word that rows may be used, whatever the checks named say of them."""

    rows: tuple[int, ...]
    faults: tuple[tuple[tuple[str, str], ...], ...]
    """For each row, check and rule that held it when it was released; another may hold it again."""
    who: str
    why: str
    at: datetime


class Held(Value):
    """One row in quarantine, by one check."""

    row: int
    check: str
    reason: str
    snapshot: str
    """md5 of the snapshot that it was found in."""
    released: Release | None = None


class _Batch(Value):
    """The rows that one check set aside in one snapshot; beside it lies a Parquet file with their values."""

    snapshot: str
    check: str
    rows: tuple[int, ...]
    reasons: tuple[str, ...]


AnyValue = TypeVar("AnyValue", _Batch, Release)
_REMEDY = "Free space or mend the permissions; nothing was set aside, and nothing may train."


class Quarantine:
    """Rows set aside, as JSON and Parquet in one folder.

    Every file is named by its content and written at once, so adding or releasing twice changes nothing, and a kill
    leaves all of a batch or none. Rows are known by content: a release holds in later snapshots too, against the checks
    that held the row then.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, findings: Iterable[IntegrityFinding], material: Material, snapshot: str) -> int:
        """Set aside the rows of every finding that says quarantine.

        Args:
            findings: what the checks said of this material; blocking ones set nothing aside, since nothing is used.
            material: holds the rows' values.
            snapshot: md5 of the data.

        Returns:
            How many (row, check) pairs are held now and were not before.

        Raises:
            DataError: a finding names rows that the material does not hold.
            StoreError: the folder is full, read-only or corrupt.
        """
        before = {(held.row, held.check, held.snapshot) for held in self.list(snapshot)}
        position = {int(row): i for i, row in enumerate(material.ids)}
        for finding in findings:
            if finding.verdict != "quarantine":
                continue
            if strangers := [row for row in finding.rows if row not in position]:
                raise DataError(
                    f"finding of {finding.check}",
                    found=f"rows that are not in the snapshot, such as {strangers[0]}",
                    expected="rows of the material that was examined",
                    remedy="Add findings with the material they were made on.",
                )
            values = material.frame.iloc[[position[row] for row in finding.rows]]
            self._write(finding, values, snapshot)
        return len({(held.row, held.check, held.snapshot) for held in self.list(snapshot)} - before)

    def list(self, snapshot: str | None = None) -> tuple[Held, ...]:
        """List what was set aside, released or not, in one snapshot or in all.

        Raises:
            StoreError: a file is not what was written.
        """
        released = self._released()
        held = {
            (batch.snapshot, batch.check, row, _rule(reason)): Held(
                row=row, check=batch.check, reason=reason, snapshot=batch.snapshot,
                released=released.get((row, batch.check, _rule(reason))),
            )
            for batch in self._read("batches", _Batch)
            if snapshot is None or batch.snapshot == snapshot
            for row, reason in zip(batch.rows, batch.reasons, strict=True)
        }  # fmt: skip
        return tuple(held[key] for key in sorted(held))

    def excluded(self, snapshot: str | None = None) -> set[int]:
        """Give the ids of rows that any check ever held, and nobody released from it."""
        return {held.row for held in self.list(snapshot) if held.released is None}

    def holding(self, findings: Iterable[IntegrityFinding]) -> set[int]:
        """Give the ids of rows that must not be used: those that these findings set aside and nobody released.

        What an earlier check held, with other settings or another seed, is not among them: what may train follows from
        the data, the checks and what people released, never from what was once tried in the same stores.

        Raises:
            StoreError: a file is not what was written.
        """
        released = self._released()
        return {
            row
            for finding in findings
            if finding.verdict == "quarantine"
            for row in finding.rows
            if (row, finding.check, _rule(_reason(finding, row))) not in released
        }

    def _released(self) -> dict[tuple[int, str, str], Release]:
        """Give the last release of each row from each rule of a check."""
        return {
            (row, check, rule): release
            for release in sorted(self._read("releases", Release), key=lambda one: one.at)
            for row, faults in zip(release.rows, release.faults, strict=True)
            for check, rule in faults
        }

    def release(self, rows: Sequence[int], who: str, why: str, at: datetime) -> int:
        """Let rows go, on a named person's word.

        Returns:
            How many rows were excluded and are not any more.

        Raises:
            DataError: nobody or nothing is named, or a row was never in quarantine.
            StoreError: the folder is full, read-only or corrupt.
        """
        if not (who.strip() and why.strip()):
            raise DataError(
                "release from quarantine", found="no name or no reason", expected="who releases the rows, and why",
                remedy="Name both.",
            )  # fmt: skip
        faults: dict[int, set[tuple[str, str]]] = {}
        for held in self.list():
            faults.setdefault(held.row, set()).add((held.check, _rule(held.reason)))
        if strangers := sorted(set(rows) - set(faults)):
            raise DataError(
                "release from quarantine",
                found=f"row {strangers[0]}, which was never set aside",
                expected="rows that `holdfast data quarantine` lists",
                remedy="Check the ids; nothing was released.",
            )
        free = sorted(set(rows) & self.excluded())
        if free:
            holding = tuple(tuple(sorted(faults[row])) for row in free)
            self._put("releases", Release(rows=tuple(free), faults=holding, who=who, why=why, at=at))
        return len(free)

    def redundant(self, needed: AbstractSet[str]) -> tuple[str, ...]:
        """Name batches without which the very same rows stay excluded, the oldest first.

        A batch counts whose rows are all released, or held by another batch that stays. A release is a person's word
        and never among them.

        Args:
            needed: md5s of snapshots whose batches stay in any case.

        Raises:
            StoreError: a file is not what was written.
        """
        released = self._released()
        batches = {batch.fingerprint(): batch for batch in self._read("batches", _Batch)}
        held = {
            name: [
                row for row, reason in zip(b.rows, b.reasons, strict=True)
                if (row, b.check, _rule(reason)) not in released
            ]
            for name, b in batches.items()
        }  # fmt: skip
        holders = Counter(row for rows in held.values() for row in rows)
        spare = []
        for name in sorted(batches, key=lambda name: self._files(name)[0].stat().st_mtime):
            if batches[name].snapshot not in needed and all(holders[row] > 1 for row in held[name]):
                holders.subtract(held[name])
                spare.append(name)
        return tuple(spare)

    def batches(self) -> dict[str, tuple[Path, ...]]:
        """List all batches by name, each with the files that hold it."""
        return {path.stem: self._files(path.stem) for path in sorted((self.folder / "batches").glob("*.json"))}

    def discard(self, name: str) -> None:
        """Delete a batch; killed in between it is gone, and a table without a name is left."""
        for path in self._files(name):
            path.unlink(missing_ok=True)

    def _files(self, name: str) -> tuple[Path, ...]:
        return tuple(self.folder / "batches" / f"{name}.{kind}" for kind in ("json", "parquet"))

    def rows(self, snapshot: str | None = None) -> pd.DataFrame:
        """Give the values of rows set aside, with columns ``_row``, ``_check`` and ``_reason`` in front."""
        tables = []
        for batch in self._read("batches", _Batch):
            if snapshot is None or batch.snapshot == snapshot:
                path = self.folder / "batches" / f"{batch.fingerprint()}.parquet"
                try:
                    table = pd.read_parquet(path)
                except (OSError, ValueError) as error:
                    raise _corrupt(path) from error
                for place, (name, values) in enumerate(
                    {"_row": batch.rows, "_check": batch.check, "_reason": batch.reasons}.items()
                ):
                    table.insert(place, name, list(values) if isinstance(values, tuple) else values)
                tables.append(table)
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["_row", "_check", "_reason"])

    def _write(self, finding: IntegrityFinding, values: pd.DataFrame, snapshot: str) -> None:
        reasons = tuple(_reason(finding, row) for row in finding.rows)
        batch = _Batch(snapshot=snapshot, check=finding.check, rows=finding.rows, reasons=reasons)
        mixed = {name: str for name in values.columns if values[name].dtype == object}
        path = self.folder / "batches" / f"{batch.fingerprint()}.parquet"
        if not path.exists():
            write_atomically(path, values.astype(mixed).to_parquet(index=False), remedy=_REMEDY)
        self._put("batches", batch)  # last: a batch exists once its JSON does

    def _put(self, kind: str, value: Value) -> None:
        body = value.model_dump(mode="json")
        path = self.folder / kind / f"{digest_json(body)}.json"
        if not path.exists():
            write_atomically(path, json.dumps(body))

    def _read(self, kind: str, model: type[AnyValue]) -> Iterator[AnyValue]:
        for path in sorted((self.folder / kind).glob("*.json")):
            try:
                value = model.model_validate_json(path.read_bytes())
            except (OSError, ValidationError) as error:
                raise _corrupt(path) from error
            if value.fingerprint() != path.stem:
                raise _corrupt(path)
            yield value


def _reason(finding: IntegrityFinding, row: int) -> str:
    return finding.reasons.get(str(row), finding.reason)


def _rule(reason: str) -> str:
    """Give a reason without its numbers, which move with the data: what the check said of a row, in kind.

    Digits in names stay, and so does what stands before the first colon: two columns have two rules.
    """
    name, colon, told = reason.partition(": ")
    return name + colon + re.sub(r"(?<![\w.])[-+]?\d+(\.\d+)?(e[-+]?\d+)?(?!\w)", "#", told)


def _corrupt(path: Path) -> StoreError:
    return StoreError(
        str(path),
        found="a file that is not what was written",
        expected="an unchanged record, named by its content",
        remedy="Restore the file, or run the integrity stage again after deleting it; find out who changed it.",
    )
