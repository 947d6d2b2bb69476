"""On schedule and on event: a drifting stream on real servers, retrained because an automation heard of it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from sqlalchemy import make_url

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
RECOVER = "holdfast: recover tiny"


def test_an_event_starts_the_retraining_that_the_schedule_found_due(world: Any, somebody: Any) -> None:
    """Without its automation a retraining stays decided and undone, watch after watch; with it, it is done once."""
    world.holdfast("run")
    world.stack.start("worker")
    (automation,) = world.until(lambda: world.automations(RECOVER), "automations made")
    world.ask(f"/automations/{automation['id']}", method="DELETE")
    world.stack.wait("worker", 900)
    (due,) = world.until(lambda: world.decided("retrain"), "harm found by the scheduled watch")
    world.until(lambda: world.events("holdfast.retrain") > 1, "a later watch that told of it again")
    assert world.automations(RECOVER) == world.runs("recover") == world.responded() == []
    assert world.decided("retrain") == [due]
    assert world.ledger().head("tiny").version == 1
    world.holdfast("deploy")
    (done,) = world.until(world.responded, "the retraining")
    assert (done.body["position"], done.body["action"], done.body["champion"]) == (due.body["position"], "retrain", 2)
    position = 2  # the last window of the feed
    world.until(lambda: world.entries("decision")[-1].body["position"] == position, "the end of the feed watched")
    world.until(lambda: not world.runs("recover", "SCHEDULED", "PENDING", "RUNNING"), "all that was started ended")
    _hold(world, somebody)
    _nightly(world, ["probes/quality: 0.99"], "COMPLETED")
    (alert,) = [entry for entry in world.decided("alert") if entry.body["position"] is None]
    assert "does not meet the floors either: nothing was demoted" in alert.body["reasons"][-1]["text"]
    assert world.ledger().head("tiny").version == 2


def _hold(world: Any, somebody: Any) -> None:
    """Hold what must be so after one retraining: one candidate, one champion, no window twice, no secret told."""
    assert [entry.version for entry in world.entries("registered")] == [1, 2]
    assert len(world.runs("retraining")) == 1
    assert {run["state_type"] for run in world.runs("recover")} == {"COMPLETED"}
    places = [entry.body["position"] for entry in world.entries("decision") if entry.body["position"] is not None]
    assert places == sorted(set(places))
    head = world.ledger().head("tiny")
    assert world.ledger().verify().valid
    from mlflow import MlflowClient  # noqa: PLC0415  beside its one use

    alias = MlflowClient(world.mlflow, registry_uri=world.mlflow).get_model_version_by_alias("tiny", "champion")
    assert (int(alias.version), alias.tags["holdfast.digest"]) == (head.version, head.digest)
    world.until(lambda: any("holdfast.retrain" in each for each in somebody.told), "somebody told")
    password = make_url(world.secrets["LEDGER_URL"]).password
    told = [world.ask(f"/{kind}/filter", {}) for kind in ("deployments", "flow_runs", "automations")]
    logs = [path.read_text() for path in world.stack.logs.glob("*.log")]
    assert not [each for each in (json.dumps(told), *somebody.told, *logs) if password in each]
    assert world.secrets["HOLDFAST_WEBHOOK"] not in json.dumps(told)
    for host, code in ((f"mlflow:{world.mlflow.rpartition(':')[2]}", 200), ("elsewhere", 403)):
        request = urllib.request.Request(f"{world.mlflow}/", headers={"Host": host})  # noqa: S310  loopback
        try:
            with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310  loopback
                found = response.status
        except urllib.error.HTTPError as error:
            found = error.code
        assert found == code


def _nightly(world: Any, floors: list[str], state: str) -> None:
    """Run the nightly evaluation now, with other floors."""
    deployment = world.ask("/deployments/name/nightly/tiny", method="GET")
    asked = deployment["parameters"] | {"assignments": [f"recovery.gates.floors={{{', '.join(floors)}}}"]}
    run = world.ask(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": asked})
    ended = ("COMPLETED", "FAILED", "CRASHED")
    found = world.until(
        lambda: (one := world.ask(f"/flow_runs/{run['id']}", method="GET"))["state_type"] in ended and one, "nightly"
    )
    assert found["state_type"] == state, found["state"]["message"]
