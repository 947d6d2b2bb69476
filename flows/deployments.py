"""Deployments: what a worker runs by itself, on schedule and on event, and how a Prefect server is told of it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.utilities.callables import parameter_schema

from flows.automations import ENDED, automate
from flows.environment import one_at_a_time, open_stores, prepare
from flows.heartbeat import one_heartbeat
from holdfast.errors import ParamsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient

    from holdfast.params import Params
    from holdfast.stores import Stores

POOL = "holdfast"
"""Work pool that a process worker serves."""
PATIENCE = 3600.0
"""Seconds that a run waits for another that holds the same stores, such as a command of a person."""
_RETRIES: dict[str, Any] = {"retries": 2, "retry_delay_seconds": 60}
"""A store that does not answer is asked again; what was finished before is not done again."""


@flow(name="watch", **_RETRIES)
def watch(overlays: list[str], assignments: list[str]) -> None:
    """Watch the windows that have come; a retraining is left to `recover`, which its event starts."""
    with _opened(overlays, assignments) as (params, stores):
        from flows.monitoring import monitoring  # noqa: PLC0415  MLflow reads its settings at import

        monitoring(params, stores, hand_over=True)


@flow(name="recover", **_RETRIES)
def recover(overlays: list[str], assignments: list[str]) -> None:
    """Carry out what was decided about the stream and is not done yet; nothing where there is nothing."""
    with _opened(overlays, assignments) as (params, stores):
        from flows.recovery import recovery  # noqa: PLC0415  as above

        recovery(params, stores)


@flow(name="ask", **_RETRIES)
def ask(overlays: list[str], assignments: list[str]) -> None:
    """Ask a person about the decision that waits for one, on Prefect's page; suspended, it holds no place meanwhile."""
    with _opened(overlays, assignments) as (params, stores):
        from flows.approval import ask_a_person  # noqa: PLC0415  as above

        ask_a_person(params, stores)


@flow(name="nightly", **_RETRIES)
def nightly(overlays: list[str], assignments: list[str]) -> None:
    """Hold the champion to its floors by the nightly pack; it may have to give way to the last good version."""
    with _opened(overlays, assignments) as (params, stores):
        from flows.recovery import reexamination  # noqa: PLC0415  as above

        reexamination(params, stores)


@flow(name="weekly", **_RETRIES)
def weekly(overlays: list[str], assignments: list[str]) -> None:
    """Rehearse the incidents that params list on a copy of the champion."""
    with _opened(overlays, assignments) as (params, stores):
        from flows.drill import drill  # noqa: PLC0415  as above

        drill(params, stores)


@contextmanager
def _opened(overlays: list[str], assignments: list[str]) -> Iterator[tuple[Params, Stores]]:
    """Read params and open stores in the worker's folder, as a command does; secrets come from its environment alone.

    Raises:
        ParamsError: params are wrong.
        StoreError: another run held these stores for longer than `PATIENCE`.
    """
    project = Path.cwd()
    sys.path.insert(0, str(project))  # where the user's model module lives
    try:
        from holdfast.params import load  # noqa: PLC0415  torch takes seconds, which who only deploys need not wait

        params = load(project / "params.yaml", tuple(map(Path, overlays)), tuple(assignments))
        stores = open_stores(params, project)
        prepare(stores)
        with one_heartbeat(), one_at_a_time(stores, patience=PATIENCE):
            yield params, stores
    finally:
        emit_event(ENDED, resource={"prefect.resource.id": f"prefect.flow-run.{flow_run.id}"})


@dataclass(frozen=True)
class Deployment:
    """One flow that is run by itself, for one model."""

    flow: Flow[..., None]
    cron: str | None
    """When, in UTC; None for on event, or by hand."""
    events: frozenset[str] = frozenset()
    """What starts it, besides."""

    def told(self, model: str) -> str:
        """Say it in one line."""
        when = [*([] if self.cron is None else [f"{self.cron} UTC"]), *(f"on {event}" for event in sorted(self.events))]
        return f"{self.flow.name}/{model}: {', '.join(when) or 'by hand'}"


def deployments(params: Params) -> tuple[Deployment, ...]:
    """List what runs by itself for the model of these params.

    Raises:
        ParamsError: a schedule is no cron.
    """
    schedule = params.schedule
    found = [Deployment(nightly, schedule.evaluation)]
    if params.monitoring.stream is not None:
        asking = bool(params.recovery.policy.approve)
        due = frozenset({"holdfast.retrain", *(["holdfast.approval.given"] if asking else [])})
        found += [Deployment(watch, schedule.monitoring), Deployment(recover, None, due)]
        found += [Deployment(ask, None, frozenset({"holdfast.approval.asked"}))] if asking else []
    if params.drills.incidents:
        found.append(Deployment(weekly, schedule.drills))
    for name in ("monitoring", "evaluation", "drills"):
        if (cron := getattr(schedule, name)) is not None:
            _cron(cron, f"schedule.{name}")
    return tuple(found)


def _cron(cron: str, place: str) -> CronSchedule:
    try:
        return CronSchedule(cron=cron, timezone="UTC")
    except ValueError as error:
        raise ParamsError(
            place, found=repr(cron), expected="five fields of cron", remedy='Write it as in "*/15 * * * *".'
        ) from error


def deploy(params: Params, project: Path, overlays: list[str], assignments: list[str], webhook: str | None) -> None:
    """Tell the Prefect server of pool, queue, deployments and automations; told again, it has the same ones.

    One run at a time for each model: its queue hands out no second one. Parameters hold paths and assignments, which
    validation holds free of secrets.

    Args:
        params: what the overlays and assignments come to.
        project: the folder with ``params.yaml``, as the worker sees it.
        overlays: of params, relative to the project.
        assignments: as of ``--set``.
        webhook: URL that notifications are sent to, where ``schedule.notify`` names one.
    """
    wanted = deployments(params)
    with get_client(sync_client=True) as client:
        _pool(client)
        _queue(client, params.name)
        known = {
            each: client.create_deployment(
                flow_id=client.create_flow_from_name(each.flow.name),
                name=params.name,
                entrypoint=f"flows.deployments.{each.flow.fn.__name__}",
                pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(project)}}],
                work_pool_name=POOL,
                work_queue_name=params.name,
                schedules=_schedules(each),
                parameters={"overlays": overlays, "assignments": assignments},
                parameter_openapi_schema=parameter_schema(each.flow).model_dump(exclude_unset=True),
                description=each.flow.description,
                tags=[POOL, params.name],
            )
            for each in wanted
        }
        answers = {each.flow.name: (ident, each.events) for each, ident in known.items() if each.events}
        automate(client, params, answers, webhook)


def _schedules(each: Deployment) -> list[DeploymentScheduleCreate]:
    if each.cron is None:
        return []
    return [DeploymentScheduleCreate(schedule=_cron(each.cron, each.flow.name), active=True)]


def _pool(client: SyncPrefectClient) -> None:
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))


def _queue(client: SyncPrefectClient, model: str) -> UUID:
    try:
        queue = client.read_work_queue_by_name(model, work_pool_name=POOL)
    except ObjectNotFound:
        queue = client.create_work_queue(model, work_pool_name=POOL)
    client.update_work_queue(queue.id, concurrency_limit=1)
    return queue.id
