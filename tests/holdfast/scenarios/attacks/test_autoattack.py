"""The ensemble breaks what any member breaks, and its later members see only survivors."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from holdfast.scenarios.attacks.apgd_ce import ApgdCe
from holdfast.scenarios.attacks.apgd_t import ApgdT
from holdfast.scenarios.attacks.autoattack import Autoattack
from holdfast.scenarios.attacks.fab_t import FabT
from holdfast.scenarios.attacks.square import Square
from holdfast.seeding import Noise

_spec = importlib.util.spec_from_file_location("attack_models", Path(__file__).with_name("conftest.py"))
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.03), ("l2", 0.3)])
def test_is_its_members_in_a_row_and_costs_no_more(norm, epsilon, images):
    """Flags, rows and forwards are those of the four published members, each struck with what stood before it."""
    target, samples = images
    threat = {"norm": norm, "epsilon": epsilon}
    members = (
        ApgdCe(steps=4, **threat), ApgdT(steps=4, targets=2, **threat), FabT(steps=4, targets=2, **threat),
        Square(queries=30, **threat),
    )  # fmt: skip
    standing, forwards = torch.ones_like(samples.y, dtype=torch.bool), 0
    rows = samples.x.clone()
    for member in members:
        started, attacked = target.forwards, standing
        strike = member.strike(target, samples, attacked, Noise(3).derive(member.name()))
        forwards += target.forwards - started - int(attacked.sum())  # each strike looks at its rows once more
        standing = strike.robust
        rows = torch.where(attacked[:, None, None, None], strike.adversarial, rows)
    ensemble, started = Autoattack(steps=4, targets=2, queries=30, **threat), target.forwards
    found = ensemble.strike(target, samples, torch.ones_like(standing), Noise(3))
    assert torch.equal(found.robust, standing)
    assert torch.equal(found.adversarial, rows)
    assert target.forwards - started - len(samples) == forwards
    assert 0 < standing.sum() < len(samples)


class Stairs(torch.nn.Module):
    """A model whose every gradient is zero: it sees whole eighths."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(torch.round(8 * x) / 8)


def test_what_one_member_breaks_is_broken(images):
    """Where gradients say nothing the three that follow them break nothing, and the search breaks points still."""
    inner, samples = images
    target = models.target_of(Stairs(inner.module), models.BOX, 5)
    samples, every = models.samples_of(target, samples.x), torch.ones_like(samples.y, dtype=torch.bool)
    blind = FabT(epsilon=0.1, steps=3, targets=2).strike(target, samples, every, Noise(0)).robust
    assert blind.all()
    found = Autoattack(epsilon=0.1, steps=3, targets=2, queries=60).strike(target, samples, every, Noise(0)).robust
    assert found.sum() < len(samples) // 2


def test_members_stand_under_the_ensembles_threat():
    """Norm, radius and categories reach every member; the cost is the sum of theirs."""
    ensemble = Autoattack(norm="l2", epsilon=0.7, categories=2)
    assert {(m.norm, m.epsilon, m.categories) for m in ensemble.members()} == {("l2", 0.7, 2)}
    assert ensemble.most_forwards == 101 + 1 + 9 * 101 + 1 + 9 * 200 + 5000
