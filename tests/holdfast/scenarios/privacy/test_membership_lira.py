"""LiRA: finds a planted overfit model, and nothing where there is nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.scenarios.base import Context
from holdfast.scenarios.privacy.membership_lira import (
    MembershipLira,
    likelihood_ratios,
    log_odds,
    roc,
    shadow_halves,
)
from holdfast.seeding import Noise
from holdfast.space import Feature, Table
from holdfast.statistics import membership_auc
from holdfast.training.standard import Standard
from holdfast.training.workshop import Workshop

CPU = torch.device("cpu")
CONTEXT = Context(seed=5)
NOISE = Noise(8, ("lira",))


def workshop(n=400, *, noise=1.0):
    """Rows whose label is a linear rule, or with ``noise`` a coin: all that can be learnt of it is by heart."""
    ids = torch.arange(2 * n)
    x = NOISE.normal(ids, (12,))
    coin = NOISE.derive("coin").uniform(ids) < noise
    y = torch.where(coin, NOISE.derive("y").integers(ids, 2), (x[:, 0] > 0).long())
    features = tuple(Feature(name=f"f{i}", kind="number", iqr=1.35) for i in range(12))
    spec = ModelSpec(
        factory="holdfast.networks:mlp", settings={"width": 128}, space=Table(features=features), classes=("a", "b")
    )
    train = Samples(x=x[:n], y=y[:n], ids=ids[:n], role="train", snapshot="made")
    return Workshop(
        recipe=Standard(epochs=30, batch_size=20, learning_rate=5e-3), spec=spec, train=train,
        validation=replace(train, role="validation"),  # so that the most overfit epoch is kept
        test=Samples(x=x[n:], y=y[n:], ids=ids[n:], role="test", snapshot="made"), device=CPU,
    )  # fmt: skip


def test_a_planted_overfit_model_is_found():
    """Labels learnt by heart give their rows away: the AUC's interval is far above one half."""
    finding = MembershipLira(shadows=4).run(workshop(), CONTEXT)
    area = next(m for m in finding.measures if m.name == "auc_online")
    assert area.low > 0.7
    assert finding.score.value == pytest.approx(1 - 2 * (area.value - 0.5))
    assert finding.score.kind == "upper_bound"
    rate = next(m for m in finding.measures if m.name.startswith("tpr_at_fpr_"))
    assert float(rate.name.removeprefix("tpr_at_fpr_")) >= 10 / 250  # 200 non-members do not support 0.1 %
    assert finding.details["members"] + finding.details["nonmembers"] == 400
    assert finding.valid, finding.checks


def test_a_model_that_learnt_no_row_gives_none_away():
    """One epoch of an easy rule: the AUC's interval holds one half or nearly so."""
    finding = MembershipLira(shadows=4, epochs=1).run(workshop(noise=0.0), CONTEXT)
    area = next(m for m in finding.measures if m.name == "auc_online")
    assert area.low < 0.55
    assert finding.score.high > 0.9


def test_shuffled_membership_labels_leave_one_half():
    """With the same scores and membership drawn again, the interval of the AUC holds 1/2, 9 times in 10 or more."""
    rng = np.random.default_rng(0)
    inside = rng.random((8, 500)).argsort(axis=0) < 4
    shadows = rng.normal(size=(8, 500)) + 3.0 * inside
    truth = rng.random(500) < 0.5
    online, _ = likelihood_ratios(shadows, inside, rng.normal(size=500) + 3.0 * truth)
    assert membership_auc(online[truth], online[~truth]).low > 0.9
    held = 0
    for _ in range(100):
        shuffled = rng.permutation(truth)
        area = membership_auc(online[shuffled], online[~shuffled])
        held += area.low <= 0.5 <= area.high
    assert held >= 90


def test_the_ratio_is_that_of_two_gaussians():
    """Against scipy: log densities of the target's statistic under the two fits, one variance for all rows."""
    rng = np.random.default_rng(1)
    inside = np.zeros((6, 5), dtype=bool)
    inside[:3] = True
    shadows, target = rng.normal(size=(6, 5)), rng.normal(size=5)
    online, offline = likelihood_ratios(shadows, inside, target)
    spread_in, spread_out = (np.sqrt(part.var(axis=0, ddof=1).mean()) for part in (shadows[:3], shadows[3:]))
    mean_in, mean_out = shadows[:3].mean(axis=0), shadows[3:].mean(axis=0)
    expected = stats.norm.logpdf(target, mean_in, spread_in) - stats.norm.logpdf(target, mean_out, spread_out)
    assert np.allclose(online, expected)
    assert np.allclose(stats.norm.cdf(offline), stats.norm.cdf(target, mean_out, spread_out))


def test_each_row_is_in_half_of_the_shadows_by_its_id():
    """Columns hold exactly half, rows hold about half, and reversed rows get reversed halves."""
    ids = torch.arange(1000)
    halves = shadow_halves(ids, 8, NOISE)
    assert (halves.sum(axis=0) == 4).all()
    assert (abs(halves.mean(axis=1) - 0.5) < 0.07).all()
    assert (shadow_halves(ids.flip(0), 8, NOISE) == halves[:, ::-1]).all()


def test_log_odds_keep_their_digits():
    """log(p / (1 - p)) is the logits' difference for two classes, also where p rounds to 1."""
    world = workshop(20)
    module = torch.nn.Linear(12, 2)
    model = Target(module, world.spec, "made", CPU)
    with torch.no_grad():
        module.weight.mul_(100.0)
    logits = model.logits(world.train.x)
    own = torch.where(world.train.y == 1, logits[:, 1] - logits[:, 0], logits[:, 0] - logits[:, 1])
    assert np.allclose(log_odds(model, world.train), own.numpy(), rtol=1e-5)
    assert own.max() > 40


def test_the_roc_curve_runs_from_few_to_all():
    """Both rates rise from the first non-member to one."""
    rng = np.random.default_rng(2)
    curve = roc(rng.normal(size=300) + 1.0, rng.normal(size=200))
    assert curve["fpr"] == sorted(curve["fpr"])
    assert curve["tpr"] == sorted(curve["tpr"])
    assert curve["fpr"][0] == pytest.approx(1 / 200)
    assert curve["fpr"][-1] == 1.0


@pytest.mark.parametrize(
    ("accuracy", "status"), [(0.70, "passed"), (0.85, "passed"), (0.60, "failed"), (0.97, "failed")]
)
def test_a_target_among_its_shadows_is_comparable_and_one_far_from_all_is_not(accuracy, status):
    """Shadows of one recipe scatter: what counts is how far the target is from the nearest, not from the middle one."""

    def flags(share):
        return np.arange(2000) < share * 2000

    told, inside = np.random.default_rng(0).normal(size=400), np.arange(400) < 200
    shadows = [flags(share) for share in (0.68, 0.72, 0.80, 0.81, 0.81, 0.82, 0.84, 0.86)]
    outcome = MembershipLira()._outcome(told, told, inside, [*shadows, flags(accuracy)])
    (check,) = outcome.checks
    assert (check.name, check.status) == ("shadows_comparable", status)


def test_too_few_rows_are_unscored():
    """Thirty rows cannot tell anything of rates, and that is said."""
    finding = MembershipLira(shadows=4, epochs=1).run(workshop(30), CONTEXT)
    assert finding.score is None
    assert "fewer than 20" in finding.unscored
