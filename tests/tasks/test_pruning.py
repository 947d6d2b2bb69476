"""Pruning: what lives is never taken, what nothing needs goes on record, and a kill in between changes nothing."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from holdfast.data.admission import AdmittedWindow, Manifest
from holdfast.data.escrow import Escrow
from holdfast.data.streams.base import Arrival
from holdfast.digests import library_digest
from holdfast.errors import StoreError
from holdfast.integrity.quarantine import Quarantine
from holdfast.model import ModelSpec, digest_of, save_model
from holdfast.monitoring.watch import WindowRecord
from holdfast.params import load as load_params
from holdfast.prediction_log import Answer, PredictionLog
from holdfast.recovery.promotion import condemn, promote, register
from holdfast.results import (
    DataSnapshot,
    Decision,
    Finding,
    IntegrityFinding,
    ModelVersion,
    Provenance,
    Score,
    StageReport,
)
from holdfast.space import Feature, Table
from holdfast.stores import Stores, WallClock
from tasks import living, objects, pruning, tracking
from tasks.drills import kept_key
from tasks.monitoring import open_watch
from tasks.recovery import open_ledger
from tasks.responses import release_window
from tasks.storage import read_manifest
from tasks.training import TrainedModel

TOP = Path(__file__).parents[2]
LONG_AGO = datetime.now(UTC) - timedelta(days=400)
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


class Shelf:
    """An alias in memory."""

    version = None

    def read(self, model):
        return self.version

    def write(self, model, version):
        self.version = version


class At:
    """A clock that stands still."""

    def __init__(self, moment):
        self.moment = moment

    def now(self):
        return self.moment


@pytest.fixture(scope="session")
def params():
    """The tiny profile, with retrainings that slide over two windows."""
    sliding = ("recovery.retraining.windows=2", "recovery.screening.past=2", "monitoring.detectors={harm: {}}")
    return load_params(TOP / "params.yaml", (TOP / "profiles" / "tiny.yaml",), sliding)


def version(number, name="tiny"):
    return ModelVersion(name=name, version=number, digest=f"{number}" * 64)


def lineage(**data):
    snapshot = DataSnapshot(
        name="tiny", path="data/x", md5="m.dir", revision="none", rows=1, period=None, **{"file_md5": "now", **data}
    )
    return {
        "data": snapshot.model_dump(mode="json"),
        "key": f"key-{data.get('manifest', '')}",
        "recipe_digest": "recipe",
    }


def arrival(position):
    return Arrival(position, pd.DataFrame({"x": np.arange(5.0) + 10 * position}))


def finding(subject, library=None):
    origin = Provenance(
        subject=subject, data="d", role="test", seed=1, library=library or library_digest(), versions={}, device="cpu"
    )
    score = Score(value=0.5, low=0.4, high=0.6, n=9, method="wilson")
    return Finding(
        path="probes/quality", dimension="robustness", family="probes", settings={}, provenance=origin, score=score
    )


def placed(folder):
    return Stores.local(folder / "project", folder / "state", actor="alice")


@pytest.fixture
def stores(planted, tmp_path, monkeypatch):
    """A copy of the planted stores, and a registry that has the bytes of every version but the fourth."""
    monkeypatch.setattr(pruning, "trusted_champion", lambda *_: None)  # the registry is no part of this
    monkeypatch.setattr(pruning, "in_registry", lambda _stores, asked: asked.version != 4)
    return placed(shutil.copytree(planted, tmp_path / "world"))


@pytest.fixture(scope="module")
def planted(tmp_path_factory, params):
    """Version 3 reigns after 1, versions 2 and 4 are condemned; of every kind something lives and something does not."""
    folder = tmp_path_factory.mktemp("planted")
    made = placed(folder)
    (made.project / ".dvc").mkdir(parents=True)
    for name in ("data.dvc", ".dvc/config"):
        shutil.copy(TOP / name, made.project / name)
    made.root.mkdir()
    escrow, watch, ledger = Escrow(made.escrow), open_watch(params, made), open_ledger(made)
    windows = [keep_window(made, escrow, watch, place) for place in range(9)]
    for place in range(8):  # the labels of the last have not come
        watch.mature(place, escrow.keep_labels(np.array([f"a{place}"] * 5)))
        watch.screened(place, "clean", "{}")
    manifests = [manifest(made, windows, places) for places in ([1, 2], [2, 3])]
    for number, data in ((1, {}), (2, {"manifest": manifests[0]}), (3, {"manifest": manifests[1]}), (4, {})):
        register(ledger, version(number), who="alice", lineage=lineage(**data, quarantined=f"list{number}"))
    alias = Shelf()
    for number in (1, 3):
        head = ledger.head("tiny")
        decision = Decision(action="promote", reasons=(), candidate=version(number), champion=head and head.reference())
        promote(ledger, alias, decision, expected=head and head.promotion, who="alice", why="w")
    condemn(ledger, version(2), who="alice", why="w")
    condemn(ledger, version(4), who="alice", why="w")
    for place in (1, 2, 3):
        watch.move(place, "admitted", f"manifest {manifests[place == 3]}")
    watch.move(4, "quarantined", "quality_fault")
    for place in range(8):
        body = Decision(action="none", reasons=(), position=place).model_dump(mode="json")
        ledger.append("decision", who="holdfast", model="tiny", body=body, key=f"response:tiny:{place}")
    plant_files(made)
    plant_rows(made)
    date(made, LONG_AGO)
    return folder


def date(made, moment):
    """Make every file as old as a moment."""
    for path in (*made.root.rglob("*"), *(made.project / ".dvc" / "cache").rglob("*")):
        if path.suffix != ".db":
            os.utime(path, (moment.timestamp(), moment.timestamp()))


def keep_window(made, escrow, watch, place):
    return watch.arrive(place, escrow.keep(arrival(place)), 5)


def manifest(made, windows, places):
    kept = tuple(
        AdmittedWindow(
            position=p, digest=windows[p].digest, rows_md5=objects.keep(made.project, f"rows {p}".encode()),
            labels_md5=objects.keep(made.project, f"labels {p}".encode()),
        )
        for p in places
    )  # fmt: skip
    body = Manifest(base_md5="m.dir", base_content="c", windows=kept, recent=(places[-1],))
    return objects.keep(made.project, body.model_dump_json().encode())


def plant_files(made):
    for name in ("1" * 64, "2" * 64, "3" * 64, "4" * 64, "9" * 64, ".part-x"):
        (made.models / name).mkdir(parents=True)
        (made.models / name / "model.safetensors").write_bytes(b"12345")
    (made.models / ("3" * 64) / ".part-y").write_bytes(b"1")
    trained = TrainedModel(digest="1" * 64, key="k", history=(), best_epoch=1, stopped_early=False)
    for key, value in {
        "key-": trained, "finished": trained, "other": trained, "live": finding("3" * 64), "recipes": finding("recipe"),
        "older code": finding("3" * 64, "another"), "dead": finding("9" * 64),
        kept_key(version(3)): StageReport(stage="recovery", subject="s"),
        kept_key(version(2)): StageReport(stage="recovery", subject="s"),
    }.items():  # fmt: skip
        made.results.put(key, value)
    for key in ("finished", "cut"):
        (made.checkpoints / key).mkdir(parents=True)
    made.results.put("attack", finding("3" * 64))
    for key in ("attack", "cut"):
        (made.shards / key).mkdir(parents=True)
    for name, digest in (("ours", "3" * 64), ("theirs", "1" * 64)):
        (made.root / "drills" / name).mkdir(parents=True)
        (made.root / "drills" / name / "bundle.json").write_text(json.dumps({"digest": digest}))
    (made.escrow / ("f" * 64 + ".parquet")).write_text("of nobody")
    for moment in (LONG_AGO, YESTERDAY):
        answers = [Answer(input="i", output="a", confidence=0.5)] * 3
        for name in ("tiny", "other"):
            PredictionLog(made.predictions, At(moment)).append(version(1, name), answers, "c")


def plant_rows(made):
    store = Quarantine(made.quarantine)
    material = SimpleNamespace(ids=np.arange(6), frame=pd.DataFrame({"v": range(6)}))
    for snapshot, rows in (("before", (1, 2)), ("before", (5,)), ("now", (1, 2, 3)), ("then", (3,))):
        held = IntegrityFinding(check="schema", verdict="quarantine", reason="odd", examined=6, rows=rows)
        store.add([held], material, snapshot)
    for name in ("list1", "list3", "nobody"):
        (made.quarantine / f"excluded-{name}.json").write_text("[]")


def taken(found):
    return {(h.kind, h.name) for h in found.holdings if h.goes}


def kept(found):
    return {(h.kind, h.name): h.why for h in found.holdings if not h.goes}


def state(made):
    """Every file, and the state of every window; what a database holds is asked of it."""
    files = {
        str(p.relative_to(made.project.parent)): p.stat().st_size
        for folder in (made.root, made.project / ".dvc" / "cache")
        for p in folder.rglob("*")
        if p.is_file() and not p.name.startswith(("ledger.db", "predictions.db"))
    }
    log = PredictionLog(made.predictions, WallClock())
    return files, log.count(), [w.state for w in open_watch(SimpleNamespace(name="tiny"), made).windows()]


def test_what_nothing_needs_goes_and_what_lives_stays(stores, params):
    """Of each kind exactly the planted ones go, and each that stays says what needs it."""
    found = pruning.prune(params, stores)
    spare = {(h.kind, h.name) for h in found.holdings if h.goes and h.kind not in {"rows", "object", "answers"}}
    assert spare == {
        ("window", "0"), ("window", "1"), ("exclusion", "excluded-nobody.json"),
        ("model", "2" * 64), ("model", "9" * 64), ("checkpoint", "finished"), ("checkpoint", "cut"),
        ("shards", "attack"), ("shards", "cut"),
        ("result", "finished"), ("result", "other"), ("result", "older code"), ("result", "dead"),
        ("result", kept_key(version(2))), ("sandbox", "theirs"), ("leftover", "models/.part-x"),
        ("leftover", f"models/{'3' * 64}/.part-y"), ("leftover", "escrow/" + "f" * 64 + ".parquet"),
    }  # fmt: skip
    why = kept(found)
    assert why["model", "4" * 64].startswith("the only good copy of tiny version 4")
    assert why["model", "1" * 64] == "the bytes of tiny version 1"
    assert why["result", "key-"] == "the training of a version"
    assert why["result", kept_key(version(3))] == "drills of a version"
    assert why["result", "live"] == why["result", "recipes"] == "the next run reuses it"
    assert why["sandbox", "ours"] == "drills of the champion go on in it"
    reasons = {name: why["window", str(name)] for name in range(2, 9)}
    assert all("of a version names it" in reasons[place] for place in (2, 3))
    assert "a person may release it" in reasons[4]
    assert "the champion is not judged" in reasons[5]
    assert [reasons[place] for place in (6, 7)] == ["the next retraining may learn from it"] * 2
    assert reasons[8] == "it is not handled yet"


def test_a_condemned_version_goes_only_while_the_registry_has_its_very_bytes(params, tmp_path):
    """With one byte of the registered artefact changed, or none left, the sound local copy is the last and stays."""
    made, folder = placed(tmp_path), tmp_path / "m"
    tracking.prepare(made, "tiny")
    space = Table(features=(Feature(name="x", kind="number", iqr=1.0),))
    spec = ModelSpec(factory="holdfast.networks:mlp", settings={"width": 4}, space=space, classes=("no", "yes"))
    digest = save_model(folder, spec.build(seed=0), spec)
    run = tracking.open_run(made, "tiny", "k", title="training")
    fallen = tracking.register(made, "tiny", folder, spec, run, "k", digest)
    register(open_ledger(made), fallen, who="alice", lineage=lineage())
    condemn(open_ledger(made), fallen, who="alice", why="w")
    local = tracking.fetch_model(made, fallen)
    date(made, LONG_AGO)
    assert ("model", digest) in taken(pruning.prune(params, made))
    (weights,) = Path(made.artifacts).rglob("model.safetensors")
    whole = weights.read_bytes()
    for spoilt in (whole[:-1] + bytes([whole[-1] ^ 1]), None):
        weights.write_bytes(spoilt) if spoilt else weights.unlink()
        found = pruning.prune(params, made, apply=True)
        assert kept(found)["model", digest].startswith("the only good copy of tiny version 1")
        assert digest_of(local) == digest
    weights.write_bytes(whole)
    pruning.prune(params, made, apply=True)
    assert not local.exists()


def test_objects_of_a_condemned_version_alone_go(stores, params):
    """What a version alive can be restored from stays, also where a condemned one names it too."""
    found = pruning.prune(params, stores)
    names = {md5: (h.goes, h.why) for h in found.holdings if h.kind == "object" for md5 in [h.name]}
    with open_ledger(stores).reading() as view:
        data = {e.version: e.body["lineage"]["data"]["manifest"] for e in view.entries(kinds=("registered",))}
    fallen, alive = (read_manifest(stores.project, data[number]) for number in (2, 3))
    gone = {data[2], fallen.windows[0].rows_md5, fallen.windows[0].labels_md5}
    assert {md5 for md5, (goes, _) in names.items() if goes} == gone
    assert len(names) == len(gone) + 5
    assert "tiny version 2 alone" in names[data[2]][1]
    pruning.prune(params, stores, apply=True)
    assert read_manifest(stores.project, data[3]) == alive
    assert all(objects.read(stores.project, md5) for w in alive.windows for md5 in (w.rows_md5, w.labels_md5))
    assert objects.held(stores.project, tuple(gone)) == {}


def test_rows_in_quarantine_stay_excluded(stores, params):
    """Only a batch goes whose rows another batch holds, and never one of the data that is in use."""
    store = Quarantine(stores.quarantine)
    before = store.excluded()
    held = {(h.snapshot, h.row) for h in store.list()}
    found = pruning.prune(params, stores, apply=True)
    assert sum(kind == "rows" for kind, _ in taken(found)) == 2
    assert store.excluded() == before == {1, 2, 3, 5}
    assert held - {(h.snapshot, h.row) for h in store.list()} == {("before", 1), ("before", 2), ("then", 3)}
    store.release([5], "alice", "fine", YESTERDAY)
    assert sum(kind == "rows" for kind, _ in taken(pruning.prune(params, stores))) == 1


def test_old_answers_of_this_model_go(stores, params):
    """Answers older than asked for are forgotten; younger ones and another model's stay."""
    log = PredictionLog(stores.predictions, WallClock())
    pruning.prune(params, stores, apply=True)
    old, young = LONG_AGO.date(), YESTERDAY.date()
    left = [(a.version.name, a.at.date()) for a in log.read()]
    assert left == [("other", old)] * 3 + [("tiny", young)] * 3 + [("other", young)] * 3
    assert log.aged("tiny", datetime.now(UTC)) == (3, 3)


def test_the_default_only_tells(stores, params):
    """Without apply not a byte, a state or an entry changes, and the bytes are those that apply frees."""
    before, entries = state(stores), open_ledger(stores).verify().length
    told = pruning.prune(params, stores)
    assert (state(stores), open_ledger(stores).verify().length) == (before, entries)
    assert not told.applied
    assert told.bytes == sum(h.bytes for h in told.holdings if h.goes) > 0
    assert any(line.startswith("would take 2 window") for line in told.lines())
    assert told.lines()[-1].endswith("--apply does it")
    done = pruning.prune(params, stores, apply=True)
    assert taken(done) == taken(told)
    assert done.bytes == told.bytes


def test_what_is_taken_is_on_record_once(stores, params):
    """One entry names everything that went, in the name of who asked; with nothing left to take there is no other."""
    done = pruning.prune(params, stores, apply=True)
    again = pruning.prune(params, stores, apply=True)
    assert taken(again) == set()
    with open_ledger(stores).reading() as view:
        (entry,) = [e for e in view.entries(kinds=("run",)) if e.body.get("about") == "prune"]
        assert view.verify().valid
    assert (entry.who, entry.model) == ("alice", "tiny")
    assert {(kind, name) for kind, names in entry.body["taken"].items() for name in names} == taken(done)


def test_nothing_young_goes(stores, params):
    """What was written yesterday stays, whatever needs it, but for what a finished training left."""
    date(stores, YESTERDAY)
    found = pruning.prune(params, stores)
    assert {kind for kind, _ in taken(found)} == {"answers", "checkpoint", "shards"}
    assert ("checkpoint", "finished") in taken(found)
    assert "30 days old" in kept(found)["checkpoint", "cut"]
    assert "365 days old" in kept(found)["window", "0"]


def test_quarantined_windows_go_only_when_asked_for(stores, params):
    """Then nobody can release them, and the watch says where they went."""
    found = pruning.prune(params, stores, apply=True, quarantined=True)
    assert ("window", "4") in taken(found)
    (record,) = [w for w in open_watch(params, stores).windows() if w.position == 4]
    assert record.state == "pruned"
    with pytest.raises(StoreError, match="one in quarantine"):
        release_window(params, stores, 4, "too late")


def test_a_response_under_way_keeps_all_that_it_may_read(stores, params):
    """While a retraining is decided on and not done, no window, checkpoint of its kind or object goes."""
    body = Decision(action="retrain", reasons=(), position=8).model_dump(mode="json")
    open_ledger(stores).append("decision", who="holdfast", model="tiny", body=body, key="response:tiny:8")
    found = pruning.prune(params, stores, quarantined=True)
    assert {kind for kind, _ in taken(found)} & {"window", "object"} == set()
    assert kept(found)["checkpoint", "cut"] == "a response is under way"


def test_a_response_of_another_model_keeps_what_these_models_share(stores, params):
    """While the other model's retraining is not done, no object and no unfinished checkpoint goes; this one's windows do."""
    register(open_ledger(stores), version(1, "other"), who="alice", lineage=lineage())
    body = Decision(action="retrain", reasons=(), position=8).model_dump(mode="json")
    open_ledger(stores).append("decision", who="holdfast", model="other", body=body, key="response:other:8")
    found = pruning.prune(params, stores)
    assert {kind for kind, _ in taken(found)} & {"window", "object"} == {"window"}
    assert kept(found)["checkpoint", "cut"] == "a response is under way"


def test_a_manifest_that_cannot_be_read_keeps_what_it_may_name(stores, params):
    """With a living manifest lost nobody knows what it named: no window and no object goes."""
    with open_ledger(stores).reading() as view:
        (entry,) = view.entries(kinds=("registered",), version=3)
    objects.held(stores.project, (entry.body["lineage"]["data"]["manifest"],)).popitem()[1].unlink()
    found = pruning.prune(params, stores)
    assert {kind for kind, _ in taken(found)} & {"window", "object"} == set()
    assert "cannot be read" in kept(found)["window", "0"]


def test_two_places_with_one_content_share_their_rows(stores, params):
    """Rows stay as long as another window has the same, of whichever model; labels that nobody else has go."""
    watch, escrow = open_watch(params, stores), Escrow(stores.escrow)
    first, second = watch.windows()[:2]
    watch.arrive(9, first.digest, 5)
    other = open_watch(SimpleNamespace(name="other"), stores)
    other.arrive(0, second.digest, 5)
    other.mature(0, second.labels)
    pruning.prune(params, stores, apply=True)
    pruning.prune(params, stores, apply=True)
    assert [w.state for w in watch.windows()[:2]] == ["pruned", "pruned"]
    assert escrow.rows(first.digest, 9).digest == first.digest
    assert not escrow.files(first.labels)
    assert escrow.rows(second.digest, 0).digest == second.digest
    assert escrow.labels(second.labels, 0).tolist() == ["a1"] * 5


class Killed(BaseException):
    """The end of the process."""


@pytest.mark.parametrize("stroke", [1, 6, 11, 16, 21, 26])
def test_a_prune_that_is_cut_off_is_finished_by_the_next(stores, params, tmp_path, monkeypatch, stroke):
    """Killed before any of its deletions, the next prune ends where an unbroken one does."""
    unbroken = placed(shutil.copytree(stores.project.parent, tmp_path / "whole"))
    pruning.prune(params, unbroken, apply=True)
    calls = iter(range(1, 1000))

    def deadly(real):
        def armed(*arguments, **named):
            if next(calls) == stroke:
                raise Killed
            return real(*arguments, **named)

        return armed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", deadly(Path.unlink))
        patch.setattr(Path, "rename", deadly(Path.rename))
        patch.setattr(shutil, "rmtree", deadly(shutil.rmtree))
        with pytest.raises(Killed):
            pruning.prune(params, stores, apply=True)
    pruning.prune(params, stores, apply=True)
    assert state(stores) == state(unbroken)
    assert open_ledger(stores).verify().valid
    assert not list(stores.models.glob(".*"))


def test_windows_that_were_set_aside_take_no_place_among_those_that_judge(params, stores, monkeypatch):
    """The next window is held against the last clean ones that may judge: these are needed, and not the attacked ones."""
    states = ("escrowed", "escrowed", "quarantined", "quarantined")
    records = tuple(
        WindowRecord(position=i, digest=f"{i}", rows=5, state=state, why="", matured=True)
        for i, state in enumerate(states)
    )
    monkeypatch.setattr(living, "pending", lambda *_: (4, None))
    monkeypatch.setattr(living, "admissible", lambda *_: ())
    monkeypatch.setattr(living, "_judges", lambda *_: frozenset())
    monkeypatch.setattr(
        living, "open_watch", lambda *_: SimpleNamespace(verdicts=lambda: dict.fromkeys(range(4), "clean"))
    )
    alive = SimpleNamespace(learned=dict, unread=())
    assert living.Needed.of(params, stores, alive, records).screened_by == {0, 1}
