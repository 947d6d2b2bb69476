"""Approval asked for on Prefect's page: a run that suspends with a form, and carries the answer to the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import get_client, suspend_flow_run
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Cancelled
from pydantic import Field

from tasks.approval import GIVEN, approve, known_as, question, refuse, waiting
from tasks.progress import tell
from tasks.responses import announce

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from holdfast.params import Params
    from holdfast.stores import Stores

_HELD = (StateType.PAUSED, StateType.SCHEDULED)
"""States of runs that asked and go on, or will: no run of the same queue is under way beside this one."""


class Answer(RunInput):
    """What a person says of a decision that waits: the form on Prefect's page."""

    approve: bool = Field(description="Yes lets it be carried out, no ends it undone.")
    why: str = Field(min_length=3, pattern=r"\S", description="Your reason, for the record.")
    who: str = Field(pattern=r"^\S+( \S+)*$", description="Your name, for the record: Prefect does not tell it.")


def ask_a_person(params: Params, stores: Stores) -> None:
    """Ask about the decision that waits, once, and put the answer on record; `recover` carries out what is approved.

    Suspending ends the process, and the run begins anew when it is resumed. Prefect's answer only knocks, as events do:
    it holds for the decision that was asked about, and only where the ledger says that this one still waits.
    """
    decision = waiting(params, stores)
    key = "" if decision is None else known_as(decision)
    with get_client(sync_client=True) as client:
        own = client.read_flow_run(flow_run.id)
        asked_here = own.empirical_policy.pause_keys or set()
        asked_elsewhere = _asked_elsewhere(client, own.deployment_id, own.id, key)
    if decision is None or (asked_here and key not in asked_here):
        tell("recovery", "the decision does not wait any more: it was approved or refused meanwhile; nothing is done")
        return
    if asked_elsewhere:
        tell("recovery", f"window {decision.position}  {decision.action}: asked already")
        return
    form = Answer.with_initial_data(description=question(params, decision))
    answer = suspend_flow_run(wait_for_input=form, key=key)
    named = stores.model_copy(update={"actor": f"{answer.who}, as said on Prefect's page"})
    position = int(decision.position or 0)
    if answer.approve:
        approve(params, named, position, answer.why)
        announce(params, decision, GIVEN)
    else:
        refuse(params, named, position, answer.why)
    said = "approved" if answer.approve else "refused"
    tell("recovery", f"window {position}  {decision.action}: {said} by {named.actor}")


def _asked_elsewhere(client: SyncPrefectClient, deployment: UUID | None, own: UUID, key: str) -> bool:
    """Tell whether another run asks about this decision; those that ask about others are over, and are closed.

    So are those that nobody can answer: Prefect suspends a run before it keeps the form.
    """
    asks = FlowRunFilter.model_validate(
        {"deployment_id": {"any_": [deployment]}, "state": {"type": {"any_": _HELD}}, "id": {"not_any_": [own]}}
    )
    found = False
    for run in client.read_flow_runs(flow_run_filter=asks):
        asked = run.empirical_policy.pause_keys or set()
        waits = run.state is not None and run.state.is_paused()
        if key not in asked:
            over = "The decision was approved or refused elsewhere." if asked else ""
        else:
            over = "" if not waits or _has_form(client, run) else "It was killed before its question was kept."
            found = found or not over
        if over and waits:
            client.set_flow_run_state(run.id, Cancelled(message=over))
    return found


def _has_form(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Tell whether the server keeps the form of a suspended run, without which it takes no answer."""
    keys = run.state.state_details.run_input_keyset if run.state else None
    return bool(keys and client.filter_flow_run_input(run.id, keys["schema"], limit=1, exclude_keys=set()))
