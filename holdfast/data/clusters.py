"""Duplicate clusters: which rows are the same row, exactly or nearly, so that no role holds a copy of another's."""

from __future__ import annotations

import hashlib
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = np.ndarray[Any, np.dtype[Any]]
_BLOCK = 512
"""Rows compared at once: half a gigabyte of similarities at a quarter of a million rows."""
_SKETCH = 24
"""Principal coordinates that pairs are first compared on."""


def exact_clusters(digests: Array) -> Array:
    """Group rows of equal content digest.

    Args:
        digests: content digests (n,) int64, equal exactly when rows are.

    Returns:
        Cluster of each row (n,) int64, named by the position of its first row: a row alone names itself.
    """
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    named: Array = first[inverse].astype(np.int64)
    return named


def frame_digests(frame: pd.DataFrame) -> Array:
    """Digest each row's content (n,) int64 over all columns; a missing value equals a missing value."""
    digests: Array = _column_digests(frame).sum(1, dtype=np.uint64).astype(np.int64)
    return digests


def array_digests(rows: Array) -> Array:
    """Digest each row's bytes (n,) int64, for rows (n, ...) of any numeric type."""
    flat = np.ascontiguousarray(rows.reshape(len(rows), -1))
    words = flat.view(np.uint8).reshape(len(flat), flat.shape[1] * flat.itemsize)
    packed = words.view(np.dtype((np.void, words.shape[1]))).ravel()
    return np.asarray(pd.util.hash_array(packed.astype(object), categorize=False)).astype(np.int64)


def differing_clusters(frame: pd.DataFrame, differing: int) -> Array:
    """Group rows that agree in all but at most ``differing`` columns, and rows linked by a chain of such pairs.

    Every choice of columns to leave out is one sort of n sums, since a row's digest is the sum of its columns' digests.

    Args:
        frame: the table (n, d); a missing value equals a missing value.
        differing: columns that may differ, 0 to 2.

    Returns:
        Cluster of each row (n,) int64, named by the position of its first row.
    """
    columns = _column_digests(frame)
    total = columns.sum(1, dtype=np.uint64)
    cluster = exact_clusters(total)
    for left_out in range(1, differing + 1):
        for chosen in combinations(range(columns.shape[1]), left_out):
            rest = total - columns[:, chosen].sum(1, dtype=np.uint64)
            cluster = _merge(cluster, np.arange(len(cluster)), exact_clusters(rest))
    return cluster


def near_clusters(features: Array, threshold: float) -> Array:
    """Group rows whose features correlate at least ``threshold``, and rows linked by a chain of such pairs.

    Brightness and contrast do not matter: rows are centred and scaled to length 1, so that a scalar product is
    the normalised correlation. Pairs are first compared on their principal coordinates; an orthogonal projection
    never lengthens a distance, so none is lost, and 40,000 images take seconds.

    Args:
        features: (n, d), finite; a constant row is near to its exact copies only.
        threshold: least correlation of two near rows, in (0, 1].

    Returns:
        Cluster of each row (n,) int64, named by the position of its first row.

    Raises:
        ValueError: the threshold lies outside (0, 1], or features are not finite.
    """
    if not 0.0 < threshold <= 1.0:
        msg = f"a correlation threshold lies in (0, 1], got {threshold}"
        raise ValueError(msg)
    if not np.isfinite(features).all():
        msg = "features must be finite"
        raise ValueError(msg)
    cluster = exact_clusters(array_digests(features))
    kept = np.flatnonzero(cluster == np.arange(len(cluster)))
    for left, right in _near_pairs(_unit_rows(features[kept]), threshold):
        cluster = _merge(cluster, kept[left], kept[right])
    return cluster


def _column_digests(frame: pd.DataFrame) -> Array:
    """Digest each cell (n, d) uint64, each column under a key of its own."""
    cells = [
        pd.util.hash_pandas_object(frame.iloc[:, i], index=False).to_numpy(dtype=np.uint64)
        for i in range(frame.shape[1])
    ]
    keys = [
        np.uint64(int.from_bytes(hashlib.blake2b(str(i).encode(), digest_size=8).digest(), "big"))
        for i in range(len(cells))
    ]
    mixed = [
        np.asarray(pd.util.hash_array((cell ^ key).view(np.int64)), dtype=np.uint64)
        for cell, key in zip(cells, keys, strict=True)
    ]
    return np.stack(mixed, axis=1) if mixed else np.zeros((len(frame), 0), dtype=np.uint64)


def _unit_rows(features: Array) -> Array:
    """Centre each row and scale it to length 1; constant rows become zero."""
    centred = features.astype(np.float32) - features.mean(1, keepdims=True, dtype=np.float64).astype(np.float32)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(
        length > 1e-6 * (1 + np.abs(features).max(1, keepdims=True)), centred / np.maximum(length, 1e-12), 0
    )


def _near_pairs(unit: Array, threshold: float) -> Iterator[tuple[Array, Array]]:
    """Find pairs of rows (m,), (m,) with a scalar product of at least the threshold, block by block."""
    slack = 1e-5  # float32 rounding of a scalar product of unit rows
    reach = 2.0 - 2.0 * threshold + slack
    sketch = _principal(unit)
    order = np.argsort(sketch[:, 0], kind="stable")
    sketch, first = sketch[order], sketch[order, 0]
    squares = np.square(sketch).sum(1)
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        end = int(np.searchsorted(first, first[stop - 1] + np.sqrt(reach), side="right"))
        distance = squares[start:stop, None] + squares[None, start:end] - 2.0 * sketch[start:stop] @ sketch[start:end].T
        near_left, near_right = np.nonzero(distance <= reach)
        later = near_left < near_right
        left, right = order[start + near_left[later]], order[start + near_right[later]]
        for i in range(0, len(left), 1 << 14):
            a, b = left[i : i + (1 << 14)], right[i : i + (1 << 14)]
            near = np.einsum("ij,ij->i", unit[a], unit[b]) >= threshold - slack
            if near.any():
                yield a[near], b[near]


def _principal(unit: Array) -> Array:
    """Project rows on their leading principal directions (n, at most 24)."""
    _, vectors = np.linalg.eigh((unit.T @ unit).astype(np.float64))
    return unit @ vectors[:, ::-1][:, :_SKETCH].astype(np.float32)


def _merge(cluster: Array, left: Array, right: Array) -> Array:
    """Join the clusters of each pair of rows, and name every cluster by its first row again."""
    n = len(cluster)
    edges = (np.concatenate([left, np.arange(n)]), np.concatenate([right, cluster]))
    graph = coo_array((np.ones(len(edges[0]), dtype=np.int8), edges), shape=(n, n))
    return exact_clusters(connected_components(graph, directed=False)[1])
