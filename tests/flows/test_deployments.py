"""Deployments, automations and the compose file: what they say, held to params and to each other."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from flows import automations, deployments
from flows.environment import webhook
from flows.services import up
from holdfast.errors import ParamsError, StoreError
from holdfast.params import load
from holdfast.params_files import find_secrets
from holdfast.stores import Stores

REPOSITORY = Path(__file__).parents[2]
STACK = runpy.run_path(str(Path(__file__).with_name("stack.py")))
PARAMS = load(REPOSITORY / "params.yaml")


def with_(*assignments: str, overlay: str | None = None) -> Any:
    return load(
        REPOSITORY / "params.yaml", () if overlay is None else (REPOSITORY / "profiles" / overlay,), assignments
    )


class Server:
    """What a Prefect server is told, and what it has already."""

    def __init__(self, known: tuple[str, ...] = ()) -> None:
        self.known = {
            name: [SimpleNamespace(id=f"id of {name}"), SimpleNamespace(id=f"twin of {name}")] for name in known
        }
        self.told: list[tuple[str, Any]] = []

    def read_automations_by_name(self, name: str) -> list[Any]:
        return self.known.get(name, [])

    def create_automation(self, automation: Any) -> None:
        self.told.append(("create", automation))

    def update_automation(self, ident: str, automation: Any) -> None:
        self.told.append((f"update {ident}", automation))

    def delete_automation(self, ident: str) -> None:
        self.told.append((f"delete {ident}", None))


def test_prefect_yaml_says_what_the_code_says() -> None:
    """Entrypoints, schedules, events, queue and parameters are those that `holdfast deploy` makes of params.yaml."""
    written = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    found = {
        each["entrypoint"]: (
            [s["cron"] for s in each.get("schedules", [])],
            {event for t in each.get("triggers", []) for event in t["expect"]},
            {t["match"]["prefect.resource.id"] for t in each.get("triggers", [])},
            each["work_pool"]["name"], each["work_pool"]["work_queue_name"], each["name"],
        )
        for each in written
    }  # fmt: skip
    assert found == {
        f"flows.deployments.{each.flow.fn.__name__}": (
            [] if each.cron is None else [each.cron], each.events,
            {automations.resource("loans")} if each.events else set(), deployments.POOL, "loans", "loans",
        )
        for each in deployments.deployments(PARAMS)
    }  # fmt: skip
    assert {json.dumps(each["parameters"]) for each in written} == {'{"overlays": [], "assignments": []}'}
    assert all(s["timezone"] == "UTC" for each in written for s in each.get("schedules", []))


def test_what_is_deployed_follows_params() -> None:
    """Without a stream nothing is watched, a schedule that is null is none, and a cron that is none is refused."""
    assert [each.flow.name for each in deployments.deployments(with_(overlay="fashion.yaml"))] == ["nightly"]
    never = deployments.deployments(with_("schedule.monitoring=null", "schedule.evaluation=null"))
    assert [(each.flow.name, each.cron) for each in never] == [("nightly", None), ("watch", None), ("recover", None)]
    assert [each.told("loans") for each in never][1:] == ["watch/loans: by hand", "recover/loans: on holdfast.retrain"]
    asking = deployments.deployments(with_("recovery.policy.approve=[retrain]"))
    assert [each.told("loans") for each in asking][2:] == [
        "recover/loans: on holdfast.approval.given, on holdfast.retrain",
        "ask/loans: on holdfast.approval.asked",
    ]  # fmt: skip
    with pytest.raises(ParamsError, match=r"schedule\.monitoring: found '61"):
        deployments.deployments(with_('schedule.monitoring="61 * * * *"'))
    with pytest.raises(ParamsError, match=r"schedule\.evaluation"):
        with_("schedule.evaluation=daily")


def test_parameters_are_paths_and_assignments_alone() -> None:
    """No flow that is deployed takes anything but lists of text: stores and secrets are the worker's own."""
    for each in deployments.deployments(with_("recovery.policy.approve=[retrain]")):
        schema = deployments.parameter_schema(each.flow).model_dump()
        assert set(schema["properties"]) == set(schema["required"]) == {"overlays", "assignments"}
        assert {json.dumps(p["items"]) for p in schema["properties"].values()} == {'{"type": "string"}'}


def test_automations_are_put_in_the_place_of_their_namesakes() -> None:
    """Told again, a server has each automation once; a twin of it is removed."""
    server: Any = Server()
    idents = [f"00000000-0000-0000-0000-00000000000{number}" for number in (1, 2)]
    answers: Any = {
        "recover": (idents[0], frozenset({"holdfast.retrain"})),
        "ask": (idents[1], frozenset({"holdfast.approval.asked"})),
    }  # fmt: skip
    automations.automate(server, PARAMS, answers, None)
    made = [automation for _, automation in server.told]
    assert [automation.name for automation in made] == [
        "holdfast: heartbeat lost", "holdfast: never begun", "holdfast: recover loans", "holdfast: ask loans",
    ]  # fmt: skip
    for start, (ident, events) in zip(made[2:], answers.values(), strict=True):
        assert start.trigger.expect == events
        assert start.trigger.match.model_dump() == {"prefect.resource.id": "holdfast.model.loans"}
        assert [str(action.deployment_id) for action in start.actions] == [ident]
    assert all(a.trigger.posture.value == "Proactive" and a.trigger.after for a in made[:2])
    again: Any = Server(known=tuple(automation.name for automation in made))
    automations.automate(again, PARAMS, answers, None)
    assert [what for what, _ in again.told] == [
        f"{verb} of {name}" for name in (a.name for a in made) for verb in ("delete twin", "update id")
    ]  # fmt: skip


def test_who_is_told_is_named_and_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook's URL comes from the environment; one that is not there, and one that is written out, are refused."""
    params = with_("schedule.notify=env:HOLDFAST_HOOK")
    monkeypatch.setenv("HOLDFAST_HOOK", "http://127.0.0.1:9/secret")
    assert webhook(params) == "http://127.0.0.1:9/secret"
    assert webhook(PARAMS) is None
    assert webhook(with_("schedule.notify=block:slack-webhook/ops")) is None
    monkeypatch.delenv("HOLDFAST_HOOK")
    with pytest.raises(ParamsError, match=r"schedule\.notify: found environment variable HOLDFAST_HOOK is not set"):
        webhook(params)
    with pytest.raises(ParamsError, match=r"schedule\.notify"):
        with_("schedule.notify=https://hooks.example.org/secret")


def test_people_are_told_of_decisions_and_not_that_one_still_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each watch knocks again while a decision waits: a webhook would be told of it every quarter of an hour."""
    server: Any = Server()
    monkeypatch.setattr(automations, "_teller", lambda *_: automations.RunDeployment(source="inferred"))
    automations.automate(server, with_("schedule.notify=env:HOLDFAST_HOOK"), {}, "http://127.0.0.1:9/secret")
    (telling,) = [made for _, made in server.told if made.name == "holdfast: tell decisions of loans"]
    assert {"holdfast.retrain", "holdfast.alert", "holdfast.rollback", "holdfast.hindered"} <= telling.trigger.expect
    assert not [event for event in telling.trigger.expect if "*" in event or "approval" in event]


def test_services_are_not_brought_up_beside_a_named_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the environment names a server, `up` starts none."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(StoreError, match="another server records the runs"):
        up(PARAMS, Stores.local(tmp_path, tmp_path), [], [], None)
    assert list(tmp_path.iterdir()) == []


def test_the_compose_file_is_whole() -> None:
    """Each service has a health check and starts after those it needs; ports are on loopback; no secret is in it."""
    found = STACK["compose"]({"POSTGRES_PASSWORD": "letters"})
    services = found["services"]
    assert set(services) == {"postgres", "prefect", "mlflow", "worker"}
    for name, service in services.items():
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert {"condition": "service_healthy"} in service.get(
            "depends_on", {"": {"condition": "service_healthy"}}
        ).values()
        assert set(service.get("depends_on", {})) <= set(services)
    assert {n: sorted(s.get("depends_on", {})) for n, s in services.items()} == {
        "postgres": [], "prefect": ["postgres"], "mlflow": ["postgres"], "worker": ["mlflow", "prefect"],
    }  # fmt: skip
    named = {volume.split(":")[0] for s in services.values() for volume in s.get("volumes", [])}
    assert {name for name in named if "/" not in name and "." not in name} == set(found["volumes"])
    text = STACK["COMPOSE"].read_text()
    assert "letters" not in text
    assert (
        find_secrets(
            yaml.safe_load(text.replace("POSTGRES_PASSWORD:", "NAMED:").replace(":${POSTGRES_PASSWORD}@", "@"))
        )
        == []
    )
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        STACK["compose"]({})
    example = (REPOSITORY / "infra" / "example.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in example if line and not line.startswith("#"))
    assert set(settings) == {match[0] for match in STACK["_VARIABLE"].findall(text)} - {"POSTGRES_PASSWORD"} | {
        "POSTGRES_PASSWORD"
    }
    assert settings["POSTGRES_PASSWORD"] == ""
    for mounted in ("databases.sql", "stores.yaml", "Dockerfile"):
        assert (REPOSITORY / "infra" / mounted).exists()
    assert (REPOSITORY / services["worker"]["build"]["dockerfile"]).is_file()
