"""Drills through the front door: rehearsed in a sandbox, scored onto the version, and production as it was."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.drills.incident import read_incident
from holdfast.errors import StoreError
from holdfast.params import load
from holdfast.stores import Stores

pytestmark = pytest.mark.timeout(900)  # whole rehearsals, on a machine that may have other work

TOP = Path(__file__).parents[2]
TINY = (
    "--params", "profiles/tiny.yaml", "--set", "monitoring.detectors={calibration_drift: {}}", "--set",
    "monitoring.replays=200",
)  # fmt: skip
DAMAGE = (
    "{rows: 300, seeds: 2, incidents: {tampered_artefact: {onset: 1, horizon: 4, before: {period: later},"
    " events: [{do: tampered_artefact, at: [1]}]}}}"
)


def everything(root: Path) -> dict[str, str]:
    """Name every file of the production stores by its bytes; sandboxes, locks and Prefect's records are no part."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not {"drills", "prefect"} & set(path.relative_to(root).parts) and path.name != "run.lock"
    }


def test_seeds_that_are_not_finished_are_dealt_to_workers(tmp_path: Path) -> None:
    """Each goes to one worker, one that is finished to none, and no worker goes without."""
    from flows.arms import Asked, Play, course_key, courses, read_params, shared_out  # noqa: PLC0415  Prefect's settings
    from holdfast.drills.curve import ARMS, Course  # noqa: PLC0415  as above

    whole = load(TOP / "params.yaml", (TOP / "profiles" / "tiny.yaml",), (f"drills={DAMAGE}",))
    (tmp_path / "params.json").write_text(whole.model_dump_json())
    (incident,) = whole.incidents().values()
    asked = Asked(rows=300, plays=tuple(Play(incident=incident, seed=seed) for seed in (7, 8, 9, 10)))

    def dealt(workers: int) -> list[tuple[int, ...]]:
        return [tuple(play.seed for play in part.plays) for part in shared_out(tmp_path, asked, workers)]

    assert dealt(3) == [(7, 10), (8,), (9,)]

    def finish(seed: int) -> None:
        for arm in ARMS:
            key = course_key(incident, read_params(tmp_path, 300), tmp_path, arm, seed)
            course = Course(incident=incident.name, arm=arm, seed=seed, quality=(1.0,), rows=300)
            courses(tmp_path).put(key, course)

    finish(8)
    assert dealt(2) == [(7, 10), (9,)]
    for seed in (7, 9):
        finish(seed)
    assert dealt(2) == [(10,)]
    finish(10)
    assert dealt(2) == []


def test_an_arm_that_somebody_still_plays_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose parent was killed plays on: nobody clears its folder away from under it."""
    from flows import arms  # noqa: PLC0415  Prefect's settings
    from flows.environment import one_at_a_time  # noqa: PLC0415  as above

    whole = load(TOP / "params.yaml", (TOP / "profiles" / "tiny.yaml",), (f"drills={DAMAGE}",))
    (tmp_path / "params.json").write_text(whole.model_dump_json())
    (incident,) = whole.incidents().values()
    monkeypatch.setattr(arms, "template", lambda *_: (None, None))
    monkeypatch.setattr(arms, "_play", lambda *_: pytest.fail("it was played"))
    held = one_at_a_time(Stores.local(tmp_path, tmp_path), lock=f"{incident.name}-7-{arms.ARMS[0]}.lock")
    with held, pytest.raises(StoreError, match="a run under way"):
        arms.rehearse(tmp_path, arms.Asked(rows=300, plays=(arms.Play(incident=incident, seed=7),)))


def test_the_worker_that_is_killed_begins_once_a_retraining_was_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window that asks for none is watched and no worker starts for it; what was decided is left to the worker."""
    from flows import arms  # noqa: PLC0415  Prefect's settings
    from tasks.responses import Handled, MonitoringReport  # noqa: PLC0415  as above

    params, actions, started = load(TOP / "params.yaml", (TOP / "profiles" / "tiny.yaml",)), ["alert", "retrain"], []

    def monitoring(_: object, __: object, *, hand_over: bool) -> MonitoringReport:
        assert hand_over
        window = Handled(position=1, window="w", rows=1, cause="", action=actions.pop(0), outcome="", champion=1)
        return MonitoringReport(model="tiny", windows=(window,))

    monkeypatch.setattr(arms, "monitoring", monitoring)
    monkeypatch.setattr(arms, "killed_in_training", lambda command, _: started.append(command) or True)
    stage, stores = SimpleNamespace(params=params, feed=tmp_path / "feed"), Stores.local(tmp_path, tmp_path)
    notes: list[str] = []
    assert not arms._killed(stage, stores, notes, 3)
    assert (started, notes) == ([], [])
    assert arms._killed(stage, stores, notes, 4)
    assert (len(started), notes) == (1, ["window 4: the worker was killed in training"])


def test_no_worker_is_killed_while_the_registry_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be watched decides on nothing: the kill waits until the outage is over."""
    from flows import arms  # noqa: PLC0415  Prefect's settings

    params = load(TOP / "params.yaml", (TOP / "profiles" / "tiny.yaml",))
    tried: list[int] = []
    monkeypatch.setattr(arms, "_killed", lambda *given: tried.append(given[-1]) or True)
    monkeypatch.setattr(arms, "_respond", lambda *_, **__: None)
    monkeypatch.setattr(arms, "unreachable", lambda stores: stores)
    monkeypatch.setattr(arms, "answered_so_far", lambda *_: ())
    told = SimpleNamespace(quality=1.0, version=1, wrong=0, unanswered=0, tampered=False)
    stage = SimpleNamespace(
        params=params, stores=None, befall=lambda *_: None, answered=lambda *_: told, deliver=lambda *_: None,
        poisoned=lambda: 0,
    )  # fmt: skip
    incident = read_incident("worker_killed").model_copy(update={"outage": (3, 5)})
    assert incident.onset == 3
    assert arms._watched(stage, incident, "on", 0).killed == 5
    assert tried == [5]


def test_an_arm_begins_without_what_others_lay_beside_the_template(tmp_path: Path) -> None:
    """Files that come and go with a reader's connection are copied by nobody: one could be gone halfway."""
    from tasks.sandbox import copy_of  # noqa: PLC0415  Prefect's settings

    origin = Stores.local(tmp_path / "project", tmp_path / "template")
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm", "quarantine/.part-x", "quarantine/excluded-1.json"):
        (origin.root / name).parent.mkdir(parents=True, exist_ok=True)
        (origin.root / name).write_text("")
    arm = copy_of(origin, tmp_path / "arm")
    found = sorted(str(path.relative_to(arm.root)) for path in arm.root.rglob("*") if path.is_file())
    assert found == ["ledger.db", "quarantine/excluded-1.json"]


def test_a_sandbox_is_another_where_scenarios_or_packages_of_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate of an arm asks the pack's scenarios, and its retraining builds the network: both are in the name."""
    from tasks import sandbox  # noqa: PLC0415  Prefect's settings

    params = load(TOP / "params.yaml", (TOP / "profiles" / "tiny.yaml",))
    before = sandbox._theirs(params)
    with monkeypatch.context() as patched:
        patched.setattr(sandbox, "code_of", lambda kind: "theirs" if kind.__name__ == "MissingValues" else "")
        assert "theirs" in sandbox._theirs(params)
    monkeypatch.setattr(sandbox, "factory_packages", lambda _: {"somebodys-layers": "2.0"})
    assert sandbox._theirs(params) != before


@pytest.mark.slow
def test_a_drill_scores_recovery_and_leaves_production_as_it_was(champion: Any) -> None:
    """Killed when all is played, production is byte for byte what it was; the next start plays nothing again."""
    before = everything(champion.root)
    pin = (champion.folder / "data.dvc").read_bytes()
    arguments = (*TINY, "--set", f"drills={DAMAGE}")
    launcher = str(Path(__file__).with_name("kill_at.py"))
    killed = champion.start(sys.executable, launcher, "flows.drill:keep", "before", "1", "KILL", "drill", *arguments)
    champion.ended(killed, -9)
    after = everything(champion.root)
    assert after == before
    assert (champion.folder / "data.dvc").read_bytes() == pin
    kept = sorted((path, path.stat().st_mtime_ns) for path in champion.root.glob("drills/*/courses/*/*.json"))
    assert len(kept) == 6  # two seeds, three arms
    if len(os.sched_getaffinity(0)) > 1:
        assert len(list(champion.root.glob("drills/*/asked.*.json"))) == 2  # a worker for each seed
    done = champion.holdfast("drill", "--json", *arguments)
    assert sorted((p, p.stat().st_mtime_ns) for p in champion.root.glob("drills/*/courses/*/*.json")) == kept
    (finding,) = done.document["findings"]
    assert (finding["path"], finding["dimension"]) == ("drills/tampered_artefact", "recovery")
    value = finding["score"]["value"]
    assert value == pytest.approx(2 / 3, abs=0.1)  # down for one of the three windows after onset, which differ
    assert finding["score"]["n"] == 2
    assert [check["status"] for check in finding["checks"]] == ["passed", "passed"]
    tags = champion.registry().get_model_version("tiny", "1").tags
    assert tags["holdfast.recovery"].startswith(f"{value:.3f}")
    page = (champion.root / "reports" / "tiny-1.html").read_text()
    assert "Resilience curve" in page
    assert "drills/tampered_artefact" in page
    champion.hold()


def test_a_drill_that_the_data_have_no_rows_for_is_refused_before_any_work(champion: Any) -> None:
    """Nobody waits for thresholds to be told that params lack a share: no sandbox was made, and no server asked."""
    own = "{rows: 300, seeds: 2, incidents: {tampered_artefact: {}}}"
    refused = champion.holdfast("drill", *TINY, "--set", f"drills={own}", expect=3)
    assert "0 rows of role drill of the own period" in refused.err
    assert "Give data.roles a share of drill" in refused.err
    assert not list(champion.root.glob("drills/*"))
