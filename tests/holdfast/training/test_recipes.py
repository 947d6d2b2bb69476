"""The robust recipes: steps and losses in closed form, and rows that can exist."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from holdfast.data import Samples
from holdfast.model import ModelSpec
from holdfast.perturbation import Threat
from holdfast.registry import available, find
from holdfast.seeding import Noise
from holdfast.space import Box, Feature, Table
from holdfast.training.adversarial import Adversarial
from holdfast.training.ascent import Ascent, survivors
from holdfast.training.augment import shift_and_mirror
from holdfast.training.base import Recipe
from holdfast.training.loop import fit, frozen
from holdfast.training.standard import Standard
from holdfast.training.trades import Trades, divergence

CPU = torch.device("cpu")
NOISE = Noise(5, ("recipes",))
WIDE = Box(shape=(1, 2, 3), low=-100.0, high=100.0, mean=(0.0,), std=(1.0,))


def linear(seed=0):
    """A two-class linear model whose loss gradient in class 1 has the sign of -w everywhere."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 2, bias=False))
    with torch.no_grad():
        w = torch.randn(6, generator=torch.Generator().manual_seed(seed))
        network[1].weight.copy_(torch.stack([torch.zeros(6), w]))
    return network, w


@pytest.mark.parametrize("recipe", [Standard, Adversarial, Trades])
def test_recipes_are_found_by_name(recipe):
    """The file names the recipe, and nothing else in the folder is one."""
    continual = {"replay", "ewc", "lwf"}
    assert set(available("holdfast.training")) == {"standard", "adversarial", "trades", *continual}
    assert find("holdfast.training", recipe.name(), Recipe) is recipe


@settings(max_examples=30, deadline=None)
@given(epsilon=st.floats(0.01, 2.0), seed=st.integers(0, 99))
def test_fast_fgsm_takes_one_step_of_one_and_a_quarter_epsilon(epsilon, seed):
    """On a linear model: clip(start - 1.25 epsilon sign(w)) for class 1, the opposite for class 0."""
    network, w = linear(seed)
    x, ids, y = torch.randn(4, 1, 2, 3), torch.arange(4), torch.tensor([1, 0, 1, 0])
    got = Adversarial(epsilon=epsilon).perturb(network, x, y, ids, NOISE, WIDE)
    start = NOISE.uniform(ids, (1, 2, 3), -epsilon, epsilon)
    away = torch.where(y == 1, -1.0, 1.0)[:, None, None, None] * w.sign().reshape(1, 1, 2, 3)
    assert torch.allclose(got, x + (start + 1.25 * epsilon * away).clamp(-epsilon, epsilon), atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_reaches_the_exact_worst_case_of_a_linear_model(norm):
    """After its steps the margin has fallen by epsilon times the dual norm of w."""
    network, w = linear()
    x, y = torch.randn(16, 1, 2, 3), torch.ones(16, dtype=torch.long)
    recipe = Adversarial(epsilon=0.3, method="pgd", steps=20, norm=norm)
    worst = recipe.perturb(network, x, y, torch.arange(16), NOISE, WIDE)
    fall = (x - worst).flatten(1) @ w
    dual = w.abs().sum() if norm == "linf" else w.norm()
    assert (fall <= 0.3 * dual * (1 + 1e-4)).all()
    assert (fall >= 0.3 * dual * (0.9999 if norm == "linf" else 0.97)).all()  # on a sphere it turns step by step


def test_validation_flags_agree_with_the_closed_form():
    """For a linear model, a row survives exactly when its margin exceeds epsilon times the dual norm."""
    network, w = linear()
    x = torch.randn(300, 1, 2, 3, generator=torch.Generator().manual_seed(1))
    y = (torch.arange(300) % 2).long()
    margin = (x.flatten(1) @ w) * torch.where(y == 1, 1.0, -1.0)
    with frozen(network):
        flags = Adversarial(epsilon=0.1).validation_flags(network, x, y, torch.arange(300), NOISE, WIDE)
    assert torch.equal(flags, margin > 0.1 * w.abs().sum())
    assert 0 < flags.sum() < 150


def test_an_attacked_row_does_not_depend_on_its_batch(image_world):
    """Alone or among others, a row's survival is the same."""
    rows = image_world.train
    network = fit(Standard(epochs=6, batch_size=16), image_world.spec, rows, image_world.validation, seed=0, device=CPU)
    with frozen(network.module):
        ask = lambda part: survivors(  # noqa: E731  one argument of seven varies
            network.module, part.x, part.y, part.ids, NOISE, image_world.spec.space, Threat(epsilon=0.15)
        )
        whole = ask(rows)
        parts = torch.cat([ask(rows.take(index)) for index in torch.arange(len(rows)).split(7)])
    assert torch.equal(whole, parts)
    assert 0 < whole.sum() < len(rows)


@pytest.mark.parametrize(
    "recipe", [Adversarial(epsilon=0.5), Adversarial(epsilon=2.0, method="pgd"), Trades(epsilon=1.0)]
)
def test_attacked_table_rows_can_exist(table_world, recipe):
    """Immutable and missing cells stay, counts stay whole, a <= b holds, and something moves in every mutable number."""
    rows, space = table_world.train, table_world.spec.space
    network = table_world.spec.build(0)
    with frozen(network):
        moved = recipe.perturb(network, rows.x, rows.y, rows.ids, NOISE, space)
    assert recipe.threat.holds(moved, rows.x, space).all()
    assert (moved[:, 0] <= moved[:, 1] + 1e-4).all()
    assert torch.equal(moved[:, 2], moved[:, 2].round())
    assert torch.equal(moved[:, 3:].nan_to_num(-9), rows.x[:, 3:].nan_to_num(-9))
    assert (moved[:, :3] != rows.x[:, :3]).any(0).all()


def test_small_steps_add_up_on_a_grid(table_world):
    """Ten steps of a tenth of an IQR move a count by whole units, where each alone is less than the grid."""
    rows, space = table_world.train, table_world.spec.space
    rows = rows.take(rows.x[:, 2] < 15)
    ascent = Ascent(rows.x, rows.ids, NOISE, Threat(epsilon=0.45), space)
    for _ in range(20):
        ascent.step(torch.ones_like(rows.x), 0.05)  # half a count each
    assert torch.equal(ascent.x[:, 2], rows.x[:, 2] + 4)


@pytest.mark.parametrize("recipe", [Adversarial(epsilon=0.1, method="pgd"), Trades(epsilon=0.1)])
def test_an_attack_leaves_weights_without_gradients_and_statistics_in_place(image_world, recipe):
    """Perturbing fills no weight gradient and moves no running mean."""
    network = image_world.spec.build(0)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    rows = image_world.train
    with frozen(network):
        recipe.perturb(network, rows.x, rows.y, rows.ids, NOISE, image_world.spec.space)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_trades_loss_in_closed_form():
    """Cross-entropy of the clean answer plus beta times sum p log(p / q)."""
    table = {0.0: (2.0, 0.0), 1.0: (0.5, 1.0)}
    network = lambda x: torch.tensor([table[float(v)] for v in x[:, 0]])  # noqa: E731  a network by table
    loss = Trades(beta=3.0).loss(network, torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([0]))
    p, q = 1 / (1 + math.exp(-2.0)), 1 / (1 + math.exp(0.5))
    kl = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert float(loss) == pytest.approx(-math.log(p) + 3.0 * kl, rel=1e-5)
    logits = torch.randn(9, 4)
    assert torch.allclose(divergence(logits.log_softmax(1), logits), torch.zeros(9), atol=1e-6)


def test_label_smoothing_reaches_the_loss():
    """The smoothed loss of a certain answer is the plain one plus its share of the other class's."""
    network, y = lambda x: torch.tensor([[4.0, 0.0]]).expand(len(x), 2), torch.tensor([0])
    plain = cross_entropy(network(y), y)
    smooth = Standard(label_smoothing=0.2).loss(network, y, y, y)
    assert float(smooth) == pytest.approx(0.9 * float(plain) + 0.1 * (float(plain) + 4.0), rel=1e-4)


def test_robust_training_survives_where_standard_training_does_not():
    """Robust recipes rely on the cue that is right 9 times in 10 and large, not on the perfect one that an attack erases."""
    n = 600
    y = (torch.arange(n) % 2).long()
    sign = 2.0 * y - 1.0
    x = torch.stack([torch.where(torch.arange(n) % 10 < 9, 2.0, -2.0) * sign, 0.3 * sign], dim=1)
    features = tuple(Feature(name=name, kind="number", mutable=True, iqr=1.0) for name in "ab")
    spec = ModelSpec(
        factory="holdfast.networks:mlp", settings={"depth": 0}, space=Table(features=features), classes=("no", "yes")
    )
    rows = Samples(x=x, y=y, ids=torch.arange(n), role="train", snapshot="made")
    kept = {}
    for recipe in (Standard(), Adversarial(epsilon=0.6), Trades(epsilon=0.6, steps=2)):
        longer = recipe.model_copy(update={"epochs": 12, "learning_rate": 0.3})
        trained = fit(longer, spec, rows, replace(rows, role="validation"), seed=0, device=CPU)
        with frozen(trained.module):
            flags = survivors(trained.module, x, y, rows.ids, NOISE, spec.space, Threat(epsilon=0.6))
        kept[recipe.name()] = float(flags.float().mean())
    assert kept["standard"] < 0.6
    assert kept["adversarial"] > 0.85
    assert kept["trades"] > 0.85


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 20))
def test_augmented_images_are_shifts_and_mirrors(seed):
    """Each image is one of the 50 shifts and mirrors of its own, decided by id alone."""
    x = torch.randn(6, 2, 7, 7, generator=torch.Generator().manual_seed(seed))
    ids = torch.arange(6) + 100 * seed
    got = shift_and_mirror(x, ids, NOISE)
    index = torch.arange(7)
    for image, out in zip(x, got, strict=True):
        choices = [
            flipped[:, (index + dy).clamp(0, 6)][:, :, (index + dx).clamp(0, 6)]
            for flipped in (image, image.flip(2))
            for dy in range(-2, 3)
            for dx in range(-2, 3)
        ]
        assert any(torch.equal(out, choice) for choice in choices)
    back = torch.arange(5, -1, -1)
    assert torch.equal(shift_and_mirror(x[back], ids[back], NOISE), got[back])


def test_augmentation_reaches_every_shift_and_differs_by_epoch():
    """Over many ids all 50 changes occur, and another epoch's noise gives others."""
    x = torch.rand(1, 1, 9, 9).expand(2000, 1, 9, 9)
    first, second = (shift_and_mirror(x, torch.arange(2000), NOISE.derive(epoch)) for epoch in (1, 2))
    assert len(first.flatten(1).unique(dim=0)) == 50
    assert not torch.equal(first, second)
