"""Pinning: the data that a version learned from becomes what ``data.dvc`` pins, when a person asks for it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from holdfast.data.admission import admit
from holdfast.data.assigned import pinned_manifest
from holdfast.data.pinning import write_pinned
from holdfast.data.source import quick_features
from holdfast.data.table import encode
from holdfast.errors import DataError
from holdfast.results import DataSnapshot, Role, Value
from holdfast.space import Table
from tasks import objects
from tasks.lineage import registered
from tasks.on_record import pending
from tasks.recovery import find_version
from tasks.storage import admitted_parts, materialise, verify
from tasks.versioning import (
    DATA,
    PIN,
    check_out,
    data_files,
    folder_md5,
    hash_path,
    keep_in_cache,
    opened,
    under_way,
)

if TYPE_CHECKING:
    from dvc.repo import Repo

    from holdfast.data.source import Loaded
    from holdfast.params import Params
    from holdfast.results import ModelVersion
    from holdfast.stores import Stores
    from tasks.versioning import Files


class Pin(Value):
    """What ``holdfast data pin --json`` prints."""

    version: int
    """Whose data it is."""
    manifest: str
    """md5 of the manifest that says so; empty where the version was made of pinned data alone."""
    windows: tuple[int, ...] = ()
    """Places of the windows that are laid beside the pinned rows."""
    rows: dict[Role, int] = {}
    """Rows of each role, as the version had them."""
    before: str
    """md5 of ``data/`` that ``data.dvc`` pins now."""
    after: str
    """md5 that it would pin, or does: the same where there is nothing to do."""
    applied: bool = False
    """Whether ``data/`` and ``data.dvc`` were changed."""
    commit: tuple[str, ...] = ()
    """Commands that commit the change."""

    def lines(self) -> list[str]:
        """Say it in a few lines."""
        if self.before == self.after:
            return [f"nothing to do: {PIN} pins the data of version {self.version}, md5 {self.before}"]
        rows = ", ".join(f"{role} {count}" for role, count in self.rows.items())
        first = f"version {self.version}: pinned rows and windows {', '.join(map(str, self.windows))}"
        lines = [first, f"rows: {rows}", f"{PIN}: md5 {self.before}", f"    now: md5 {self.after}"]
        if not self.applied:
            lines[-1] = f"  would: md5 {self.after}"
        told = "commit these, and push with `holdfast data push`:" if self.applied else "--apply does it, and then:"
        return [*lines, told, *(f"  {command}" for command in self.commit)]


def pin(params: Params, stores: Stores, number: int | None = None, *, apply: bool = False) -> Pin:
    """Propose the data of a version as what ``data.dvc`` pins, and with ``apply`` write it to ``data/`` by DVC.

    Every row keeps its name and role, see `holdfast.data.pinning.write_pinned`; git is left to the user.

    Args:
        params: those that the version's data is read with.
        stores: where its lineage and windows are.
        number: of the version; None for the champion.
        apply: write it; without it nothing is changed.

    Raises:
        DataError: the pinned data is not what the version was made from, the windows are rows of it that were
            replayed, a response is under way, or the format cannot hold the rows.
        StoreError: there is no such version, or a store does not answer.
    """
    version = find_version.fn(params, stores, number)
    made_from = DataSnapshot.model_validate(registered(stores, version)["data"])
    before = materialise(stores.project) if apply else verify(stores.project)
    source = stores.project / DATA / params.data.path
    known = pinned_manifest(source)
    if made_from.manifest == known and made_from.manifest:
        return Pin(version=version.version, manifest=known, before=before, after=before)
    if not made_from.manifest:
        _require_pinned(version, made_from, before)
        return Pin(version=version.version, manifest="", before=before, after=before)
    if params.monitoring.stream is not None and params.stream().needs_data:
        raise DataError(
            "data pin", found="windows that are replayed from the pinned data", expected="windows from outside",
            remedy="They are pinned already, as rows of role drill: pinned again, the stream would hold them twice.",
        )  # fmt: skip
    if apply and pending(params, stores)[1] is not None:
        raise DataError(
            "data pin", found="a response that is decided on and not carried out", expected="none under way",
            remedy="`holdfast monitor` carries it out; pin afterwards, for its data lies beside what is pinned now.",
        )  # fmt: skip
    return _laid_out(params, stores, version, made_from.manifest, before, apply=apply)


def _put(parts: Files, scratch: Path, repo: Repo) -> None:
    """Move files into ``data/`` and have DVC pin them; where that fails, what was pinned is there again.

    Args:
        parts: md5 by path below ``data/``.
        scratch: folder in which they lie by name.
        repo: whose.
    """
    data = Path(repo.root_dir) / DATA
    try:
        with under_way(repo, parts):
            for path in parts:
                (scratch / path[-1]).replace(data.joinpath(*path))
            repo.add(str(data))
    except BaseException:
        check_out(repo, data_files(repo) or {}, {})
        raise


def _require_pinned(version: ModelVersion, made_from: DataSnapshot, before: str) -> None:
    if made_from.md5 != before:
        raise DataError(
            PIN, found=f"md5 {before}", expected=f"{made_from.md5}, of which version {version.version} was made",
            remedy=f"No windows are to be pinned: check out {PIN} of revision {made_from.revision}.",
        )  # fmt: skip


def _require_finite(grown: Loaded, version: ModelVersion) -> None:
    """Refuse rows of windows that no model can learn from: a manifest leaves them out, and pinned data cannot.

    Raises:
        DataError: there are some.
    """
    if grown.frame is None or not isinstance(grown.space, Table):
        return
    features = quick_features(encode(grown.frame, grown.space, place=grown.params.path), grown.space)
    wild = ~np.isfinite(features).all(axis=1)
    if grown.window is not None and wild.any():
        places = ", ".join(map(str, np.unique(grown.window[wild]).tolist()))
        raise DataError(
            "data pin", found=f"{int(wild.sum())} rows of windows {places} with numbers beyond what models compute",
            expected="rows that integrity could read",
            remedy=f"Nothing need be pinned: what version {version.version} learned from, which left them out, stays"
            " restorable by its manifest, and the loop goes on beside what is pinned now.",
        )  # fmt: skip


def _laid_out(params: Params, stores: Stores, version: ModelVersion, manifest: str, before: str, *, apply: bool) -> Pin:
    project, name = stores.project, Path(params.data.path)
    base, windows, what = admitted_parts(stores, params, manifest)
    grown = admit(base, windows, what, objects.read_ids(project, what.left_out_md5))
    _require_finite(grown, version)
    scratch = project / ".dvc" / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        parts = write_pinned(base, windows, grown, project / DATA / name, Path(folder), manifest)
        with opened(project, quiet=True) as repo:
            files = data_files(repo) or {}
            fresh = {(*name.parts[:-1], part.name): hash_path(repo, part) for part in parts}
            after = folder_md5(files | fresh)
            if apply:
                keep_in_cache(repo)  # so that what was pinned can be had again
                _put(fresh, Path(folder), repo)
    if apply and (found := verify(project)) != after:
        raise DataError(f"{DATA}/", found=f"md5 {found}", expected=after, remedy="It changed meanwhile: pin again.")
    said = f"Pin the data of {version.name} version {version.version}"
    return Pin(
        version=version.version, manifest=manifest, windows=tuple(window.position for window in what.windows),
        rows={role: summary.rows for role, summary in grown.role_summaries().items()}, before=before, after=after,
        applied=apply, commit=(f"git add {PIN}", f'git commit -m "{said}"'),
    )  # fmt: skip
