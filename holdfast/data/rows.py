"""Rows by content: digests that depend on values alone, never on row order, column order or storage type."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pandas as pd

from holdfast.errors import DataError

Array = np.ndarray[Any, np.dtype[Any]]
_EXACT = 2.0**63
"""Whole numbers below this are written as int64, whatever the column's type."""
_INTEGER, _FLOAT, _MISSING, _TEXT, _MOMENT = range(5)


def frame_bytes(frame: pd.DataFrame, place: str) -> Array:
    """Write each row in one way only, as bytes (n, 9 * columns) uint8: a tag and a word for each cell.

    A number is written by its value, so that 3, 3.0 and True of any width agree, and one missing cell that turns a
    column of integers into floats changes no other row. Columns are taken in the order of their names.

    Raises:
        DataError: a column holds something else than numbers, text, booleans or moments.
    """
    names = sorted(frame.columns)
    cells = np.zeros((len(frame), len(names)), dtype=np.dtype([("tag", "u1"), ("word", "<u8")]))
    for i, name in enumerate(names):
        cells["tag"][:, i], cells["word"][:, i] = _column_words(frame[name], place)
    return np.ascontiguousarray(cells).view(np.uint8).reshape(len(frame), 9 * len(names))


def digest_rows(rows: Array, salt: str) -> Array:
    """Digest each row's bytes: sha256 (n, 32) uint8, under a salt that keeps one purpose apart from another.

    Args:
        rows: (n, ...) of any fixed-width type.
        salt: what the digests are for.
    """
    flat = np.ascontiguousarray(rows).reshape(len(rows), math.prod(rows.shape[1:])).view(np.uint8)
    start = hashlib.sha256(f"holdfast {salt}\0{rows.shape[1:]}\0{rows.dtype.str}\0".encode())
    out = bytearray()
    for row in flat:
        total = start.copy()
        total.update(row.data)
        out += total.digest()
    return np.frombuffer(bytes(out), dtype=np.uint8).reshape(len(rows), 32)


def image_digests(content: Array, labels: pd.Series[Any], place: str) -> Array:
    """Digest images with their labels (n,), from the digests of their pixels (n, 32): sha256 (n, 32) uint8."""
    return digest_rows(np.concatenate([content, frame_bytes(labels.to_frame("label"), place)], axis=1), "row")


def words(digests: Array) -> Array:
    """Give the first 8 bytes of each digest (n, 32) as int64 (n,)."""
    return np.ascontiguousarray(digests[:, :8]).view("<i8").ravel().astype(np.int64)


def row_ids(digests: Array) -> Array:
    """Name rows (n,) int64 by content digest (n, 32) and the row's number among its equals: unique, order-free.

    Raises:
        DataError: two rows get one name, which sha256 makes all but impossible.
    """
    content = pd.Series(words(digests))
    number = content.groupby(content).cumcount().to_numpy(dtype="<i8")
    named = np.concatenate([digests, number.view(np.uint8).reshape(-1, 8)], axis=1)
    ids = words(digest_rows(named, "row id"))
    if len(np.unique(ids)) != len(ids):
        raise DataError(
            "row ids", found="two rows with one 64-bit name", expected="a name for each row",
            remedy="Split the data set: this happens by chance at billions of rows only.",
        )  # fmt: skip
    return ids


def _column_words(column: pd.Series[Any], place: str) -> tuple[Array, Array]:
    """Tag (n,) uint8 and word (n,) uint64 of each cell."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    kind = "text"
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        kind = "moment"
    elif pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(column.dtype):
        kind = "number"
    elif pd.api.types.is_object_dtype(column.dtype):
        kind = _kind_of_objects(column, place)
    elif not pd.api.types.is_string_dtype(column.dtype):
        raise _unreadable(column, str(column.dtype), place)
    missing = column.isna().to_numpy()
    if kind == "number":
        tag, word = _number_words(column, missing)
    elif kind == "moment":
        tag = np.full(len(column), _MOMENT, dtype=np.uint8)
        word = moments(column).view(np.uint64)
    else:
        codes, names = pd.factorize(column, use_na_sentinel=True)
        table = [int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:8], "little") for name in names]
        tag = np.full(len(column), _TEXT, dtype=np.uint8)
        word = np.array([*table, 0], dtype=np.uint64)[codes]
    return np.where(missing, _MISSING, tag).astype(np.uint8), np.where(missing, np.uint64(0), word)


def moments(column: pd.Series[Any]) -> Array:
    """Give a column of moments as microseconds since 1970 in UTC (n,) int64; missing ones are the least integer."""
    if getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    return column.to_numpy(dtype="datetime64[us]").view(np.int64)


def _kind_of_objects(column: pd.Series[Any], place: str) -> str:
    held = {type(value) for value in column[column.notna()]}
    if held <= {bool, np.bool_, int, float, np.float64, np.int64}:
        return "number"
    if held <= {str}:
        return "text"
    raise _unreadable(column, " and ".join(sorted(kind.__name__ for kind in held)), place)


def _number_words(column: pd.Series[Any], missing: Array) -> tuple[Array, Array]:
    if pd.api.types.is_integer_dtype(column.dtype) and not missing.any():
        word = column.to_numpy(dtype=column.dtype if isinstance(column.dtype, np.dtype) else np.int64)
        return np.full(len(column), _INTEGER, dtype=np.uint8), word.astype(np.int64).view(np.uint64)
    value = column.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0  # and no negative zero
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(value) & (np.abs(value) < _EXACT) & (value == np.floor(value))
    integer = np.where(whole, value, 0.0).astype(np.int64).view(np.uint64)
    return np.where(whole, _INTEGER, _FLOAT).astype(np.uint8), np.where(whole, integer, value.view(np.uint64))


def _unreadable(column: pd.Series[Any], found: str, place: str) -> DataError:
    return DataError(
        f"{place}, column {column.name}", found=found, expected="numbers, text, booleans or moments",
        remedy="Convert the column, or leave it out of the file.",
    )  # fmt: skip
