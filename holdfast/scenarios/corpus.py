"""The regression corpus: rows that broke a version once, as any later version can read them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from holdfast.digests import digest_json
from holdfast.errors import DataError
from holdfast.space import Box, Table

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.results import Json

Array = np.ndarray[Any, np.dtype[Any]]
_ORIGINAL, _BITS = 0x7FFFFFFF, 32
_ARRAYS = ("numbers", "names", "labels", "digests", "paths", "subjects")
_BEFORE, _AFTER = 0, 1


@dataclass(frozen=True, eq=False)
class Corpus:
    """Attacked rows with the rows that they came from, by name and in raw units: no version's codes are in them."""

    schema: str
    """Of the data set: see `schema_of`."""
    numbers: Array
    """Numbers (n, 2, d) float32, by feature name, or pixels: before and after the attack; NaN is missing."""
    names: Array
    """Categories (n, 2, k) str by feature name, before and after; empty is missing."""
    labels: Array
    """Names (n,) of the true classes."""
    digests: Array
    """Content digests (n,) int64 of the rows before the attack, over the features alone: their ids change with every
    column that the file gains or loses."""
    paths: Array
    """Scenario (n,) that found each."""
    subjects: Array
    """Digest (n,) of the version that each broke."""

    def __len__(self) -> int:
        return len(self.digests)

    def take(self, index: Array) -> Corpus:
        """Select rows by index (m,) or mask (n,)."""
        return Corpus(self.schema, **{name: getattr(self, name)[index] for name in _ARRAYS})

    def content(self, *, subject: bool = True) -> list[str]:
        """Name each row by all that it holds, with or without the version that it broke."""
        rows = []
        for i in range(len(self)):
            told = [self.labels[i], self.paths[i], *([self.subjects[i]] if subject else []), *self.names[i].ravel()]
            total = hashlib.sha256("\0".join(map(str, told)).encode())
            total.update(np.ascontiguousarray(self.numbers[i], dtype="<f4").tobytes())
            rows.append(total.hexdigest())
        return rows

    def with_more(self, other: Corpus, most: int) -> Corpus:
        """Lay two together and keep ``most`` rows of each subject, those first by content: in any order, the same rows.

        What one version fell for displaces nothing of another's: its own attacks would change what it is asked.

        Raises:
            DataError: the other is of another data set.
        """
        _require(self.schema, other.schema)
        both = Corpus(
            self.schema, **{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in _ARRAYS}
        )
        _, first = np.unique(np.array(both.content()), return_index=True)
        both = both.take(first)
        own = [np.flatnonzero(both.subjects == subject)[:most] for subject in np.unique(both.subjects)]
        return both.take(np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *own])))

    def earlier_than(self, subject: str, unseen: Collection[int]) -> Corpus:
        """Keep what other versions fell for, each row once, and none but of rows that this one never learned from.

        Args:
            subject: this version's digest.
            unseen: content digests of the rows that it is known not to have learned from.
        """
        kept = self.take((self.subjects != subject) & np.isin(self.digests, np.fromiter(unseen, dtype=np.int64)))
        _, first = np.unique(np.array(kept.content(subject=False)), return_index=True)
        return kept.take(np.sort(first))

    def encoded(self, space: Box | Table, classes: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Give rows before and after (n, *shape) in a version's own space, and class indices (n,).

        A category that the version does not know gets its code for such.
        """
        places = {name: place for place, name in enumerate(classes)}
        y = torch.tensor([places[str(label)] for label in self.labels], dtype=torch.int64)
        before, after = (self._inputs(which, space) for which in (_BEFORE, _AFTER))
        return before, after, y

    def _inputs(self, which: int, space: Box | Table) -> Tensor:
        if isinstance(space, Box):
            return torch.from_numpy(self.numbers[:, which].reshape(-1, *space.shape).copy())
        x = np.full((len(self), len(space.features)), np.nan, dtype=np.float32)
        for kind, held in (("number", self.numbers), ("category", self.names)):
            for place, column in enumerate(_by_name(space, kind)):
                told = held[:, which, place]
                x[:, column] = told if kind == "number" else _codes(told, space.features[column].categories)
        return torch.from_numpy(x)

    def to_bytes(self) -> bytes:
        """Write as an npz archive of plain arrays; equal rows give equal bytes."""
        body = io.BytesIO()
        np.savez(body, allow_pickle=False, schema=np.array(self.schema), **{n: getattr(self, n) for n in _ARRAYS})
        return body.getvalue()

    @classmethod
    def from_bytes(cls, body: bytes, schema: str) -> Corpus:
        """Read an archive that `to_bytes` wrote, of this data set; nothing pickled is read.

        Raises:
            DataError: it is of another data set or schema, or no such archive.
        """
        try:
            with np.load(io.BytesIO(body), allow_pickle=False) as held:
                arrays, found = {name: held[name] for name in _ARRAYS}, str(held["schema"])
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(
                "regression corpus", found=f"{type(error).__name__}: {error}", expected="an archive of attacked rows",
                remedy="Restore it from a backup, or delete it: a corpus begins anew.",
            ) from error  # fmt: skip
        _require(schema, found)
        return cls(found, **arrays)


def none_yet(schema: str, space: Box | Table) -> Corpus:
    """Give a corpus without rows."""
    numbers, names = _widths(space)
    text = np.zeros(0, dtype="<U1")
    return Corpus(
        schema, numbers=np.zeros((0, 2, numbers), dtype=np.float32), names=np.zeros((0, 2, names), dtype="<U1"),
        labels=text, digests=np.zeros(0, dtype=np.int64), paths=text, subjects=text,
    )  # fmt: skip


def successes(
    schema: str,
    space: Box | Table,
    classes: Sequence[str],
    rows: Samples,
    digests: Array,
    adversarial: Tensor,
    path: str,
    subject: str,
) -> Corpus:
    """Take what an attack broke a version with out of the version's own codes.

    Rows with a category that the version did not know are left out: nobody could say later what it was.

    Args:
        schema: of the data set.
        space: the version's own.
        classes: in its order.
        rows: points that it was right about, before the attack.
        digests: content digests (n,) int64 of these, over the features alone.
        adversarial: the inputs (n, *shape) that it is wrong about.
        path: the scenario.
        subject: the version's digest.
    """
    sides = [side.detach().cpu().to(torch.float32) for side in (rows.x, adversarial)]
    if isinstance(space, Box):
        numbers, names = [side.flatten(1).numpy() for side in sides], [np.zeros((len(rows), 0), dtype="<U1")] * 2
    else:
        numbers = [side[:, _by_name(space, "number")].numpy() for side in sides]
        names = [_names(side, space) for side in sides]
    n = len(rows)
    found = Corpus(
        schema, numbers=np.stack(numbers, axis=1), names=np.stack(names, axis=1),
        labels=np.array([classes[int(label)] for label in rows.y], dtype=str), digests=digests,
        paths=np.full(n, path), subjects=np.full(n, subject),
    )  # fmt: skip
    return found.take(~(found.names == _STRANGE).any((1, 2)))


def named_ids(corpus: Corpus) -> Array:
    """Name attacked rows by ids (n,) int64: 31 bits of the row before the attack, 32 of what it became.

    By content, whatever order they are kept in; rows of one original are known by it, see `originals_of`.
    """
    became = [int(name[:8], 16) for name in corpus.content(subject=False)]
    return (corpus.digests & _ORIGINAL) << _BITS | np.array(became, dtype=np.int64)


def originals_of(ids: Array) -> Array:
    """Tell by `named_ids` which rows (n,) were one row before they were attacked."""
    return ids >> _BITS


def schema_of(path: str, label: str, space: Box | Table, classes: Sequence[str]) -> str:
    """Name a data set by what its rows mean: file, label, classes, features with their kinds, or the images' shape."""
    if isinstance(space, Box):
        inputs: Json = {"shape": list(space.shape)}
    else:
        inputs = {f.name: [f.kind, *map(str, f.missing)] for f in space.features}
    return digest_json([path, label, sorted(classes), space.kind, inputs])


_STRANGE = "\ufffd"
"""Stands for a category that the version did not know, until such rows are left out."""


def _require(schema: str, found: str) -> None:
    if found != schema:
        raise DataError(
            "regression corpus", found=f"rows of another data set or schema ({found[:16]})", expected=schema[:16],
            remedy="Keep each data set's corpus apart: what broke a model of one means nothing to a model of another.",
        )  # fmt: skip


def _by_name(space: Table, kind: str) -> list[int]:
    """List the columns of one kind in the order of their names, which no version changes."""
    return sorted((i for i, f in enumerate(space.features) if f.kind == kind), key=lambda i: space.features[i].name)


def _widths(space: Box | Table) -> tuple[int, int]:
    if isinstance(space, Box):
        return int(np.prod(space.shape)), 0
    return len(_by_name(space, "number")), len(_by_name(space, "category"))


def _names(x: Tensor, space: Table) -> Array:
    """Name the categories (n, k) of encoded rows (n, features)."""
    columns = _by_name(space, "category")
    named = np.zeros((len(x), len(columns)), dtype=object)
    for place, column in enumerate(columns):
        known = space.features[column].categories
        named[:, place] = [
            "" if np.isnan(code) else known[round(code)] if round(code) < len(known) else _STRANGE
            for code in x[:, column].tolist()
        ]
    return named.astype(str) if named.size else np.zeros((len(x), len(columns)), dtype="<U1")


def _codes(names: Array, categories: tuple[str, ...]) -> Array:
    table: dict[str, float] = {name: float(code) for code, name in enumerate(categories)}
    return np.array(
        [np.nan if name == "" else table.get(str(name), float(len(categories))) for name in names], dtype=np.float32
    )
