"""The history of versions: the headlines of each, of one pack, so that they can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.params import Params
from holdfast.results import Dimension, ModelVersion, StageReport, Value
from holdfast.scorecard import DIMENSIONS, scorecard, tags
from holdfast.stores import Stores
from tasks import tracking
from tasks.drills import drilled
from tasks.progress import tell
from tasks.recovery import open_ledger

if TYPE_CHECKING:
    from holdfast.errors import ModelError


class ScoredVersion(Value):
    """One version's headlines, or why there are none."""

    version: ModelVersion
    headlines: dict[Dimension, str] = {}
    refused: str | None = None
    """Why its model could not be asked; headlines that stand on it from before stay there."""

    def line(self) -> str:
        """Say it in a line."""
        told = self.refused or ", ".join(f"{name} {text}" for name, text in self.headlines.items())
        return f"version {self.version.version}: {'REFUSED: ' if self.refused else ''}{told}"


class History(Value):
    """What ``holdfast evaluate --all-versions --json`` prints: headlines of one pack on the same test rows."""

    pack: str
    pack_digest: str
    versions: tuple[ScoredVersion, ...]
    """Every version of the ledger that the registry still holds, oldest first."""

    @property
    def refused(self) -> tuple[int, ...]:
        """Versions that could not be asked."""
        return tuple(each.version.version for each in self.versions if each.refused)


@task(retries=2, retry_delay_seconds=1, cache_policy=NO_CACHE)
def every_version(params: Params, stores: Stores) -> tuple[ModelVersion, ...]:
    """List the versions that both registry and ledger know, oldest first, each with the ledger's digest."""
    with open_ledger(stores).reading() as view:
        found = [
            (each, view.digest(params.name, each.version)) for each, _, _ in tracking.list_versions(stores, params.name)
        ]
    return tuple(each.model_copy(update={"digest": digest}) for each, digest in found if digest)


@task(retries=2, retry_delay_seconds=1, cache_policy=NO_CACHE)
def headlines(params: Params, stores: Stores, version: ModelVersion, report: StageReport, pack: str) -> ScoredVersion:
    """Condense what a pack found about a version; where the pack is the one of `run`, write it on the version too."""
    card = scorecard((*report.findings, *drilled(stores, version)), pack, params.pack_digest(pack))
    named = tags(card)
    if card.pack_digest == params.pack_digest(params.evaluation.uses.run):
        tracking.tag_version(stores, version, named)
    return ScoredVersion(version=version, headlines={name: named[f"holdfast.{name}"] for name in DIMENSIONS})


def refused(version: ModelVersion, error: ModelError) -> ScoredVersion:
    """Say that a version's model could not be asked; those after it still can."""
    tell("evaluation", f"version {version.version}  refused: {error}")
    return ScoredVersion(version=version, refused=str(error))


def stale(params: Params, stores: Stores) -> tuple[int, ...]:
    """List the versions whose headlines are of another pack than `run` asks now, or that have none."""
    asked = params.pack_digest(params.evaluation.uses.run)
    listed = tracking.list_versions(stores, params.name)
    return tuple(version.version for version, known, _ in listed if known.get("holdfast.pack_digest") != asked)
