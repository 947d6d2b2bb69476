"""Objects in DVC's cache: bytes by their md5, so that a retraining's data can be had again by that name alone."""

from __future__ import annotations

import hashlib
from contextlib import redirect_stdout
from pathlib import Path
from sys import stderr
from typing import TYPE_CHECKING, Any

import numpy as np
from dvc_data.hashfile.hash_info import HashInfo

from holdfast.errors import DataError
from tasks.versioning import opened, pinned_objects, translated

if TYPE_CHECKING:
    from collections.abc import Collection

    Array = np.ndarray[Any, np.dtype[Any]]


def keep(project: Path, body: bytes) -> str:
    """Keep bytes in the cache, once, and give the md5 that names them.

    Raises:
        DataError: the cache cannot be written.
    """
    md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
    with opened(project) as repo:
        if not _path(repo.cache.local, md5).exists():
            repo.cache.local.add_bytes(md5, body)
    return md5


def keep_ids(project: Path, ids: Array) -> str:
    """Keep row ids (n,) int64, and give the md5 that names them."""
    return keep(project, np.asarray(ids, dtype="<i8").tobytes())


def read_ids(project: Path, md5: str) -> Array:
    """Give the row ids (n,) that an md5 names; none for an empty one.

    Raises:
        DataError: neither cache nor remote has them.
    """
    return np.frombuffer(read(project, md5) if md5 else b"", dtype="<i8").astype(np.int64)


def read(project: Path, md5: str) -> bytes:
    """Give the bytes that an md5 names, verified: from the cache, else from the configured remote.

    Raises:
        DataError: neither has them, or they are others.
    """
    with opened(project) as repo:
        path = _path(repo.cache.local, md5)
        if not path.exists():
            with translated(project), redirect_stdout(stderr):
                repo.cloud.pull([HashInfo("md5", md5)])
        try:
            body = path.read_bytes()
        except OSError as error:
            raise _lost(md5, "no such object in cache or remote") from error
    if hashlib.md5(body, usedforsecurity=False).hexdigest() != md5:
        raise _lost(md5, "other bytes under that name")
    return body


def held(project: Path, names: Collection[str]) -> dict[str, Path]:
    """Find those of some objects that the cache holds, but for what ``data.dvc`` pins, and the file of each."""
    with opened(project) as repo:
        pinned = pinned_objects(repo)
        found = {md5: _path(repo.cache.local, md5) for md5 in names}
    return {md5: path for md5, path in found.items() if md5 not in pinned and path.exists()}


def send(project: Path, names: tuple[str, ...]) -> None:
    """Send objects to the configured remote.

    Raises:
        DataError: there is no remote, or it does not answer.
    """
    with opened(project, quiet=True) as repo:
        repo.cloud.push([HashInfo("md5", md5) for md5 in names])


def _path(cache: Any, md5: str) -> Path:  # noqa: ANN401  DVC has no types
    return Path(str(cache.oid_to_path(md5)))


def _lost(md5: str, found: str) -> DataError:
    return DataError(
        f"DVC object {md5}", found=found, expected="the bytes that a manifest names",
        remedy="`dvc pull` from the remote that has them, or restore .dvc/cache from a backup.",
    )  # fmt: skip
