"""The continual recipes: closed forms, exact ratios, the same bits over a break, and less forgotten than without."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import minimize
from torch import nn
from torch.nn.functional import cross_entropy, softmax

from holdfast.data import Samples
from holdfast.errors import DataError, ModelError
from holdfast.model import ModelSpec, Target
from holdfast.seeding import Noise
from holdfast.space import Feature, Table
from holdfast.training.continual import ContinualRecipe, weighted_distance
from holdfast.training.ewc import Ewc, fisher
from holdfast.training.loop import fit
from holdfast.training.lwf import Lwf, distilled
from holdfast.training.replay import Replay
from holdfast.training.standard import Standard
from holdfast.training.warm_start import Former

CPU = torch.device("cpu")
NOISE = Noise(2, ("continual",))
RECIPES = (Replay, Ewc, Lwf)
SPEC = ModelSpec(
    factory="holdfast.networks:mlp", settings={"width": 24, "depth": 1}, classes=("no", "yes"),
    space=Table(features=tuple(Feature(name=name, kind="number", iqr=1.0) for name in "ab")),
)  # fmt: skip


def made(x, y, first=0, role="train"):
    return Samples(x=x.float(), y=y.long(), ids=torch.arange(first, first + len(y)), role=role, snapshot="made")


def tasks(n=400):
    """Two times: where a is below 0 the answer is b > 0; later a is above 0, and the answer is b > 1 there."""
    x = NOISE.normal(torch.arange(2 * n), (2,))
    x[:, 0] = x[:, 0].abs() * torch.where(torch.arange(2 * n) < n, -1.0, 1.0)
    y = x[:, 1] > torch.where(torch.arange(2 * n) < n, 0.0, 1.0)
    return made(x[:n], y[:n]), made(x[n:], y[n:], n)


def both(old, new):
    return made(torch.cat([old.x, new.x]), torch.cat([old.y, new.y]))


def learn(recipe, rows, former=None, seed=0, **more):
    validation = replace(rows, role="validation")
    return fit(recipe, SPEC, rows, validation, seed=seed, device=CPU, former=former, **more)


def accuracy(target, rows):
    return float((target.predict(rows.x) == rows.y).float().mean())


@pytest.fixture(scope="module")
def stream():
    """A champion of the first time, with rows of both."""
    old, new = tasks()
    champion = learn(Standard(epochs=12, batch_size=32, learning_rate=0.03), old).target
    return old, new, champion


def linear(rows, classes=2, seed=0):
    """A linear model of b inputs: logits W x + c."""
    network = nn.Linear(rows, classes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(NOISE.derive("w", seed).normal(torch.arange(len(parameter)), parameter.shape[1:]))
    return network.eval()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), classes=st.integers(2, 4))
def test_fisher_of_a_logistic_model_in_closed_form(seed, classes):
    """For W x + c, the mean over rows of p (1 - p) x x^T on its diagonal, and no square of a mean gradient."""
    network, x = linear(3, classes, seed), NOISE.derive("x", seed).normal(torch.arange(40), (3,))
    found = fisher(network, x)
    p = softmax(network(x), dim=1).detach()
    spread = p * (1 - p)
    assert torch.allclose(found["weight"], torch.einsum("nk,nd->kd", spread, x.square()) / 40, atol=1e-6)
    assert torch.allclose(found["bias"], spread.mean(0), atol=1e-6)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_fisher_of_drawn_labels_is_that_of_each_row_and_right_in_the_mean():
    """A drawn label gives (1 - p)^2 x x^T for its own class, and over many draws the expectation."""
    network, x = linear(2), torch.tensor([[1.5, -0.5]])
    p = softmax(network(x), dim=1).detach()[0]
    for drawn, label in ((0.0, 0), (float(p[0]) - 1e-4, 0), (float(p[0]) + 1e-4, 1), (1 - 1e-7, 1)):
        found = fisher(network, x, torch.tensor([drawn]))
        told = (torch.eye(2)[label] - p).square()
        assert torch.allclose(found["weight"], told[:, None] * x.square(), atol=1e-6)
    many = fisher(network, x.expand(2000, 2), NOISE.uniform(torch.arange(2000)))
    assert torch.allclose(many["weight"], fisher(network, x)["weight"], rtol=0.1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), strength=st.floats(0.1, 50.0))
def test_a_quadratic_held_by_importance_ends_at_its_analytic_optimum(seed, strength):
    """Curvature a around b and importance F around w* meet at (a b + F w*) / (a + F)."""
    draw = NOISE.derive("quadratic", seed)
    a, b, anchor = (draw.derive(k).normal(torch.arange(5)).double() for k in range(3))
    a, importance = a.abs() + 0.1, strength * draw.derive("f").uniform(torch.arange(5)).double()
    w = ((a * b + importance * anchor) / (a + importance)).requires_grad_()
    held = weighted_distance({"w": w}, {"w": (importance, anchor)})
    (slope,) = torch.autograd.grad(0.5 * (a * (w - b).square()).sum() + held, w)
    assert torch.allclose(slope, torch.zeros(5, dtype=torch.double), atol=1e-10)  # of a strictly convex objective
    assert torch.allclose(held, 0.5 * (importance * (w - anchor) ** 2).sum())


def test_ewc_trains_a_logistic_model_to_the_optimum_of_its_objective():
    """A linear network descends cross-entropy + strength / 2 F (w - w*)^2 to where a convex solver ends."""
    old, new = tasks(80)
    spec = SPEC.model_copy(update={"settings": {"depth": 0}})
    quick = Standard(epochs=25, batch_size=64, learning_rate=0.05)
    champion = fit(quick, spec, old, replace(old, role="validation"), seed=0, device=CPU).target
    rows = both(old, new)
    # One row that is always right: every epoch is the best so far, and the last one is kept.
    sure = made(torch.tensor([[0.0, -9.0]]), torch.tensor([0]), role="validation")
    recipe = Ewc(epochs=150, batch_size=1000, learning_rate=0.05, strength=3.0)
    trained = fit(recipe, spec, rows, sure, seed=0, device=CPU, former=Former(champion, old.ids)).target
    encoded = champion.module[0](new.x).detach().double()
    weights = recipe.importance(champion, old, Noise(0, ("training", "importance")))
    whole = fisher(champion.module, old.x)
    assert all(torch.allclose(weights[name], 3.0 * whole[name], rtol=1e-3, atol=1e-8) for name in whole)
    f = torch.cat([weights["1.0.weight"].flatten(), weights["1.0.bias"]]).double()
    star = torch.cat([p.flatten() for p in champion.module.parameters()]).detach().double()
    shape = champion.module[1][0].weight.shape

    def objective(flat):
        w = torch.tensor(flat, requires_grad=True)
        logits = encoded @ w[: -shape[0]].reshape(shape).T + w[-shape[0] :]
        loss = cross_entropy(logits, new.y) + 0.5 * (f * (w - star).square()).sum()
        loss.backward()
        return float(loss.detach()), w.grad.numpy()

    best = minimize(objective, star.numpy(), jac=True, method="L-BFGS-B", options={"maxiter": 400, "ftol": 1e-11})
    ended = torch.cat([p.flatten() for p in trained.module.parameters()]).detach().double().numpy()
    assert objective(ended)[0] == pytest.approx(best.fun, rel=1e-3)
    assert objective(star.numpy())[0] > 1.05 * best.fun  # the champion itself was far from it


@pytest.mark.parametrize("recipe", [Ewc(strength=0.0, points=5), Lwf(strength=0.0)])
def test_with_nothing_to_keep_a_recipe_is_fine_tuning(recipe, stream):
    """Of strength 0 it ends in the bits of standard training on the fresh rows from the champion's weights."""
    old, new, champion = stream
    recipe = recipe.model_copy(update={"epochs": 3, "balance_classes": True})
    validation = replace(old, role="validation")
    tuned = fit(
        Standard(epochs=3, balance_classes=True), SPEC, new, validation, seed=1, device=CPU,
        former=Former(champion, old.ids),
    ).target  # fmt: skip
    kept = fit(recipe, SPEC, both(old, new), validation, seed=1, device=CPU, former=Former(champion, old.ids)).target
    assert all(torch.equal(a, b) for a, b in zip(tuned.module.parameters(), kept.module.parameters(), strict=True))


def test_distillation_without_end_keeps_the_old_answers(stream):
    """As strength grows, answers to fresh rows stay what the champion gave; without it they do not."""
    old, new, champion = stream
    before = softmax(champion.logits(new.x), dim=1)
    moved = {}
    for strength in (0.0, 1e4):
        recipe = Lwf(epochs=8, batch_size=64, learning_rate=0.01, strength=strength)
        now = learn(recipe, both(old, new), Former(champion, old.ids)).target
        moved[strength] = float((softmax(now.logits(new.x), dim=1) - before).abs().max())
    assert moved[1e4] < 0.03
    assert moved[0.0] > 0.3


@settings(max_examples=20, deadline=None)
@given(temperature=st.floats(0.5, 5.0))
def test_distilled_divergence_in_closed_form(temperature):
    """Sum of p log(p / q) with p and q softened by the temperature; 0 where the answers agree."""
    before, now = NOISE.normal(torch.arange(6), (3,)), NOISE.derive("now").normal(torch.arange(6), (3,))
    p, q = softmax(before / temperature, 1), softmax(now / temperature, 1)
    assert torch.allclose(distilled(before, now, temperature), (p * (p / q).log()).sum(1), atol=1e-5)
    assert torch.allclose(distilled(before, before + 3.0, temperature), torch.zeros(6), atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    old=st.integers(1, 300), fresh=st.integers(1, 300), size=st.integers(2, 64),
    ratio=st.sampled_from([0.1, 0.25, 0.5, 0.8]), memory=st.sampled_from([None, 5, 100]), epoch=st.integers(1, 3),
)  # fmt: skip
def test_every_batch_has_the_stated_share_of_old_rows(old, fresh, size, ratio, memory, epoch):
    """Each batch has as many old rows as the ratio says to the nearest row, all from the memory; no fresh row is missed."""
    rows = made(torch.zeros(old + fresh, 2), torch.arange(old + fresh) % 3)
    learned = torch.arange(old + fresh) < old
    recipe = Replay(batch_size=size, ratio=ratio, memory=memory)
    batches = recipe.batches(rows, learned, NOISE, epoch)
    assert len(batches) == len(recipe.batches(rows, learned, NOISE, 7))
    counts = {(int(learned[b].sum()), int((~learned[b]).sum())) for b in batches}
    assert len(counts) == 1
    ((kept, came),) = counts
    assert min(kept, came) >= 1
    assert abs(kept - ratio * (kept + came)) <= 0.5 or 1 in (kept, came)  # one row at least of each
    if size * ratio == int(size * ratio) and fresh >= size:
        assert kept == ratio * size == size - came
    seen = torch.cat(batches)
    assert set(seen[~learned[seen]].tolist()) == set(range(old, old + fresh))
    remembered = set(recipe.remembered(rows, learned, NOISE).tolist())
    assert len(remembered) == min(old, memory or old)
    assert set(seen[learned[seen]].tolist()) <= remembered


def test_a_batch_that_cannot_hold_a_row_of_each_kind_is_refused_by_name():
    """One row is no mixture: replay refuses it when params are read, and a recipe of fresh rows alone takes it."""
    with pytest.raises(ValidationError, match=r"batch_size\n.*greater than 1"):
        Replay(batch_size=1)
    assert Lwf(batch_size=1).batch_size == 1
    assert Replay().batch_size == Lwf().batch_size


def test_a_memory_stays_as_rows_come_and_can_be_balanced():
    """A later memory holds of the earlier rows only such as the earlier memory held; balanced, every class has a share."""
    rows = made(torch.zeros(500, 2), (torch.arange(500) % 20 == 0).long())
    for sample in ("reservoir", "balanced"):
        recipe = Replay(memory=40, sample=sample)
        before = set(recipe.remembered(rows, torch.arange(500) < 300, NOISE).tolist())
        after = set(recipe.remembered(rows, torch.arange(500) < 400, NOISE).tolist())
        assert {row for row in after if row < 300} <= before
        assert len(before) == len(after) == 40
    labels = rows.y[recipe.remembered(rows, torch.arange(500) < 400, NOISE)]
    assert labels.sum() == 20  # of 20 that there are
    assert rows.y[Replay(memory=40).remembered(rows, torch.arange(500) < 400, NOISE)].sum() < 8


@pytest.mark.parametrize("kind", RECIPES)
def test_a_broken_continual_training_resumes_to_the_same_bits(kind, stream, tmp_path):
    """Stopped after any epoch and called again, it ends as if unbroken; another seed ends elsewhere."""
    old, new, champion = stream
    recipe, rows, former = kind(epochs=3, batch_size=64, average=0.9), both(old, new), Former(champion, old.ids)
    recipe = recipe.model_copy(update={"points": 50}) if kind is Ewc else recipe
    weights = [p.clone() for p in champion.module.parameters()]

    def stop(report):
        if report.epoch < 3:
            raise KeyboardInterrupt

    whole = learn(recipe, rows, former)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            learn(recipe, rows, former, checkpoints=tmp_path, progress=stop)
    resumed = learn(recipe, rows, former, checkpoints=tmp_path)
    assert resumed.target.digest == whole.target.digest == learn(recipe, rows, former).target.digest
    assert [r.loss for r in resumed.history] == [r.loss for r in whole.history]
    assert learn(recipe, rows, former, seed=1).target.digest != whole.target.digest
    assert all(torch.equal(a, b) for a, b in zip(weights, champion.module.parameters(), strict=True))


@pytest.mark.parametrize("recipe", [Replay(ratio=0.5, memory=100), Ewc(strength=30.0, points=300), Lwf(strength=2.0)])
def test_it_learns_what_is_new_and_forgets_less_than_fine_tuning(recipe, stream):
    """After the second time, more of the first is right than without protection, and the second better than before."""
    old, new, champion = stream
    settings_of = {"epochs": 8, "batch_size": 32, "learning_rate": 0.03}
    tuned = learn(Standard(**settings_of), new, Former(champion, old.ids)).target
    kept = learn(recipe.model_copy(update=settings_of), both(old, new), Former(champion, old.ids)).target
    assert accuracy(champion, old) - accuracy(tuned, old) > 0.1  # there is something to forget
    assert accuracy(kept, old) > accuracy(tuned, old) + 0.03
    assert accuracy(kept, new) > accuracy(champion, new) + 0.03


@pytest.mark.parametrize("kind", RECIPES)
def test_without_a_champion_or_rows_it_is_refused_by_name(kind, stream):
    """No former model, no fresh rows, and for recipes that read them no old rows: each says what to do."""
    old, new, champion = stream
    rows = both(old, new)
    with pytest.raises(ModelError, match=f"training {kind.name()}.*recovery.retraining.recipe"):
        learn(kind(epochs=1), rows)
    with pytest.raises(DataError, match="no fresh rows"):
        learn(kind(epochs=1), rows, Former(champion, rows.ids))
    if kind.reads_old:
        with pytest.raises(DataError, match=r"no rows that the champion learned from.*base_share"):
            learn(kind(epochs=1), rows, Former(champion, rows.ids[:0]))
    else:
        assert learn(kind(epochs=1), rows, Former(champion, rows.ids[:0])).history
    assert issubclass(kind, ContinualRecipe)


@settings(max_examples=15, deadline=None)
@given(old=st.integers(1, 60), fresh=st.integers(1, 60), size=st.integers(2, 16), memory=st.sampled_from([None, 5]))
def test_what_an_epoch_sees_of_a_row_is_its_mean_over_epochs(old, fresh, size, memory):
    """Counted over many epochs, each row comes as often as told, and an epoch's places are all shared out."""
    rows, learned = made(torch.zeros(old + fresh, 2), torch.zeros(old + fresh)), torch.arange(old + fresh) < old
    for recipe in (Replay(batch_size=size, memory=memory), Lwf(batch_size=size), Standard(batch_size=size)):
        told = recipe.seen(rows, learned, NOISE)
        epochs = [torch.cat(recipe.batches(rows, learned, NOISE, epoch)) for epoch in range(1, 201)]
        assert float(told.sum()) == pytest.approx(len(epochs[0]))
        mean = torch.bincount(torch.cat(epochs), minlength=len(rows)) / 200
        assert float((mean - told).abs().max()) < 0.2  # 5 standard errors of a share


@pytest.mark.parametrize("seed", range(3))
def test_a_class_that_the_first_epoch_misses_weighs_what_its_share_of_an_epoch_says(stream, seed):
    """Of 2,000 old rows 4 are of class 1 and an epoch sees 128: each weighs as the mean epoch has it, and never 0."""
    from holdfast.training.loop import _launch, _Run  # noqa: PLC0415  what is weighed is seen nowhere else

    _, _, champion = stream
    rows = made(torch.zeros(2256, 2), torch.isin(torch.arange(2256), torch.tensor([5, 600, 1200, 1900])))
    recipe = Replay(batch_size=256, balance_classes=True)
    run = _Run(recipe, SPEC, rows, rows, Noise(seed), _launch(CPU, "32-true"), Former(champion, rows.ids[:2000]))
    share = 256 * 4 / 2000 / 512  # of two batches of 128 fresh and 128 old rows
    assert run.weights.tolist() == pytest.approx([0.5 / (1 - share), 0.5 / share], rel=1e-5)


def test_class_weights_are_those_of_the_rows_that_an_epoch_sees(stream):
    """Balanced over fresh rows alone where these alone are trained on: the old rows' classes weigh nothing."""
    from holdfast.training.loop import _launch, _Run  # noqa: PLC0415  as above

    old, new, champion = stream
    rows = both(old, new)
    lwf = Lwf(epochs=1, balance_classes=True)
    run = _Run(lwf, SPEC, rows, rows, Noise(0), _launch(CPU, "32-true"), Former(champion, old.ids))
    assert run.weights.tolist() == pytest.approx((len(new) / 2 / torch.bincount(new.y)).tolist())


def test_the_champion_answers_in_eval_mode_whatever_the_training_does(stream):
    """A former model with dropout distils one answer, not a drawn one."""
    _, new, _ = stream
    spec = SPEC.model_copy(update={"settings": {"width": 24, "depth": 1, "dropout": 0.5}})
    former = Target(spec.build(0), spec, "d0", CPU)
    recipe = Lwf()
    network = spec.build(0).eval()
    losses = [recipe.loss_beside(former.module, network, new.x, new.y) for _ in range(2)]
    assert torch.equal(*losses)
    assert torch.allclose(losses[0], cross_entropy(network(new.x), new.y, reduction="none"), atol=1e-5)
