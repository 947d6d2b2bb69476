"""Services of one machine: brought up once however often it is asked, found by commands, mended, and taken down."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from flows.processes import answers, read_services, services, wait
from flows.services import down

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
REPOSITORY = Path(__file__).parents[2]
TINY = ("--params", "profiles/tiny.yaml", "--set", "schedule.monitoring=null")


LONG = 600.0  # seconds for what takes a minute on a quiet machine
WATCHED = (
    "--set", "monitoring.stream={source: parquet_folder, settings: {path: feed, label: charged_off}}",
    "--set", "monitoring.detectors={harm: {}}", "--set", "monitoring.replays=200",
    "--set", "recovery.policy.least_windows=1", "--set", "training.settings.balance_classes=false",
    "--set", "metric=accuracy",
)  # fmt: skip


@pytest.fixture
def project(bare: Any) -> Any:
    """A project with its data, whose services are down after the test, whatever it came to."""
    bare.holdfast("data")
    yield bare
    down(bare.stores())
    assert bare.no_process_left(), bare.processes()


def post(url: str, body: Any) -> Any:
    """Ask the server, which may be slow among other work."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)  # noqa: S310  loopback
    with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310  loopback
        return json.load(response)


def told(project: Any, about: str, *, expect: int = 0) -> Any:
    """Ask the doctor about one thing."""
    found = project.holdfast("doctor", *TINY, "--json", expect=expect).document["checks"]
    return next(check for check in found if check["about"] == about)


def test_up_is_up_until_it_is_down(project: Any) -> None:
    """Up twice is up once; runs are recorded there; what was killed is started again where it was; down leaves nothing."""
    assert "not up" in told(project, "services")["text"]
    first = project.holdfast("up", *TINY, "--json").document
    assert project.holdfast("up", *TINY, "--json").document == first
    assert first["deployments"] == [
        "nightly/tiny: 0 3 * * * UTC",
        "watch/tiny: by hand",
        "recover/tiny: on holdfast.retrain",
    ]
    api = f"{first['url']}/api"
    with urllib.request.urlopen(first["url"], timeout=60) as page:  # noqa: S310  loopback
        assert "<title>Prefect" in page.read().decode()
    names = [each["name"] for each in post(f"{api}/automations/filter", {})]
    assert sorted(names) == ["holdfast: heartbeat lost", "holdfast: never begun", "holdfast: recover tiny"]
    queues = post(f"{api}/work_pools/holdfast/queues/filter", {})
    assert {queue["name"]: queue["concurrency_limit"] for queue in queues}["tiny"] == 1
    project.run()
    assert [
        run["state_type"] for run in post(f"{api}/flow_runs/filter", {"flows": {"name": {"any_": ["lifecycle"]}}})
    ] == ["COMPLETED"]
    assert first["url"] in told(project, "services")["text"]
    run = post(f"{api}/deployments/{_ident(api, 'watch')}/create_flow_run", {"state": {"type": "PENDING"}})
    for pid in (first["worker"], first["server"]):
        os.killpg(pid, signal.SIGKILL)
    assert wait(lambda: not answers(api), 60)
    assert not told(project, "services", expect=1)["passed"]
    again = project.holdfast("up", *TINY, "--json").document
    assert again["url"] == first["url"]
    assert {again["server"], again["worker"]}.isdisjoint({first["server"], first["worker"]})
    (closed,) = post(f"{api}/flow_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert closed["state_type"] == "CRASHED"
    ended = project.holdfast("down", *TINY, "--json").document["ended"]
    assert {again["server"], again["worker"]} <= set(ended)
    assert project.no_process_left(), project.processes()
    assert read_services(project.stores()) is None
    assert project.holdfast("down", *TINY).out.strip() == "nothing was up"


def test_a_retraining_that_was_killed_is_done_once(project: Any, drifting: Any) -> None:
    """Server, worker and run killed in the middle of it: brought up again, the next watch has it done, once."""
    assert drifting is project
    arguments = (*TINY, *WATCHED)
    project.holdfast("run", *arguments)
    api = f"{project.holdfast('up', *arguments, '--json').document['url']}/api"
    post(f"{api}/deployments/{_ident(api, 'watch')}/create_flow_run", {})
    assert wait(lambda: _runs(api, "training", "RUNNING"), LONG), _runs(api, "watch")
    for pid in services(project.root):
        os.kill(pid, signal.SIGKILL)
    assert wait(lambda: not services(project.root), 60)
    (due,) = [entry for entry in project.entries("decision") if entry.body["action"] == "retrain"]
    assert project.ledger().head("tiny").version == 1
    project.holdfast("up", *arguments)
    assert {run["state_type"] for run in _runs(api, "recover")} == {"CRASHED"}
    post(f"{api}/deployments/{_ident(api, 'watch')}/create_flow_run", {})
    assert wait(lambda: [e for e in project.entries("run") if e.body.get("about") == "response"], LONG), _runs(
        api, "recover"
    )
    assert wait(lambda: not _runs(api, "recover", "SCHEDULED", "PENDING", "RUNNING"), LONG)
    (done,) = [entry for entry in project.entries("run") if entry.body.get("about") == "response"]
    assert (done.body["position"], done.body["champion"]) == (due.body["position"], 2)
    assert [entry.body["position"] for entry in project.entries("decision") if entry.body["position"] is not None] == [
        0
    ]
    project.holdfast("down", *TINY)
    project.hold(versions=2)


def test_a_decision_waits_on_prefects_page_and_holds_up_nothing(project: Any, drifting: Any) -> None:
    """Asked once however often it is told and whatever is killed, it runs when a person says yes, by name and reason."""
    assert drifting is project
    arguments = (*TINY, *WATCHED, "--set", "recovery.policy.approve=[retrain]")
    project.holdfast("run", *arguments)
    api = f"{project.holdfast('up', *arguments, '--json').document['url']}/api"
    post(f"{api}/deployments/{_ident(api, 'watch')}/create_flow_run", {})
    assert wait(lambda: _runs(api, "ask", "PAUSED"), LONG), _runs(api, "ask")
    (asking,) = _runs(api, "ask", "PAUSED")
    for pid in services(project.root):
        os.kill(pid, signal.SIGKILL)
    assert wait(lambda: not services(project.root), 60)
    project.holdfast("up", *arguments)
    post(f"{api}/deployments/{_ident(api, 'watch')}/create_flow_run", {})
    assert wait(lambda: len(_runs(api, "ask", "COMPLETED")) == 1, LONG), _runs(api, "ask")
    assert [run["id"] for run in _runs(api, "ask", "PAUSED")] == [asking["id"]]
    (due,) = [entry for entry in project.entries("decision") if entry.body["action"] == "retrain"]
    assert project.entries("release") == []
    asked = asking["state"]["state_details"]["run_input_keyset"]["description"]
    with urllib.request.urlopen(f"{api}/flow_runs/{asking['id']}/input/{asked}", timeout=60) as page:  # noqa: S310  loopback
        told_of = json.load(page)
    assert "tiny: may the loop retrain?" in told_of
    assert due.body["reasons"][0]["text"] in told_of
    resume, said = f"{api}/flow_runs/{asking['id']}/resume", {"approve": True, "who": "Ada Lovelace"}
    assert post(resume, {"run_input": said})["status"] == "REJECT"
    assert post(resume, {"run_input": said | {"why": "looked at it"}})["status"] == "ACCEPT"
    assert wait(lambda: [e for e in project.entries("run") if e.body.get("about") == "response"], LONG), _runs(
        api, "recover"
    )
    (released,) = project.entries("release")
    assert released.who == "Ada Lovelace, as said on Prefect's page"
    assert (released.body["position"], released.body["why"]) == (due.body["position"], "looked at it")
    (done,) = [entry for entry in project.entries("run") if entry.body.get("about") == "response"]
    assert (done.body["position"], done.body["champion"]) == (due.body["position"], 2)
    assert wait(lambda: len(_runs(api, "ask", "COMPLETED")) == 2, LONG), _runs(api, "ask")
    assert wait(lambda: not _runs(api, "recover", "SCHEDULED", "PENDING", "RUNNING"), LONG)
    assert {run["state_type"] for run in _runs(api, "recover")} == {"COMPLETED"}


def _runs(api: str, flow: str, *states: str) -> list[Any]:
    body: dict[str, Any] = {"flows": {"name": {"any_": [flow]}}}
    if states:
        body["flow_runs"] = {"state": {"type": {"any_": list(states)}}}
    return post(f"{api}/flow_runs/filter", body)


def test_prefect_makes_of_its_file_what_we_make_of_params(project: Any) -> None:
    """`prefect deploy --all` and `holdfast up` make the same deployments, and either can follow the other."""
    url = project.holdfast("up", *TINY, "--json").document["url"]
    shutil.copy(REPOSITORY / "prefect.yaml", project.folder)
    prefect = (sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all")
    environment = {"PREFECT_API_URL": f"{url}/api", "PREFECT_HOME": str(project.root / "prefect")}
    project.ended(project.start(*prefect, **environment), 0)
    theirs = _made(url)
    project.holdfast("up")
    assert _made(url) == theirs
    assert len(theirs) == 3
    project.ended(project.start(*prefect, **environment), 0)
    assert _made(url) == theirs


def _made(url: str) -> Any:
    """Give what defines each deployment of the loans."""
    found = post(f"{url}/api/deployments/filter", {"deployments": {"name": {"any_": ["loans"]}}})
    kept = ("id", "entrypoint", "parameters", "work_queue_name", "pull_steps", "tags", "job_variables", "paused")
    return {
        each["entrypoint"]: (
            {name: each[name] for name in kept}, each["parameter_openapi_schema"]["properties"].keys(),
            [(s["schedule"]["cron"], s["schedule"]["timezone"], s["active"]) for s in each["schedules"]],
        )
        for each in found
    }  # fmt: skip


def test_what_cannot_be_brought_up_leaves_nothing(project: Any) -> None:
    """A schedule that is no cron is refused when the server is asked to keep it, and the server is ended again."""
    done = project.holdfast("up", *TINY, "--set", 'schedule.evaluation="0 25 * * *"', expect=2)
    assert "schedule.evaluation: found '0 25 * * *'" in done.words
    assert services(project.root) == frozenset()
    assert read_services(project.stores()) is None


def _ident(api: str, flow: str) -> str:
    (found,) = post(f"{api}/deployments/filter", {"flows": {"name": {"any_": [flow]}}})
    return str(found["id"])
