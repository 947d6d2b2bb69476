"""Linear bounds against closed forms, brute force, samples, attacks and published numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from holdfast.data import Samples
from holdfast.errors import ScenarioError
from holdfast.model import ModelSpec, Target
from holdfast.networks import ImageEncoder
from holdfast.perturbation import Threat
from holdfast.scenarios.attacks.apgd_ce import ApgdCe
from holdfast.scenarios.base import Context
from holdfast.scenarios.certificates import _proof
from holdfast.scenarios.certificates._layers import Flat, Rectifier, Rows, rounding
from holdfast.scenarios.certificates._network import obstacle, read
from holdfast.scenarios.certificates.linear_bounds import LinearBounds
from holdfast.scenarios.cross_checks import with_family_checks
from holdfast.space import Box

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")
DATA = Path("/work/shared/data")
CPU = torch.device("cpu")
SHAPE = (2, 5, 6)
BOX = Box(shape=SHAPE, mean=(0.4, 0.6), std=(0.3, 0.5))
CONTEXT = Context(seed=5)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def target_of(module, space=BOX, classes=3):
    encoder = ImageEncoder(torch.tensor(space.mean), torch.tensor(space.std))
    spec = ModelSpec(factory="none:none", space=space, classes=tuple(map(str, range(classes))))
    return Target(nn.Sequential(encoder, module), spec, "digest")


def drawn(module, seed, scale=1.0):
    """Draw weights, and statistics that are no neutral ones."""
    source = generator(seed)
    for name, each in module.state_dict().items():
        if each.is_floating_point():
            each.copy_(torch.randn(each.shape, generator=source) * scale)
            if "running_var" in name:
                each.abs_().add_(0.1)
    return module


def images(n, seed, space=BOX):
    """Images of which many pixels lie on the bounds."""
    x = torch.rand((n, *space.shape), generator=generator(seed))
    return (1.5 * x - 0.25).clamp(space.low, space.high)


def samples_of(x, y):
    return Samples(x, y, torch.arange(len(y)), "test", "snap")


def within(threat, x, space, seed, n=200):
    """Draw n images within the threat of each (n, points, *shape): inside, and as far out as can be."""
    source, found = generator(seed), []
    for turn in range(n):
        move = torch.randn(x.shape, generator=source)
        if turn % 2 or threat.norm == "l2":
            move = move.sign() if threat.norm == "linf" else move * 100.0
        found.append(threat.project(x + 2.0 * threat.epsilon * move, x, space))
    return torch.stack(found)


NETWORKS = {
    "dense": lambda: [nn.Flatten(), nn.Linear(60, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3)],
    "no_rectifier": lambda: [nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(60, 3)],
    "strided": lambda: [
        nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 2, stride=(1, 2)), nn.ReLU(), nn.Flatten(),
        nn.Linear(8, 3),
    ],
    "dilated_in_groups": lambda: [
        nn.Conv2d(2, 4, 2, dilation=2, groups=2, padding=(2, 1)), nn.ReLU(), nn.Conv2d(4, 4, 3, padding="same", groups=4),
        nn.ReLU(), nn.Conv2d(4, 2, 2, padding="same", dilation=(3, 1)), nn.ReLU(), nn.Flatten(), nn.Linear(84, 3),
    ],
    "normalised": lambda: [
        nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Sequential(nn.Dropout2d(),
        nn.Conv2d(3, 2, 3, padding=2), nn.BatchNorm2d(2, affine=False)), nn.ReLU(), nn.Flatten(), nn.Linear(112, 5),
        nn.BatchNorm1d(5), nn.ReLU(), nn.Identity(), nn.Linear(5, 3),
    ],
    "pooled": lambda: [
        nn.Conv2d(2, 3, 3, padding=2), nn.ReLU(), nn.AvgPool2d(3, stride=2, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3),
    ],
}  # fmt: skip


def network(name, seed):
    return drawn(nn.Sequential(*NETWORKS[name]()), seed, 0.5).eval()


by_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_a_linear_model_is_certified_exactly_up_to_its_margin(norm, seed):
    """For w . x the worst image in the box is known: certified just below that epsilon, and not just above it."""
    model = drawn(nn.Sequential(nn.Flatten(), nn.Linear(60, 2)), seed)
    space = BOX.model_copy(update={"low": -50.0, "high": 50.0}) if norm == "l2" else BOX
    target = target_of(model, space, classes=2)
    x = images(30, seed, space)
    y = target.predict(x)
    weight = (model[1].weight[0] - model[1].weight[1]).double().reshape(SHAPE) / torch.tensor(BOX.std)[:, None, None]
    logits = target.logits(x).double()
    margin = (logits[:, 0] - logits[:, 1]).abs()
    down = weight * torch.where(y == 0, 1.0, -1.0)[:, None, None, None]
    room = torch.where(down > 0, x - space.low, space.high - x).double()

    def loss(epsilon):
        if norm == "l2":
            return epsilon * weight.norm()
        return (room.clamp(max=epsilon) * down.abs()).flatten(1).sum(1)

    for epsilon in (0.05, 0.2):
        found = LinearBounds(epsilon=epsilon, norm=norm).prove(
            target, samples_of(x, y), torch.ones(30, dtype=torch.bool)
        )
        assert found.certified[loss(epsilon * 1.001 + 1e-4) < margin - 1e-3].all()
        assert not found.certified[loss(epsilon) > margin + 1e-3].any()


@by_network
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_image_within_the_threat_breaks_what_is_certified(name, norm):
    """Sampled images, in and on the ball, clipped to the bounds: none changes an answer, some points are certified."""
    certified = 0
    for seed in range(2):
        target, x = target_of(network(name, seed)), images(20, seed)
        y = target.predict(x)
        for epsilon in (0.003, 0.03) if norm == "linf" else (0.01, 0.1):
            scenario = LinearBounds(epsilon=epsilon, norm=norm)
            held = scenario.prove(target, samples_of(x, y), torch.ones_like(y, dtype=torch.bool)).certified
            moved = within(Threat(norm=norm, epsilon=epsilon), x, BOX, seed, 16)
            same = torch.stack([target.predict(each) == y for each in moved]).all(0)
            assert not (held & ~same).any()
            certified += int(held.sum())
    assert certified > 10


@given(name=st.sampled_from(sorted(NETWORKS)), seed=st.integers(0, 10**6), epsilon=st.floats(0.0, 0.5))
@settings(max_examples=12, deadline=None)
def test_every_bound_holds_for_sampled_images(name, seed, epsilon):
    """Activations of sampled images lie within all three kinds of bounds, margins above theirs."""
    module = network(name, seed % 1000)
    x, threat = images(3, seed), Threat(norm="linf", epsilon=epsilon)
    layers = read(module, SHAPE, CPU)
    region = _proof.Region.around(x, threat, BOX)
    plain = _proof.intervals(layers, region)
    moved = within(threat, x, BOX, seed, 20).double()
    owner = torch.arange(3).repeat_interleave(3)
    pairs = _proof.Pairs(owner, torch.tensor([0, 0, 0] * 3), torch.tensor([0, 1, 2] * 3))
    for attempt in _proof._ATTEMPTS.values():
        known = attempt(layers, region, plain)
        least, _ = _proof.margins(known, pairs)
        value = moved
        for layer, bound in zip(layers, plain, strict=False):
            assert (value >= bound.low - 1e-9).all()
            assert (value <= bound.high + 1e-9).all()
            value = exact(layer, value)
        margin = value[..., :1] - value
        assert (margin >= least.reshape(3, 3) - 1e-9).all()
        if len(known.bounds) == len(plain):
            value = moved
            for layer, bound in zip(layers, known.bounds, strict=False):
                assert (value >= bound.low - 1e-9).all()
                assert (value <= bound.high + 1e-9).all()
                value = exact(layer, value)


def exact(layer, value):
    """Compute one layer in float64 for (draws, points, *shape)."""
    flat = value.flatten(0, 1)
    if isinstance(layer, Rectifier):
        out = flat.clamp(min=0)
    elif isinstance(layer, Flat):
        out = flat.flatten(1)
    else:
        out = layer.times(flat) + layer.bias
    return out.unflatten(0, value.shape[:2])


@by_network
def test_layers_are_what_torch_computes(name):
    """Layer by layer in float64, the logits are the module's own."""
    module, x = network(name, 3).double(), images(4, 3).double()
    layers = read(module, SHAPE, CPU)
    value = x[None]
    for layer in layers:
        value = exact(layer, value)
    assert torch.allclose(value[0], module(x), atol=1e-12)


@by_network
def test_a_layer_backwards_is_its_matrix_transposed(name):
    """Each layer's matrix, built from its own answers to unit inputs, is what rows are carried back by."""
    for layer in read(network(name, 1), SHAPE, CPU):
        if isinstance(layer, Rectifier | Flat):
            continue
        size = torch.Size(layer.shape).numel()
        unit = torch.eye(size, dtype=torch.float64).reshape(size, *layer.shape)
        matrix = layer.times(unit).flatten(1)  # (inputs, outputs)
        absolute = layer.times(unit, absolute=True).flatten(1)
        assert torch.allclose(absolute, matrix.abs(), atol=1e-12)
        count = matrix.shape[1]
        rows = Rows(
            torch.zeros(count, dtype=torch.int64), torch.eye(count, dtype=torch.float64).reshape(count, *layer.out),
            torch.zeros(count, dtype=torch.float64),
        )  # fmt: skip
        back = layer.backward(rows)
        assert torch.allclose(back.coefficients.flatten(1), matrix.T, atol=1e-12)
        assert torch.allclose(back.constant, layer.bias.expand(layer.out).flatten(), atol=1e-12)


@by_network
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_windows_give_the_bounds_of_whole_rows(name, norm):
    """A number of a convolution, bounded through its window, has the bound that it has through the whole layers."""
    layers, x = read(network(name, 2), SHAPE, CPU), images(3, 2)
    region = _proof.Region.around(x, Threat(norm=norm, epsilon=0.1), BOX)
    known = _proof.by_lines(layers, region, _proof.intervals(layers, region))
    looked = 0
    for at, layer in enumerate(layers):
        if not (isinstance(layer, Rectifier) and len(layer.shape) == 3):
            continue
        part = known._replace(layers=layers[:at])
        size = torch.Size(layer.shape).numel()
        where = torch.nonzero(torch.ones((3, *layer.shape)))
        whole = torch.eye(size, dtype=torch.float64).reshape(size, *layer.shape).repeat(3, 1, 1, 1)
        dense = Rows(where[:, 0], whole, torch.zeros(3 * size, dtype=torch.float64))
        window = _proof._single(where, layer.shape)
        assert torch.allclose(_proof.lower(part, window), _proof.lower(part, dense), atol=1e-10)
        looked += 1
    assert looked or name in {"dense", "no_rectifier"}


def test_activations_within_a_ball_are_bounded_by_its_dual_norm():
    """For L2 the first rectifier's bounds are W x -+ epsilon ||W||_2, exactly, and not those of the box around."""
    layers, x = read(network("dense", 4), SHAPE, CPU), images(3, 4)
    space = BOX.model_copy(update={"low": -50.0, "high": 50.0})
    threat = Threat(norm="l2", epsilon=0.5)
    region = _proof.Region.around(x, threat, space)
    found = _proof.by_lines(layers, region, _proof.intervals(layers, region)).bounds[2]
    middle, radius = (
        layers[1].times(x.double().flatten(1)) + layers[1].bias,
        threat.reach * layers[1].weight.norm(dim=1),
    )
    open_ = (middle - radius < 0) & (middle + radius > 0)
    assert open_.any()
    assert torch.allclose(found.low[open_], (middle - radius)[open_])
    assert torch.allclose(found.high[open_], (middle + radius)[open_])


def test_lines_prove_more_than_intervals_and_tightened_lines_more_still():
    """Of trained-like networks each attempt leaves less open; how many each decided is told."""
    torch_scale, certified = 0.35, dict.fromkeys(("ibp", "crown_ibp", "crown"), 0)
    for seed in range(6):
        module = drawn(nn.Sequential(*NETWORKS["dense"]()), seed, torch_scale)
        target, x = target_of(module), images(60, seed)
        found = LinearBounds(epsilon=0.02).prove(
            target, samples_of(x, target.predict(x)), torch.ones(60, dtype=torch.bool)
        )
        assert sum(found.decided.values()) == int(found.certified.sum())
        for name, count in found.decided.items():
            certified[name] += count
    assert all(certified.values()), certified


@by_network
def test_flags_depend_on_no_batch(name, monkeypatch):
    """Points one by one, and rows a few at a time, are certified as they are together."""
    target, x = target_of(network(name, 7)), images(8, 7)
    samples, scenario = samples_of(x, target.predict(x)), LinearBounds(epsilon=0.01)
    asked = torch.ones(8, dtype=torch.bool)
    together = scenario.prove(target, samples, asked)
    monkeypatch.setattr(_proof, "_POINTS", 1)
    monkeypatch.setattr(_proof, "_NUMBERS", 300)
    apart = scenario.prove(target, samples, asked)
    assert torch.equal(apart.certified, together.certified)
    assert apart.decided == together.decided


@by_network
def test_float32_errs_by_less_than_the_margin_kept_for_it(name):
    """On sampled images, with weights of many sizes, float32 differs from float64, and by less than is allowed."""
    source = generator(9)
    module = network(name, 9)
    for each in module.parameters():
        each.data.mul_(10.0 ** (4 * torch.rand(each.shape, generator=source) - 2))
    x, threat = images(5, 9), Threat(norm="linf", epsilon=0.05)
    layers = read(module, SHAPE, CPU)
    error = _proof.intervals(layers, _proof.Region.around(x, threat, BOX))[-1].error
    moved = within(threat, x, BOX, 9, 40)
    value = moved.double()
    for layer in layers:
        value = exact(layer, value)
    with torch.no_grad():
        gap = (torch.stack([module(each) for each in moved]).double() - value).abs()
    assert (gap > 0).any()
    assert (gap <= error).all()


def test_a_margin_that_float32_loses_is_not_certified():
    """In exact arithmetic the class is right everywhere; in float32 huge terms cancel and take the margin along."""
    space = Box(shape=(1, 1, 2), mean=(0.0,), std=(1.0,))
    layer = nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[1e8, -1e8], [1e8, -1e8]])
    layer.bias.data = torch.tensor([1.0, 0.0])
    target = target_of(nn.Sequential(nn.Flatten(), layer), space, classes=2)
    x = torch.tensor([[[[0.7, 0.1]]]])
    asked, samples = torch.ones(1, dtype=torch.bool), samples_of(x, torch.tensor([0]))
    assert not LinearBounds(epsilon=0.0).prove(target, samples, asked).certified.any()
    layer.weight.data.div_(1e8)
    assert LinearBounds(epsilon=0.0).prove(target, samples, asked).certified.all()


def test_a_margin_that_float32_has_no_digits_for_is_not_certified():
    """Products too small for float32 vanish in it, whatever large weights would have made of them."""
    space = Box(shape=(1, 1, 1), mean=(0.0,), std=(1.0,))
    small, smaller, large = (nn.Linear(1, n) for n in (1, 1, 2))
    for layer, weight, bias in ((small, [1e-25], [0.0]), (smaller, [1e-25], [0.0]), (large, [1e38, 0.0], [0.0, 1e-13])):
        layer.weight.data, layer.bias.data = torch.tensor(weight)[:, None], torch.tensor(bias)
    module = nn.Sequential(nn.Flatten(), small, nn.ReLU(), smaller, nn.ReLU(), large)
    target = target_of(module, space, classes=2)  # exactly 1e-12 against 1e-13
    x, right = torch.ones(1, 1, 1, 1), torch.zeros(1, dtype=torch.int64)
    assert int(target.predict(x)) == 1
    proof = LinearBounds(epsilon=0.0).prove(target, samples_of(x, right), torch.ones(1, dtype=torch.bool))
    assert not proof.certified.any()


@pytest.mark.parametrize(("bits", "setting"), [(10, "tf32"), (7, "bf16")])
def test_products_of_fewer_bits_err_by_no_more_than_is_kept_for_them(bits, setting):
    """Factors that are cut off, the worst of them, by graphics cards or where torch was told to."""
    worst = 1.0 + 2.0**-bits - 2.0**-23
    lost = 1.0 - 1.0 / worst**2  # both become 1
    cpu = torch.backends.mkldnn
    if setting == "tf32":
        assert rounding(1, torch.device("cuda")) * _proof._SURE > lost
    for place in (cpu.conv, cpu.matmul):
        former = place.fp32_precision
        assert rounding(1, CPU) < lost / 100
        try:
            place.fp32_precision = setting
            assert rounding(1, CPU) * _proof._SURE > lost
        finally:
            place.fp32_precision = former


def test_logits_beyond_the_classes_are_rivals_too():
    """What a network answers may be no class at all: such an answer is wrong, and is ruled out like any other."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(60, 3))
    module[1].weight.data.zero_()
    for third, holds in ((2.0, False), (0.0, True)):
        module[1].bias.data = torch.tensor([1.0, 0.0, third])
        samples = samples_of(images(2, 0), torch.zeros(2, dtype=torch.int64))
        proof = LinearBounds().prove(target_of(module, classes=2), samples, torch.ones(2, dtype=torch.bool))
        assert bool(proof.certified.all()) == holds


def test_a_layer_that_stands_twice_is_carried_through_twice():
    """One module at two places, a shared rectifier or whole layer: bounds are those of two modules."""
    shared = nn.Sequential(nn.Flatten(), *(nn.Linear(60, 6), nn.ReLU(), nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 3))
    drawn(shared, 1, 0.35)
    shared[4] = shared[2]
    twice = nn.Sequential(*(shared[at] if at != 4 else nn.ReLU() for at in range(6)))
    x = images(40, 1)
    y = target_of(twice).predict(x)
    found = [
        LinearBounds(epsilon=0.02).prove(target_of(each), samples_of(x, y), torch.ones(40, dtype=torch.bool))
        for each in (shared, twice)
    ]
    assert torch.equal(found[0].certified, found[1].certified)
    assert found[0].decided == found[1].decided
    assert 0 < int(found[1].certified.sum()) < 40
    assert len(read(nn.Sequential(shared[3], shared[2], shared[3]), (6,), CPU)) == 3


def test_whatever_the_threat_admits_is_covered():
    """The farthest images that still count as within reach and bounds, float32 and tolerances included."""
    space = Box(shape=(1, 1, 1), low=0.1, high=0.7, mean=(0.0,), std=(1.0,))
    threat = Threat(epsilon=0.05)
    for origin in (0.1, 0.12, 0.4, 0.69, 0.7, 0.8):
        x = torch.full((1, 1, 1, 1), origin)
        low, high = threat.hull(x, space)
        steps = torch.linspace(-6e-2, 6e-2, 200_001)[:, None, None, None]
        moved = x + steps
        admitted = moved[threat.holds(moved, x.expand_as(moved), space)].double()
        assert low <= admitted.min() < low + 2e-6
        assert high - 2e-6 < admitted.max() <= high


def test_an_image_outside_the_bounds_widens_them_to_itself():
    """As in projection: such pixels may stay or come back, and what lies between is covered."""
    x = torch.tensor([[[[-0.5, 1.3]], [[0.0, 0.98]]]])
    space = Box(shape=(2, 1, 2), mean=(0.0, 0.0), std=(1.0, 1.0))
    low, high = Threat(epsilon=0.1).hull(x, space)
    assert low.flatten().tolist() == pytest.approx([-0.5, 1.2, 0.0, 0.88], abs=2e-4)
    assert high.flatten().tolist() == pytest.approx([-0.4, 1.3, 0.1, 1.0], abs=2e-4)
    moved = within(Threat(epsilon=0.1), x, space, 0, 300).double()
    assert (moved >= low).all()
    assert (moved <= high).all()


class Doubled(nn.Linear):
    """A layer that computes something else than its type's name says."""

    def forward(self, x):
        return 2.0 * super().forward(x)


def hooked():
    layer = nn.Linear(60, 3)
    layer.register_forward_hook(lambda module, given, out: out + 1)
    return layer


def own_forward():
    layer = nn.Linear(60, 3)
    layer.forward = lambda x: x[:, :3]
    return layer


def negative_variance():
    layer = nn.BatchNorm2d(2)
    layer.running_var.fill_(-1e-6)
    return layer


REFUSED = {
    "module.1.1 (Sigmoid)": lambda: [nn.Flatten(), nn.Sigmoid(), nn.Linear(60, 3)],
    "module.1.0 (MaxPool2d)": lambda: [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)],
    "module.1.1 (Doubled)": lambda: [nn.Flatten(), Doubled(60, 3)],
    "module.1.1 (Linear): it has hooks": lambda: [nn.Flatten(), hooked()],
    "(Linear): it has hooks, or a forward of its own": lambda: [nn.Flatten(), own_forward()],
    "normalises by the batch": lambda: [nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten(), nn.Linear(60, 3)],
    "pads with reflect": lambda: [nn.Conv2d(2, 1, 3, padding=1, padding_mode="reflect"), nn.Flatten(), nn.Linear(30, 3)],
    "divides by another number": lambda: [nn.AvgPool2d(3, ceil_mode=True), nn.Flatten(), nn.Linear(8, 3)],
    "leaves dimensions beside each other": lambda: [nn.Flatten(0, 1), nn.Linear(6, 3)],
    "module.1.0 (Linear): it is read after 3 axes": lambda: [nn.Linear(6, 3), nn.Flatten(), nn.Linear(30, 3)],
    "it has a negative variance": lambda: [negative_variance(), nn.Flatten(), nn.Linear(60, 3)],
    "numbers are not float32": lambda: [nn.Flatten(), nn.Linear(60, 3).half()],
    "logits must come from a Linear": lambda: [nn.Flatten(), nn.Linear(60, 3), nn.ReLU()],
    "(Parametrized": lambda: [nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(60, 3))],
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_read_is_unscored_and_named(reason):
    """A layer of another kind, a subclass, hooks and settings that compute something else: never a certificate."""
    finding = LinearBounds().run(
        target_of(nn.Sequential(*REFUSED[reason]())),
        samples_of(images(4, 0), torch.zeros(4, dtype=torch.int64)),
        CONTEXT,
    )
    assert finding.score is None
    assert reason in finding.unscored


def test_training_mode_is_no_network_to_certify():
    """Dropout at work, or batch statistics, are seen wherever they are."""
    module = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(60, 3))
    assert "training mode" in obstacle(module)
    assert obstacle(module.eval()) is None


def test_answers_outside_of_their_bounds_stop_the_proof(monkeypatch):
    """Where the model computes something else than its layers, there is an error and no certificate."""
    target, x = target_of(network("dense", 0)), images(3, 0)
    honest = target.logits
    monkeypatch.setattr(target, "logits", lambda x: 1.5 * honest(x))
    with pytest.raises(ScenarioError, match="outside of their bounds"):
        LinearBounds(epsilon=1e-6).prove(
            target, samples_of(x, torch.zeros(3, dtype=torch.int64)), torch.ones(3, dtype=torch.bool)
        )


def test_weights_that_are_not_finite_certify_nothing():
    """Whatever NaN and infinity do in bounds, no point is proved by them."""
    for bad in (torch.nan, torch.inf):
        module = network("strided", 0)
        module[0].weight.data[0, 0, 0, 0] = bad
        target, x = target_of(module), images(4, 0)
        samples = samples_of(x, torch.zeros(4, dtype=torch.int64))
        assert not LinearBounds(epsilon=0.01).prove(target, samples, torch.ones(4, dtype=torch.bool)).certified.any()


def test_the_finding_is_a_lower_bound_of_what_attacks_leave():
    """Wrong points are not certified; the curve falls; the bracket with an attack on the same points is read."""
    target, x = target_of(network("strided", 3)), images(60, 3)
    y = target.predict(x)
    y[::4] = (y[::4] + 1) % 3
    samples = samples_of(x, y)
    proof = LinearBounds(epsilon=0.02).run(target, samples, CONTEXT)
    attack = ApgdCe(epsilon=0.02, steps=10).run(target, samples, CONTEXT)
    assert proof.score.kind == "lower_bound"
    assert 0 < proof.score.value <= attack.score.value <= 0.75
    values = [point.score.value for point in proof.curves[0].points]
    assert values == sorted(values, reverse=True)
    checked = with_family_checks([proof, attack])[0].checks
    assert [(c.name, c.status, c.statistic) for c in checked] == [("bracket[linf 0.02]", "passed", 0.0)]
    broken = attack.model_copy(update={"per_example": attack.per_example.model_copy(update={"flags": "A" * 12})})
    (failed,) = with_family_checks([proof, broken])[0].checks
    assert failed.status == "failed"
    assert "believe neither" in failed.reason
    other = ApgdCe(epsilon=0.01, steps=2).run(target, samples, CONTEXT)
    assert with_family_checks([proof, other])[0].checks[0].status == "not_applicable"


def published():
    """Wong and Kolter's network for MNIST, 4 layers."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip


@pytest.mark.slow
def test_a_provably_robust_network_is_certified_about_as_published():
    """5.82 % verified error at 0.1 on all test images: on 60 of them, no less than chance allows; none is broken."""
    weights, rows = DATA / "weights" / "mnist_kw_eps0.1.pth", DATA / "mnist_test.npz"
    if not (weights.exists() and rows.exists()):
        pytest.skip(f"{DATA} is not on this machine: its data have no licence to be shipped")
    module = published()
    module.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    with np.load(rows) as arrays:
        x, y = torch.tensor(arrays["x"][:60], dtype=torch.float32)[:, None] / 255, torch.tensor(arrays["y"][:60]).long()
    target = target_of(module, Box(shape=(1, 28, 28), mean=(0.0,), std=(1.0,)), classes=10)
    proof = LinearBounds(epsilon=0.1).prove(target, samples_of(x, y), target.predict(x) == y)
    attack = ApgdCe(epsilon=0.1, steps=20).run(target, samples_of(x, y), CONTEXT)
    assert proof.certified.float().mean() > 0.9
    order = samples_of(x, y)  # the finding lists points in the order of the seeded choice
    from holdfast.scenarios.base import choose  # noqa: PLC0415  beside its one use

    ids = choose(order, 1000, CONTEXT.seed).ids
    held = torch.zeros(60, dtype=torch.bool)
    held[ids] = torch.tensor(attack.per_example.unpack_flags())
    assert not (proof.certified & ~held).any()
