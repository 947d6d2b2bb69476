"""Noise is a pure function of seed, path and example."""

import random
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from holdfast.seeding import Noise, drawing

IDS = torch.arange(4000, dtype=torch.int64) * 7919 - 10**9


@given(cut=st.integers(1, 63), seed=st.integers(0, 2**32))
def test_an_example_draws_the_same_whatever_stands_beside_it(cut, seed):
    """Batches, their sizes and their order cannot change what one id draws."""
    noise, ids = Noise(seed, ("a",)), IDS[:64]
    whole = noise.normal(ids, (3, 2))
    flipped = noise.normal(ids.flip(0), (3, 2)).flip(0)
    assert torch.equal(whole, torch.cat([noise.normal(ids[:cut], (3, 2)), noise.normal(ids[cut:], (3, 2))]))
    assert torch.equal(whole, flipped)


def test_names_and_seeds_make_independent_streams():
    """Another seed, path or id draws other numbers, uncorrelated with the first."""
    base = Noise(1, ("a",)).uniform(IDS)
    for other in (Noise(2, ("a",)), Noise(1, ("b",)), Noise(1, ("a",)).derive("x"), Noise(1, ("a", "x", "y"))):
        assert abs(float(torch.corrcoef(torch.stack([base, other.uniform(IDS)]))[0, 1])) < 0.06
    assert Noise(1).derive("a", "b") == Noise(1, ("a", "b"))
    assert Noise(1, ("ab",)).key != Noise(1, ("a", "b")).key


def test_draws_follow_their_distributions():
    """Kolmogorov-Smirnov finds nothing in 80,000 uniform and normal draws; integers fill their range evenly."""
    noise = Noise(5, ("law",))
    assert stats.kstest(noise.uniform(IDS, (20,), -1.0, 3.0).flatten().numpy(), stats.uniform(-1, 4).cdf).pvalue > 1e-3
    assert stats.kstest(noise.normal(IDS, (20,)).flatten().numpy(), stats.norm.cdf).pvalue > 1e-3
    counts = torch.bincount(noise.integers(IDS, 7, (20,)).flatten(), minlength=7).numpy()
    assert len(counts) == 7
    assert stats.chisquare(counts).pvalue > 1e-3


def test_global_generators_are_never_touched():
    """A draw leaves torch's, NumPy's and Python's own generators where they were."""
    state = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002  the global one
    noise = Noise(3)
    noise.uniform(IDS), noise.normal(IDS), noise.generator().initial_seed(), noise.numpy().random()
    assert torch.equal(state[0], torch.get_rng_state())
    assert (state[1] == np.random.get_state()[1]).all()  # noqa: NPY002  the global one
    assert state[2] == random.getstate()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_devices_draw_alike():
    """The GPU draws the CPU's very bits."""
    assert torch.equal(Noise(1).uniform(IDS.cuda(), (5,)).cpu(), Noise(1).uniform(IDS, (5,)))


def test_threads_draw_each_from_its_own_seed():
    """What one thread draws of torch's own generators is the same whatever others draw meanwhile."""

    def drawn(seed):
        with drawing(seed):
            parts = []
            for _ in range(4):
                parts.append(torch.rand(3))
                time.sleep(0.005)
        return torch.cat(parts)

    state = torch.get_rng_state()
    alone = [drawn(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(drawn, range(4)))
    assert all(map(torch.equal, alone, together))
    assert torch.equal(state, torch.get_rng_state())


def test_a_step_touches_the_generator_of_its_own_device_alone(monkeypatch):
    """On a machine with GPUs, seeding for the CPU asks none of them: what it would not give back it does not take."""
    asked = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", asked.append)
    monkeypatch.setattr(torch.cuda, "manual_seed", asked.append)
    with drawing(5, torch.device("cpu")):
        first = torch.rand(2)
    assert asked == []
    assert torch.equal(first, torch.rand(2, generator=torch.Generator().manual_seed(5)))


def test_threads_that_seed_do_not_wait_for_each_other_without_end():
    """A garbage collection lets another thread in while torch holds its generator: that thread does not ask for it."""
    script = """
        import gc, sys, threading, time
        import torch
        from holdfast.seeding import drawing

        def seed_often(seed):
            for _ in range(200):
                with drawing(seed):
                    pass

        gc.callbacks.append(lambda *_: time.sleep(1e-4))
        gc.set_threshold(2)
        threads = [threading.Thread(target=seed_often, args=(seed,), daemon=True) for seed in (1, 2)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print("done")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=False, capture_output=True, text=True, timeout=100
    )
    assert done.stdout == "done\n", done.stderr
