"""Rollback: who serves is one version, in ledger and alias alike, however many move it at once."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from flows import recovery as flow
from holdfast.errors import ModelError
from holdfast.model import ModelSpec, load_model, save_model
from holdfast.monitoring.watch import WindowRecord
from holdfast.recovery.audit import reconcile
from holdfast.recovery.promotion import condemn, promote
from holdfast.recovery.promotion import register as record
from holdfast.recovery.triage import Evidence
from holdfast.results import Decision, Reason
from holdfast.stores import Stores
from tasks import recovery, responses, tracking

CONTENDERS = 20


def registered(params, stores, data, folder, count):
    """Register versions, and make the first two champion in turn."""
    tracking.prepare(stores, params.name)
    spec = ModelSpec(
        factory=params.model.factory, settings=params.model.settings, space=data.space, classes=data.classes
    )
    ledger, made = recovery.open_ledger(stores), []
    for number in range(count):
        digest = save_model(folder / str(number), spec.build(seed=number), spec)
        run = tracking.open_run(stores, params.name, f"key-{number}", title="training")
        version = tracking.register(stores, params.name, folder / str(number), spec, run, f"key-{number}", digest)
        record(ledger, version, who="test", lineage={})
        made.append(version)
        if number > 1:
            continue
        head = ledger.head(params.name)
        decision = Decision(
            action="promote", candidate=version, champion=head and head.reference(),
            reasons=(Reason(about="test", passed=True, text="first"),),
        )  # fmt: skip
        promote(
            ledger, tracking.MlflowProjection(stores), decision, expected=head and head.promotion, who="test", why="-"
        )
    return made


def test_a_champion_without_a_good_copy_gives_way_and_is_condemned(world, tmp_path, monkeypatch, spoil):
    """With one copy spoilt it can be restored, and asking changes nothing; with both, the last good version answers."""
    stores = Stores.local(world.stores.project, tmp_path / "stores", actor="test")
    first, second = registered(world.params, stores, world.data, tmp_path / "models", 2)
    monkeypatch.setattr(responses, "load_data", world.load)
    monkeypatch.setattr(responses, "announce", lambda *_: None)
    window = WindowRecord(position=0, digest="w", rows=10, state="escrowed", why="", matured=False)
    broken = Evidence(position=0, rows=10, artefact="digest differs")
    local = tracking.fetch_model(stores, second)
    spoil(local)
    assert recovery.still_good(stores, second, mend=False)
    with pytest.raises(ModelError):
        load_model(local, second.digest)
    (artefact,) = stores.artifacts.glob(f"models/{second.source.rsplit('/', 1)[-1]}")
    spoil(artefact)
    decision = responses.decide.fn(world.params, stores, window, broken, second)
    assert (decision.action, decision.candidate.version) == ("fall_back", first.version)
    assert responses.roll_back.fn(world.params, stores, world.snapshot, decision) == f"back to version {first.version}"
    ledger = recovery.open_ledger(stores)
    assert ledger.head(world.params.name).digest == first.digest
    assert tracking.MlflowProjection(stores).read(world.params.name) == first.version
    with ledger.reading() as view:
        assert second.version in view.condemned(world.params.name)


def test_nobody_falls_back_to_bytes_that_do_not_verify(world, tmp_path, monkeypatch, spoil):
    """Where the former champion is spoilt too repair is decided; a fall-back that cannot be done any more is closed."""
    stores = Stores.local(world.stores.project, tmp_path / "stores", actor="test")
    first, second = registered(world.params, stores, world.data, tmp_path / "models", 2)
    monkeypatch.setattr(responses, "announce", lambda *_: None)
    decided = Decision(action="fall_back", candidate=first, champion=second, reasons=(), position=0)
    assert responses.obstacle.fn(world.params, stores, decided) == ""
    for version in (first, second):
        spoil(stores.artifacts / "models" / version.source.rsplit("/", 1)[-1])
        if (stores.models / version.digest).exists():
            spoil(stores.models / version.digest)
    window = WindowRecord(position=0, digest="w", rows=10, state="escrowed", why="", matured=False)
    broken = Evidence(position=0, rows=10, artefact="digest differs")
    assert responses.decide.fn(world.params, stores, window, broken, second).action == "repair"
    assert "verifies" in responses.obstacle.fn(world.params, stores, decided)
    condemn(recovery.open_ledger(stores), first, who="test", why="w")
    assert "judged bad" in responses.obstacle.fn(world.params, stores, decided)


@pytest.mark.slow
def test_twenty_at_once_leave_one_champion(world, tmp_path):
    """Ten promotions and ten rollbacks in processes of their own all happen, and alias and ledger agree."""
    stores = Stores.local(world.stores.project, tmp_path / "stores", actor="test")
    versions = registered(world.params, stores, world.data, tmp_path / "models", 2 + CONTENDERS // 2)
    out = tmp_path / "out"
    out.mkdir()
    given = {
        "root": str(world.stores.project), "stores": str(stores.root), "out": str(out), "count": CONTENDERS,
        "data": world.data.params.model_dump(mode="json"), "snapshot": world.snapshot.model_dump(mode="json"),
        "versions": [version.model_dump(mode="json") for version in versions[2:]],
    }  # fmt: skip
    (tmp_path / "given.json").write_text(json.dumps(given))
    script = Path(__file__).with_name("contenders.py")
    command = [sys.executable, str(script), str(tmp_path / "given.json")]
    subprocess.run(command, check=True, timeout=280, capture_output=True)
    said = [(out / f"{number}.txt").read_text() for number in range(CONTENDERS)]
    assert all(line.startswith(("rollback ", "promote ")) for line in said), said
    ledger = recovery.open_ledger(stores)
    report = reconcile(ledger, tracking.MlflowProjection(stores), world.params.name)
    assert (report.chain_valid, report.agrees, report.in_flight, report.problems) == (True, True, (), ())
    done = [entry for entry in ledger.history(world.params.name) if entry.kind == "done"]
    moved = [f"{entry.body['action']} {entry.version}" for entry in done[2:]]
    assert sorted(m for m in moved if m[0] == "p") == sorted(each for each in said if each[0] == "p")
    # Two who go back to one version at once have gone back once.
    assert {m for m in moved if m[0] == "r"} == {each for each in said if each[0] == "r"}
    served = tracking.fetch_model(stores, versions[report.champion.version - 1])
    assert torch.isfinite(load_model(served, report.champion.digest).logits(world.data.samples("test").x)).all()


def test_what_a_response_took_is_told_and_on_record(world, tmp_path, monkeypatch):
    """In seconds where people read it, and where a retraining's minutes stand; once, whoever does it again."""
    stores, told = Stores.local(world.stores.project, tmp_path / "stores", actor="test"), []
    registered(world.params, stores, world.data, tmp_path / "models", 1)
    monkeypatch.setattr(responses, "tell", lambda *words: told.append(words))
    decided = Decision(action="repair", reasons=(), position=0)
    for minutes in (0.005, 0.1):
        responses.responded.fn(world.params, stores, decided, "version 1 restored", minutes=minutes)
    assert told[0] == ("recovery", "window 0  repair: version 1 restored (0.3 s)")
    with recovery.open_ledger(stores).reading() as view:
        entries = [entry.body for entry in view.entries(kinds=("run",)) if entry.body.get("about") == "response"]
    assert [(body["action"], body["minutes"]) for body in entries] == [("repair", 0.005)]


def test_a_response_is_timed_from_its_begin_to_its_end(monkeypatch):
    """Restoring bytes takes what it takes: that is what is recorded, and not nothing; the other copies are seen to."""
    took, mended = [], []
    monkeypatch.setattr(flow, "restore", lambda *_: time.sleep(0.06) or "restored")
    monkeypatch.setattr(flow, "mend_copies", lambda *_: mended.append(len(took)))
    monkeypatch.setattr(flow, "responded", lambda *_, minutes: took.append(60 * minutes))
    assert flow.respond(None, None, None, None, Decision(action="repair", reasons=(), position=0)) == "restored"
    assert took[0] >= 0.06
    assert mended == [0]
