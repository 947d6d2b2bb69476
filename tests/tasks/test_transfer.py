"""Transfer: parent and candidate asked on the pinned test rows and on windows that only the candidate learned from."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from holdfast.data.params import DataParams
from holdfast.data.source import load
from holdfast.model import ModelSpec, save_model
from holdfast.recovery.promotion import register as record_version
from holdfast.results import DataSnapshot, Decision, ModelVersion
from holdfast.scenarios.attacks.fgsm import Fgsm
from holdfast.scenarios.probes.quality import Quality
from holdfast.stores import Stores
from tasks import evaluation, heldout, tracking, transfer
from tasks.heldout import keep_rows_seen, left_out_ids

PACK = {"probes/quality": Quality(points=5000), "attacks/fgsm": Fgsm(epsilon=0.3, points=200)}
PARAMS = SimpleNamespace(
    name="people", seed=0, metric="accuracy", costs=None, device="cpu",
    model=SimpleNamespace(factory="holdfast.networks:mlp"), scenarios=lambda _: PACK,
    evaluation=SimpleNamespace(uses=SimpleNamespace(gate="gate"), scenarios={}),
    gate_attack=lambda: ("attacks/fgsm", PACK["attacks/fgsm"]),
)  # fmt: skip


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry for all tests of this file: making one takes seconds."""
    root = tmp_path_factory.mktemp("registry")
    tracking.prepare(Stores.local(root, root), "people")
    return f"sqlite:///{root / 'mlflow.db'}"


@pytest.fixture
def world(tmp_path, monkeypatch, registry):
    """Rows of which some came with windows 0 to 3; a parent that learned from windows 0 and 1, a candidate from all."""
    draw = np.random.default_rng(0)
    table = pd.DataFrame(draw.normal(size=(1500, 3)).round(6), columns=["a", "b", "c"])
    table.assign(label=np.where(table["a"] > 0, "yes", "no")).to_csv(tmp_path / "people.csv", index=False)
    said = DataParams(
        kind="table", path="people.csv", label="label", roles={"train": 0.6, "validation": 0.1, "gate": 0.2, "test": 0.1},
        features={"a": {"mutable": True}},
    )  # fmt: skip
    plain = load(tmp_path, said)
    window = np.where(np.arange(len(plain)) < 700, -1, np.arange(len(plain)) % 4)
    window[plain.roles == "test"] = -1
    data = replace(plain, window=window)
    stores = Stores.local(tmp_path, tmp_path, registry, actor="alice")
    for module in (heldout, evaluation, transfer):
        monkeypatch.setattr(module, "load_data", lambda *_: data)
    manifest = SimpleNamespace(windows=(SimpleNamespace(position=0), SimpleNamespace(position=1)))
    monkeypatch.setattr(transfer, "read_manifest", lambda _, md5: {"m1": manifest}[md5])
    learned = data.holds("train") & (window <= 1)
    snapshot = DataSnapshot(
        name="people", path="data/people.csv", md5="ab", file_md5="cd", revision="none", rows=len(data), period=None,
        content=data.digest, manifest="m1",
    )  # fmt: skip
    versions = [
        version(stores, number, data, seen, snapshot)
        for number, seen in (
            (1, data.rows_seen().model_copy(update={"ids": ids(data, learned)})),
            (2, data.rows_seen()),
        )
    ]
    monkeypatch.setattr(transfer, "find_version", SimpleNamespace(fn=lambda _p, _s, number: versions[number - 1]))
    run_id = tracking.open_run(stores, PARAMS.name, f"evaluation {tmp_path}", title="evaluation")
    return SimpleNamespace(stores=stores, data=data, versions=versions, snapshot=snapshot, run_id=run_id)


def ids(data, rows):
    return tuple(np.sort(data.ids[rows]).tolist())


def version(stores, number, data, seen, snapshot):
    spec = ModelSpec(factory="holdfast.networks:mlp", space=data.space, classes=data.classes)
    digest = save_model(stores.models / "part", spec.build(seed=number), spec)
    (stores.models / "part").rename(stores.models / digest)
    run_id = tracking.open_run(stores, PARAMS.name, f"training:{number} {stores.root}", title="training")
    keep_rows_seen(stores, run_id, seen)
    made = ModelVersion(name=PARAMS.name, version=number, digest=digest, run_id=run_id)
    lineage = {"rows_seen": seen.fingerprint(), "data": snapshot.model_dump(mode="json")}
    record_version(heldout.open_ledger(stores), made, who="t", lineage=lineage)
    return made


def asked(world, champion, candidate):
    decided = Decision(action="retrain", reasons=(), champion=champion)
    return transfer.transfer.fn(PARAMS, world.stores, world.snapshot, decided, candidate, world.run_id)


def test_both_versions_are_asked_about_rows_that_neither_learned_from(world):
    """The old world is the pinned test rows, the new one gate rows of windows that the parent never saw; all is logged."""
    parent, candidate = world.versions
    told = asked(world, parent, candidate)
    data = world.data
    fresh = data.holds("gate") & (data.window >= 2)
    assert {(c.world, c.path): c.n for c in told.changes} == {
        ("old world", "probes/quality"): int(data.holds("test").sum()),
        ("old world", "attacks/fgsm"): int(data.holds("test").sum()),
        ("new windows", "probes/quality"): int(fresh.sum()),
        ("new windows", "attacks/fgsm"): int(fresh.sum()),
    }
    assert [m.name.split(" ")[0] for m in told.measures] == [
        "backward_transfer", "forgetting", "regressions", "forward_transfer",
    ]  # fmt: skip
    assert (told.parent, told.candidate, told.missing) == (parent, candidate, ())
    logged = tracking.client(world.stores).get_run(world.run_id).data.metrics
    clean = told.changes[0]
    assert logged["transfer/old_world/probes/quality.before"] == pytest.approx(clean.before.value)
    assert logged["transfer/old_world/probes/quality.after"] == pytest.approx(clean.after.value)
    assert logged["transfer/backward_transfer"] == pytest.approx(clean.difference)


def test_rows_that_a_version_learned_from_are_left_out(world, monkeypatch):
    """Where the parent learned from test rows, they are asked about no more."""
    data = world.data
    learned = data.holds("train") | (data.holds("test") & (np.arange(len(data)) % 2 == 0))
    seen = data.rows_seen().model_copy(update={"ids": ids(data, learned)})
    greedy = version(world.stores, 3, data, seen, world.snapshot)
    monkeypatch.setattr(transfer, "find_version", SimpleNamespace(fn=lambda *_: greedy))
    told = asked(world, greedy, world.versions[1])
    kept = data.holds("test") & ~learned
    assert 0 < kept.sum() < data.holds("test").sum()
    assert next(c.n for c in told.changes if c.world == "old world") == kept.sum()
    assert left_out_ids(world.stores, None) == ()


def test_where_learned_rows_cannot_be_told_nothing_is_compared(world, monkeypatch):
    """A champion whose rows had a column that is gone is compared on none, and the page says why."""
    data = world.data
    seen = data.rows_seen().model_copy(update={"columns": ("a", "b", "c", "gone", "label")})
    former = version(world.stores, 4, data, seen, world.snapshot)
    monkeypatch.setattr(transfer, "find_version", SimpleNamespace(fn=lambda *_: former))
    told = asked(world, former, world.versions[1])
    assert (told.changes, told.measures) == ((), ())
    assert "no column gone" in told.missing[0]


def test_a_version_of_the_champions_bytes_and_a_decision_about_none_tell_nothing(world):
    """There is no before where nobody was before, and no change where nothing changed."""
    parent, candidate = world.versions
    assert asked(world, None, candidate) is None
    assert asked(world, parent, parent) is None
