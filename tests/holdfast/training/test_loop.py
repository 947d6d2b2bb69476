"""The loop: what a seed determines, what a kill leaves, and what is refused."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric

from holdfast.errors import DataError, ModelError, RoleError, StoreError
from holdfast.model import load_model, save_model
from holdfast.training.loop import class_weights, fit, frozen, learning_rate
from holdfast.training.standard import Standard

CPU = torch.device("cpu")
QUICK = Standard(epochs=4, batch_size=32, average=0.9, weight_decay=0.01)


def train(world, recipe=QUICK, **more):
    return fit(recipe, world.spec, world.train, world.validation, **{"seed": 3, "device": CPU, **more})


def told(trained):
    return [(r.epoch, r.loss, r.validation.value) for r in trained.history]


def stop_after(epoch, error=RuntimeError):
    def progress(report):
        if report.epoch == epoch:
            raise error

    return progress


@pytest.mark.parametrize("world", ["table_world", "image_world"])
def test_the_seed_determines_the_bits_and_another_seed_gives_others(world, request):
    """Equal seeds give equal weights, losses and validation values; another seed gives other weights."""
    world = request.getfixturevalue(world)
    recipe = QUICK.model_copy(update={"augment": world.spec.space.kind == "box"})
    a, b, c = train(world, recipe), train(world, recipe), train(world, recipe, seed=4)
    assert a.target.digest == b.target.digest != c.target.digest
    assert told(a) == told(b)


def test_it_learns(table_world, image_world):
    """Stripes and a linear rule are learnt well above chance."""
    assert train(image_world, Standard(epochs=25, batch_size=8)).history[-1].validation.value > 0.9
    assert train(table_world, Standard(epochs=30, batch_size=16)).history[-1].validation.value > 0.8


@pytest.mark.parametrize("world", ["table_world", "image_world"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_broken_training_resumes_to_the_same_bits(world, error, request, tmp_path):
    """Stopped after any epoch and called again, a training ends as if it had never stopped."""
    world = request.getfixturevalue(world)
    unbroken = train(world)
    for epoch in (1, 3):
        with pytest.raises(error):
            train(world, checkpoints=tmp_path, progress=stop_after(epoch, error))
    seen = []
    resumed = train(world, checkpoints=tmp_path, progress=seen.append)
    assert [report.epoch for report in seen] == [4]  # epochs 1 to 3 are not trained again
    assert resumed.target.digest == unbroken.target.digest
    assert told(resumed) == told(unbroken)
    assert (resumed.best_epoch, resumed.stopped_early) == (unbroken.best_epoch, unbroken.stopped_early)
    again = train(world, checkpoints=tmp_path, progress=lambda _: pytest.fail("a finished training trained on"))
    assert again.target.digest == unbroken.target.digest


SCRIPT = """
import sys, torch, pathlib
sys.path.insert(0, {tests!r})
import conftest
torch.set_num_threads(1)  # as the test itself: equal bits are promised for one thread count
from holdfast.training.loop import fit
from holdfast.training.standard import Standard
world = conftest.image_world.__wrapped__()
fit(Standard(epochs=14, batch_size=12, average=0.9), world.spec, world.train, world.validation, seed=3,
    device=torch.device("cpu"), checkpoints=pathlib.Path({folder!r}), progress=lambda r: print(r.epoch, flush=True))
"""


def test_a_killed_process_leaves_a_checkpoint_that_resumes_to_the_same_bits(image_world, tmp_path):
    """SIGKILL at an arbitrary instant, perhaps inside a write, loses at most an epoch and changes no bit."""
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        printed = [int(process.stdout.readline()) for _ in range(4)]
        time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    recipe, seen = Standard(epochs=14, batch_size=12, average=0.9), []
    resumed = train(image_world, recipe, checkpoints=tmp_path, progress=seen.append)
    assert printed[-1] < seen[0].epoch <= 14
    assert resumed.target.digest == train(image_world, recipe).target.digest


def test_a_corrupt_checkpoint_is_refused(table_world, tmp_path):
    """One changed byte in either file, a missing tensor file, or another training's checkpoint: refused."""
    train(table_world, checkpoints=tmp_path)
    for path in list(tmp_path.iterdir()):
        body = path.read_bytes()
        for place in (0, len(body) // 2, len(body) - 3):
            path.write_bytes(body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :])
            with pytest.raises(StoreError, match=path.name):
                train(table_world, checkpoints=tmp_path)
        path.write_bytes(body[: len(body) // 2])
        with pytest.raises(StoreError):
            train(table_world, checkpoints=tmp_path)
        path.write_bytes(body)
    with pytest.raises(StoreError, match="another training"):
        train(table_world, checkpoints=tmp_path, seed=4)
    changed = replace(table_world.train, y=1 - table_world.train.y)
    with pytest.raises(StoreError, match="another training"):
        fit(QUICK, table_world.spec, changed, table_world.validation, seed=3, device=CPU, checkpoints=tmp_path)
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(StoreError, match="safetensors"):
        train(table_world, checkpoints=tmp_path)


def test_a_pickle_in_the_checkpoint_folder_is_never_opened(table_world, tmp_path):
    """Pickles under every tempting name are neither run nor read, in any stage of a training."""
    proof = tmp_path / "opened"
    bomb = f"cos\nsystem\n(S'touch {proof}'\ntR.".encode()
    folder = tmp_path / "kept"
    folder.mkdir()
    for name in ("checkpoint.pt", "checkpoint.pkl", "last.ckpt", "epoch-00009.safetensors.pt", "model.pth"):
        (folder / name).write_bytes(bomb)
    with pytest.raises(RuntimeError):
        train(table_world, checkpoints=folder, progress=stop_after(2))
    named = next(folder.glob("epoch-*.safetensors"))
    body = named.read_bytes()
    named.write_bytes(bomb)
    with pytest.raises(StoreError):
        train(table_world, checkpoints=folder)
    named.write_bytes(body)
    train(table_world, checkpoints=folder)
    assert not proof.exists()


def test_an_unwritable_checkpoint_folder_is_a_store_error(table_world, tmp_path):
    """Where the folder's name is a file, training refuses instead of going on without checkpoints."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        train(table_world, checkpoints=tmp_path / "file" / "kept")


def test_global_generators_are_untouched(table_world, image_world):
    """Neither torch's nor numpy's global state moves, and neither decides anything."""
    torch.manual_seed(1)
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002  the global one is the subject
    digest = train(table_world).target.digest
    train(image_world, QUICK.model_copy(update={"augment": True}))
    assert torch.equal(before, torch.get_rng_state())
    assert (numbers == np.random.get_state()[1]).all()  # noqa: NPY002  as above
    torch.manual_seed(2)
    assert train(table_world).target.digest == digest


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("world", ["table_world", "image_world"])
def test_trainings_beside_each_other_end_as_each_alone(world, precision, request):
    """Two trainings in two threads take their dropout each from its own seed, and leave each other's precision alone."""
    world = request.getfixturevalue(world)
    recipe, seeds = QUICK.model_copy(update={"epochs": 12, "precision": precision}), (3, 4, 5, 6)
    alone = [train(world, recipe, seed=seed).target.digest for seed in seeds]
    with ThreadPoolExecutor(2) as pool:
        together = pool.map(lambda seed: train(world, recipe, seed=seed).target.digest, seeds)
    assert list(together) == alone


def test_the_best_epoch_is_kept_and_patience_stops(table_world):
    """The target scores the best value of the history, and training stops after ``patience`` epochs without better."""
    recipe = Standard(epochs=60, batch_size=16, patience=3)
    trained = train(table_world, recipe)
    values = [report.validation.value for report in trained.history]
    right = trained.target.predict(table_world.validation.x) == table_world.validation.y
    assert values[trained.best_epoch - 1] == max(values) == pytest.approx(float(right.float().mean()))
    assert trained.stopped_early
    assert len(values) == values.index(max(values)) + 1 + 3
    assert not train(table_world).stopped_early


def test_rare_classes_are_found_when_classes_are_balanced(table_world):
    """With 1 positive in 20 and overlapping classes, weighting raises recall from next to nothing."""
    generator = torch.Generator().manual_seed(0)
    n = 1200
    y = (torch.arange(n) % 20 == 0).long()
    x = torch.zeros(n, 5)
    x[:, 0] = y + torch.randn(n, generator=generator)
    rows = replace(table_world.train, x=x, y=y, ids=torch.arange(n))
    recall = {}
    for balanced in (False, True):
        recipe = Standard(epochs=5, balance_classes=balanced)
        validation = replace(rows, role="validation")
        target = fit(recipe, table_world.spec, rows, validation, seed=0, device=CPU).target
        recall[balanced] = float((target.predict(x)[y == 1] == 1).float().mean())
    assert recall[False] < 0.2
    assert recall[True] > 0.5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=50))
def test_class_weights_balance(labels):
    """Every class that occurs has the same total weight, and a row weighs 1 in the mean."""
    y = torch.tensor(labels)
    rows = class_weights(y, torch.ones(len(y), dtype=torch.float64), 6)[y]
    totals = torch.tensor([rows[y == k].sum() for k in y.unique()])
    assert torch.allclose(totals, totals[:1].expand_as(totals), rtol=1e-4)
    assert float(rows.mean()) == pytest.approx(1.0, rel=1e-4)


@settings(max_examples=50, deadline=None)
@given(steps=st.integers(1, 500))
def test_learning_rate_rises_to_its_peak_and_falls_to_nothing(steps):
    """The schedule stays in (0, peak], rises and then falls, and ends low."""
    rates = [learning_rate(2.0, step, steps) for step in range(steps)]
    top = rates.index(max(rates))
    assert all(0 < rate <= 2.0 for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    if steps >= 20:
        assert max(rates) > 1.7
        assert rates[-1] < 0.05


def test_frozen_restores_modes_and_grads_also_on_error():
    """Mode and requires_grad of each part come back as they were."""
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2).eval(), torch.nn.Dropout())
    module[0].bias.requires_grad_(False)
    before = [m.training for m in module.modules()], [p.requires_grad for p in module.parameters()]
    with frozen(module):
        assert not any(m.training for m in module.modules())
        assert not any(p.requires_grad for p in module.parameters())
    with pytest.raises(RuntimeError), frozen(module):
        raise RuntimeError
    assert before == ([m.training for m in module.modules()], [p.requires_grad for p in module.parameters()])


def test_the_target_answers_as_its_saved_bytes_do(image_world, tmp_path):
    """Saved and loaded, the model has the digest that training gave and the same logits bit for bit."""
    trained = train(image_world)
    assert save_model(tmp_path, trained.module, image_world.spec) == trained.target.digest
    loaded = load_model(tmp_path, trained.target.digest)
    x = image_world.validation.x
    assert torch.equal(loaded.logits(x), trained.target.logits(x))


def test_mixed_precision_runs_and_keeps_full_weights(image_world):
    """bf16 trains on the CPU too; the weights kept are float32, and the values differ from float32 training."""
    mixed = train(image_world, QUICK.model_copy(update={"precision": "bf16-mixed"}))
    assert all(p.dtype == torch.float32 for p in mixed.module.parameters())
    assert mixed.target.digest != train(image_world).target.digest


def test_a_fabric_of_the_caller_gives_the_same_bits(image_world):
    """A launched Fabric handed in, as for several processes, trains what the loop's own does."""
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    assert train(image_world, fabric=fabric).target.digest == train(image_world).target.digest


def test_what_cannot_be_trained_is_refused(table_world):
    """Wrong roles, no rows, unknown labels, augmented tables and diverging losses each have their error."""
    world = table_world
    with pytest.raises(RoleError):
        fit(QUICK, world.spec, replace(world.train, role="test"), world.validation, seed=0, device=CPU)
    with pytest.raises(RoleError):
        fit(QUICK, world.spec, world.train, replace(world.validation, role="gate"), seed=0, device=CPU)
    with pytest.raises(DataError, match="no train rows"):
        fit(QUICK, world.spec, world.train.take(torch.arange(0)), world.validation, seed=0, device=CPU)
    with pytest.raises(DataError, match="labels"):
        fit(QUICK, world.spec, replace(world.train, y=world.train.y + 1), world.validation, seed=0, device=CPU)
    with pytest.raises(ModelError, match="augment"):
        train(world, QUICK.model_copy(update={"augment": True}))
    broken = world.train.x.clone()
    broken[9] = torch.inf
    with pytest.raises(ModelError, match="loss of"):
        fit(QUICK, world.spec, replace(world.train, x=broken), world.validation, seed=0, device=CPU)
