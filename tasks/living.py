"""What lives: versions that nobody condemned, and everything that these, the champion and the loop still name."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.errors import DataError
from holdfast.monitoring.watch import SET_ASIDE
from holdfast.results import ModelVersion
from tasks.monitoring import BELIEVED, LABELS, judged_from, open_watch
from tasks.on_record import pending
from tasks.recovery import open_ledger
from tasks.storage import read_manifest
from tasks.windows import admissible

if TYPE_CHECKING:
    from holdfast.data.admission import Manifest
    from holdfast.monitoring.watch import WindowRecord
    from holdfast.params import Params
    from holdfast.recovery.ledger import LedgerView
    from holdfast.results import Json
    from holdfast.stores import Stores

UNREAD = "a version's manifest cannot be read: it may name it"


@dataclass(frozen=True)
class Living:
    """What the ledger says of versions, alive or condemned, of every model that these stores hold."""

    versions: tuple[ModelVersion, ...]
    """Alive: whatever was registered and not condemned, who reigns, and who is about to."""
    condemned: tuple[ModelVersion, ...]
    reigning: frozenset[str]
    """Digests of the champions."""
    lineages: tuple[Json, ...]
    """Of the versions alive."""
    manifests: dict[str, Manifest] = field(default_factory=dict)
    """By md5, those that the lineages name."""
    unread: tuple[str, ...] = ()
    """Those of them that nobody can read any more: what they name is not known."""
    fallen: dict[str, str] = field(default_factory=dict)
    """Manifests of condemned versions alone: md5 to the version."""
    examined: frozenset[str] = frozenset()
    """md5s of the data that was examined last, for each model."""

    def learned(self) -> dict[str, str]:
        """Give the windows that versions alive learned from: digest to the manifest's md5."""
        return {window.digest: md5 for md5, each in self.manifests.items() for window in each.windows}

    def objects(self) -> frozenset[str]:
        """Give the md5 of every object that the versions alive can be restored from."""
        return frozenset(md5 for name, each in self.manifests.items() for md5 in (name, *parts(each)))


def parts(manifest: Manifest) -> tuple[str, ...]:
    """List the objects that a manifest names."""
    return manifest.objects()


def living(stores: Stores) -> Living:
    """Read off the ledger what lives.

    Raises:
        StoreError: the ledger does not answer.
    """
    with open_ledger(stores).reading() as view:
        found = _versions(view)
        examined = {entry.model: str(entry.body["data"]) for entry in view.entries(kinds=("quarantine",))}
        heads = [view.head(model) for model in {version.name for version, _, _ in found}]
    alive = [(version, lineage) for version, lineage, lives in found if lives]
    named = {_manifest(lineage) for _, lineage in alive} - {""}
    read: dict[str, Manifest] = {}
    unread = []
    for md5 in sorted(named):
        try:
            read[md5] = read_manifest(stores.project, md5)
        except DataError:
            unread.append(md5)
    fallen = {
        _manifest(lineage): f"{version.name} version {version.version}"
        for version, lineage, lives in found
        if not lives and _manifest(lineage) not in named | {""}
    }
    return Living(
        versions=tuple(version for version, _ in alive),
        condemned=tuple(version for version, _, lives in found if not lives),
        reigning=frozenset(head.digest for head in heads if head is not None),
        lineages=tuple(lineage for _, lineage in alive), manifests=read, unread=tuple(unread), fallen=fallen,
        examined=frozenset(examined.values()),
    )  # fmt: skip


def _versions(view: LedgerView) -> list[tuple[ModelVersion, Json, bool]]:
    """List every registered version with its lineage, and whether it lives."""
    by_model: dict[str, list[tuple[ModelVersion, Json]]] = defaultdict(list)
    for entry in view.entries(kinds=("registered",)):
        version = ModelVersion(name=entry.model, version=int(entry.version or 0), digest=str(entry.body["digest"]))
        by_model[entry.model].append((version, dict(entry.body["lineage"])))
    found = []
    for model, versions in by_model.items():
        head, condemned = view.head(model), view.condemned(model)
        kept = {int(entry.version or 0) for entry in view.in_flight(model)} | ({head.version} if head else set())
        for version, lineage in versions:
            found.append((version, lineage, version.version in kept or version.version not in condemned))
    return found


def _manifest(lineage: Json) -> str:
    return str(lineage.get("data", {}).get("manifest", ""))


@dataclass(frozen=True)
class Needed:
    """What windows are needed for, each question answered for all of them at once."""

    learned: dict[str, str]
    first: int
    """The first window that is not handled."""
    unfinished: bool
    teachable: frozenset[int]
    screened_by: frozenset[int]
    judges: frozenset[int]
    unread: bool

    @classmethod
    def of(cls, params: Params, stores: Stores, alive: Living, records: tuple[WindowRecord, ...]) -> Needed:
        """Ask ledger and watch."""
        first, decision = pending(params, stores)
        verdicts = open_watch(params, stores).verdicts()
        waiting = [r.position for r in records if r.state in {"escrowed", "admitted"} and r.position not in verdicts]
        place = min(waiting, default=len(records))
        there = [r.position for r in records if r.position < place and r.state not in SET_ASIDE]
        clean = [position for position in there if verdicts.get(position) == "clean"]
        return cls(
            learned=alive.learned(), first=first, unfinished=decision is not None, unread=bool(alive.unread),
            teachable=frozenset(r.position for r in admissible(params, stores, len(records))),
            screened_by=frozenset({*clean[-params.recovery.screening.past :], *range(place, len(records))}),
            judges=_judges(params, stores, records) if records and not alive.unread else frozenset(),
        )  # fmt: skip

    def by(self, record: WindowRecord, *, quarantined: bool) -> str:
        """Say what needs a window, in the order of what weighs most; empty where nothing does."""
        place, aside = record.position, record.state == "quarantined"
        named = self.learned.get(record.digest, "")[:16]
        asked = {
            f"manifest {named} of a version names it": bool(named),
            UNREAD: self.unread,
            "it is not handled yet": place >= self.first,
            "a response is under way": self.unfinished,
            "it is in quarantine: a person may release it (--quarantined)": aside and not quarantined,
            "its labels have not matured": not aside and not record.matured,
            "the next retraining may learn from it": place in self.teachable,
            "the next window is screened by it": not aside and place in self.screened_by,
            "the champion is not judged by it yet": not aside and place in self.judges,
        }
        return next((need for need, there in asked.items() if there), "")


def _judges(params: Params, stores: Stores, records: tuple[WindowRecord, ...]) -> frozenset[int]:
    """List the windows that the champion is still to be judged by."""
    if all(detector.needs not in LABELS for detector in params.panel().detectors.values()):
        return frozenset()
    watch, ledger = open_watch(params, stores), open_ledger(stores)
    head, verdicts = ledger.head(params.name), watch.verdicts()
    since = 0
    if head is not None:
        with ledger.reading() as view:
            entry = next(view.entries(model=params.name, version=head.version, kinds=("registered",)), None)
        since = judged_from(stores.project, entry.body["lineage"]) if entry else 0
    judged = {s.position for s in watch.signals(None if head is None else head.digest) if s.needs in LABELS}
    return frozenset(
        r.position for r in records
        if r.position >= since and verdicts.get(r.position) in BELIEVED and r.position not in judged
    )  # fmt: skip
