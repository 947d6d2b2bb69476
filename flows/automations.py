"""Automations as code: what its event starts, runs without a sign of life closed, people told."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, get_args

from prefect.blocks.webhook import Webhook
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from holdfast.errors import StoreError
from holdfast.results import Action
from tasks.responses import HINDERED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.actions import ActionTypes
    from prefect.events.schemas.automations import ResourceSpecificationDict

    from holdfast.params import Params

_ENDS = frozenset(f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed"))
_HEARTBEAT = "prefect.flow-run.heartbeat"
_RUNS: ResourceSpecificationDict = {"prefect.resource.id": "prefect.flow-run.*"}
_DEPLOYED: ResourceSpecificationDict = {"prefect.resource.role": "deployment"}
"""Their subflows are not matched: they hold no place in a queue, and fail with the run that they are part of."""
SILENCE = timedelta(seconds=120)
"""How long a run may give no sign of life: four heartbeats of `holdfast up`'s runs."""
ENDED = "holdfast.run.ended"
"""A deployed run's own last word. Prefect's reaches its automations a quarter of an hour late where a schedule made the
run: its states are said to follow an event that was never sent, and are held back for that long."""
_BEGIN = timedelta(minutes=30)
"""How long a run may take from being handed to a worker to its first state of its own: longer than they are held."""
_DECISIONS = frozenset(f"holdfast.{action}" for action in (*get_args(Action), HINDERED))
"""What people are told of, once; that one still waits for a person is told to Prefect alone, by each watch."""
_TOLD = "{{ event.event }} {{ event.resource.id }} {{ event.payload | tojson }}"


def automate(
    client: SyncPrefectClient,
    params: Params,
    answers: Mapping[str, tuple[UUID, frozenset[str]]],
    webhook: str | None,
) -> None:
    """Put a model's automations on a server, in the place of those of the same names.

    Args:
        client: of the server.
        params: what names the model, and whom to tell.
        answers: name of a flow to its deployment, and the events of the model that start it.
        webhook: URL of the webhook, where ``schedule.notify`` names one.

    Raises:
        StoreError: the block that ``schedule.notify`` names is not on the server.
    """
    for automation in (*zombies(), *_answering(params, answers), *_telling(client, params, webhook)):
        known = client.read_automations_by_name(automation.name)
        for stale in known[1:]:
            client.delete_automation(stale.id)
        if known:
            # The client sends only what was set, and by that the server cannot tell the kind of an action.
            whole = AutomationCore.model_validate(automation.model_dump(exclude={"owner_resource"}))
            client.update_automation(known[0].id, whole)
        else:
            client.create_automation(automation)


def zombies() -> Iterator[AutomationCore]:
    """Close runs that were killed: those whose heartbeat stopped, and those that a worker took and never began."""
    for name, after, others, within in (
        ("holdfast: heartbeat lost", _HEARTBEAT, {_HEARTBEAT, ENDED}, SILENCE),
        ("holdfast: never begun", "prefect.flow-run.Pending", {"prefect.flow-run.Running", ENDED}, _BEGIN),
    ):
        yield AutomationCore(
            name=name,
            description="A run that was killed does not hold its model's queue for ever.",
            enabled=True,
            trigger=EventTrigger(
                after={after}, expect=_ENDS | others, match=_RUNS, match_related=[_DEPLOYED],
                for_each={"prefect.resource.id"}, posture=Posture.Proactive, threshold=1, within=within,
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message=name)],
        )  # fmt: skip


def resource(model: str) -> str:
    """Name a model as events do."""
    return f"holdfast.model.{model}"


def _answering(params: Params, answers: Mapping[str, tuple[UUID, frozenset[str]]]) -> Iterator[AutomationCore]:
    for flow, (ident, events) in answers.items():
        yield AutomationCore(
            name=f"holdfast: {flow} {params.name}",
            description="The event only knocks: what is to be done, and whether, is read from the ledger.",
            enabled=True,
            trigger=EventTrigger(
                expect=set(events), match={"prefect.resource.id": resource(params.name)}, posture=Posture.Reactive,
                threshold=1, within=timedelta(0),
            ),
            actions=[RunDeployment(source="selected", deployment_id=ident)],
        )  # fmt: skip


def _telling(client: SyncPrefectClient, params: Params, webhook: str | None) -> Iterator[AutomationCore]:
    if params.schedule.notify is None:
        return
    action = _teller(client, params, webhook)
    failed = {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"}
    for name, trigger in (
        ("decisions", EventTrigger(expect=_DECISIONS, match={"prefect.resource.id": resource(params.name)})),
        ("failures", EventTrigger(
            expect=failed, match=_RUNS,
            match_related=[
                _DEPLOYED, {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{params.name}"},
            ],
        )),
    ):  # fmt: skip
        yield AutomationCore(
            name=f"holdfast: tell {name} of {params.name}", description="", enabled=True, trigger=trigger,
            actions=[action],
        )  # fmt: skip


def _teller(client: SyncPrefectClient, params: Params, webhook: str | None) -> ActionTypes:
    """Give the action that tells people; a webhook's URL is kept on the server as a secret, encrypted."""
    if webhook is not None:
        ident = Webhook(url=SecretStr(webhook)).save(f"holdfast-{params.name.replace('_', '-')}", overwrite=True)
        return CallWebhook(block_document_id=ident, payload='{"text": {{ (' + _quoted() + ") | tojson }}}")
    kind, _, name = str(params.schedule.notify).removeprefix("block:").partition("/")
    try:
        block = client.read_block_document_by_name(name, kind)
    except ObjectNotFound as error:
        raise StoreError(
            "schedule.notify", found=f"no block {kind}/{name} on the Prefect server", expected="a notification block",
            remedy="Make it on the server's page, or name a webhook by env:NAME.",
        ) from error  # fmt: skip
    return SendNotification(block_document_id=block.id, subject=f"Holdfast: {params.name}", body=_TOLD)


def _quoted() -> str:
    return "event.event ~ ' ' ~ event.resource.id ~ ' ' ~ (event.payload | tojson)"
