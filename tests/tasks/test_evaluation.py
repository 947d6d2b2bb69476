"""Evaluation: a version is judged by what made it, and by labels that mean the same."""

from functools import partial
from types import SimpleNamespace

import pytest

from holdfast.errors import ModelError
from holdfast.recovery.gate import Gates, decide
from holdfast.results import Score
from holdfast.scenarios.base import OnRecipe, Outcome
from holdfast.scenarios.probes.quality import Quality
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
    now = evaluation._workshop(other, world.stores, world.snapshot).digest
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
