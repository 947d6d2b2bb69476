"""On linear models the exact robustness is known: the gradient attacks reach it."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import pytest
import torch

from holdfast import registry
from holdfast.networks import TableEncoder
from holdfast.perturbation import Threat
from holdfast.scenarios.attacks.apgd_dlr import ApgdDlr, dlr
from holdfast.scenarios.attacks.apgd_t import ApgdT, targeted_dlr, targeted_margin
from holdfast.scenarios.attacks.base import Attack
from holdfast.scenarios.attacks.fgsm import Fgsm
from holdfast.scenarios.attacks.pgd import Pgd
from holdfast.scenarios.attacks.square import Square
from holdfast.scenarios.base import Context
from holdfast.seeding import Noise
from holdfast.space import Box, Feature, Table

_spec = importlib.util.spec_from_file_location("attack_models", Path(__file__).with_name("conftest.py"))
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)


def attack(name, **settings):
    if name == "deepfool":
        settings = {"overshoot": 0.001, **settings}  # it stops there, so this is how far beyond the plane it ends
    if name.startswith("fab"):
        settings = {"steps": 20, **settings}  # on planes it is there after two
    return registry.find("holdfast.scenarios.attacks", name, Attack)(**settings)


def between(distance):
    """A radius in the middle of the widest gap of the central half: no point lies at the very boundary."""
    middle = distance.sort().values[len(distance) // 4 : -len(distance) // 4]
    widest = middle.diff().argmax()
    return float((middle[widest] + middle[widest + 1]) / 2)


def curved():
    """A saturating network that bends within the radius, and points that it gets right."""
    layers = torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.Tanh(), torch.nn.Linear(64, 5)
    target = models.target_of(models.randomise(torch.nn.Sequential(*layers), 2, 0.8), models.BOX, 5)
    samples = models.samples_of(target, torch.rand((200, 1, 8, 8), generator=torch.Generator().manual_seed(1)))
    return target, samples, torch.ones_like(samples.y, dtype=torch.bool)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    "name", ["fgsm", "mi_fgsm", "pgd", "apgd_ce", "apgd_dlr", "apgd_t", "deepfool", "fab", "fab_t"]
)
def test_reaches_the_exact_worst_case_of_a_linear_model(name, norm, seed):
    """An input survives exactly when |w . x + b| > epsilon times the dual norm of w."""
    target, w, b = models.linear(models.WIDE, seed)
    x = torch.randn((128, 1, 6, 6), generator=torch.Generator().manual_seed(seed))
    distance = (x.flatten(1) @ w + b).abs() / (w.abs().sum() if norm == "linf" else w.norm())
    epsilon = between(distance)
    finding = attack(name, norm=norm, epsilon=epsilon).run(target, models.samples_of(target, x), Context(seed=seed))
    exact = (distance > epsilon).float().mean()
    assert abs(finding.score.value - float(exact)) <= 1 / 128 + 1e-9


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["deepfool", "fab", "fab_t"])
def test_finds_the_nearest_of_many_boundaries(name, norm):
    """With five linear classes the distance is that to the nearest boundary in the norm, and so is the flag."""
    g = torch.Generator().manual_seed(4)
    w, b = torch.randn((5, 36), generator=g) * torch.tensor([0.2, 0.5, 1.0, 2.0, 3.0])[:, None], torch.zeros(5)
    target = models.target_of(models.Linear(w, b), models.WIDE, 5)
    samples = models.samples_of(target, torch.randn((128, 1, 6, 6), generator=g))
    logits = target.logits(samples.x)
    apart = w[None] - w[samples.y][:, None]
    dual = apart.abs().sum(2) if norm == "linf" else apart.norm(dim=2)
    distance = ((logits.gather(1, samples.y[:, None]) - logits) / dual.clamp(min=1e-9)).detach()
    distance = distance.scatter(1, samples.y[:, None], torch.inf).amin(1)
    epsilon = between(distance)
    found = attack(name, norm=norm, epsilon=epsilon)
    robust = found.strike(target, samples, torch.ones_like(samples.y, dtype=torch.bool), Noise(0)).robust
    assert torch.equal(robust, distance > epsilon)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["deepfool", "fab", "fab_t"])
def test_the_distance_found_is_the_exact_one(name, norm):
    """At 0.999 of its distance to a plane no point is broken, at 1.006 every one is."""
    target, w, b = models.linear(models.WIDE, 0)
    x = torch.randn((40, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    margin = (x.flatten(1) @ w + b)[:, None]
    x = (x.flatten(1) - (margin - 3.0 * margin.sign()) * w / w.square().sum()).reshape(x.shape)  # all as far
    samples, distance = models.samples_of(target, x), float(3.0 / (w.abs().sum() if norm == "linf" else w.norm()))
    every = torch.ones_like(samples.y, dtype=torch.bool)
    for part, held in ((0.999, 40), (1.006, 0)):
        robust = attack(name, norm=norm, epsilon=part * distance).strike(target, samples, every, Noise(0)).robust
        assert robust.sum() == held


def test_square_comes_near_the_exact_worst_case():
    """The black box comes within ten points of the closed form in L-inf, twenty in L2, and never passes it."""
    target, w, b = models.linear(models.WIDE, 0)
    x = torch.randn((64, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    for norm, dual, room in (("linf", w.abs().sum(), 0.1), ("l2", w.norm(), 0.2)):
        distance = (x.flatten(1) @ w + b).abs() / dual
        epsilon = float(distance.median())
        finding = Square(norm=norm, epsilon=epsilon, queries=600).run(
            target, models.samples_of(target, x), Context(seed=0)
        )
        exact = float((distance > epsilon).float().mean())
        assert exact - 1 / 64 <= finding.score.value <= exact + room


class _OnNumbers(torch.nn.Module):
    """A linear model of a row's distances from zero in the table's units."""

    def __init__(self, w, unit):
        super().__init__()
        self.w, self.unit = torch.nn.Parameter(w), unit

    def forward(self, x):
        score = (x / self.unit).nan_to_num(0.0) @ self.w
        return torch.stack([-score / 2, score / 2], 1)


@pytest.mark.parametrize("name", ["fgsm", "mi_fgsm", "pgd", "apgd_ce", "apgd_dlr", "apgd_t", "fab", "fab_t", "square"])
def test_reaches_the_worst_case_on_the_movable_columns_of_a_table(name):
    """Only mutable numbers move, in interquartile ranges, on whole steps, and missing values not at all."""
    unit = torch.tensor([10.0, 4.0, 1.0])
    features = [
        Feature(name="a", kind="number", mutable=True, iqr=10.0),
        Feature(name="b", kind="number", mutable=True, iqr=4.0, step=1.0),
        Feature(name="c", kind="number", iqr=1.0),
    ]
    w = torch.tensor([1.0, -0.8, 2.0])
    target = models.target_of(_OnNumbers(w, unit), Table(features=tuple(features)), 2)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((200, 3), generator=generator) * unit
    x[:40, 0] = torch.nan
    epsilon = 0.6  # 2.4 units of b, so two whole steps: 0.5 of its iqr
    reach = torch.where(x[:, 0].isnan(), 0.0, epsilon * 1.0) + 0.5 * 0.8
    exact = ((x / unit).nan_to_num(0.0) @ w).abs() > reach
    few = {"queries": 100} if name == "square" else {}
    finding = attack(name, epsilon=epsilon, **few).run(target, models.samples_of(target, x), Context(seed=0))
    assert abs(finding.score.value - float(exact.float().mean())) <= 1 / 200 + 1e-9


def test_more_steps_find_what_one_cannot():
    """On a curved model PGD breaks points that FGSM leaves, so its steps count."""
    target, samples, every = curved()
    held = [
        int(a.strike(target, samples, every, Noise(0)).robust.sum())
        for a in (Fgsm(epsilon=0.06), Pgd(epsilon=0.06), attack("apgd_ce", epsilon=0.06, steps=30))
    ]
    assert held[1] < held[0] - 10
    assert held[2] < held[0] - 10


def test_another_restart_finds_more_or_the_same():
    """Restarts only add broken points."""
    target, samples, every = curved()
    one = Pgd(epsilon=0.06, steps=1).strike(target, samples, every, Noise(0)).robust
    five = Pgd(epsilon=0.06, steps=1, restarts=5).strike(target, samples, every, Noise(0)).robust
    assert not (five & ~one).any()
    assert five.sum() < one.sum()


def test_difference_of_logits_ratio_is_the_papers():
    """Targeted DLR is (z_t - z_y) / (z1 - (z3 + z4) / 2), and ignores shift and scale of the logits."""
    logits = torch.tensor([[5.0, 1.0, 3.0, 2.0, -4.0]])
    pairs, at = torch.tensor([[0, 2]]), torch.tensor([0])
    loss = targeted_dlr(pairs)
    assert loss(logits, at).item() == pytest.approx((3 - 5) / (5 - (2 + 1) / 2))
    assert loss(100 * logits + 7, at).item() == pytest.approx(loss(logits, at).item())
    assert targeted_margin(pairs)(logits, at).item() == -2.0


def test_untargeted_ratio_is_the_papers_and_saturates_nowhere():
    """DLR is -(z_y - best other) / (z1 - z3) whether the label leads or not; with two classes the difference."""
    logits = torch.tensor([[5.0, 1.0, 3.0, 2.0, -4.0], [5.0, 1.0, 3.0, 2.0, -4.0], [1.0, 9.0, 2.0, 3.0, 4.0]])
    loss, at = dlr(torch.tensor([0, 2, 2])), torch.arange(3)
    expected = torch.tensor([(3 - 5) / (5 - 2), (5 - 3) / (5 - 2), (9 - 2) / (9 - 3)])
    torch.testing.assert_close(loss(logits, at), expected)
    torch.testing.assert_close(loss(100 * logits + 7, at), expected)
    torch.testing.assert_close(
        dlr(torch.tensor([1]))(torch.tensor([[4.0, 1.0]]), torch.tensor([0])), torch.tensor([3.0])
    )


def test_what_flattens_the_cross_entropy_does_not_stop_the_ratio():
    """With logits ten thousand times as large the cross-entropy has no gradient; the ratio finds what it found."""
    target, samples, every = curved()
    loud = copy.deepcopy(target)
    loud.module[-1].weight.data *= 1e4
    loud.module[-1].bias.data *= 1e4
    plain, scaled = (
        ApgdDlr(epsilon=0.06, steps=30).strike(t, samples, every, Noise(0)).robust.sum() for t in (target, loud)
    )
    blind = attack("apgd_ce", epsilon=0.06, steps=30).strike(loud, samples, every, Noise(0)).robust.sum()
    assert abs(plain - scaled) <= 2
    assert blind > scaled + 20


def test_targets_are_the_likeliest_wrong_classes_and_more_of_them_find_more():
    """One target breaks a subset of what four break; the number is capped at the wrong classes there are."""
    target, samples, every = curved()
    found = {
        k: ApgdT(epsilon=0.04, steps=20, targets=k).strike(target, samples, every, Noise(0)).robust for k in (1, 4, 9)
    }
    assert not (found[4] & ~found[1]).any()
    assert found[4].sum() < found[1].sum()
    assert torch.equal(found[4], found[9])


def test_checkpoints_are_the_published_ones():
    """For 100 steps the reviews fall at 22, 41, 57, 70, 80, 87, 93 and 99."""
    from holdfast.scenarios.attacks._apgd import checkpoints  # noqa: PLC0415  private, and only named here

    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(checkpoints(1)) == [1]


def test_encoded_tables_leave_missing_values_missing():
    """Rows with every mutable number missing cannot be moved, and their flags are their clean flags."""
    target = models.table_target()
    x = models.table_rows(60)
    x[:, [0, 1, 2]] = torch.nan
    assert isinstance(target.module[0], TableEncoder)
    finding = Pgd(epsilon=5.0).run(target, models.samples_of(target, x), Context(seed=0))
    assert finding.score.value == 1.0
    assert finding.valid


def test_threat_of_a_finding_is_the_one_attacked():
    """The default threat is L-inf 0.05 in the space's units, and holds at its very boundary."""
    space = Box(shape=(1, 2, 2), mean=(0.0,), std=(1.0,))
    x = torch.full((1, 1, 2, 2), 0.5)
    assert Threat(epsilon=Pgd().epsilon).holds(x + 0.05, x, space).all()
    assert not Threat(epsilon=Pgd().epsilon).holds(x + 0.051, x, space).any()
