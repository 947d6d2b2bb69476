"""Transfer: exact where the surrogate is the model, honest about what the surrogate is worth, and a judge of gradients."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from holdfast.data import Samples
from holdfast.errors import ScenarioError
from holdfast.model import ModelSpec
from holdfast.perturbation import Threat
from holdfast.recovery.gate import Gates, decide
from holdfast.results import ModelVersion
from holdfast.scenarios.attacks._batch import Batch, margin
from holdfast.scenarios.attacks.pgd import Pgd
from holdfast.scenarios.attacks.square import Square
from holdfast.scenarios.attacks.transfer import Transfer
from holdfast.scenarios.base import Context
from holdfast.scenarios.cross_checks import family_checks, with_family_checks
from holdfast.seeding import Noise
from holdfast.training.standard import Standard
from holdfast.training.workshop import Workshop

_spec = importlib.util.spec_from_file_location("attack_models", Path(__file__).with_name("conftest.py"))
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)

POINTS = torch.rand((200, 1, 8, 8), generator=torch.Generator().manual_seed(1))


class Saturated(nn.Module):
    """A network whose logits are so large that cross-entropy has no gradient in float32."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x) * 1e4


class Rounded(nn.Module):
    """A network that reads its input in steps: no gradient gets through."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net((x * 16).round() / 16)


def network():
    return models.randomise(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5)))


def honest():
    return models.target_of(network(), models.BOX, 5)


def named(checks, name):
    return next(check for check in checks if check.name == name)


def measured(finding, name):
    return next(measure.value for measure in finding.measures if measure.name == name)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_breaks_a_twin_of_a_linear_model_breaks_the_model(norm):
    """With the model itself as surrogate, a row survives exactly when |w . x + b| > epsilon times w's dual norm."""
    target, w, b = models.linear(models.WIDE)
    x = torch.randn((128, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    distance = (x.flatten(1) @ w + b).abs() / (w.abs().sum() if norm == "linf" else w.norm())
    epsilon = float(distance.sort().values[60:62].mean())
    finding = Transfer(norm=norm, epsilon=epsilon).run(
        target, models.samples_of(target, x), models.knowing(target, size=0.0)
    )
    assert abs(finding.score.value - float((distance > epsilon).float().mean())) <= 1 / 128 + 1e-9
    assert measured(finding, "surrogate_broken") == measured(finding, "attack_success_rate")
    assert measured(finding, "surrogate_accuracy") == 1.0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_surrogate_that_says_the_opposite_breaks_nothing(norm):
    """Only the surrogate's gradients lead: those of a linear model's negative lead away from its boundary."""
    target, w, b = models.linear(models.WIDE)
    other = models.target_of(models.Linear(torch.stack([w / 2, -w / 2]), torch.stack([b / 2, -b / 2])), models.WIDE, 2)
    x = torch.randn((90, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    finding = Transfer(norm=norm, epsilon=2.0).run(
        target, models.samples_of(target, x), models.knowing(other, size=0.0)
    )
    assert finding.score.value == 1.0
    assert measured(finding, "surrogate_broken") == 1.0


def test_the_climb_goes_on_beyond_the_boundary():
    """Candidates lie further beyond the surrogate's boundary than the first rows that break it."""
    target = honest()
    samples = models.samples_of(target, POINTS)
    every = torch.ones_like(samples.y, dtype=torch.bool)
    first = Pgd(epsilon=0.05).strike(target, samples, every, Noise(0)).adversarial
    batch = Batch(target, Threat(epsilon=0.05), samples.x, samples.y, samples.ids, surrogate=target)
    furthest = Transfer(epsilon=0.05).perturb(batch, Noise(0))
    beyond = [-margin(target.logits(x), samples.y) for x in (first, furthest)]
    broken = beyond[0] > 0
    assert broken.sum() > 50
    assert (beyond[1] >= beyond[0])[broken].float().mean() > 0.95
    assert beyond[1][broken].mean() > 1.5 * beyond[0][broken].mean()


@pytest.mark.parametrize("restarts", [1, 3])
def test_each_candidate_is_one_query(restarts):
    """The model answers for each clean row, for each candidate, and for the row that the verdict rests on."""
    target = honest()
    samples = models.samples_of(target, POINTS)
    finding = Transfer(epsilon=1e-4, restarts=restarts).run(target, samples, models.knowing(target, size=0.0))
    assert finding.score.value == 1.0
    assert finding.details["most_forwards_per_point"] == restarts
    assert finding.details["forwards"]["attack"] == (1 + restarts + 1) * len(samples)
    assert finding.cost.backwards == 0
    assert finding.details["surrogate"]["backwards"] == 21 * restarts * len(samples)


@pytest.mark.parametrize("mask", [Saturated, Rounded])
def test_masked_gradients_are_convicted_and_honest_ones_are_not(mask):
    """What breaks a model trained alike breaks what PGD leaves of a masked model, and nothing more of an honest one."""
    knowing = models.knowing(honest())
    attacks = [Pgd(epsilon=0.05), Transfer(epsilon=0.05)]
    for target, expected in ((models.target_of(mask(network()), models.BOX, 5), "failed"), (honest(), "passed")):
        found = with_family_checks([a.run(target, models.samples_of(target, POINTS), knowing) for a in attacks])
        check = named(found[0].checks, "transfer[linf 0.05]")
        assert check.status == expected, check.reason
        assert (found[0].valid, found[1].valid) == (expected == "passed", True), found[1].checks
        assert "attacks/transfer: 1" in check.reason
    assert [check.name for check in found[1].checks if "[" in check.name] == []


def test_a_surrogate_is_no_second_black_box():
    """Masking holds the black box alone against gradients; without a surrogate the transfer check does not apply."""
    target, samples = honest(), models.samples_of(honest(), POINTS)
    pgd, transfer, square = (
        a.run(target, samples, models.knowing(target)) for a in (Pgd(), Transfer(), Square(queries=20))
    )
    held = {c.name: c for c in family_checks([pgd, transfer])}
    assert held["masking[linf 0.05]"].status == "not_applicable"
    assert held["transfer[linf 0.05]"].status == "passed"
    assert named(family_checks([pgd, square]), "transfer[linf 0.05]").reason == "no surrogate was attacked"
    assert named(family_checks([transfer, square]), "transfer[linf 0.05]").status == "not_applicable"
    both = {c.name: c.reason for c in family_checks([pgd, square, transfer])}
    assert both["masking[linf 0.05]"] == named(family_checks([pgd, square]), "masking[linf 0.05]").reason


def test_a_surrogate_much_worse_than_the_model_is_no_witness():
    """Its rows say little of the model, so the finding stays a true upper bound, convicts nothing and blocks nothing."""
    target = honest()
    samples = models.samples_of(target, POINTS)
    finding = Transfer(epsilon=0.05).run(target, samples, models.knowing(target, size=1.0))
    check = named(finding.checks, "surrogate_comparable")
    assert (check.status, finding.valid, finding.score.kind) == ("not_applicable", True, "upper_bound")
    assert re.search(r"gets \d\d % of the points wrong, net.*epochs", check.reason)
    version = ModelVersion(name="m", version=1, digest=finding.provenance.subject)
    gates = Gates(floors={finding.path: 0.0})
    decision = decide(gates, version, None, [], [], "accuracy", floor_findings=[finding])
    assert decision.action == "promote", decision.reasons
    pgd = Pgd(epsilon=0.05).run(target, samples, models.knowing(target))
    (held,) = (c for c in family_checks([pgd, finding]) if c.name == "transfer[linf 0.05]")
    assert (held.status, held.reason) == ("not_applicable", check.reason)


def trained(seed):
    """A workshop of rows with a curved boundary, and a model that it made."""
    noise, ids = Noise(2, ("transfer",)), torch.arange(900)
    x = noise.uniform(ids, (1, 4, 4))
    y = ((x[:, 0, 0].sum(1) - 2.0).abs() + 0.2 * x[:, 0, 1, 0] > 0.55).long()
    space = models.BOX.model_copy(update={"shape": (1, 4, 4)})
    spec = ModelSpec(factory=f"{__name__}:flat", space=space, classes=("a", "b"))
    parts = {
        role: Samples(x[part], y[part], ids[part], role, "made")
        for role, part in (("train", slice(0, 600)), ("validation", slice(600, 700)), ("test", slice(700, 900)))
    }
    recipe = Standard(epochs=12, batch_size=30, learning_rate=0.01)
    workshop = Workshop(recipe=recipe, spec=spec, device=torch.device("cpu"), **parts)
    return workshop, workshop.fit(workshop.train, seed=seed)


def flat(shape, classes):
    """A small network on flattened images."""
    del shape
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, classes))


@pytest.fixture(scope="module")
def workshop():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("holdfast.model.resolve_factory", lambda name: flat)
        yield trained(seed=1)


def test_another_training_of_the_recipe_transfers(workshop):
    """A surrogate that the scenario trains itself, under its own seed, breaks much of a model that it never saw."""
    shop, target = workshop
    finding = Transfer(epsilon=0.2).run(target, shop.test, Context(seed=1, workshop=shop))
    assert finding.valid, finding.checks
    assert measured(finding, "clean_accuracy") > 0.85
    assert finding.score.value < measured(finding, "clean_accuracy") - 0.2
    assert measured(finding, "surrogate_broken") > measured(finding, "attack_success_rate")
    surrogate = Transfer().bring(target, Noise(1), Context(seed=1, workshop=shop))
    pairs = zip(surrogate.module.parameters(), target.module.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)


def test_a_seed_names_one_surrogate(workshop):
    """The same noise trains the same surrogate, another noise another, for as many epochs as were asked at most."""
    shop, target = workshop
    context, asked = Context(seed=1, workshop=shop), []

    class Watched(Workshop):
        def fit(self, train, *, seed, epochs=None):
            asked.append((seed, epochs))
            return super().fit(train, seed=seed, epochs=1)

    context = replace(context, workshop=Watched(**vars(shop)))
    for epochs, noise in ((8, Noise(1)), (8, Noise(1)), (8, Noise(2)), (99, Noise(1)), (None, Noise(1))):
        Transfer(epochs=epochs).bring(target, noise, context)
    assert [epochs for _, epochs in asked] == [8, 8, 8, 12, 12]
    assert asked[0] == asked[1]
    assert asked[0][0] != asked[2][0]


def test_the_recipe_is_part_of_the_question(workshop):
    """Another recipe trains another surrogate: its answer is not kept under the same key; other attacks do not care."""
    shop, _ = workshop
    other = replace(shop, recipe=shop.recipe.model_copy(update={"learning_rate": 0.02}))
    contexts = [Context(seed=1, workshop=each) for each in (shop, other)]
    for kind, keys in ((Transfer, 2), (Pgd, 1)):
        origins = [kind().origin(c, "subject", "data", "test", "cpu") for c in contexts]
        assert len({origin.model_dump_json() for origin in origins}) == keys
    assert contexts[0].workshop.digest == Transfer().origin(contexts[0], "subject", "data", "test", "cpu").recipe


def test_without_anything_to_train_with_it_is_unscored():
    """No workshop is no number; and no attack goes on without its surrogate."""
    target = honest()
    samples = models.samples_of(target, POINTS)
    finding = Transfer().run(target, samples, Context(seed=1))
    assert finding.score is None
    assert "to train with" in finding.unscored
    with pytest.raises(ScenarioError, match="no surrogate"):
        Transfer().strike(target, samples, torch.ones_like(samples.y, dtype=torch.bool), Noise(0))
