"""The regression corpus: what an attack breaks one version with is the first that the next one is asked."""

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from holdfast.data.params import DataParams
from holdfast.data.source import load
from holdfast.errors import DataError
from holdfast.model import ModelSpec, load_model, save_model
from holdfast.recovery.promotion import register as record_version
from holdfast.results import ModelVersion
from holdfast.scenarios.attacks.fgsm import Fgsm
from holdfast.scenarios.probes.regression_corpus import RegressionCorpus
from holdfast.scorecard import ASIDE
from holdfast.stores import Stores
from tasks import corpus, evaluation, heldout, tracking
from tasks.heldout import keep_rows_seen

ATTACK = Fgsm(epsilon=0.8, points=120, categories=1)


def params(**told):
    return SimpleNamespace(
        name="people", seed=0, metric="accuracy", costs=None, device="cpu",
        model=SimpleNamespace(factory="holdfast.networks:mlp"),
        evaluation=SimpleNamespace(scenarios={"probes": {"regression_corpus": told}} if told else {}),
    )  # fmt: skip


PARAMS = params(kept=200)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry for all tests of this file: making one takes seconds."""
    root = tmp_path_factory.mktemp("registry")
    tracking.prepare(Stores.local(root, root), "people")
    return f"sqlite:///{root / 'mlflow.db'}"


@pytest.fixture
def world(tmp_path, monkeypatch, registry):
    """People in two snapshots: the second knows one kind more, and so other codes."""
    draw = np.random.default_rng(0)
    table = pd.DataFrame(draw.normal(size=(900, 2)).round(6), columns=["a", "b"])
    table["kind"] = np.where(draw.uniform(size=900) < 0.5, "u", "v")
    table["label"] = np.where(table["a"] + (table["kind"] == "u") > 0, "yes", "no")
    said = DataParams(
        kind="table", path="people.csv", label="label", roles={"train": 0.6, "validation": 0.1, "gate": 0.1, "test": 0.2},
        features={"a": {"mutable": True}, "kind": {"mutable": True}},
    )  # fmt: skip
    held = {}
    for name in ("before", "after"):
        if name == "after":
            table.loc[table.index[:9], "kind"] = "a-kind"
        table.to_csv(tmp_path / "people.csv", index=False)
        held[name] = load(tmp_path, said)
    stores = Stores.local(tmp_path, tmp_path / "stores", registry, actor="alice")
    for module in (heldout, evaluation):
        monkeypatch.setattr(module, "load_data", lambda _s, _p, snapshot: snapshot.data)
    return SimpleNamespace(
        stores=stores, **{name: SimpleNamespace(content=d.digest, revision="none", data=d) for name, d in held.items()}
    )


def version(world, number, snapshot, seen=None):
    data, stores = snapshot.data, world.stores
    spec = ModelSpec(factory="holdfast.networks:mlp", settings={"depth": 0}, space=data.space, classes=data.classes)
    digest = save_model(stores.models / "part", spec.build(seed=number), spec)
    (stores.models / "part").rename(stores.models / digest)
    run_id = tracking.open_run(stores, "people", f"training:{number} {stores.root}", title="training")
    seen = seen or data.rows_seen()
    keep_rows_seen(stores, run_id, seen)
    made = ModelVersion(name="people", version=number, digest=digest, run_id=run_id)
    record_version(heldout.open_ledger(stores), made, who="t", lineage={"rows_seen": seen.fingerprint()})
    return made


def asked(world, subject, snapshot, scenario=None, told=PARAMS):
    scenario = scenario or RegressionCorpus()
    return evaluation.run_scenario.fn(scenario.name(), scenario, told, world.stores, snapshot, subject, "test")


def files(world):
    return sorted(world.stores.corpus.rglob("*.npz"))


def test_what_broke_one_version_is_put_to_the_next_in_its_own_codes(world):
    """Each row of the finding is one that FGSM broke version 1 with, read by version 2's codes, and counted as it answers."""
    one, two = version(world, 1, world.before), version(world, 2, world.after)
    assert "no attack on an earlier version is kept" in asked(world, one, world.before).finding.unscored
    broken = asked(world, one, world.before, ATTACK).finding
    right = next(m.value for m in broken.measures if m.name == "clean_accuracy")
    won = round((right - broken.score.value) * broken.score.n)
    (path,) = files(world)
    assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.parent.name == "attacks.fgsm"
    answer = asked(world, two, world.after)
    found = answer.finding
    assert found.score.n == won == found.details["kept"] > 10
    assert found.details["attacks"] == {"attacks/fgsm": won}
    assert found.details["cannot_exist"] == 0
    assert found.family == "regression"
    assert found.path in ASIDE
    # By hand: the rows as a user would send them.
    target = load_model(world.stores.models / two.digest, two.digest)
    kept = corpus.Corpus.from_bytes(path.read_bytes(), corpus._schema(world.after.data, target))
    frame = pd.DataFrame({"a": kept.numbers[:, 1, 0], "b": kept.numbers[:, 1, 1], "kind": kept.names[:, 1, 0]})
    from holdfast.data.table import encode  # noqa: PLC0415  the public way in, for this test alone

    said = target.predict(encode(frame, target.space))
    still = np.array(target.classes)[said.numpy()] != kept.labels
    (measure,) = found.measures
    assert (measure.name, measure.n) == ("still_breaking", won)
    assert measure.value == pytest.approx(still.mean()) == pytest.approx(1 - found.score.value)
    assert not answer.reused
    assert asked(world, two, world.after).reused
    assert "none of" in asked(world, one, world.before).finding.unscored  # its own are not asked again


def test_nothing_is_kept_where_nothing_is_replayed_or_on_other_rows(world):
    """Params that name no corpus, and questions on gate rows, leave no file."""
    one = version(world, 1, world.before)
    asked(world, one, world.before, ATTACK, params())
    evaluation.run_scenario.fn(ATTACK.name(), ATTACK, PARAMS, world.stores, world.before, one, "gate")
    assert files(world) == []


def test_what_is_kept_is_bounded_and_grows_by_other_versions(world):
    """Two versions' successes share one file of at most so many rows of each; a second look changes none."""
    for number in (1, 2):
        asked(world, version(world, number, world.before), world.before, ATTACK, params(kept=10))
    (path,) = files(world)
    target = load_model(next(world.stores.models.glob("*[0-9a-f]")), None)
    kept = corpus.Corpus.from_bytes(path.read_bytes(), corpus._schema(world.before.data, target))
    counts = np.unique(kept.subjects, return_counts=True)[1]
    assert len(counts) == 2
    assert counts.max() == 10 < len(kept)
    keep = corpus.keeper(params(kept=10), world.stores, world.before.data, target, "attacks/fgsm")
    before, after, y = kept.encoded(target.space, target.classes)
    rows = world.before.data.samples("test").take(torch.arange(len(kept)))
    mine = kept.subjects == target.digest
    named = dict(zip(world.before.data.digests.tolist(), world.before.data.ids.tolist(), strict=True))
    ids = torch.tensor([named[digest] for digest in kept.digests.tolist()])
    keep(replace(rows, x=before, y=y, ids=ids).take(torch.from_numpy(mine)), after[mine])
    assert files(world) == [path]


def test_what_a_version_is_asked_is_the_same_after_its_own_attacks(world):
    """Its own successes displace none of another version's, however few are kept."""
    told = params(kept=14)
    asked(world, version(world, 1, world.before), world.before, ATTACK, told)
    two = version(world, 2, world.before)
    first = asked(world, two, world.before, told=told)
    asked(world, two, world.before, ATTACK, told)
    again = asked(world, two, world.before, told=told)
    assert first.finding.score.n == 14
    assert again.reused
    assert again.finding == first.finding


def test_two_that_write_at_once_lose_no_row(world, monkeypatch):
    """What another writer kept between one's reading and its writing is kept beside it, and laid together later."""
    data, one = world.before.data, version(world, 1, world.before)
    target = load_model(world.stores.models / one.digest, one.digest)
    keep = corpus.keeper(params(kept=99), world.stores, data, target, "attacks/fgsm")
    rows = data.samples("test")
    parts = [rows.take(torch.arange(first, first + 5)) for first in (0, 5, 10)]
    keep(parts[0], parts[0].x)
    read, waiting = corpus._read, [parts[1]]

    def slowly(*arguments):
        held = read(*arguments)
        while waiting:
            mine = waiting.pop()
            keep(mine, mine.x)
        return held

    monkeypatch.setattr(corpus, "_read", slowly)
    keep(parts[2], parts[2].x)
    kept = [corpus.Corpus.from_bytes(path.read_bytes(), corpus._schema(data, target)) for path in files(world)]
    digests = dict(zip(data.ids.tolist(), data.digests.tolist(), strict=True))
    assert {int(d) for each in kept for d in each.digests} == {digests[int(i)] for part in parts for i in part.ids}
    assert len(kept) == 2
    keep(parts[2], parts[2].x)
    assert len(files(world)) == 1


def test_rows_that_cannot_exist_any_more_or_were_learned_from_are_left_out(world):
    """Where a feature may not move now its attacked rows are none, and what trained the version does not test it."""
    one = version(world, 1, world.before)
    asked(world, one, world.before, ATTACK)
    data = world.after.data
    fixed = tuple(
        f.model_copy(update={"mutable": f.mutable and f.name == "a"}) for f in data.space.features
    )  # kinds stand still now
    stiff = SimpleNamespace(
        content="other", revision="none", data=replace(data, space=data.space.model_copy(update={"features": fixed}))
    )
    two = version(world, 2, world.after)
    whole, less = asked(world, two, world.after).finding, asked(world, two, stiff).finding
    assert less.details["cannot_exist"] > 0
    assert less.score.n == whole.score.n - less.details["cannot_exist"]
    ids = tuple(sorted(int(i) for i in data.ids))
    greedy = version(world, 3, world.after, data.rows_seen().model_copy(update={"ids": ids}))
    assert "none of" in asked(world, greedy, world.after).finding.unscored


def test_a_row_that_trained_the_version_is_known_by_its_content_whatever_columns_the_file_gains(world, tmp_path):
    """A column that data.exclude hides renames every row: what was learned from stays out, and the rest is asked."""
    asked(world, version(world, 1, world.before), world.before, ATTACK)
    table = world.before.data.frame.assign(note=range(900))
    table.to_csv(tmp_path / "people.csv", index=False)
    said = world.before.data.params.model_copy(update={"exclude": ("note",)})
    data = load(tmp_path, said)
    later = SimpleNamespace(content=data.digest, revision="none", data=data)
    assert not np.isin(data.ids, world.before.data.ids).any()
    every = data.rows_seen().model_copy(update={"ids": tuple(sorted(data.ids.tolist()))})
    assert "none of" in asked(world, version(world, 2, later, every), later).finding.unscored
    fresh = asked(world, version(world, 3, later), later).finding
    assert fresh.score.n > 10
    assert fresh.score.n + fresh.details["own_or_perhaps_learned_from_or_double"] == fresh.details["kept"]


def test_a_row_of_which_nothing_can_be_told_any_more_is_left_out(world, tmp_path):
    """Rows that the file lost, and all of them where a column is gone that they were named by, are not asked."""
    asked(world, version(world, 1, world.before), world.before, ATTACK)
    table, two = world.before.data.frame, version(world, 2, world.before)
    whole = asked(world, two, world.before).finding
    table[table["b"] > 0].to_csv(tmp_path / "people.csv", index=False)
    half = load(tmp_path, world.before.data.params)
    told = asked(world, two, SimpleNamespace(content=half.digest, revision="none", data=half)).finding
    assert 0 < told.score.n < whole.score.n
    more = world.before.data.rows_seen()
    three = version(world, 3, world.before, more.model_copy(update={"columns": (*more.columns, "note")}))
    assert "cannot be told: people.csv" in asked(world, three, world.before).finding.unscored


def test_a_version_of_which_nobody_knows_what_it_learned_from_is_asked_nothing(world):
    """Without its record any row could be one that trained it."""
    asked(world, version(world, 1, world.before), world.before, ATTACK)
    two = version(world, 2, world.after)
    bare = two.model_copy(update={"run_id": ""})
    assert "learned from cannot be told" in asked(world, bare, world.after).finding.unscored


def test_a_corpus_of_another_data_set_and_changed_bytes_are_refused(world):
    """Another file's corpus is named and left alone; a file whose bytes are others than its name stops the evaluation."""
    asked(world, version(world, 1, world.before), world.before, ATTACK)
    two = version(world, 2, world.after)
    other = replace(world.after.data, params=world.after.data.params.model_copy(update={"path": "others.csv"}))
    moved = SimpleNamespace(content="moved", revision="none", data=other)
    assert "another data set" in asked(world, two, moved).finding.unscored
    (path,) = files(world)
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(DataError, match="other bytes"):
        asked(world, two, world.after)
