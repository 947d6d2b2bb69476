"""Evaluation: a version is judged by what made it, and by labels that mean the same."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from holdfast.errors import ModelError
from holdfast.recovery.gate import Gates, decide
from holdfast.results import ModelVersion, Score
from holdfast.scenarios.attacks import base as attack_base
from holdfast.scenarios.attacks.pgd import Pgd
from holdfast.scenarios.attacks.transfer import Transfer
from holdfast.scenarios.base import OnRecipe, Outcome
from holdfast.scenarios.probes.quality import Quality
from holdfast.training.workshop import Workshop
from tasks import evaluation

PATH = "poisoning/steady"


class Steady(OnRecipe):
    """A recipe scenario that trains nothing and always finds the same."""

    dimension = "defence"
    family = "poisoning"
    reference = "none"

    def measure_recipe(self, workshop, noise, context):
        return Outcome(score=Score(value=0.9, low=0.8, high=0.95, n=5, method="seeds"))


@pytest.fixture(autouse=True)
def _here(world, monkeypatch):
    monkeypatch.setattr(evaluation, "load_data", world.load)


def changed(params, **sections):
    """Change params as an overlay does."""
    return params.model_validate({**params.model_dump(), **sections})


def asked(world, made, params):
    return evaluation.run_scenario.fn(
        PATH, Steady(), params, world.stores, world.snapshot, made.version, "test"
    ).finding


@pytest.mark.parametrize(
    "overlay",
    [
        {"training": {"recipe": "standard", "settings": {"epochs": 9}}},
        {"training": {"recipe": "adversarial", "settings": {}}},
        {"model": {"factory": "holdfast.networks:mlp", "settings": {"width": 3}}},
    ],
    ids=["settings", "recipe", "model"],
)
def test_a_version_is_never_judged_by_a_recipe_that_did_not_make_it(world, made, overlay):
    """Under an overlay of another recipe its recipe is unscored, both are named, and a gate that asks for it blocks."""
    own = asked(world, made, world.params)
    assert own.score is not None
    other = changed(world.params, **overlay)
    found = asked(world, made, other)
    assert found.score is None
    now = evaluation._workshop(other, world.data).digest
    assert now != own.provenance.subject == found.provenance.subject
    assert all(digest[:16] in found.unscored for digest in (now, own.provenance.subject))
    assert f"version {made.version.version}" in found.unscored
    assert "ask with the params and data of that version" in found.unscored
    gates = Gates(floors={PATH: 0.5})
    assert decide(gates, made.version, None, (), (), "accuracy", (own,)).action == "promote"
    assert decide(gates, made.version, None, (), (), "accuracy", (found,)).action == "block"


def test_what_does_not_make_a_version_does_not_unscore_it(world, made):
    """Another seed, gate or pack asks the same recipe."""
    overlay = {"seed": 8, "recovery": {"gates": {"floors": {}}}, "prediction": {"abstain_below": 0.5}}
    assert asked(world, made, changed(world.params, **overlay)).score is not None


def test_a_version_of_which_nobody_recorded_the_recipe_is_unscored(world, made):
    """No record is no agreement."""
    found = asked(world, type(made)(version=made.version.model_copy(update={"version": 99})), world.params)
    assert found.score is None
    assert "not recorded" in found.unscored


def test_labels_of_one_order_are_never_counted_against_outputs_of_another(world, made, monkeypatch):
    """The same classes in another order, or other classes, are refused; the same in the same order are not."""
    ask = partial(evaluation.run_scenario.fn, "probes/quality", Quality(), world.params, world.stores)
    for classes in (("yes", "no"), ("no", "maybe"), ("no",), ("no", "yes", "maybe")):
        monkeypatch.setattr(evaluation, "load_data", lambda *_, classes=classes: SimpleNamespace(classes=classes))
        with pytest.raises(ModelError, match="as the data has them") as caught:
            ask(world.snapshot.model_copy(update={"content": "other"}), made.version, "test")
        assert f"version {made.version.version}" in str(caught.value)
        assert "no, yes" in caught.value.found
    monkeypatch.setattr(evaluation, "load_data", world.load)
    assert ask(world.snapshot, made.version, "test").finding.score is not None


def test_an_answer_says_whether_it_was_found_before(world, made):
    """The first to ask computes, the second is told that it did not; what broke or was not asked is not reused."""
    ask = partial(evaluation.run_scenario.fn, PATH, Steady(), changed(world.params, seed=31), world.stores)
    first, second = (ask(world.snapshot, made.version, "test") for _ in range(2))
    assert (first.reused, second.reused) == (False, True)
    assert first.finding == second.finding
    other = changed(world.params, training={"recipe": "standard", "settings": {"epochs": 9}})
    for _ in range(2):
        unasked = evaluation.run_scenario.fn(PATH, Steady(), other, world.stores, world.snapshot, made.version, "test")
        assert not unasked.reused


def test_a_cut_off_attack_is_gone_on_with(world, made, monkeypatch):
    """What was done before the kill is attacked no more; with the finding, the shards go."""
    free = tuple(feature.model_copy(update={"mutable": True}) for feature in world.data.space.features)
    data = replace(world.data, space=world.data.space.model_copy(update={"features": free}))
    monkeypatch.setattr(evaluation, "load_data", lambda *_: data)
    monkeypatch.setattr(attack_base, "POINTS", 20)
    ask = partial(evaluation.run_scenario.fn, "attacks/pgd", Pgd(epsilon=0.3), changed(world.params, seed=17))
    attacked, strike = [], Pgd.strike

    def dying(self, target, samples, *rest):
        attacked.append(len(samples))
        if len(attacked) == 3:
            raise KeyboardInterrupt
        return strike(self, target, samples, *rest)

    monkeypatch.setattr(Pgd, "strike", dying)
    with pytest.raises(KeyboardInterrupt):
        ask(world.stores, world.snapshot, made.version, "test")
    (under_way,) = world.stores.shards.iterdir()
    assert len(list(under_way.iterdir())) == 2
    found = ask(world.stores, world.snapshot, made.version, "test").finding
    assert attacked[2] == attacked[3] == 20
    assert not list(world.stores.shards.iterdir())
    monkeypatch.setattr(Pgd, "strike", strike)
    next(world.stores.results.folder.rglob(f"{found.key}.json")).unlink()
    whole = ask(world.stores, world.snapshot, made.version, "test").finding
    assert found.model_dump(exclude={"cost"}) == whole.model_dump(exclude={"cost"})


def test_a_surrogate_is_trained_once_by_the_recipe_at_hand(world, made, monkeypatch):
    """It reads rows as the version does, whatever order the data has now; another recipe is another question."""
    free = tuple(feature.model_copy(update={"mutable": True}) for feature in world.data.space.features)
    spaces = [world.data.space.model_copy(update={"features": order}) for order in (free, free[::-1])]

    def ask(params, space):
        monkeypatch.setattr(evaluation, "load_data", lambda *_: replace(world.data, space=space))
        scenario = Transfer(epsilon=0.3)
        return evaluation.run_scenario.fn(
            "attacks/transfer", scenario, params, world.stores, world.snapshot, made.version, "test"
        )

    read, real = [], Workshop.fit
    monkeypatch.setattr(Workshop, "fit", lambda self, rows, **rest: read.append(rows.x) or real(self, rows, **rest))
    first, again, turned = ask(world.params, spaces[0]), ask(world.params, spaces[0]), ask(world.params, spaces[1])
    assert first.finding.details["access"] == "transfer"
    assert 0 < first.finding.score.value < 1
    assert first.finding.details["surrogate"]["backwards"] > 0
    assert (first.reused, again.reused, turned.reused) == (False, True, True)
    ask(changed(world.params, seed=9), spaces[1])
    assert len(read) == 2
    assert torch.equal(*read)
    other = ask(changed(world.params, training={"recipe": "standard", "settings": {"epochs": 3}}), spaces[0])
    assert not other.reused
    assert other.finding.provenance.recipe != first.finding.provenance.recipe != ""
    assert other.finding.provenance.subject == first.finding.provenance.subject == made.version.digest


@pytest.mark.parametrize(("role", "told"), [("test", "auroc"), ("gate", "auroc  on gate rows")])
def test_a_line_names_its_metric_and_rows_that_are_no_test_rows(role, told):
    """The same scenario is asked of two roles: its two numbers must not look like one that changed."""
    score = Score(value=0.9, low=0.8, high=0.95, n=5, method="wilson")
    finding = SimpleNamespace(
        score=score, valid=True, details={"metric": "auroc"}, provenance=SimpleNamespace(role=role)
    )
    assert evaluation.brief(finding).endswith(f"n=5  {told}")


def test_a_line_about_gate_rows_names_the_version():
    """Candidate and champion answer there one after the other."""
    version = ModelVersion(name="tiny", version=3, digest="d" * 64)
    assert [evaluation._whose(version, role) for role in ("gate", "test")] == [", version 3", ""]
