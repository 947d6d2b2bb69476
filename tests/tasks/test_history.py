"""History: headlines of one pack stand on every version, and say of which pack they are."""

from __future__ import annotations

import pytest

from holdfast.errors import ModelError
from holdfast.results import Finding, Provenance, Score, StageReport
from tasks import history, tracking
from tasks.audit import Audit


@pytest.fixture
def report(made):
    """What a pack found: one scenario of robustness."""
    found = Finding(
        path="anomalies/missing_values", dimension="robustness", family="anomalies", settings={},
        score=Score(value=0.9, low=0.85, high=0.95, n=100, method="wilson"),
        provenance=Provenance(subject="5e", data="d4", role="test", seed=7, library="11", versions={}, device="cpu"),
    )  # fmt: skip
    return StageReport(stage="evaluation", subject=made.version.digest, findings=(found,))


def asked(world, *scenarios):
    """The same params, but for what the pack of `run` asks."""
    packs = world.params.evaluation.packs
    chosen = packs[world.params.evaluation.uses.run].model_copy(update={"scenarios": scenarios})
    evaluation = world.params.evaluation.model_copy(update={"packs": {**packs, "standard": chosen}})
    return world.params.model_copy(update={"evaluation": evaluation})


def test_headlines_of_the_pack_of_run_are_written_on_the_version(world, made, report):
    """They are those that its page would show, each with its interval."""
    scored = history.headlines.fn(world.params, world.stores, made.version, report, world.params.evaluation.uses.run)
    assert "0.900" in scored.headlines["robustness"]
    known = tracking.version_tags(world.stores, made.version)
    assert {f"holdfast.{name}": text for name, text in scored.headlines.items()}.items() <= known.items()
    assert "robustness" in scored.line()


def test_headlines_of_another_pack_are_told_and_not_written(world, made, report):
    """A quick look takes nothing away from what a version was scored by."""
    history.headlines.fn(world.params, world.stores, made.version, report, world.params.evaluation.uses.run)
    before = tracking.version_tags(world.stores, made.version)
    none = report.model_copy(update={"findings": ()})
    scored = history.headlines.fn(world.params, world.stores, made.version, none, "gate")
    assert "0.900" not in scored.headlines["robustness"]
    assert tracking.version_tags(world.stores, made.version) == before


def test_one_more_scenario_in_the_pack_makes_headlines_stale(world, made, report):
    """Nothing is stale after a scoring; with another pack everything is, and so it is where it was never scored."""
    history.headlines.fn(world.params, world.stores, made.version, report, world.params.evaluation.uses.run)
    assert history.stale(world.params, world.stores) == ()
    assert history.stale(asked(world, "probes/quality"), world.stores) == (made.version.version,)
    tracking.tag_version(world.stores, made.version, {"holdfast.pack_digest": ""})
    assert history.stale(world.params, world.stores) == (made.version.version,)


def test_the_audit_says_which_headlines_are_stale():
    """It is no problem of the record, and says what to do."""
    audit = Audit(
        chain_valid=True, chain_length=1, chain_head="a" * 64, champion=1, champion_digest="b", alias_version=1,
        agrees=True, problems=(), versions=(), stale=(1, 3),
    )  # fmt: skip
    told = [line for line in audit.lines() if "--all-versions" in line]
    assert told == ["headlines of another pack, or none: 1, 3; `holdfast evaluate --all-versions` gives them"]
    assert not any("PROBLEM" in line for line in audit.lines())


def test_every_version_comes_with_the_ledgers_digest(world, made):
    """What the registry alone knows came by another way, and is not asked."""
    client = tracking.client(world.stores)
    orphan = client.create_model_version(made.version.name, made.version.source, run_id=made.version.run_id)
    try:
        found = history.every_version.fn(world.params, world.stores)
    finally:
        client.delete_model_version(made.version.name, orphan.version)
    assert [(each.version, each.digest) for each in found] == [(made.version.version, made.version.digest)]


def test_a_version_that_could_not_be_asked_says_why(made):
    """A gap is a gap: no headline, and the reason."""
    error = ModelError("version 1", found="other bytes", expected="its own", remedy="Run `holdfast audit`.")
    scored = history.refused(made.version, error)
    assert scored.headlines == {}
    assert "REFUSED" in scored.line()
    assert "other bytes" in scored.line()
    assert history.History(pack="p", pack_digest="d", versions=(scored,)).refused == (1,)
