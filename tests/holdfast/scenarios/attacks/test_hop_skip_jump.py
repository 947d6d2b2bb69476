"""HopSkipJump sees decisions alone, spends what it says, and comes as near as the reference does."""

from __future__ import annotations

import pytest
import torch

from holdfast.scenarios.attacks.hop_skip_jump import HopSkipJump, _Walk
from holdfast.seeding import Noise
from holdfast.space import Box
from tests.holdfast.scenarios.attacks.conftest import Linear, Walked, linear, samples_of, target_of

NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])


def nearest(attack, target, samples):
    """Distance (n,) of the nearest row across that the attack asks about."""
    batch = Walked(target, samples, attack.norm)
    attack.perturb(batch, Noise(0))
    return batch.distance, batch.asked


@NORMS
@pytest.mark.parametrize("width", [1.0, 255.0])
def test_comes_near_the_exact_distance_to_a_plane(norm, width):
    """With 3,000 queries within a tenth of it at the median, in any unit, and never nearer than it is."""
    target, w, b = linear(Box(shape=(1, 4, 4), high=width, mean=(0.5,), std=(0.3,)))
    target.module.weight.data /= width
    x = 0.4 + 0.2 * torch.rand((30, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    exact = (x.flatten(1) @ w + b).abs() / (w.abs().sum() if norm == "linf" else w.norm())
    found, asked = nearest(HopSkipJump(norm=norm, queries=3000), target, samples_of(target, width * x))
    ratio = found / (width * exact)
    assert ratio.min() > 1 - 1e-3
    assert ratio.median() < 1.1
    assert (asked == 3000).all()


@NORMS
def test_sees_nothing_but_decisions(norm):
    """Logits turned into the decision alone leave every query as it was."""
    target, _, _ = linear(Box(shape=(1, 4, 4), mean=(0.5,), std=(0.3,)))
    x = torch.rand((10, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    samples = samples_of(target, x)
    soft, _ = nearest(HopSkipJump(norm=norm, queries=300), target, samples)
    inner = target.module
    target.module = Decided(inner)
    hard, _ = nearest(HopSkipJump(norm=norm, queries=300), target, samples)
    assert torch.equal(soft, hard)


class Decided(torch.nn.Module):
    """One for the class that leads, zero for the others."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        logits = self.inner(x)
        return torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)


@NORMS
@pytest.mark.parametrize("decided", ["mixed", "all", "none"])
def test_the_first_estimate_is_the_published_one(norm, decided, monkeypatch):
    """Directions of length one, a tenth of the pixels' range away, weighed by their decisions less the decisions' mean.

    Where all decisions are the same there is no mean to take off.
    """
    target, _, _ = linear(Box(shape=(1, 4, 4), high=255.0, mean=(0.5,), std=(0.3,)))
    x = torch.full((1, 1, 4, 4), 120.0)
    batch, attack, asked = Walked(target, samples_of(target, x), norm), HopSkipJump(norm=norm, samples=25), []
    z = x + 5.0

    def across(self, batch, rows, z):
        asked.append(z[0])
        answers = {"all": torch.ones(z.shape[1]), "none": torch.zeros(z.shape[1])}
        return answers.get(decided, (z[0].flatten(1)[:, 0] > 124.0)).bool()[None]

    monkeypatch.setattr(HopSkipJump, "_across", across)
    one = torch.full((1,), 5.0).double()
    walk = _Walk(rows=torch.tensor([0]), z=z, way=torch.zeros_like(z), spread=one, distance=one)
    way = attack._estimate(batch, walk, 1, 25, Noise(0)).flatten()
    u = ((torch.cat(asked) - z) / 25.5).flatten(1).double()
    torch.testing.assert_close(u.norm(dim=1), torch.ones(25).double(), atol=1e-4, rtol=0)
    assert len({tuple(row) for row in u.tolist()}) == 25
    said = {"all": torch.ones(25), "none": -torch.ones(25)}.get(
        decided, 2.0 * (z + 25.5 * u.reshape(25, 1, 4, 4)).flatten(1)[:, 0].gt(124.0).double() - 1.0
    ).double()
    weights = said - said.mean() if decided == "mixed" else said
    expected = (weights[:, None] * u).sum(0)
    expected = expected.sign() if norm == "linf" else expected / expected.norm()
    torch.testing.assert_close(way.double(), expected, atol=1e-4, rtol=0)


def test_a_class_that_all_images_have_stands_after_its_starts():
    """Where no random image has another class there is nothing to begin with, and no more queries are spent."""
    target = target_of(
        Linear(torch.zeros((2, 16)), torch.tensor([1.0, 0.0])), Box(shape=(1, 4, 4), mean=(0.5,), std=(0.3,)), 2
    )
    found, asked = nearest(HopSkipJump(starts=7), target, samples_of(target, torch.rand((5, 1, 4, 4))))
    assert found.isinf().all()
    assert (asked == 7).all()


@NORMS
def test_comes_as_near_as_the_reference(norm, build):
    """On a small network, with as many queries, the median distance is at most a tenth above that of foolbox's attack."""
    attacks, models = pytest.importorskip("foolbox.attacks"), pytest.importorskip("foolbox.models.pytorch")
    target, samples = build("box")
    samples = samples.take(torch.nonzero(target.predict(samples.x) == samples.y).flatten())
    model = models.PyTorchModel(target.module, bounds=(0.0, 1.0), device="cpu")
    torch.manual_seed(0)
    theirs = attacks.HopSkipJumpAttack(steps=6, constraint=norm)
    spent = []
    target.module.register_forward_hook(lambda module, given, out: spent.append(len(out)))
    rows, _, _ = theirs(model, samples.x, samples.y, epsilons=None)
    move = (rows - samples.x).flatten(1).double()
    length = move.abs().amax(1) if norm == "linf" else move.norm(dim=1)
    queries = sum(spent) // len(samples)
    mine, _ = nearest(HopSkipJump(norm=norm, queries=queries), target, samples)
    assert mine.median() < 1.1 * length.median()
