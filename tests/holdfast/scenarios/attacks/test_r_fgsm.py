"""RAND+FGSM leaves the bend beside the clean row that hides a model from one step."""

from __future__ import annotations

import pytest
import torch

from holdfast.perturbation import Threat
from holdfast.scenarios.attacks._batch import Batch
from holdfast.scenarios.attacks.fgsm import Fgsm
from holdfast.scenarios.attacks.r_fgsm import RFgsm
from holdfast.seeding import Noise
from tests.holdfast.scenarios.attacks.conftest import BOX, TABLE, linear, samples_of, table_rows, table_target


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 0.6)])
def test_takes_both_steps_in_full(norm, epsilon, monkeypatch):
    """Two fifths of the radius at random, three along the gradient: nothing is cut off where no bound is near."""
    target, w, _ = linear(BOX)
    x, asked = 0.4 + 0.2 * torch.rand((60, *BOX.shape), generator=torch.Generator().manual_seed(1)), []
    ask = target.value_and_gradient
    monkeypatch.setattr(target, "value_and_gradient", lambda x, loss: asked.append(x.clone()) or ask(x, loss))
    batch = Batch(target, Threat(norm=norm, epsilon=epsilon), x, torch.ones(60, dtype=torch.int64), torch.arange(60))
    batch.broken |= target.predict(x) == 0
    rows = batch.begin()
    RFgsm(norm=norm, epsilon=epsilon, share=0.4).perturb(batch, Noise(0))
    first, last = (asked[0] - x[rows]).flatten(1), (batch.adversarial[rows] - x[rows]).flatten(1)
    if norm == "linf":
        torch.testing.assert_close(first.abs(), torch.full_like(first, 0.4 * epsilon), atol=1e-6, rtol=0)
    else:
        torch.testing.assert_close(first.norm(dim=1), torch.full((len(first),), 0.4 * epsilon), atol=1e-6, rtol=0)
    assert first.mean().abs() < 0.05 * epsilon
    assert (first[0] != first[1]).any()
    two = (first != last).any(1)  # the others were broken by the first
    assert two.sum() > 5
    steep = -(w.sign() if norm == "linf" else w / w.norm())
    torch.testing.assert_close(last[two], (first + 0.6 * epsilon * steep)[two], atol=1e-6, rtol=0)


def test_a_table_moves_at_random_in_each_features_unit(monkeypatch):
    """Numbers that nothing bounds move by the share of epsilon in their units, in L-inf."""
    free = {"low": None, "high": None, "step": None}
    space = TABLE.model_copy(
        update={"features": tuple(f.model_copy(update=free) for f in TABLE.features), "relations": ()}
    )
    target, x, asked = table_target(space=space), table_rows(20), []
    samples = samples_of(target, x)
    ask = target.value_and_gradient
    monkeypatch.setattr(target, "value_and_gradient", lambda x, loss: asked.append(x.clone()) or ask(x, loss))
    batch = Batch(target, Threat(epsilon=0.2), samples.x, samples.y, samples.ids)
    RFgsm(epsilon=0.2).perturb(batch, Noise(0))
    move = (asked[0] - samples.x)[:, :3] / torch.tensor([4e3, 40.0, 2e3])
    move = move[~move.isnan()]
    torch.testing.assert_close(move.abs(), torch.full_like(move, 0.1), atol=1e-4, rtol=0)


class Bent(torch.nn.Module):
    """A linear model whose gradient points back wherever a row lies within a little of the grid of sixteenths."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        grid = (x.detach() * 16).round() / 16
        beside = (grid - x.detach()).abs().amax((1, 2, 3), keepdim=True) < 1e-4
        return self.inner(torch.where(beside, 2 * x.detach() - x, x))


def test_finds_what_a_bend_beside_the_clean_row_hides():
    """One step from the clean row goes the wrong way and breaks nothing; after a random one it breaks most."""
    target, w, b = linear(BOX)
    target.module = Bent(target.module)
    x = (torch.rand((60, *BOX.shape), generator=torch.Generator().manual_seed(1)) * 8 + 4).round() / 16
    distance = (x.flatten(1) @ w + b).abs() / w.abs().sum()
    epsilon = 3.0 * float(distance.median())
    samples, every = samples_of(target, x), torch.ones(60, dtype=torch.bool)
    straight = Fgsm(epsilon=epsilon).strike(target, samples, every, Noise(0)).robust
    around = RFgsm(epsilon=epsilon).strike(target, samples, every, Noise(0)).robust
    assert straight.all()
    assert around.float().mean() < 0.6
