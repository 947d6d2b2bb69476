"""MLflow runs of one lifecycle: a parent, a nested run for each stage, found again after a kill, always ended."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.errors import StoreError
from holdfast.params import Params
from holdfast.results import DataSnapshot, Decision, ModelVersion, Value
from holdfast.stores import Stores
from tasks import tracking
from tasks.progress import tell
from tasks.training import training_key

if TYPE_CHECKING:
    from collections.abc import Iterator


class Runs(Value):
    """Ids of the runs of one lifecycle."""

    lifecycle: str
    training: str


@task(retries=2, retry_delay_seconds=1, cache_policy=NO_CACHE)
def begin(params: Params, stores: Stores, snapshot: DataSnapshot, former: ModelVersion | None = None) -> Runs:
    """Open the runs of this lifecycle, or those that a killed start of the same work had opened."""
    key = training_key(params, snapshot, former)
    tags = {"data.md5": snapshot.md5, "data.revision": snapshot.revision}
    parent = tracking.open_run(stores, params.name, f"lifecycle:{key}", title="lifecycle", tags=tags)
    tracking.log_snapshot(stores, parent, snapshot, "lifecycle")
    training = tracking.open_run(stores, params.name, f"training:{key}", title="training", parent=parent)
    return Runs(lifecycle=parent, training=training)


@task(retries=2, retry_delay_seconds=1, cache_policy=NO_CACHE)
def about(params: Params, stores: Stores, snapshot: DataSnapshot, version: ModelVersion, stage: str, pack: str) -> str:
    """Open the run of one stage about one version, nested in the lifecycle that made the version.

    One run for each (version, data, pack): what is found about another version never lands in it.
    """
    asked = params.pack_digest(pack)
    return tracking.open_run(
        stores, params.name, f"{stage}:{version.version}:{version.digest}:{snapshot.content}:{asked}",
        title=stage, parent=tracking.parent_run(stores, version),
        tags={"holdfast.version": str(version.version), "holdfast.pack": pack},
    )  # fmt: skip


@task(retries=2, retry_delay_seconds=1, cache_policy=NO_CACHE)
def lifecycle_of(stores: Stores, version: ModelVersion) -> str:
    """Give the id of the lifecycle run that made a version."""
    return tracking.parent_run(stores, version)


@task(retries=2, retry_delay_seconds=1, cache_policy=NO_CACHE)
def finish(stores: Stores, lifecycle: str, nested: tuple[str, ...], decision: Decision | None = None) -> None:
    """End the runs, the decision on the parent where there was one to take."""
    for run_id in nested:
        tracking.close_run(stores, run_id)
    decided: dict[str, str] = {"holdfast.decision": decision.action} if decision and decision.action != "none" else {}
    tracking.close_run(stores, lifecycle, tags=decided)


@contextmanager
def failing(params: Params, stores: Stores, lifecycle: str) -> Iterator[None]:
    """Mark what is still running under a lifecycle as failed when the work inside ends in an error or an interrupt."""
    try:
        yield
    except BaseException:
        try:
            tracking.fail_runs(stores, params.name, lifecycle)
        except StoreError as outage:  # the reason for the failure matters more than its record
            tell("tracking", f"runs stay marked as running: {outage}")
        raise
