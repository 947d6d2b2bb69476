"""MLflow runs of one lifecycle: a parent and a nested run for each stage, found again after a kill."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.params import Params
from holdfast.results import DataSnapshot, Decision, Value
from holdfast.stores import Stores
from tasks import tracking
from tasks.training import training_key


class Runs(Value):
    """Ids of the runs of one lifecycle."""

    lifecycle: str
    training: str
    evaluation: str
    promotion: str


@task(retries=2, retry_delay_seconds=1, cache_policy=NO_CACHE)
def begin(params: Params, stores: Stores, snapshot: DataSnapshot) -> Runs:
    """Open the runs of this lifecycle, or those that a killed start of the same work had opened."""
    key = training_key(params, snapshot)
    tags = {"data.md5": snapshot.md5, "data.revision": snapshot.revision}
    parent = tracking.open_run(stores, params.name, f"lifecycle:{key}", title="lifecycle", tags=tags)
    tracking.log_snapshot(stores, parent, snapshot, "lifecycle")
    nested = {
        stage: tracking.open_run(stores, params.name, f"{stage}:{key}", title=stage, parent=parent)
        for stage in ("training", "evaluation", "promotion")
    }
    return Runs(lifecycle=parent, **nested)


@task(retries=2, retry_delay_seconds=1, cache_policy=NO_CACHE)
def finish(params: Params, stores: Stores, runs: Runs, decision: Decision | None = None) -> None:
    """End the runs, the decision on the parent where there was one to take."""
    for run_id in (runs.promotion, runs.evaluation, runs.training):
        tracking.close_run(stores, run_id)
    decided = {"holdfast.decision": decision.action} if decision and decision.action != "none" else {}
    tracking.close_run(stores, runs.lifecycle, tags={**decided, "holdfast.model": params.name})
