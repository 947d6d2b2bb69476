"""Replicas: the registry's and the local copy of who serves, and of who would serve next, mended by each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.errors import ModelError
from holdfast.params import Params
from holdfast.results import Decision, ModelVersion, Reason, Value
from holdfast.stores import Stores
from tasks import tracking
from tasks.progress import tell
from tasks.recovery import in_registry, open_ledger, record_decision, still_good, verifies
from tasks.responses import announce
from tasks.tracking.artefacts import write_back

if TYPE_CHECKING:
    from holdfast.recovery.ledger import Ledger

BACKUP = "Restore the artefact store from a backup, or roll back; what does not verify answers nothing."


class Copies(Value):
    """Both copies of a version, held against the ledger's digest."""

    version: ModelVersion
    registry: bool
    local: bool | None
    """None where there is none yet: it is fetched when it is asked for."""

    @property
    def whole(self) -> bool:
        """Whether neither is spoilt."""
        return self.registry and self.local is not False

    @property
    def told(self) -> str:
        """Say it in a few words."""
        local = {True: "verifies", False: "is spoilt", None: "is not there yet"}[self.local]
        registry = "verifies" if self.registry else "is spoilt or gone"
        return f"version {self.version.version}: the registry's copy {registry}, the local one {local}"


def examined(params: Params, stores: Stores, ledger: Ledger) -> tuple[Copies, ...]:
    """Verify both copies of the champion, and of the last good version, by the ledger's digests; nothing is changed.

    Raises:
        StoreError: ledger or registry do not answer: an outage says nothing about a copy.
    """
    with ledger.reading() as view:
        heads = [head.reference() for head in (view.head(params.name), view.last_good(params.name)) if head is not None]
    return tuple(_copies(stores, version) for version in heads)


def restored(params: Params, stores: Stores) -> tuple[tuple[str, ...], tuple[Copies, ...]]:
    """Restore each spoilt copy from the one that verifies, read it back, and put it on record.

    Where neither verifies nothing is touched: what lies there may still help a person.

    Returns:
        What was restored, in words; and the versions of which a copy is spoilt still.

    Raises:
        StoreError: ledger or registry do not answer, or the registry takes no file.
    """
    done, lost, ledger = [], [], open_ledger(stores)
    for copies in examined(params, stores, ledger):
        version = copies.version
        if copies.registry and copies.local:
            continue
        if not (copies.registry or copies.local):
            lost.append(copies)
        elif copies.registry:
            still_good(stores, version)
            if copies.local is False:
                done.append(_on_record(params, stores, version, "the local copy", "the registry's"))
        elif _written_back(stores, version):
            done.append(_on_record(params, stores, version, "the registry's copy", "the local one"))
        else:
            lost.append(copies)
    return tuple(done), tuple(lost)


@task(cache_policy=NO_CACHE)
def mend_copies(params: Params, stores: Stores) -> tuple[str, ...]:
    """Restore what is spoilt of the champion and of the last good version; what cannot be is told to a person.

    Raises:
        ModelError: no copy of the champion verifies.
    """
    done, lost = restored(params, stores)
    champion = open_ledger(stores).head(params.name)
    for copies in lost:
        reason = Reason(about="replicas", passed=False, text=f"{copies.told}: nothing was restored")
        alert = Decision(action="alert", champion=champion and champion.reference(), reasons=(reason,))
        tell("recovery", f"version {copies.version.version}: alert: {reason.text}")
        record_decision(params, stores, alert)
        announce(params, alert)
    for copies in lost:
        if champion is not None and copies.version.version == champion.version and not copies.local:
            raise ModelError(
                f"model {params.name}", found=copies.told, expected="a copy of the champion that verifies",
                remedy=BACKUP,
            )  # fmt: skip
    return done


def _copies(stores: Stores, version: ModelVersion) -> Copies:
    local = stores.models / version.digest
    return Copies(
        version=version, registry=in_registry(stores, version),
        local=verifies(local, version) if local.exists() else None,
    )  # fmt: skip


def _written_back(stores: Stores, version: ModelVersion) -> bool:
    """Upload the local copy to where the registry's lies, and tell whether it verifies there then."""
    found = tracking.get_version(stores, version.name, version.version)
    if found is None:  # no file makes up for the version itself
        return False
    return write_back(stores, found, stores.models / version.digest) and in_registry(stores, version)


def _on_record(params: Params, stores: Stores, version: ModelVersion, spoilt: str, good: str) -> str:
    text = f"version {version.version}: {spoilt} was spoilt, and was restored from {good}, digest {version.digest[:16]}"
    body = {"about": "replica", "digest": version.digest, "outcome": text}
    who = stores.named_actor()
    open_ledger(stores).append("run", who=who, model=params.name, version=version.version, body=body)
    tell("recovery", text)
    return text
