"""Training: a version's lineage says which data, params and code made it, and whom it came after."""

import hashlib
import json

from holdfast.digests import library_digest, library_versions
from holdfast.params import Params
from holdfast.recovery.ledger import ChampionHead
from holdfast.stores import WallClock
from tasks import lineage, tracking, training


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
