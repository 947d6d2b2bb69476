"""Laws that every detector keeps, those of tomorrow included."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from holdfast import registry
from holdfast.data.stream import Window
from holdfast.monitoring.base import Detector
from holdfast.seeding import Noise
from holdfast.space import Box

PACKAGE = "holdfast.monitoring"
NAMES = registry.available(PACKAGE)


@pytest.fixture(params=NAMES)
def detector(request):
    return registry.find(PACKAGE, request.param, Detector)()


def pictures(n, seed, low=0.0):
    """Images of two classes, brighter above and brighter below, and a champion that looks at the difference."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = rng.uniform(low, 0.8, size=(n, 1, 8, 8))
    x[np.arange(n), 0, 4 * y] += 0.2
    upper = x[:, 0, 0].mean(1) - x[:, 0, 4].mean(1) + 2.0 * low * rng.random(n)
    p = 1.0 / (1.0 + np.exp(40.0 * upper))
    features = torch.tensor(np.stack([upper, x.mean((1, 2, 3))], 1), dtype=torch.float32)
    space = Box(shape=(1, 8, 8), mean=(0.4,), std=(0.2,))
    return Window(
        0, rng.choice(2**40, size=n, replace=False), torch.tensor(x, dtype=torch.float32), np.stack([1 - p, p], 1),
        space, y, features, rng.choice([-1.0, 0.0, 1.0], (n, 2), p=[0.05, 0.9, 0.05]),
    )  # fmt: skip


def same(a, b):
    return a.statistic == b.statistic and a.effect == b.effect and a.details == b.details and a.memory == b.memory


def test_the_panel_of_the_field_is_there():
    """Every detector that the platform promises has its file, and nothing else is taken for one."""
    assert set(NAMES) == {
        "adwin", "calibration_drift", "challenger", "classification_quality", "embedding_drift", "evidently",
        "expected_quality", "harm", "label_shift", "mmd", "page_hinkley", "surprise", "suspicion",
    }  # fmt: skip


def test_equal_windows_read_equal_and_come_back_untouched(detector, make, past):
    """The same window gives the same reading; neither it nor the past nor the global generators change."""
    window = make(300, 3)
    before = [part.clone() for part in (window.x, past.x)], window.probabilities.copy(), torch.random.get_rng_state()
    np.random.seed(5)  # noqa: NPY002  the global one is what must stay untouched
    first, state = detector.read(window, past, {}), np.random.get_state()[1].copy()  # noqa: NPY002  as above
    assert same(first, detector.read(window, past, {}))
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002  as above
    assert all(torch.equal(a, b) for a, b in zip(before[0], (window.x, past.x), strict=True))
    assert np.array_equal(before[1], window.probabilities)
    assert torch.equal(before[2], torch.random.get_rng_state())


def test_memory_is_json_and_bounded(detector, make, past):
    """What is carried survives JSON without a change, and forty windows carry no more than a page."""
    memory, sizes = {}, []
    for place in range(40 if detector.sequential else 2):
        window = make(250, 100 + place, position=place)
        reading = detector.replay(window, past, memory)
        kept = json.loads(json.dumps(reading.memory))
        assert kept == reading.memory
        memory = kept
        sizes.append(len(json.dumps(kept)))
    assert sizes[-1] <= 25_000
    assert detector.sequential == (sizes[-1] > len("{}"))


def test_a_reading_is_finite_and_says_its_unit(detector, make, past):
    """Numbers are numbers, and the effect has a unit."""
    reading = detector.read(make(300, 4), past, {})
    assert np.isfinite([reading.statistic, reading.effect]).all()
    assert reading.effect_unit
    assert reading.p_value is None or 0.0 <= reading.p_value <= 1.0
    assert detector.replay(make(300, 4), past, {}).statistic == pytest.approx(reading.statistic, rel=1e-9)


def test_images_are_watched_by_every_detector(detector):
    """On images too a reading is finite, the cheaper way says the same, and brightness that moved is no quieter."""
    clear, past = pictures(120, 1), pictures(400, 0)
    reading = detector.read(clear, past, {})
    assert np.isfinite([reading.statistic, reading.effect]).all()
    assert detector.replay(clear, past, {}).statistic == pytest.approx(reading.statistic, rel=1e-9, abs=1e-12)
    if detector.about == "shift":
        assert detector.read(pictures(120, 2, low=0.4), past, {}).statistic > reading.statistic


def test_order_within_a_window_changes_nothing(detector, make, past):
    """Rows in another order give the same reading, but for detectors that read them as a sequence."""
    window = make(300, 6)
    turned = window.take(Noise(0, ("turn",)).uniform(torch.arange(300)).argsort().numpy())
    if detector.name() in {"page_hinkley", "adwin"}:
        return
    a, b = detector.read(window, past, {}), detector.read(turned, past, {})
    assert a.statistic == pytest.approx(b.statistic, rel=1e-6, abs=1e-9)


def test_settings_round_trip_and_the_source_is_cited(detector):
    """A detector is its settings, and says where it comes from."""
    assert type(detector).model_validate_json(detector.model_dump_json()) == detector
    assert len(detector.reference) > 10
    assert detector.read.__doc__
