"""Recovery: decisions on record with all that was said, and a rewritten ledger told by the heads outside it."""

import shutil
import sqlite3
from types import SimpleNamespace

import pytest

from holdfast.errors import LedgerError, ModelError, StoreError
from holdfast.model import ModelSpec, digest_of, save_model
from holdfast.recovery.gate import Gates, now_and_formerly
from holdfast.recovery.ledger import Ledger
from holdfast.recovery.promotion import condemn, promote, register
from holdfast.results import Check, Decision, Finding, ModelVersion, Provenance, Reason, Score
from holdfast.space import Feature, Table
from holdfast.stores import Stores, WallClock
from tasks import approval, prediction, recovery, tracking

PARAMS = SimpleNamespace(name="people")
SPEC = ModelSpec(
    factory="holdfast.networks:mlp", settings={"width": 4}, classes=("no", "yes"),
    space=Table(features=(Feature(name="age", kind="number", median=40, iqr=10),)),
)  # fmt: skip


class Alias:
    def read(self, model):
        return None

    def write(self, model, version):
        raise AssertionError("nothing is to be written")


class Shelf:
    """An alias in memory."""

    version = None

    def read(self, model):
        return self.version

    def write(self, model, version):
        self.version = version


@pytest.fixture
def ledger(tmp_path):
    made = Ledger.create(f"sqlite:///{tmp_path / 'ledger.db'}", WallClock())
    for number in range(3):
        made.append("alert", who="alice", model="people", body={"number": number})
    return made


def test_a_rewritten_ledger_is_convicted_by_a_head_kept_elsewhere(ledger, tmp_path, monkeypatch):
    """Another chain, sound in itself, does not hold the head that a version's tag remembers."""
    stores = Stores.local(tmp_path, tmp_path, actor="alice")
    kept = ledger.verify().head
    monkeypatch.setattr(tracking, "kept_heads", lambda *_: (kept,))
    ledger.append("alert", who="alice", model="people", body={"number": 3})  # honest growth
    assert recovery.audited(ledger, Alias(), stores, "people").chain_valid
    (tmp_path / "forged").mkdir()
    forged = Ledger.create(f"sqlite:///{tmp_path / 'forged' / 'ledger.db'}", WallClock())
    for number in range(4):
        forged.append("alert", who="mallory", model="people", body={"number": number})
    assert forged.verify().valid
    assert not recovery.audited(forged, Alias(), stores, "people").chain_valid


def versions(number):
    return ModelVersion(name="people", version=number, digest=f"{number}" * 64, source=f"models:/m-{number}")


def planned(stores, number):
    """Write the intent of a promotion whose process died there."""
    champion = recovery.open_ledger(stores).head("people")
    decision = Decision(
        action="promote", reasons=(), candidate=versions(number), champion=champion and champion.reference()
    )
    expected = champion and champion.promotion
    alias = Alias()
    with pytest.raises(AssertionError, match="nothing is to be written"):
        promote(recovery.open_ledger(stores), alias, decision, expected=expected, who="alice", why="w")


@pytest.mark.parametrize("known", [True, False])
def test_a_start_moves_nothing_on_a_chain_that_the_versions_do_not_remember(tmp_path, monkeypatch, known):
    """What is in flight on a rewritten ledger is not finished: the kept heads are asked before the alias can move."""
    stores = Stores.local(tmp_path, tmp_path, actor="alice")
    planned(stores, 1)
    before = recovery.open_ledger(stores).verify()
    moved = Shelf()
    monkeypatch.setattr(tracking, "prepare", lambda *_: "")
    monkeypatch.setattr(tracking, "MlflowProjection", lambda _: moved)
    monkeypatch.setattr(tracking, "kept_heads", lambda *_: (before.head if known else "f" * 64,))
    monkeypatch.setattr(tracking, "list_versions", lambda *_: [])
    monkeypatch.setattr(recovery, "still_good", lambda *_: True)
    if known:
        (promotion,) = recovery.settle.fn(PARAMS, stores)
        assert (promotion.status, moved.version) == ("done", 1)
        return
    with pytest.raises(LedgerError, match="not on the chain"):
        recovery.settle.fn(PARAMS, stores)
    assert moved.version is None
    assert recovery.open_ledger(stores).verify() == before


@pytest.fixture
def interrupted(tmp_path):
    """A registered version whose promotion was killed before the alias moved, with the folder of its artefact."""
    stores = Stores.local(tmp_path, tmp_path / "state", actor="alice")
    tracking.prepare(stores, "people")
    run = tracking.open_run(stores, "people", "t", title="training")
    digest = save_model(tmp_path / "m", SPEC.build(seed=0), SPEC)
    version = tracking.register(stores, "people", tmp_path / "m", SPEC, run, "key", digest)
    tracking.fetch_model(stores, version)
    decision = Decision(action="promote", reasons=(), candidate=version)
    with pytest.raises(AssertionError, match="nothing is to be written"):
        promote(recovery.open_ledger(stores), Alias(), decision, expected=None, who="alice", why="w")
    (artefact,) = stores.artifacts.glob(f"models/{version.source.rsplit('/', 1)[-1]}")
    return stores, version, artefact


def spoil(folder):
    """Change one byte of the weights below a folder."""
    (weights,) = folder.rglob("model.safetensors")
    body = bytearray(weights.read_bytes())
    body[-1] ^= 1
    weights.write_bytes(body)


def gone(stores, version, artefact, what):
    """Take away one of the places where a version is."""
    shutil.rmtree(stores.models / version.digest)
    tracker = tracking.client(stores)
    if what == "the version":
        tracker.delete_model_version(version.name, str(version.version))
    elif what == "the logged model":
        tracker.delete_logged_model(artefact.name)
    elif what == "the artefact":
        shutil.rmtree(artefact)
    elif what == "the weights":
        next(artefact.rglob("model.safetensors")).unlink()
    else:
        spoil(artefact)


def test_a_version_that_was_judged_bad_is_blocked_until_a_person_takes_it_back(tmp_path, monkeypatch):
    """Its gate passes, and no promotion is announced that the ledger would refuse; a named person can clear it."""
    stores = Stores.local(tmp_path, tmp_path, actor="alice")
    params = SimpleNamespace(name="people", recovery=SimpleNamespace(gates=Gates()), metric="accuracy", costs=None)
    passed = Decision(action="promote", reasons=(), candidate=versions(2), champion=versions(1))
    monkeypatch.setattr(recovery, "decide", lambda *_: passed)
    ledger = recovery.open_ledger(stores)
    for number in (1, 2):
        register(ledger, versions(number), who="alice", lineage={})
    with pytest.raises(StoreError, match=r"version 2, which nobody judged bad.*: none"):
        approval.clear(params, stores, 2, "w")
    condemn(ledger, versions(2), who="bob", why="leaks")
    judged = recovery.judge.fn(params, stores, versions(2), versions(1), (), (), ())
    assert (judged.action, judged.reasons[-1].about, judged.reasons[-1].passed) == ("block", "judgement", False)
    with ledger.reading() as view:
        assert next(view.entries(backwards=True)).body["action"] == "block"
    again = versions(2).model_copy(update={"version": 3})
    judged = recovery.judge.fn(params, stores, again, versions(1), (), (), ())
    assert judged.action == "block"
    assert judged.reasons[-1].text.startswith("version 2, which has the very bytes of version 3, was judged bad")
    approval.clear(params, stores, 2, "looked at it")
    assert recovery.judge.fn(params, stores, versions(2), versions(1), (), (), ()) == passed


ABSENT = ["the version", "the logged model", "the artefact", "the weights", "the registered bytes"]


@pytest.mark.parametrize("what", ABSENT)
def test_a_promotion_whose_version_is_gone_is_undone_by_the_next_start(interrupted, what):
    """Registry and artefact store answered that there is nothing to promote: the start ends it and is not stuck."""
    stores, version, artefact = interrupted
    gone(stores, version, artefact, what)
    (promotion,) = recovery.settle.fn(PARAMS, stores)
    assert (promotion.status, promotion.candidate) == ("undone", version)
    assert recovery.settle.fn(PARAMS, stores) == ()
    assert recovery.resolve_champion.fn(PARAMS, stores) is None


def test_an_outage_of_the_artefacts_undoes_nothing(interrupted):
    """A folder of artefacts that is not there at all is an unmounted disk: it raises, and back again it goes on."""
    stores, version, artefact = interrupted
    shutil.rmtree(stores.models / version.digest)
    aside = artefact.parent.rename(stores.root / "unmounted")
    with pytest.raises(StoreError, match="no such folder"):
        recovery.settle.fn(PARAMS, stores)
    aside.rename(artefact.parent)
    (promotion,) = recovery.settle.fn(PARAMS, stores)
    assert promotion.status == "done"


@pytest.mark.parametrize("what", ["a changed byte", "a missing file"])
def test_a_spoilt_local_copy_undoes_nothing(interrupted, what):
    """The registry's bytes are good: the promotion is finished, and the local copy is theirs again."""
    stores, version, _ = interrupted
    local = stores.models / version.digest
    if what == "a changed byte":
        spoil(local)
    else:
        (local / "spec.json").unlink()
    (promotion,) = recovery.settle.fn(PARAMS, stores)
    assert promotion.status == "done"
    assert digest_of(local) == version.digest
    assert [path.name for path in stores.models.iterdir()] == [version.digest]


def test_whoever_resolves_the_champion_asks_the_kept_heads(ledger, tmp_path, monkeypatch):
    """Prediction and promotion refuse a chain, sound in itself, that does not hold what a version remembers."""
    stores, params = Stores.local(tmp_path, tmp_path, actor="alice"), PARAMS
    monkeypatch.setattr(tracking, "MlflowProjection", lambda _: Shelf())
    monkeypatch.setattr(tracking, "kept_heads", lambda *_: (ledger.verify().head,))
    assert recovery.resolve_champion.fn(params, stores) is None
    with pytest.raises(ModelError, match="no champion"):
        prediction.open_champion(params, stores)
    monkeypatch.setattr(tracking, "kept_heads", lambda *_: ("f" * 64,))
    for resolve in (recovery.resolve_champion.fn, prediction.open_champion):
        with pytest.raises(LedgerError, match="not on the chain"):
            resolve(params, stores)


def test_a_broken_chain_stays_broken_without_any_kept_head(ledger, tmp_path, monkeypatch):
    """No head outside: the chain alone must convict a changed entry."""
    monkeypatch.setattr(tracking, "kept_heads", lambda *_: ())
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        for (trigger,) in database.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            database.execute(f'drop trigger "{trigger}"')
        database.execute("update holdfast_ledger set who = 'mallory' where seq = 2")
    assert not recovery.audited(ledger, Alias(), Stores.local(tmp_path, tmp_path, actor="alice"), "people").chain_valid


def test_a_decision_says_which_rows_it_stands_on(tmp_path, monkeypatch):
    """What is said of the gate's rows is the first reason, in the decision and on record."""
    stores = Stores.local(tmp_path, tmp_path, actor="alice")
    params = SimpleNamespace(
        name="people", metric="accuracy", costs=None, recovery=SimpleNamespace(gates=Gates()),
    )  # fmt: skip
    monkeypatch.setenv("LOGNAME", "mallory")
    told = Reason(about="gate rows", passed=True, text="7 compared; 2 left out")
    candidate = ModelVersion(name="people", version=1, digest="a" * 64)
    decision = recovery.judge.fn(params, stores, candidate, None, (), (), (), (told,))
    assert decision.reasons[0] == told
    assert len(decision.reasons) > 1
    (entry,) = [entry for entry in recovery.open_ledger(stores).history("people") if entry.kind == "decision"]
    assert (entry.body, entry.who) == (decision.model_dump(mode="json"), "alice")


CHAMPION = ModelVersion(name="people", version=1, digest="a" * 64)
ORIGIN = Provenance(
    subject=CHAMPION.digest, data="d", role="test", seed=0, library="l", versions={}, device="cpu",
)  # fmt: skip
QUALITY = Finding(
    path="probes/quality", dimension="robustness", family="quality", settings={}, provenance=ORIGIN,
    score=Score(value=0.8, low=0.75, high=0.85, n=500, method="wilson"),
)  # fmt: skip
FAILED_CHECK = Check(name="masking", status="failed", reason="the black box found more")
UNSCORED = {"score": None, "unscored": "it broke"}


def judged_again(stores, findings, floor=0.7, version=1):
    """Let the champion, or its very bytes under another number, come to the gate that it passed once."""
    once = Decision(
        action="promote", candidate=CHAMPION, reasons=(Reason(about="probes/quality", passed=True, text="floor 0.5"),)
    )
    recovery.record_decision(PARAMS, stores, once)
    gates = Gates(floors={"probes/quality": floor}, non_inferiority={"probes/quality": 0.1})
    params = SimpleNamespace(name="people", metric="accuracy", costs=None, recovery=SimpleNamespace(gates=gates))
    candidate = CHAMPION.model_copy(update={"version": version})
    return recovery.judge.fn(params, stores, candidate, CHAMPION, (), (), findings)


def decisions(stores):
    return [entry.body["action"] for entry in recovery.open_ledger(stores).history("people")]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("findings", "floor", "about", "text"),
    [
        ((QUALITY,), 0.76, "probes/quality", "floor 0.7600: the low end 0.7500"),
        ((QUALITY.model_copy(update={"checks": (FAILED_CHECK,)}),), 0.7, "probes/quality", "masking failed"),
        ((QUALITY.model_copy(update=UNSCORED),), 0.7, "probes/quality", "unscored: it broke"),
        ((), 0.7, "probes/quality", "has no finding of it"),
    ],
    ids=["a raised floor", "a failed check", "unscored", "missing"],
)
def test_a_champion_that_fails_floors_or_validity_now_is_told_and_recorded(
    tmp_path, version, findings, floor, about, text
):
    """The reasons of now are from the fresh scorecard; the former ones are marked; nothing is decided but said once."""
    stores = Stores.local(tmp_path, tmp_path, actor="alice")
    for _ in range(2):
        decision = judged_again(stores, findings, floor, version)
        assert decision.action == "none"
        now, once = now_and_formerly(decision)
        (failure,) = [reason for reason in now if not reason.passed]
        assert failure.about == about
        assert text in failure.text
        assert [(reason.about, reason.text) for reason in once] == [("probes/quality", "floor 0.5")]
    assert decisions(stores) == ["promote", "none"]


def test_a_champion_that_passes_now_says_so_by_its_fresh_numbers(tmp_path):
    """Floors and validity of now are reasons, and nothing is added to the record."""
    stores = Stores.local(tmp_path, tmp_path, actor="alice")
    now, once = now_and_formerly(judged_again(stores, (QUALITY,)))
    assert [reason.about for reason in now] == ["champion", "validity", "probes/quality"]
    assert all(reason.passed for reason in now)
    assert "floor 0.7000: the low end 0.7500" in now[-1].text
    assert [reason.text for reason in once] == ["floor 0.5"]
    assert decisions(stores) == ["promote"]
