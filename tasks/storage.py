"""Data snapshots: materialised, verified whenever read, versioned; never committed, and never pinned anew unasked."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import ValidationError

from holdfast.data.admission import AdmittedWindow, Labelled, Manifest, admit
from holdfast.data.assigned import ids_of, pinned_manifest
from holdfast.data.importance import implausible
from holdfast.data.pinning import of_version
from holdfast.data.source import load
from holdfast.data.streams.base import Arrival
from holdfast.digests import digest_json
from holdfast.errors import DataError
from holdfast.results import DataSnapshot
from holdfast.stores import write_atomically
from tasks import objects
from tasks.progress import tell
from tasks.versioning import (
    DATA,
    EMBEDDED,
    PIN,
    check_out,
    data_files,
    folder_md5,
    git_revision,
    keep_in_cache,
    listing,
    opened,
    pinned_md5,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from holdfast.data.source import Loaded
    from holdfast.params import Params
    from holdfast.stores import Stores

_KEPT = 3
"""Sets of rows that stay in memory: as found, without what is quarantined, and with the champion's windows."""
_loaded: OrderedDict[tuple[str, str], Loaded] = OrderedDict()
_contents: dict[tuple[str, ...], str] = {}
"""Digest of the rows that were read of some bytes, by project, md5, params and the rows that are left out."""
_lock = Lock()


def materialise(project: Path) -> str:
    """Make ``data/`` what ``data.dvc`` pins: from the embedded files, else from DVC's cache, else from its remote.

    Nothing that cannot be had again is overwritten or deleted, and ``data.dvc`` is never written.

    Returns:
        The md5 of ``data/``.

    Raises:
        DataError: ``data/`` holds something else, or the data is in none of these places.
    """
    with opened(project) as repo:
        pinned = pinned_md5(repo)
        present = data_files(repo)
        if present is not None and folder_md5(present) == pinned:
            return pinned
        embedded = listing(repo, project / EMBEDDED) or {}
        lacking = {path: md5 for path, md5 in embedded.items() if path not in (present or {})}
        if folder_md5((present or {}) | lacking) == pinned:
            for path in lacking:
                place(project, project.joinpath(EMBEDDED, *path), project.joinpath(DATA, *path))
            keep_in_cache(repo)
        else:
            check_out(repo, present or {}, embedded)
    return verify(project)


def verify(project: Path) -> str:
    """Hash every byte of ``data/`` as DVC does, believing no cached hash, and give the md5 that ``data.dvc`` pins.

    Raises:
        DataError: the bytes are others, or there are none.
    """
    with opened(project) as repo:
        pinned, present = pinned_md5(repo), data_files(repo)
        found = None if present is None else folder_md5(present)
        if found != pinned:
            raise DataError(
                f"{DATA}/",
                found=f"md5 {found}" if found else "no such folder",
                expected=f"md5 {pinned}, as {PIN} pins",
                remedy=f"`holdfast data` restores what is missing; `dvc checkout` drops changes made in {DATA}/;"
                " `holdfast data add PATH` pins a file of yours.",
            )  # fmt: skip
    return pinned


def revision(project: Path) -> str:
    """Give the git revision that the working copy is at.

    Returns:
        The commit; with ``-dirty`` behind it where a tracked file is not as committed there; ``none`` outside git.
    """
    with opened(project) as repo:
        return git_revision(repo)


def snapshot(params: Params, stores: Stores, excluded_ids: AbstractSet[int] = frozenset()) -> DataSnapshot:
    """Verify the pinned data, read it, part it into roles, and give the reference that travels.

    Args:
        params: ``name`` and ``data`` are read.
        stores: the list of quarantined ids is kept there under its digest, so that ``load_data`` finds it again.
        excluded_ids: ids of quarantined rows; those that this data does not hold are not counted.

    Raises:
        DataError: the data is not what is pinned, or not what params say.
    """
    data = _read(stores, params, verify(stores.project), excluded_ids)
    md5, file_md5 = _measured(stores.project, params.data.path)
    if quarantined := data.quarantined():
        ids = sorted(int(row) for row in data.ids[data.excluded])
        write_atomically(_excluded_path(stores, quarantined), json.dumps(ids))
    return DataSnapshot(
        name=params.name, path=f"{DATA}/{params.data.path}", md5=md5, file_md5=file_md5,
        revision=revision(stores.project), rows=len(data), period=data.period, roles=data.role_summaries(),
        quarantined=quarantined, content=data.digest, last_window=data.last_window,
    )  # fmt: skip


def load_data(stores: Stores, params: Params, snapshot: DataSnapshot) -> Loaded:
    """Give the rows that a snapshot refers to; bytes are verified whenever they are read, and read once a process.

    Raises:
        DataError: the data, its roles or the quarantine are not what the snapshot says.
    """
    key = (str(stores.project), snapshot.content)
    with _lock:
        if key in _loaded:
            _loaded.move_to_end(key)
            return _loaded[key]
    if snapshot.manifest:
        data = _load_admitted(stores, params, snapshot.manifest)
        _remember(stores, data)
    else:
        data = _load_pinned(stores, params, snapshot.md5, snapshot.quarantined)
    if data.digest != snapshot.content:
        raise DataError(
            f"{params.name}: the snapshot {snapshot.content[:16]}", found=f"rows and roles {data.digest[:16]}",
            expected="the same, since the bytes are",
            remedy="The section data of params is another than when the snapshot was taken: set it back, or let"
            " `holdfast run` make a version with this one.",
        )  # fmt: skip
    return data


def _read(stores: Stores, params: Params, md5: str, excluded: AbstractSet[int]) -> Loaded:
    """Read the pinned data, or give what was read before of the very same bytes in the same way.

    Args:
        stores: where the project lies.
        params: how ``data`` is read.
        md5: of ``data/``, taken of every byte just now.
        excluded: ids of quarantined rows.
    """
    how = digest_json(params.data.model_dump(mode="json"))
    key = (str(stores.project), md5, how, digest_json(sorted(excluded)))
    with _lock:
        place = (key[0], _contents.get(key, ""))
        if place in _loaded:
            _loaded.move_to_end(place)
            return _loaded[place]
    data = load(stores.project / DATA, params.data, excluded)
    _remember(stores, data)
    if _measured(stores.project, params.data.path)[0] == md5:  # nobody swapped the bytes while they were read
        with _lock:
            _contents[key] = data.digest
    return data


def _load_pinned(stores: Stores, params: Params, expected: str, quarantined: str) -> Loaded:
    if (md5 := verify(stores.project)) != expected:
        raise _changed(f"{DATA}/ with md5 {md5}", expected)
    return _read(stores, params, md5, _excluded(stores, quarantined))


def read_manifest(project: Path, md5: str) -> Manifest:
    """Read what a retraining learned from, by the md5 that its snapshot names.

    Raises:
        DataError: DVC's cache and remote have it no more, or it is none.
    """
    try:
        return Manifest.model_validate_json(objects.read(project, md5))
    except ValidationError as error:
        raise _changed("no manifest under that name", md5) from error


def _load_admitted(stores: Stores, params: Params, md5: str) -> Loaded:
    if pinned_manifest(stores.project / DATA / params.data.path) == md5:  # pinned since: its base is no more
        known = read_manifest(stores.project, md5)
        faulty = ids_of(stores.project / DATA / params.data.path, {w.position: w.faulty for w in known.windows})
        excluded = _excluded(stores, known.base_quarantined) | faulty
        return of_version(_read(stores, params, verify(stores.project), excluded))
    base, windows, manifest = admitted_parts(stores, params, md5)
    return admit(base, windows, manifest, objects.read_ids(stores.project, manifest.left_out_md5))


def admitted_parts(stores: Stores, params: Params, md5: str) -> tuple[Loaded, list[Labelled], Manifest]:
    """Give what a manifest lays together: the pinned data, windows with their labels, and how.

    Raises:
        DataError: the pinned data is other than the manifest's, or an object is lost.
    """
    manifest = read_manifest(stores.project, md5)
    base = _load_pinned(stores, params, manifest.base_md5, manifest.base_quarantined)
    if base.digest != manifest.base_content:
        raise _changed(f"pinned rows and roles {base.digest[:16]}", manifest.base_content[:16])
    images = base.frame is None
    return base, [_labelled(stores.project, window, images=images) for window in manifest.windows], manifest


def weighed(params: Params, stores: Stores, manifest: Manifest) -> Manifest:
    """Give a manifest that also names the earlier rows which the last windows contradict.

    Raises:
        DataError: the windows cannot be laid beside the pinned data, or are too few to speak for the present.
    """
    md5 = objects.keep(stores.project, manifest.model_dump_json().encode())
    ids = implausible(_load_admitted(stores, params, md5), manifest.recent, params.seed & 0x7FFFFFFF)
    tell(
        "recovery",
        f"{len(ids)} earlier training rows left out: the last {len(manifest.recent)} windows contradict them",
    )
    return manifest.model_copy(update={"left_out_md5": objects.keep_ids(stores.project, ids)})


def _labelled(project: Path, window: AdmittedWindow, *, images: bool) -> Labelled:
    body = io.BytesIO(objects.read(project, window.rows_md5))
    rows = np.load(body, allow_pickle=False) if images else pd.read_parquet(body)
    labels = pd.Series(json.loads(objects.read(project, window.labels_md5)), dtype=object)
    return Labelled(Arrival(window.position, rows), labels)


def admitted_snapshot(params: Params, stores: Stores, base: DataSnapshot, manifest: Manifest) -> DataSnapshot:
    """Keep a manifest under its md5 in DVC's cache, and give the snapshot that it makes of the pinned data.

    Raises:
        DataError: the windows cannot be laid beside the pinned data.
    """
    md5 = objects.keep(stores.project, manifest.model_dump_json().encode())
    data = _load_admitted(stores, params, md5)
    _remember(stores, data)
    return base.model_copy(
        update={
            "manifest": md5, "rows": len(data), "roles": data.role_summaries(), "content": data.digest,
            "last_window": data.last_window,
        }
    )  # fmt: skip


def _measured(project: Path, path: str) -> tuple[str, str]:
    """Hash ``data/`` and the data set in it after they were read, so that a change since `verify` shows in the md5.

    Raises:
        DataError: DVC does not version the data set.
    """
    with opened(project) as repo:
        files = data_files(repo) or {}
    parts = Path(path).parts
    own = {name[len(parts) :]: md5 for name, md5 in files.items() if name[: len(parts)] == parts}
    if not own:
        raise DataError(
            f"{DATA}/{path}", found=f"a data set that {PIN} does not cover", expected="versioned files",
            remedy="Take it out of .dvcignore, and `holdfast data add` it.",
        )  # fmt: skip
    return folder_md5(files), own[()] if () in own else folder_md5(own)


def provenance(stores: Stores, snapshot: DataSnapshot) -> Mapping[str, str]:
    """Say where a snapshot's bytes come from, for the integrity checks.

    Returns:
        ``md5`` of ``data/`` as measured when the snapshot was read, ``expected_md5`` as ``data.dvc`` pins it now.

    Raises:
        DataError: ``data.dvc`` is missing or malformed.
    """
    with opened(stores.project) as repo:
        return {"md5": snapshot.md5, "expected_md5": pinned_md5(repo)}


def place(project: Path, source: Path, target: Path) -> None:
    """Copy a file or folder beside, then move into place: a reader sees all of it or nothing."""
    scratch = project / ".dvc" / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        part = Path(folder) / "part"
        if source.is_dir():
            shutil.copytree(source, part)
        else:
            shutil.copyfile(source, part)
        part.rename(target)


def _remember(stores: Stores, data: Loaded) -> None:
    with _lock:
        _loaded[str(stores.project), data.digest] = data
        while len(_loaded) > _KEPT:
            _loaded.popitem(last=False)


def _excluded_path(stores: Stores, digest: str) -> Path:
    return stores.quarantine / f"excluded-{digest}.json"


def _excluded(stores: Stores, digest: str) -> frozenset[int]:
    """Read the quarantined ids of a snapshot, kept under their digest."""
    if not digest:
        return frozenset()
    path = _excluded_path(stores, digest)
    try:
        ids = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise _changed(words(error), digest) from error
    if digest_json(ids) != digest:
        raise _changed(f"{path.name} with other ids", digest)
    return frozenset(ids)


def _changed(found: str, expected: str) -> DataError:
    return DataError(
        "the snapshot of this run", found=found, expected=f"{expected}, as when the run began",
        remedy="The data changed underneath: run again.",
    )  # fmt: skip
