"""Laws that every attack keeps, whoever wrote it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from holdfast import registry
from holdfast.errors import ScenarioError
from holdfast.perturbation import Threat
from holdfast.results import Finding
from holdfast.scenarios.attacks import base as attack_base
from holdfast.scenarios.attacks._swaps import changed
from holdfast.scenarios.attacks.base import Attack
from holdfast.seeding import Noise

# Test packages are no packages: the models of this folder are loaded by path.
_spec = importlib.util.spec_from_file_location("attack_models", Path(__file__).with_name("conftest.py"))
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)

PACKAGE = "holdfast.scenarios.attacks"
NAMES = registry.available(PACKAGE)
ON_TABLES = [name for name in NAMES if "table" in registry.find(PACKAGE, name, Attack).kinds]
SMALL = {"steps": 6, "queries": 80, "targets": 2, "searches": 4, "rate": 0.04, "samples": 12, "stride": 0.4}
CASES = [
    ("images", "linf", 0.03, 0),
    ("images", "l2", 0.3, 0),
    ("rows", "linf", 0.3, 0),
    ("rows", "linf", 0.3, 1),
    ("rows", "l2", 0.4, 1),
]


def make(name, **settings):
    kind = registry.find(PACKAGE, name, Attack)
    small = {key: value for key, value in SMALL.items() if key in kind.model_fields}
    return kind(**{**small, **settings})


def cases(function):
    every = [(name, *case) for name in NAMES for case in CASES if case[0] == "images" or name in ON_TABLES]
    return pytest.mark.parametrize(("name", "data", "norm", "epsilon", "categories"), every)(function)


def brought(attack, target):
    """The surrogate of an attack that brings one."""
    return attack.bring(target, Noise(3), models.knowing(target))


def flags(finding):
    return finding.per_example.unpack_flags()


@pytest.fixture
def case(request, data):
    return request.getfixturevalue(data)


def test_the_standard_attacks_are_there():
    """The path is the registry, and these are in it."""
    assert set(NAMES) >= {
        "apgd_ce", "apgd_dlr", "apgd_t", "autoattack", "carlini_wagner_l2", "deepfool", "fab", "fab_t", "fgsm", "hop_skip_jump",
        "mi_fgsm", "nes", "pgd", "r_fgsm", "spsa", "square", "transfer",
    }  # fmt: skip


@cases
def test_same_seed_same_flags_and_another_order_too(name, data, norm, epsilon, categories, case):
    """Rows in another order, and the same run again, give the same finding but for its cost."""
    target, samples = case
    attack = make(name, norm=norm, epsilon=epsilon, categories=categories)
    first = attack.run(target, samples, models.knowing(target))
    second = attack.run(
        target,
        samples.take(torch.randperm(len(samples), generator=torch.Generator().manual_seed(5))),
        models.knowing(target),
    )
    assert first.model_copy(update={"cost": second.cost}) == second
    assert 0 < flags(first).sum() < len(samples), "an attack that breaks nothing or everything proves nothing here"


@cases
def test_flags_do_not_depend_on_batch_or_shard(name, data, norm, epsilon, categories, case, monkeypatch):
    """Attacked alone, in shards of any size or among others, a point has the same flag and the same row."""
    target, samples = case
    attack, noise = make(name, norm=norm, epsilon=epsilon, categories=categories), Noise(3, ("law",))
    every, surrogate = torch.ones_like(samples.y, dtype=torch.bool), brought(attack, target)
    whole = attack.strike(target, samples, every, noise, surrogate)
    monkeypatch.setattr(attack_base, "_SHARD", 17 * samples.x[0].numel())
    sharded = attack.strike(target, samples, every, noise, surrogate)
    assert torch.equal(whole.robust, sharded.robust)
    few = torch.tensor([88, 4, 31])
    alone = attack.strike(target, samples.take(few), every[few], noise, surrogate)
    assert torch.equal(whole.robust[few], alone.robust)
    torch.testing.assert_close(whole.adversarial[few], alone.adversarial, rtol=1e-5, atol=1e-5, equal_nan=True)


@cases
def test_leaves_everything_as_it_was(name, data, norm, epsilon, categories, case):
    """Weights, modes, inputs and the global generators come back untouched."""
    target, samples = case
    state = {key: value.clone() for key, value in target.module.state_dict().items()}
    x, torch_state = samples.x.clone(), torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002  the generator that must stay untouched
    make(name, norm=norm, epsilon=epsilon, categories=categories).run(target, samples, models.knowing(target))
    assert all(torch.equal(value, state[key]) for key, value in target.module.state_dict().items())
    assert not any(module.training for module in target.module.modules())
    assert all(p.grad is None and not p.requires_grad for p in target.module.parameters())
    torch.testing.assert_close(samples.x, x, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002  as above


@cases
def test_every_row_can_exist_and_the_flag_is_the_models(name, data, norm, epsilon, categories, case):
    """Final rows lie in the threat, keep every rule of the space and the budget of categories; flags are re-derived."""
    target, samples = case
    every = torch.ones_like(samples.y, dtype=torch.bool)
    attack = make(name, norm=norm, epsilon=epsilon, categories=categories)
    strike = attack.strike(target, samples, every, Noise(3), brought(attack, target))
    assert Threat(norm=norm, epsilon=epsilon).holds(strike.adversarial, samples.x, target.space).all()
    if data == "rows":
        assert changed(strike.adversarial, samples.x, target.space).sum(1).max() == categories
        assert torch.equal(strike.adversarial[:, [3, 5]].isnan(), samples.x[:, [3, 5]].isnan())
        assert torch.equal(strike.adversarial[:, 5], samples.x[:, 5])
    assert torch.equal(strike.robust, target.predict(strike.adversarial) == samples.y)


@pytest.mark.parametrize("name", NAMES)
def test_a_finding_survives_json(name, images):
    """The finding's JSON form gives the finding back, and says what it took."""
    target, samples = images
    finding = make(name, epsilon=0.03).run(target, samples, models.knowing(target))
    assert Finding.model_validate_json(finding.model_dump_json()) == finding
    assert finding.path == f"attacks/{name}"
    assert finding.score.kind == "upper_bound"
    assert (finding.dimension, finding.family) == ("defence", "evasion")
    spent = finding.details["forwards"]
    assert sum(spent.values()) == finding.cost.forwards
    assert spent["checks"] <= 0.3 * spent["attack"]
    assert finding.valid, [check for check in finding.checks if check.status == "failed"]


@pytest.mark.parametrize("name", NAMES)
def test_epsilon_zero_is_clean_accuracy(name, images, rows):
    """With no room to move, robust accuracy is clean accuracy."""
    for target, samples in (images, rows)[: 2 if name in ON_TABLES else 1]:
        wrong = samples.y.clone()
        wrong[::3] = (wrong[::3] + 1) % len(target.classes)
        finding = make(name, epsilon=0.0).run(
            target, models.samples_of(target, samples.x, wrong), models.knowing(target)
        )
        clean = next(m for m in finding.measures if m.name == "clean_accuracy")
        assert finding.score.value == clean.value == 60 / 90
        assert finding.details["attacked"] == 60


@pytest.mark.parametrize("name", NAMES)
def test_counts_only_points_that_were_right(name, images):
    """Points wrong when clean are not attacked, are never robust and are no success of the attack."""
    target, samples = images
    wrong = (samples.y + 1) % 5
    half = torch.where(torch.arange(90) < 45, samples.y, wrong)
    finding = make(name, epsilon=0.03).run(target, models.samples_of(target, samples.x, half), models.knowing(target))
    assert finding.details["attacked"] == 45
    success = next(m for m in finding.measures if m.name == "attack_success_rate")
    assert success.n == 45
    assert success.value == pytest.approx(1 - finding.score.value * 90 / 45)
    under = np.array(finding.details["confusion"]["under_attack"])
    assert under.sum() == 90
    assert np.trace(under[:, :5]) == round(finding.score.value * 90)


@pytest.mark.parametrize("name", ON_TABLES)
def test_a_table_that_nobody_can_move_is_unscored(name):
    """Without a mutable feature there is no attack, and the finding says so instead of a number."""
    still = models.TABLE.model_copy(
        update={"features": tuple(f.model_copy(update={"mutable": False}) for f in models.TABLE.features)}
    )
    target = models.table_target(space=still)
    finding = make(name).run(target, models.samples_of(target, models.table_rows(10)), models.knowing(target))
    assert finding.score is None
    assert "mutable" in finding.unscored


@pytest.mark.parametrize("name", ON_TABLES)
def test_categories_alone_can_be_attacked(name):
    """Where only categories may change, the swaps are the attack, and they find what enumeration finds."""
    only = models.TABLE.model_copy(
        update={"features": tuple(f.model_copy(update={"mutable": f.name == "sector"}) for f in models.TABLE.features)}
    )
    target = models.table_target(space=only)
    samples = models.samples_of(target, models.table_rows(90))
    finding = make(name, categories=1).run(target, samples, models.knowing(target, size=0.0))
    held = torch.ones(90, dtype=torch.bool)
    for code in range(4):
        tried = samples.x.clone()
        tried[:, 4] = code
        held &= target.predict(tried) == samples.y
    assert 0 < held.sum() < 90
    assert finding.score.value == pytest.approx(float(held.float().mean()))


@pytest.mark.parametrize("name", NAMES)
def test_classes_from_two_to_five(name):
    """Losses are defined for any number of classes, two and three included."""
    for classes in (2, 3, 4):
        net = models.randomise(
            torch.nn.Sequential(
                torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, classes)
            ),
            classes,
        )
        target = models.target_of(net, models.BOX, classes)
        x = torch.rand((40, 1, 8, 8), generator=torch.Generator().manual_seed(1))
        finding = make(name, norm="linf", epsilon=0.3).run(target, models.samples_of(target, x), models.knowing(target))
        assert finding.score.value < 0.8


class _Broken(Attack):
    """An attack that proposes what it is told."""

    reference = "none"
    shape: tuple[int, ...] = (1, 8, 8)
    value: float = 0.0

    @property
    def most_forwards(self):
        return 0

    def perturb(self, batch, noise):
        return torch.full((len(batch), *self.shape), self.value)


def test_proposals_outside_are_projected_and_non_finite_ones_refused(images):
    """The base trusts no proposal: it projects what is outside, and raises where there is no number."""
    target, samples = images
    every = torch.ones_like(samples.y, dtype=torch.bool)
    strike = _Broken(value=9.0, epsilon=0.02).strike(target, samples, every, Noise(0))
    torch.testing.assert_close(strike.adversarial, (samples.x + 0.02).clamp(max=1.0))
    for settings in ({"value": float("nan")}, {"value": float("inf")}, {"shape": (2, 8, 8)}):
        with pytest.raises(ScenarioError):
            _Broken(**settings).strike(target, samples, every, Noise(0))
