"""Training: a version's lineage says which data, params and code made it, and whom it came after."""

import hashlib
import json

import pytest

from holdfast.digests import library_digest, library_versions
from holdfast.errors import ModelError
from holdfast.params import Params
from holdfast.recovery.ledger import ChampionHead
from holdfast.results import Decision
from holdfast.stores import WallClock
from tasks import lineage, runs, tracking, training


def test_lineage_says_which_code_and_params_made_a_version(world, made):
    """The ledger names library, versions, revision, parent and the sha256 of params that read back as they were."""
    told = lineage.registered(world.stores, made.version)
    assert (told["library"], told["versions"]) == (library_digest(), library_versions())
    assert told["revision"] == "f39917c-dirty"
    assert told["parent"] is None
    assert told["recipe"] == "standard"
    assert told["recipe_settings"] == world.params.recipe().model_dump(mode="json")
    assert told["factory"] == world.params.model.factory
    text = tracking.read_text(world.stores, made.version.run_id, told["params_file"])
    assert hashlib.sha256(text.encode()).hexdigest() == told["params_sha256"]
    again = Params.model_validate(json.loads(text))
    assert again.model_dump(mode="json") == world.params.model_dump(mode="json")  # YAML may have numbers for keys
    assert again.checks() == world.params.checks(), "in the order of the file"


def test_the_parent_is_the_champion_of_that_time(world, made):
    """A version that came after a champion names it with its digest."""
    head = ChampionHead(
        model="tiny", version=4, digest="4c" * 32, promotion="p", seq=9, at=WallClock().now()
    )  # fmt: skip
    spec, seen = (
        training.load_model(world.stores.models / made.version.digest, made.version.digest).spec,
        world.data.rows_seen(),
    )
    told = lineage.compose(world.params, world.snapshot, spec, "key", seen, head)
    assert told["parent"] == {"version": 4, "digest": "4c" * 32}


def test_a_version_that_is_reused_keeps_the_params_that_made_it(world, made, monkeypatch):
    """The same training under other gates is the same version, and neither its lineage nor its params are rewritten."""
    monkeypatch.setattr(training, "load_data", world.load)
    before = lineage.registered(world.stores, made.version)
    text = tracking.read_text(world.stores, made.version.run_id, lineage.PARAMS_FILE)
    other = world.params.model_copy(update={"recovery": type(world.params.recovery)()})
    run = made.runs.training
    assert training.register.fn(other, world.stores, world.snapshot, made.trained, run) == made.version
    assert lineage.registered(world.stores, made.version) == before
    assert tracking.read_text(world.stores, made.version.run_id, lineage.PARAMS_FILE) == text


def going_on(world, **retraining):
    recovery = world.params.recovery
    changed = recovery.retraining.model_copy(update={"warm_start": True, **retraining})
    return world.params.model_copy(update={"recovery": recovery.model_copy(update={"retraining": changed})})


def test_a_retraining_begins_from_the_champion_that_was_decided_on(world, made):
    """The decision's champion with the ledger's digest, nobody where it begins afresh, and never other bytes."""
    warm, decided = going_on(world), Decision(action="retrain", reasons=(), champion=made.version)
    assert training.starting_point.fn(world.params, world.stores, decided) is None
    assert training.starting_point.fn(warm, world.stores, decided).digest == made.version.digest
    other = decided.model_copy(update={"champion": made.version.model_copy(update={"digest": "0b" * 32})})
    with pytest.raises(ModelError, match="as was decided on"):
        training.starting_point.fn(warm, world.stores, other)
    with pytest.raises(ModelError, match="about no champion"):
        training.starting_point.fn(warm, world.stores, Decision(action="retrain", reasons=()))


def test_a_version_that_went_on_says_from_which_weights(world, made, monkeypatch):
    """Key, recipe digest and lineage name the weights that it began from; spoilt ones begin nothing."""
    monkeypatch.setattr(training, "load_data", world.load)
    former = made.version
    key = training.training_key(world.params, world.snapshot, former)
    assert key != training.training_key(world.params, world.snapshot)
    other = former.model_copy(update={"digest": "0b" * 32})
    assert key != training.training_key(world.params, world.snapshot, other)
    weights = world.stores.models / former.digest / "model.safetensors"
    body = weights.read_bytes()
    weights.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(ModelError, match="as recorded"):
        training.train.fn(world.params, world.stores, world.snapshot, former)
    weights.write_bytes(body)
    trained = training.train.fn(world.params, world.stores, world.snapshot, former)
    assert trained.digest != former.digest
    assert training.train.fn(world.params, world.stores, world.snapshot, former) == trained
    run = runs.begin.fn(world.params, world.stores, world.snapshot, former).training
    assert run != made.runs.training
    version = training.register.fn(world.params, world.stores, world.snapshot, trained, run, former)
    told, before = lineage.registered(world.stores, version), lineage.registered(world.stores, former)
    assert told["started_from"] == {"version": former.version, "digest": former.digest}
    assert before["started_from"] is None
    assert told["recipe_digest"] != before["recipe_digest"]
