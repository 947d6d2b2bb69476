"""Planted faults are convicted, each by its own check, and honest models are acquitted."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from holdfast.data import Samples
from holdfast.perturbation import Threat
from holdfast.scenarios import validity
from holdfast.scenarios.attacks._reach import immovable
from holdfast.scenarios.attacks.apgd_ce import ApgdCe
from holdfast.scenarios.attacks.fgsm import Fgsm
from holdfast.scenarios.attacks.pgd import Pgd
from holdfast.scenarios.attacks.square import Square
from holdfast.scenarios.base import Context
from holdfast.scenarios.cross_checks import family_checks, with_family_checks
from holdfast.scenarios.validity import REMEDIES, SHARES
from holdfast.space import Feature, Table

_spec = importlib.util.spec_from_file_location("attack_models", Path(__file__).parent / "attacks" / "conftest.py")
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)

POINTS = torch.rand((200, 1, 8, 8), generator=torch.Generator().manual_seed(1))


def network():
    return models.randomise(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5)))


class Planted(nn.Module):
    """An honest network behind a fault."""

    def __init__(self, before=None, after=None):
        super().__init__()
        self.net, self.before, self.after = network(), before, after

    def forward(self, x):
        x = self.before(x) if self.before else x
        z = self.net(x)
        return self.after(z) if self.after else z


def target_of(**faults):
    return models.target_of(Planted(**faults), models.BOX, 5)


def run(attack, target, x=POINTS, y=None):
    return attack.run(target, models.samples_of(target, x, y), Context(seed=0))


def failed(finding):
    return {check.name for check in finding.checks if check.status == "failed"}


def named(finding, name):
    return next(check for check in finding.checks if check.name == name)


@pytest.mark.parametrize(
    "attack",
    [Fgsm(epsilon=0.03), Pgd(epsilon=0.03), ApgdCe(epsilon=0.03, steps=30), Square(epsilon=0.03, queries=100)],
    ids=lambda a: a.name(),
)
def test_acquits_an_honest_model_within_its_budget(attack):
    """Every check passes or does not apply, for at most 30 % of the attack's forwards."""
    finding = run(attack, target_of())
    assert finding.valid, failed(finding)
    assert {check.status for check in finding.checks} >= {"passed"}
    spent = finding.details["forwards"]
    assert 0 < spent["checks"] <= 0.3 * spent["attack"]
    assert sum(SHARES.values()) <= 0.3 + 1e-12


def test_convicts_saturated_outputs():
    """Logits so large that float32 cross-entropy has no gradient: zero gradients, and an unbounded attack that fails."""
    finding = run(Pgd(epsilon=0.05), target_of(after=lambda z: z * 1e4))
    assert {"gradients_not_zero", "loss_rises", "unbounded_reaches_zero"} <= failed(finding)
    assert not finding.valid


def test_convicts_quantised_inputs():
    """Rounding the input leaves no gradient at all."""
    finding = run(Pgd(epsilon=0.05), target_of(before=lambda x: (x * 8).round() / 8))
    assert "gradients_not_zero" in failed(finding)


def test_convicts_gradients_that_are_not_finite():
    """A square root at zero poisons the gradient and leaves the output whole."""
    finding = run(Pgd(epsilon=0.05), target_of(before=lambda x: x + 0 * torch.sqrt((x - x.detach()).abs())))
    assert "gradients_finite" in failed(finding)


def test_convicts_probabilities():
    """A softmax at the end is not logits."""
    assert failed(run(Pgd(epsilon=0.03), target_of(after=lambda z: z.softmax(1)))) >= {"logits_not_probabilities"}


def test_convicts_training_mode():
    """A module left in training mode is named."""
    target = target_of()
    target.module.net.train()
    assert "eval_mode" in failed(run(Fgsm(epsilon=0.03), target))


def test_convicts_a_second_forward_that_is_no_number():
    """What was finite and is not any more is not the same."""
    x = torch.zeros(4, 2)
    case = SimpleNamespace(
        afford=lambda *_: 4, samples=Samples(x=x, y=x[:, 0].long(), ids=torch.arange(4), role="test", snapshot="s"),
        target=SimpleNamespace(logits=lambda x: x * float("nan")), logits=torch.ones(4, 2),
    )  # fmt: skip
    assert validity._deterministic(case).status == "failed"
    case.target = SimpleNamespace(logits=lambda x: x + 1.0)
    assert validity._deterministic(case).status == "passed"


def test_convicts_a_forward_that_differs_the_second_time():
    """Randomness inside the model, where determinism is claimed."""
    generator = torch.Generator().manual_seed(0)
    noisy = target_of(before=lambda x: x + 0.05 * torch.randn(x.shape, generator=generator))
    assert "deterministic_forward" in failed(run(Pgd(epsilon=0.03), noisy))


def test_convicts_data_scaled_twice_and_standardised_twice():
    """Pixels divided by 255 twice hardly span the bounds; standardised ones leave them."""
    target = target_of()
    assert "data_spans_bounds" in failed(run(Fgsm(epsilon=0.03), target, POINTS / 255))
    assert "data_spans_bounds" in failed(run(Fgsm(epsilon=0.03), target, (POINTS - 0.5) / 0.3))


def test_convicts_a_constant_output():
    """A model that says the same of everything is not robust."""
    constant = target_of(after=lambda z: 0 * z + torch.arange(5.0))
    assert "output_varies" in failed(run(Fgsm(epsilon=0.03), constant))


def test_convicts_steps_that_lose_to_one_step():
    """Where gradients mislead after the first step, one step breaks what many leave."""

    def lures(x):
        # Right on the pixel grid the gradient is honest; anywhere else it points back.
        on_grid = ((x.detach() * 4).round() / 4 - x.detach()).abs().amax((1, 2, 3), keepdim=True) < 1e-6
        return torch.where(on_grid, x, 2 * x.detach() - x)

    finding = run(Pgd(epsilon=0.05, steps=40), target_of(before=lures), (POINTS * 4).round() / 4)
    assert "multi_step_beats_single_step" in failed(finding)


def test_convicts_an_attack_that_has_not_converged():
    """Steps so short of the goal that twice as many still break more."""

    class Slow(Pgd.__base__):
        """Climb by a fixed small stride from the clean row."""

        reference = "none"
        steps: int = 4

        @property
        def most_forwards(self):
            return self.steps + 1

        def longer(self):
            return self.model_copy(update={"steps": 2 * self.steps})

        def perturb(self, batch, noise):
            from holdfast.scenarios.attacks._batch import cross_entropy  # noqa: PLC0415  private, and only named here

            rows = batch.begin()
            z = batch.origin[rows]
            for _ in range(self.steps):
                _, gradient, _ = batch.gradient(rows, z, cross_entropy(batch.y[rows]))
                keep = batch.standing(rows)
                rows, z, gradient = rows[keep], z[keep], gradient[keep]
                if len(rows) == 0:
                    break
                z = batch.ascend(rows, z, gradient, 0.003)
            if len(rows):
                batch.query(rows, z)
            return batch.adversarial

    x = torch.rand((900, 1, 8, 8), generator=torch.Generator().manual_seed(2))
    assert "converged" in failed(run(Slow(epsilon=0.1), target_of(), x))


def test_says_why_a_check_does_not_apply():
    """On a table with immutable features no radius reaches every row, and the record says so."""
    target = models.table_target()
    finding = run(Pgd(epsilon=0.3), target, models.table_rows(120))
    check = named(finding, "unbounded_reaches_zero")
    assert check.status == "not_applicable"
    assert "not every feature may move" in check.reason
    assert named(finding, "data_spans_bounds").status == "not_applicable"
    assert finding.valid


def masked():
    """Large logits leave cross-entropy without gradient, which hides the model from PGD and not from Square."""
    return target_of(after=lambda z: z * 1e4)


def test_masking_is_convicted_and_an_honest_model_acquitted():
    """Square breaks points of the saturated model that PGD leaves; on the honest one it does not."""
    attacks = [Pgd(epsilon=0.05), Square(epsilon=0.05, queries=200), Fgsm(epsilon=0.05)]
    for target, expected in ((masked(), "failed"), (target_of(), "passed")):
        checks = {c.name: c for c in family_checks([run(a, target) for a in attacks])}
        assert checks["masking[linf 0.05]"].status == expected
        assert checks["single_step[linf 0.05]"].status == "passed"
        assert checks["transfer[linf 0.05]"].status == "not_applicable"
        assert "attacks/square: 200" in checks["masking[linf 0.05]"].reason


def test_family_checks_are_laid_on_the_findings_they_convict():
    """A black box that breaks more convicts the gradient attacks of its threat model, and no other finding."""
    honest = target_of()
    findings = with_family_checks([run(Pgd(epsilon=0.05), honest), run(Square(epsilon=0.05, queries=50), honest)])
    names = {f.path: [c.name for c in f.checks if "[" in c.name] for f in findings}
    assert len(names["attacks/pgd"]) == 3
    assert names["attacks/square"] == []
    assert with_family_checks(()) == ()


def test_family_checks_need_both_kinds():
    """One kind of attack alone proves nothing, and the record says so."""
    checks = {c.name: c.status for c in family_checks([run(Pgd(epsilon=0.05), target_of())])}
    assert checks["masking[linf 0.05]"] == checks["single_step[linf 0.05]"] == "not_applicable"


COUNT = Table(features=(Feature(name="n", kind="number", low=0.0, step=1.0, mutable=True, iqr=12.0),))
COUNTS = (torch.arange(240) % 3 == 0).float()[:, None] * torch.arange(1.0, 241.0)[:, None].remainder(9.0)


def counting(slope):
    """A linear model of one count: its loss rises along ``slope``'s sign alone, for every row that it gets right."""
    return models.target_of(models.Linear(torch.tensor([[slope], [0.0]]), torch.tensor([0.0, -5.0])), COUNT, 2)


class Detached(nn.Module):
    """A linear model whose gradient is somebody else's: it points the wrong way."""

    def __init__(self, sign):
        super().__init__()
        self.sign = nn.Parameter(torch.tensor(sign))

    def forward(self, x):
        z = 0.01 * (x.detach() * 2 - x) if float(self.sign) < 0 else 0.01 * x.detach() + 0 * x
        return torch.cat([-z + 5.0, z], 1)


@pytest.mark.parametrize("attack", [Pgd(epsilon=0.1), ApgdCe(epsilon=0.1, steps=30)], ids=lambda a: a.name())
@pytest.mark.parametrize("slope", [0.01, -0.01])
def test_a_row_that_starts_highest_is_no_evidence_against_gradients(attack, slope):
    """Two rows in three stand at the least count, where the loss may be highest: a guess climbs no better."""
    check = named(run(attack, counting(slope), COUNTS), "loss_rises")
    assert check.status == "passed", check.reason
    assert "a blind guess raises the loss and the steps never, the reverse: 0 against" in check.reason


def bumpy(seed):
    """A network of one or two thresholds of a count: its loss has kinks and flat parts at whole numbers."""
    net = models.randomise(nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 2)), seed, 1.0)
    return models.target_of(net, COUNT, 2)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("attack", [Pgd(epsilon=0.2), ApgdCe(epsilon=0.2, steps=30)], ids=lambda a: a.name())
def test_kinks_of_one_feature_are_no_evidence_against_gradients(attack, seed):
    """An honest model of one count is acquitted, though many of its starts are the highest points they can reach."""
    finding = run(attack, bumpy(seed), COUNTS + 5.0 * (torch.arange(240) % 7)[:, None])
    assert finding.valid, [check.reason for check in finding.checks if check.status == "failed"]


@pytest.mark.parametrize("sign", [-1.0, 1.0], ids=["reversed", "detached"])
def test_a_wrong_gradient_is_convicted_on_counts_too(sign):
    """Leaving out rows at a bound does not acquit a gradient that points the wrong way, or nowhere."""
    target = models.target_of(Detached(sign), COUNT, 2)
    assert "loss_rises" in failed(run(Pgd(epsilon=0.1), target, COUNTS + 3.0))


def test_a_table_names_what_its_attacker_cannot_move():
    """Mutable features without a unit, with steps beyond epsilon, or of a category that may not change are listed."""
    space = Table(
        features=(
            Feature(name="constant", kind="number", mutable=True),
            Feature(name="coarse", kind="number", step=5.0, iqr=10.0, mutable=True),
            Feature(name="mostly_zero", kind="number", step=1.0, spread=11.0, mutable=True),
            Feature(name="kept", kind="number", iqr=3.0),
            Feature(name="sector", kind="category", categories=("a", "b"), mutable=True),
        )
    )
    x = torch.zeros((4, 5))
    threat = Threat(epsilon=0.1)
    assert immovable(space, threat, x, 0) == ["constant", "coarse", "sector"]
    assert immovable(space, Threat(epsilon=0.5), x, 1) == ["constant"]
    assert threat.holds(x + torch.tensor([0, 0, 1.0, 0, 0]), x, space).all()
    finding = run(Pgd(epsilon=0.1), models.table_target(), models.table_rows(40))
    assert finding.details["immovable"] == ["sector"]


def test_enumeration_finds_what_an_attack_leaves():
    """Where one count moves, every value in reach is tried: an attack that does nothing is convicted, PGD is not."""

    class Idle(Pgd.__base__):
        """Look at the clean row, twice, and leave it."""

        reference = "none"

        @property
        def most_forwards(self):
            return 200

        def longer(self):
            return self

        def perturb(self, batch, noise):
            rows = batch.begin()
            for _ in range(200):
                batch.query(rows, batch.origin[rows])
            return batch.origin

    target = models.target_of(models.Linear(torch.tensor([[0.0], [1.0]]), torch.tensor([0.0, -4.5])), COUNT, 2)
    rows = torch.arange(240.0)[:, None].remainder(9.0)
    idle, honest = run(Idle(epsilon=0.2), target, rows), run(Pgd(epsilon=0.2), target, rows)
    assert "enumerated_optimum" in failed(idle)
    assert named(honest, "enumerated_optimum").status == "passed"
    assert "one of 5 combinations" in named(honest, "enumerated_optimum").reason
    assert named(honest, "unbounded_reaches_zero").status == "not_applicable"


def test_a_failed_check_says_what_it_means_and_what_to_do():
    """Each check has its sentence, and a failed one ends with it."""
    finding = run(Pgd(epsilon=0.05), target_of(after=lambda z: z * 1e4))
    check = named(finding, "gradients_not_zero")
    assert check.reason.endswith(REMEDIES["gradients_not_zero"])
    table = run(Pgd(epsilon=0.1), models.table_target(), models.table_rows(40))
    across = family_checks([run(Pgd(epsilon=0.05), target_of()), run(Square(epsilon=0.05, queries=20), target_of())])
    names = {c.name.split("[")[0] for found in (finding.checks, table.checks, across) for c in found}
    assert names <= set(REMEDIES)
