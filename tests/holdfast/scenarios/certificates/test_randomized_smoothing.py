"""Smoothing against the paper's formulas and the exact radius of a linear model."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.scenarios.certificates import randomized_smoothing
from holdfast.scenarios.certificates.randomized_smoothing import RandomizedSmoothing, certified_radius, fewest_hits
from holdfast.space import Box, Feature, Table

BOX = Box(shape=(1, 2, 2), low=-10.0, high=10.0, mean=(0.0,), std=(1.0,))
CLASSES = ("no", "yes")


def linear(weights):
    """Answer 1 where the inner product with the weights is positive."""
    w = torch.tensor(weights, dtype=torch.float32)
    layer = nn.Linear(len(w), 2, bias=False)
    layer.weight.data = torch.stack([-w, w]) / 2
    return nn.Sequential(nn.Flatten(), layer)


def target_of(module, space=BOX):
    return Target(module, ModelSpec(factory="none:none", space=space, classes=CLASSES), "digest")


def at_distance(distance, n=12):
    """Rows on the right side of the plane (1, 1, 1, 1) . x = 0, all at one distance from it."""
    noise = torch.randn((n, 4), generator=torch.Generator().manual_seed(0))
    x = noise - noise.mean(1, keepdim=True) + distance / 2.0
    return Samples(x.reshape(n, 1, 2, 2), torch.ones(n, dtype=torch.int64), torch.arange(n), "test", "snap")


@given(draws=st.integers(10, 100_000), sigma=st.floats(0.05, 2.0), alpha=st.floats(1e-6, 0.05))
def test_the_largest_radius_is_the_papers(draws, sigma, alpha):
    """When all n draws agree the bound is alpha ** (1 / n), and the radius sigma times its normal quantile."""
    bound = alpha ** (1 / draws)
    expected = sigma * stats.norm.ppf(bound) if bound > 0.5 else -1.0
    assert certified_radius(draws, draws, sigma, alpha) == pytest.approx(expected, rel=1e-6)


@given(hits=st.integers(0, 500), alpha=st.sampled_from([0.001, 0.05]))
def test_the_bound_is_clopper_and_pearsons(hits, alpha):
    """The limit p is where so many hits or more have probability alpha; without a majority there is no radius."""
    radius = certified_radius(hits, 500, 1.0, alpha)
    if radius < 0:
        assert stats.binom.sf(hits - 1, 500, 0.5) > alpha * (1 - 1e-9)
    else:
        assert stats.binom.sf(hits - 1, 500, stats.norm.cdf(radius)) == pytest.approx(alpha, rel=1e-6)


@pytest.mark.parametrize("draws", [1, 5, 10, 100, 1000])
def test_fewest_hits_is_the_first_that_certifies(draws):
    """One less does not."""
    needed = fewest_hits(draws, 0.001)
    radii = [certified_radius(hits, draws, 1.0, 0.001) for hits in range(draws + 1)]
    assert [r >= 0 for r in radii] == [hits >= needed for hits in range(draws + 1)]


@pytest.mark.parametrize("distance", [0.1, 0.25, 0.4])
def test_a_linear_model_is_certified_up_to_its_margin(distance, context):
    """The smoothed linear model's exact radius is the distance; the bound stays below it, by no more than chance.

    A draw hits with probability Phi(distance / sigma), so the distribution of the bound is known exactly.
    """
    scenario = RandomizedSmoothing(draws=500)
    finding = scenario.run(target_of(linear([1.0] * 4)), at_distance(distance), context)
    radius = next(m.value for m in finding.measures if m.name == "mean_certified_radius")
    p = stats.norm.cdf(distance / scenario.sigma)
    hits = range(501)
    radii = [max(certified_radius(h, 500, scenario.sigma, scenario.alpha), 0.0) for h in hits]
    mass = stats.binom.pmf(hits, 500, p)
    mean = sum(mass * radii)
    deviation = math.sqrt(sum(mass * (torch.tensor(radii).numpy() - mean) ** 2) / 12)
    assert abs(radius - mean) < 4 * deviation
    assert radius < distance
    assert all(point.score.value == 0.0 for point in finding.curves[0].points if point.at > distance)


def test_the_score_is_read_at_the_radius_and_is_a_lower_bound(context):
    """Half of the points lie far from the plane, half on its wrong side: half are certified, none wrongly."""
    far, wrong = at_distance(2.0, 6), at_distance(-2.0, 6)
    samples = Samples(
        torch.cat([far.x, wrong.x]), torch.ones(12, dtype=torch.int64), torch.arange(12), "test", "snap"
    )  # fmt: skip
    finding = RandomizedSmoothing(draws=200, radius=0.25).run(target_of(linear([1.0] * 4)), samples, context)
    assert finding.score.value == 0.5
    assert finding.score.kind == "lower_bound"
    assert [p.at for p in finding.curves[0].points] == [0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0]
    measures = {m.name: m.value for m in finding.measures}
    assert measures["votes_right"] == 0.5
    assert measures["abstentions_among_votes_right"] == 0.0
    assert finding.details["largest_possible_radius"] == pytest.approx(0.25 * stats.norm.ppf(0.001 ** (1 / 200)))


def test_a_coin_is_never_certified(context):
    """On the plane itself the vote is a coin: abstention, which counts as wrong."""
    finding = RandomizedSmoothing(draws=300, radius=0.0).run(target_of(linear([1.0] * 4)), at_distance(0.0), context)
    assert finding.score.value == 0.0


def test_the_class_is_chosen_and_bounded_by_different_draws(context):
    """On the plane a fresh majority of nine agrees with the first one half of the time, the same one always would."""
    scenario = RandomizedSmoothing(selections=9, draws=9, alpha=0.51, radius=0.0)
    finding = scenario.run(target_of(linear([1.0] * 4)), at_distance(0.0, 120), context)
    abstained = next(m.value for m in finding.measures if m.name == "abstentions_among_votes_right")
    assert 0.25 < abstained < 0.75


def test_stopping_early_changes_nothing(context, monkeypatch):
    """Points abandoned when no bound can be reached are those that would not reach it, and passes are saved."""
    samples = at_distance(-0.02, 20)  # near a coin, many votes wrong or undecided
    scenario, model = RandomizedSmoothing(draws=4000, sigma=1.0), linear([1.0] * 4)
    early = scenario.run(target_of(model), samples, context)
    monkeypatch.setattr(randomized_smoothing, "fewest_hits", lambda draws, alpha: 0)
    late = scenario.run(target_of(model), samples, context)
    assert early.model_dump(exclude={"cost"}) == late.model_dump(exclude={"cost"})
    assert early.cost.forwards < late.cost.forwards


def test_a_table_is_certified_in_what_an_attacker_can_change(context):
    """Noise in training IQRs on mutable numbers: what depends on others alone is certified as far as can be."""
    table = Table(
        features=(
            Feature(name="fixed", kind="number", iqr=100.0),
            Feature(name="movable", kind="number", iqr=100.0, mutable=True),
        )
    )
    x = torch.tensor([[0.05, -50.0], [0.07, 3000.0]])
    samples = Samples(x, torch.tensor([1, 1]), torch.arange(2), "test", "snap")
    finding = RandomizedSmoothing(draws=300).run(target_of(linear([1.0, 0.0]), table), samples, context)
    assert finding.measures[0].value == pytest.approx(finding.details["largest_possible_radius"])
    # In the movable feature the distances are 0.5 and 30 IQRs, one of them on the wrong side.
    other = RandomizedSmoothing(draws=300).run(target_of(linear([0.0, 1.0]), table), samples, context)
    assert other.score.value == 0.5
    fixed = Table(features=table.features[:1])
    alone = Samples(x[:, :1], samples.y, samples.ids, "test", "snap")
    unscored = RandomizedSmoothing().run(target_of(linear([1.0]), fixed), alone, context).unscored
    assert unscored == "no number that an attacker can change"


def test_answers_that_are_not_finite_are_no_votes(context):
    """A model that gives NaN certifies nothing."""

    class Broken(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :2] * torch.nan

    finding = RandomizedSmoothing(draws=50).run(target_of(Broken()), at_distance(1.0), context)
    assert finding.score.value == 0.0
