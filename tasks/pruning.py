"""Pruning: what the stores hold is listed with what needs it, and what nothing needs any more is taken, on record."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

from holdfast.data.escrow import Escrow
from holdfast.digests import library_digest
from holdfast.integrity.quarantine import Quarantine
from holdfast.prediction_log import PredictionLog
from holdfast.pruning import Holding, Kind, hold
from holdfast.results import Finding, Value
from holdfast.stores import Stores, WallClock
from tasks import objects
from tasks.drills import kept_key
from tasks.living import UNREAD, Living, Needed, living, parts
from tasks.monitoring import open_watch
from tasks.on_record import pending
from tasks.recovery import in_registry, open_ledger, trusted_champion
from tasks.storage import read_manifest
from tasks.training import TrainedModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from holdfast.data.admission import Manifest
    from holdfast.params import Params

_DOOMED = ".pruned-"
"""Begins the name of a folder that is being deleted: whole or doomed, never half."""
_NAMED = 3
"""Things of one kind that the console names."""


class Pruning(Value):
    """What ``holdfast prune --json`` prints."""

    applied: bool
    """Whether what goes is gone; without ``--apply`` all of it is still there."""
    bytes: int
    """Of what goes."""
    holdings: tuple[Holding, ...]
    """Everything that the stores hold and pruning looks at, with what needs it."""

    def lines(self) -> list[str]:
        """Say it in a few lines: things of one kind that go or stay for one reason together."""
        lines = []
        for (stays, kind, why), group in groupby(sorted(self.holdings, key=_order), key=_order):
            these = list(group)
            names = ", ".join(each.name[:24] for each in these[:_NAMED]) + (", ..." if len(these) > _NAMED else "")
            verb = "keeps" if stays else ("took" if self.applied else "would take")
            size = _human(sum(each.bytes for each in these))
            lines.append(f"{verb} {len(these)} {kind} ({size}): {why}: {names}")
        done = "freed" if self.applied else "would be freed; nothing was deleted, --apply does it"
        return [*lines, f"{_human(self.bytes)} {done}"]


def _order(holding: Holding) -> tuple[bool, str, str]:
    return (not holding.goes, holding.kind, holding.why)


def prune(params: Params, stores: Stores, *, apply: bool = False, quarantined: bool = False) -> Pruning:
    """List what the stores hold, and take what is old and nothing that lives needs.

    The caller holds the run lock: nothing that is under way can be told from what was left behind otherwise. What is
    taken is on record before it is; whatever is cut off is finished by the next call.

    Args:
        params: name the model whose windows and answers are looked at, and how old things may get.
        stores: where to.
        apply: take what goes; without it nothing is changed.
        quarantined: let windows in quarantine go too, that a person may still release.

    Raises:
        LedgerError: the ledger was tampered with: nothing is known to be needed by nobody.
        ProjectionError: the alias names another champion than the ledger.
        StoreError: a store does not answer, or holds something that is not what was written.
    """
    trusted_champion(stores, open_ledger(stores), params.name)
    shelf = _Shelf(params, stores, WallClock().now(), quarantined=quarantined)
    found = tuple(shelf.holdings())
    going = tuple(holding for holding in found if holding.goes)
    if apply and going:
        _record(params, stores, going)
        for holding in going:
            shelf.take(holding)
    return Pruning(applied=apply, bytes=sum(holding.bytes for holding in going), holdings=found)


def _record(params: Params, stores: Stores, going: tuple[Holding, ...]) -> None:
    taken: dict[str, list[str]] = {}
    for holding in going:
        taken.setdefault(holding.kind, []).append(holding.name)
    body = {"about": "prune", "taken": taken, "bytes": sum(holding.bytes for holding in going),
            "days": params.prune.model_dump(mode="json")}  # fmt: skip
    open_ledger(stores).append("run", who=stores.named_actor(), model=params.name, body=body)


@dataclass(frozen=True)
class _Shelf:
    """The stores as one moment sees them: every thing judged, and the hand that takes one."""

    params: Params
    stores: Stores
    now: datetime
    quarantined: bool

    @cached_property
    def living(self) -> Living:
        return living(self.stores)

    @cached_property
    def unfinished(self) -> bool:
        """Whether a response is under way, of whichever model: objects and checkpoints do not say whose they are."""
        known = {version.name for version in (*self.living.versions, *self.living.condemned)}
        every = (self.params.model_copy(update={"name": name}) for name in sorted(known | {self.params.name}))
        return any(pending(each, self.stores)[1] is not None for each in every)

    @cached_property
    def forgotten(self) -> datetime:
        """The moment before which answers may go: at midnight, so that one day's prunes name one moment."""
        day = self.now.replace(hour=0, minute=0, second=0, microsecond=0)
        return day - timedelta(days=self.params.prune.records)

    def holdings(self) -> Iterator[Holding]:
        yield from self._answers()
        yield from self._windows()
        yield from self._rows()
        yield from self._objects()
        yield from self._models()
        yield from self._checkpoints()
        yield from self._shards()
        yield from self._results()
        yield from self._sandboxes()
        yield from self._leftovers()

    def take(self, holding: Holding) -> None:
        if holding.kind == "answers":
            PredictionLog(self.stores.predictions, WallClock()).forget(self.params.name, self.forgotten)
        elif holding.kind == "window":
            self._take_window(int(holding.name), holding.why)
        elif holding.kind == "rows":
            Quarantine(self.stores.quarantine).discard(holding.name)
        elif holding.kind == "object":
            self.cached[holding.name].unlink(missing_ok=True)
        elif holding.kind == "result":
            _raze(self.stores.results.folder / holding.name[:2] / f"{holding.name}.json")
        else:
            folders = {"exclusion": self.stores.quarantine, "model": self.stores.models, "leftover": self.stores.root,
                       "checkpoint": self.stores.checkpoints, "shards": self.stores.shards,
                       "sandbox": self.stores.root / "drills"}  # fmt: skip
            _raze(folders[holding.kind] / holding.name)

    # What cannot be had again

    def _answers(self) -> Iterator[Holding]:
        path, name = self.stores.predictions, self.params.name
        if not path.exists():
            return
        every, old = PredictionLog(path, WallClock()).aged(name, self.forgotten)
        each = path.stat().st_size / max(every, 1)
        until = self.forgotten.date().isoformat()
        if old:
            yield Holding(kind="answers", name=f"before {until}", bytes=round(each * old), goes=True,
                          why=f"{old} answers of {name}; new ones take their room inside the file")  # fmt: skip
        if every > old:
            yield Holding(kind="answers", name=f"since {until}", bytes=round(each * (every - old)), goes=False,
                          why=f"{every - old} answers of {name}, not {self.params.prune.records} days old")  # fmt: skip

    def _windows(self) -> Iterator[Holding]:
        watch = open_watch(self.params, self.stores)
        records = watch.windows()
        needed = Needed.of(self.params, self.stores, self.living, records)
        escrow = Escrow(self.stores.escrow)
        for record in records:
            files = escrow.files(record.digest, record.labels)
            if record.state != "pruned" and files:
                spare = "it was handled, and nothing can learn from it or be judged by it any more"
                if record.state == "quarantined":
                    spare = "it is in quarantine, and nobody released it"
                yield self._hold("window", str(record.position), *files, least=self.params.prune.records,
                                 needed=needed.by(record, quarantined=self.quarantined), spare=spare)  # fmt: skip

    def _take_window(self, position: int, why: str) -> None:
        watch, escrow = open_watch(self.params, self.stores), Escrow(self.stores.escrow)
        mine = next({w.digest, w.labels} for w in watch.windows() if w.position == position)
        watch.prune(position, why)  # first: files that are left then belong to nobody
        for path in escrow.files(*sorted(mine - watch.held())):  # other places and models may have the same
            path.unlink(missing_ok=True)

    def _rows(self) -> Iterator[Holding]:
        store, least = Quarantine(self.stores.quarantine), self.params.prune.records
        data = [lineage.get("data", {}) for lineage in self.living.lineages]
        used = {str(each.get("file_md5", "")) for each in data} | self.living.examined
        spare = set(store.redundant(used))
        for name, files in store.batches().items():
            yield self._hold(
                "rows", name, *files, least=least, spare="every row is released, or held since by another check",
                needed="" if name in spare else "rows that nobody released, or of data that is in use",
            )  # fmt: skip
        named = {str(each.get("quarantined", "")) for each in data}
        named |= {manifest.base_quarantined for manifest in self.living.manifests.values()}
        for path in sorted(self.stores.quarantine.glob("excluded-*.json")):
            mine = path.stem.removeprefix("excluded-") in named
            yield self._hold(
                "exclusion", path.name, path, least=least, spare="no version's data",
                needed="the data of a version leaves these rows out" if mine else "",
            )  # fmt: skip

    @cached_property
    def owners(self) -> dict[str, str]:
        """What each object was made for, manifests last: cut off before one is gone, the rest can still be told."""
        known = self._manifests()
        named = {md5: why for manifest, why in known.values() for md5 in parts(manifest)}
        return named | {name: why for name, (_, why) in known.items()}

    @cached_property
    def cached(self) -> dict[str, Path]:
        """The file of each of these that is here."""
        return objects.held(self.stores.project, self.owners) if self.owners else {}

    def _objects(self) -> Iterator[Holding]:
        alive, least = self.living.objects() | set(self.living.unread), self.params.prune.records
        owners = self.owners
        for md5, path in self.cached.items():
            needed = "a version can be restored from it" if md5 in alive else ""
            if not needed and (self.living.unread or self.unfinished):
                needed = "a response is under way" if self.unfinished else UNREAD
            yield self._hold("object", md5, path, least=least, needed=needed, spare=owners[md5])

    def _manifests(self) -> dict[str, tuple[Manifest, str]]:
        """Give the manifests whose objects may lie in the cache: of versions, and of trainings that gave none."""
        found = {md5: (manifest, "a version's data") for md5, manifest in self.living.manifests.items()}
        told = (w.why.removeprefix("manifest ") for w in open_watch(self.params, self.stores).windows()
                if w.why.startswith("manifest "))  # fmt: skip
        spare = dict.fromkeys(told, "data of a training that gave no version")
        spare |= {md5: f"data of {version} alone, which was condemned" for md5, version in self.living.fallen.items()}
        spare = {md5: why for md5, why in spare.items() if md5 not in found and md5 not in self.living.unread}
        for md5 in objects.held(self.stores.project, tuple(spare)) if spare else ():  # what is here: none is fetched
            found[md5] = (read_manifest(self.stores.project, md5), spare[md5])
        return found

    # What can be had again

    def _models(self) -> Iterator[Holding]:
        names = {v.digest: f"{v.name} version {v.version}" for v in self.living.versions}
        condemned = {v.digest: v for v in self.living.condemned}
        for path in _folders(self.stores.models):
            needed = f"the bytes of {names[path.name]}" if path.name in names else ""
            version = condemned.get(path.name)
            spare = "no version has these bytes"
            if version is not None:
                spare = f"{version.name} version {version.version} was condemned, and the registry has its bytes"
                if not needed and not in_registry(self.stores, version):
                    needed = f"the only good copy of {version.name} version {version.version}, which a person may clear"
            yield self._copy("model", path, needed, spare)

    def _checkpoints(self) -> Iterator[Holding]:
        for path in _folders(self.stores.checkpoints):
            if self.stores.results.get(path.name, TrainedModel) is not None:
                yield self._hold("checkpoint", path.name, path, least=0, spare="its training is finished")
            else:
                needed = "a response is under way" if self.unfinished else ""
                yield self._copy(
                    "checkpoint", path, needed, "a training that was cut off, and that nobody went on with"
                )

    def _shards(self) -> Iterator[Holding]:
        for path in _folders(self.stores.shards):
            if self.stores.results.get(path.name, Finding) is not None:
                yield self._hold("shards", path.name, path, least=0, spare="its attack is finished")
            else:
                yield self._copy("shards", path, "", "an attack that was cut off, and that nobody went on with")

    def _results(self) -> Iterator[Holding]:
        alive = self.living
        keys = {str(lineage.get("key")): "the training of a version" for lineage in alive.lineages}
        keys |= {kept_key(version): "drills of a version" for version in alive.versions}
        subjects = {version.digest for version in alive.versions}
        subjects |= {str(lineage.get("recipe_digest")) for lineage in alive.lineages}
        for path in sorted(self.stores.results.folder.glob("??/*.json")):
            needed = keys.get(path.stem) or _reused(path, subjects)
            yield self._copy("result", path, needed, "computed again when it is asked for")

    def _sandboxes(self) -> Iterator[Holding]:
        for path in _folders(self.stores.root / "drills"):
            reigns = _subject(path / "bundle.json") in self.living.reigning
            yield self._copy(
                "sandbox", path, "drills of the champion go on in it" if reigns else "", "of a champion that was"
            )

    def _leftovers(self) -> Iterator[Holding]:
        root, watch = self.stores.root, open_watch(self.params, self.stores)
        held = watch.held()
        gone = {digest for w in watch.windows() if w.state == "pruned" for digest in (w.digest, w.labels)}
        places = (
            self.stores.models,
            *sorted(self.stores.models.glob("[!.]*")),
            self.stores.checkpoints,
            self.stores.shards,
            root / "drills",
            self.stores.escrow,
            self.stores.quarantine,
        )
        for folder in (*places, *(self.stores.quarantine / kind for kind in ("batches", "releases")),
                       *sorted(self.stores.results.folder.glob("??"))):  # fmt: skip
            for path in sorted(folder.glob(".*")):
                least = 0 if path.name.startswith(_DOOMED) else self.params.prune.copies
                yield self._leftover(path, least, "a kill cut it off")
        for path in sorted(self.stores.escrow.glob("[!.]*")):
            if (digest := path.name.split(".")[0]) not in held:
                least = 0 if digest in gone else self.params.prune.copies
                yield self._leftover(path, least, "of no window that is held")
        for path in sorted((self.stores.quarantine / "batches").glob("*.parquet")):
            if not path.with_suffix(".json").exists():
                yield self._leftover(path, self.params.prune.copies, "a table without its batch")

    def _leftover(self, path: Path, least: int, spare: str) -> Holding:
        return self._hold("leftover", str(path.relative_to(self.stores.root)), path, least=least, spare=spare)

    def _copy(self, kind: Kind, path: Path, needed: str, spare: str) -> Holding:
        return self._hold(kind, path.stem, path, least=self.params.prune.copies, needed=needed, spare=spare)

    def _hold(self, kind: Kind, name: str, *paths: Path, least: int, needed: str = "", spare: str) -> Holding:
        size, written = _measure(paths)
        days = (self.now.timestamp() - written) / 86400
        return hold(kind, name, size, days, least=least, needed=needed, spare=spare)


def _reused(path: Path, subjects: set[str]) -> str:
    """Say whether the next run would find an answer about a version alive here."""
    try:
        origin = json.loads(path.read_bytes())["value"].get("provenance", {})
    except (ValueError, KeyError, TypeError, AttributeError):
        return "it is not what was written: find out who changed it"
    live = origin.get("subject") in subjects and origin.get("library") == library_digest()
    return "the next run reuses it" if live else ""


def _subject(path: Path) -> str:
    """Read which champion a sandbox holds; empty where a kill left it without."""
    return str(json.loads(path.read_text())["digest"]) if path.exists() else ""


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("[!.]*")) if path.is_dir()]


def _measure(paths: Iterable[Path]) -> tuple[int, float]:
    """Give the bytes of files and folders, and when the last of them was written."""
    every = [part for path in paths for part in (path, *(path.rglob("*") if path.is_dir() else ()))]
    told = [part.lstat() for part in every if part.exists() or part.is_symlink()]
    return sum(t.st_size for t in told), max((t.st_mtime for t in told), default=0.0)


def _raze(path: Path) -> None:
    """Delete a file, or a folder as a whole: it loses its name first, so that nobody finds half of it."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    doomed = path if path.name.startswith(_DOOMED) else path.with_name(f"{_DOOMED}{path.name}")
    if doomed != path:
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
    shutil.rmtree(doomed)


def _human(size: int) -> str:
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004  binary units
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
