"""Rollback: who serves is one version, in ledger and alias alike, however many move it at once."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from flows import monitoring
from flows import recovery as flow
from holdfast.errors import ModelError, StoreError
from holdfast.factory import factory_digest
from holdfast.model import ModelSpec, load_model, save_model
from holdfast.monitoring.watch import WindowRecord
from holdfast.recovery.audit import reconcile
from holdfast.recovery.policy import History, Policy
from holdfast.recovery.promotion import condemn, promote
from holdfast.recovery.promotion import register as record
from holdfast.recovery.triage import Evidence
from holdfast.results import Decision, Diagnosis, Reason
from holdfast.stores import Stores
from tasks import approval, on_record, recovery, responses, tracking

CONTENDERS = 20


def registered(params, stores, data, folder, count):
    """Register versions, and make the first two champion in turn."""
    tracking.prepare(stores, params.name)
    spec = ModelSpec(
        factory=params.model.factory, settings=params.model.settings, space=data.space, classes=data.classes,
        code=factory_digest(params.model.factory),
    )  # fmt: skip
    ledger, made = recovery.open_ledger(stores), []
    for number in range(count):
        digest = save_model(folder / str(number), spec.build(seed=number), spec)
        run = tracking.open_run(stores, params.name, f"key-{number}", title="training")
        version = tracking.register(stores, params.name, folder / str(number), spec, run, f"key-{number}", digest)
        record(ledger, version, who="test", lineage={})
        made.append(version)
        if number < 2:
            crown(stores, version)
    return made


def crown(stores, version):
    """Make a version champion, as a person does who promotes it."""
    ledger = recovery.open_ledger(stores)
    head = ledger.head(version.name)
    decision = Decision(
        action="promote", candidate=version, champion=head and head.reference(),
        reasons=(Reason(about="test", passed=True, text="first"),),
    )  # fmt: skip
    promote(ledger, tracking.MlflowProjection(stores), decision, expected=head and head.promotion, who="test", why="-")


def window_at(position):
    return WindowRecord(position=position, digest=f"w{position}", rows=10, state="escrowed", why="", matured=False)


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


@pytest.fixture
def loop(world, tmp_path, monkeypatch):
    """Two versions that reigned, of a module of the user's, and a watch of two windows, the second a quiet one."""
    (tmp_path / "moved.py").write_text("from holdfast.networks import mlp\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "moved", raising=False)  # another test's
    model = world.params.model.model_copy(update={"factory": "moved:mlp"})
    params = world.params.model_copy(update={"model": model})
    stores, told = Stores.local(world.stores.project, tmp_path / "stores", actor="test"), []
    made = registered(params, stores, world.data, tmp_path / "models", 3)
    for name in ("settle", "unanswered", "obstacle", "roll_back", "responded", "hindered"):
        monkeypatch.setattr(flow, name, getattr(flow, name).fn)
    for name in ("settle", "next_window", "decided", "handled", "decide"):
        monkeypatch.setattr(monitoring, name, getattr(monitoring, name).fn)
    for module in (flow, monitoring):
        monkeypatch.setattr(module, "require_model", lambda *_: None)
        monkeypatch.setattr(module, "integrity", lambda *_: (world.snapshot, None))
    for name in ("watched_model", "mature", "screen", "tainted"):
        monkeypatch.setattr(monitoring, name, lambda *_: None)
    monkeypatch.setattr(monitoring, "receive", lambda *asked: window_at(asked[-1]) if asked[-1] < 2 else None)
    monkeypatch.setattr(monitoring, "observe", lambda *asked: Evidence(position=asked[4].position, rows=10))
    rows = SimpleNamespace(samples=lambda _, space: world.data.samples("test", space=space), digest=world.data.digest)
    monkeypatch.setattr(responses, "load_data", lambda *_: rows)
    monkeypatch.setattr(responses, "announce", lambda _, decision, *event: told.append((decision, *event)))
    return SimpleNamespace(params=params, stores=stores, made=made, told=told, snapshot=world.snapshot)


def due(loop, action="rollback"):
    """Put on record that the loop goes back from the second version to the first, by window 0."""
    decision = Decision(
        action=action, candidate=loop.made[0], champion=loop.made[1], position=0, cause="harmful_drift",
        reasons=(Reason(about="policy", passed=True, text="w"),),
    )  # fmt: skip
    body = decision.model_dump(mode="json")
    recovery.open_ledger(loop.stores).append("decision", who="holdfast", model=loop.params.name, body=body)
    return decision


def watched(loop):
    return [(w.position, w.action, w.outcome) for w in monitoring.monitoring.fn(loop.params, loop.stores).windows]


def never_done(loop, why, monkeypatch, tmp_path, data):
    """Bring about what keeps a rollback that was decided from ever being done; give some words that say it."""
    if why == "another champion":
        crown(loop.stores, loop.made[2])
        return "version 3 is champion now, and version 2 was when this was decided"
    if why == "an edited module":
        (tmp_path / "moved.py").write_text("from holdfast.networks import mlp\n\nWIDTH = 3\n")
        return "Check out the module as it was then"
    mute = SimpleNamespace(space=data.space, device="cpu", logits=lambda x: torch.full((len(x), 2), torch.nan))
    monkeypatch.setattr(responses, "load_model", lambda *_: mute)
    return "`holdfast condemn 1 --why ...` judges it bad"


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ("rollback", "another champion"),
        ("rollback", "an edited module"),
        ("rollback", "answers that are not finite"),
        ("fall_back", "an edited module"),
    ],
)
def test_what_can_never_be_done_is_closed_and_the_next_window_comes(loop, action, why, world, monkeypatch, tmp_path):
    """On record and told, once, with the reason; who serves goes on, and nothing is left to answer or to carry out."""
    due(loop, action)
    words = never_done(loop, why, monkeypatch, tmp_path, world.data)
    serving = recovery.open_ledger(loop.stores).head(loop.params.name)
    first, second = watched(loop)
    assert first[:2] == (0, action)
    assert first[2].startswith("not done: ")
    assert words in first[2]
    assert second == (1, "none", "")
    ((told, event),) = loop.told
    assert (event, told.reasons[-1].text, told.reasons[-1].passed) == ("hindered", first[2], False)
    ledger = recovery.open_ledger(loop.stores)
    assert ledger.head(loop.params.name) == serving
    with ledger.reading() as view:
        body = on_record.outcome_of(view, loop.params.name, 0)
    assert (body["outcome"], body["champion"], body["minutes"]) == (first[2], serving.version, 0.0)
    assert watched(loop) == []
    assert flow.recovery.fn(loop.params, loop.stores) == ""
    assert len(loop.told) == 1


def test_what_was_approved_and_can_never_be_done_is_closed_by_the_run_that_the_word_starts(loop):
    """An approval that comes days late, after a person promoted another version, leaves nothing that waits."""
    policy = loop.params.recovery.policy.model_copy(update={"approve": ("rollback",)})
    recovering = loop.params.recovery.model_copy(update={"policy": policy})
    loop.params = loop.params.model_copy(update={"recovery": recovering})
    due(loop)
    assert flow.recovery.fn(loop.params, loop.stores) == approval.WAITS
    crown(loop.stores, loop.made[2])
    approval.approve(loop.params, loop.stores, 0, "go on")
    assert flow.recovery.fn(loop.params, loop.stores).startswith("not done: version 3 is champion now")
    assert on_record.pending(loop.params, loop.stores) == (1, None)
    with pytest.raises(StoreError, match="none that waits"):
        approval.refuse(loop.params, loop.stores, 0, "w")


def test_an_outage_closes_nothing(loop, monkeypatch):
    """A store that does not answer is no word about the version: the decision stays, and is carried out later."""
    decision = due(loop)

    def silent(*_):
        raise StoreError("registry", found="no answer", expected="one", remedy="Wait.")

    with monkeypatch.context() as patch:
        patch.setattr(responses, "hold_to_record", silent)
        with pytest.raises(StoreError, match="no answer"):
            monitoring.monitoring.fn(loop.params, loop.stores)
    assert on_record.pending(loop.params, loop.stores) == (0, decision)
    assert watched(loop)[0] == (0, "rollback", "back to version 1")
    assert loop.told == []


def test_a_rollback_that_was_done_before_a_kill_is_gone_on_behind(loop, world, monkeypatch, tmp_path):
    """Who serves already was asked before it did: nothing is asked again, and nothing hinders it any more."""
    decision = due(loop)
    assert responses.roll_back.fn(loop.params, loop.stores, loop.snapshot, decision) == "back to version 1"
    never_done(loop, "an edited module", monkeypatch, tmp_path, world.data)
    assert watched(loop)[0] == (0, "rollback", "back to version 1")
    moves = [e for e in recovery.open_ledger(loop.stores).history(loop.params.name) if e.kind == "done"]
    assert len(moves) == 3


def test_a_rollback_by_hand_that_cannot_be_done_is_an_error_and_leaves_nothing(loop, world, monkeypatch, tmp_path):
    """A person hears what to do, and does it: the version is judged bad, and is gone back to no more."""
    words = never_done(loop, "answers that are not finite", monkeypatch, tmp_path, world.data)
    monkeypatch.setattr(monitoring, "roll_back", monitoring.roll_back.fn)
    with pytest.raises(ModelError) as refused:
        monitoring.rollback.fn(loop.params, loop.stores, "it harms")
    assert (refused.value.exit_code, words in str(refused.value)) == (5, True)
    assert on_record.pending(loop.params, loop.stores) == (0, None)
    ledger = recovery.open_ledger(loop.stores)
    assert ledger.head(loop.params.name).version == 2
    crown(loop.stores, loop.made[2])
    approval.condemn(loop.params, loop.stores, 2, "no numbers")
    assert ledger.last_good(loop.params.name).version == 1


def test_a_rollback_is_decided_to_the_last_version_whose_bytes_verify(loop, monkeypatch, spoil):
    """A spoilt one before the champion is passed over for the sound one before it; of its two copies one is enough."""
    first, second, third = loop.made
    crown(loop.stores, third)
    harm = Diagnosis(cause="harmful_drift", reasons=())
    history = History(promoted=0, gains=(-0.1,), good=second, admissible=9)
    recovering = loop.params.recovery.model_copy(update={"policy": Policy(probation=5)})
    params = loop.params.model_copy(update={"recovery": recovering})
    monkeypatch.setattr(responses, "triage", lambda *_, **__: harm)
    monkeypatch.setattr(responses, "remembered", lambda *_: history)

    def decided(position):
        evidence = Evidence(position=position, rows=10)
        decision = responses.decide.fn(params, loop.stores, window_at(position), evidence, third)
        return decision.action, decision.candidate and decision.candidate.version

    assert decided(0) == ("rollback", 2)
    spoil(tracking.fetch_model(loop.stores, second))
    assert decided(1) == ("rollback", 2)
    for version, expected in ((second, ("rollback", 1)), (first, ("retrain", None))):
        spoil(tracking.fetch_model(loop.stores, version))
        spoil(loop.stores.artifacts / "models" / version.source.rsplit("/", 1)[-1])
        assert decided(1 + version.version) == expected


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


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        ([("harm", False, "worse"), ("policy", False, "cooldown")], "worse; cooldown"),
        ([("harm", False, "worse"), ("policy", True, "harm is confirmed")], "worse; harm is confirmed"),
        ([("policy", False, "the harm goes on")], "the harm goes on"),
        ([("signals", True, "none over its threshold")], "none over its threshold"),
        ([("harm", False, "worse"), ("evidently", False, "moved")], "worse"),
    ],
)
def test_a_decision_is_told_with_what_the_policy_says_of_it(reasons, told):
    """Why harm was answered by an alert alone stands in the same line."""
    given = tuple(Reason(about=about, passed=ok, text=text) for about, ok, text in reasons)
    assert responses._told(Decision(action="alert", reasons=given)) == told
