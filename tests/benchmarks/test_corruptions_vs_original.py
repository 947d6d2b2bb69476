"""Ours against what the published generator made of the same synthetic images, as the benchmark recorded it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from holdfast.registry import available, find
from holdfast.scenarios.corruptions.base import Corruption

RECORD = json.loads((Path(__file__).parent / "published_corruptions.json").read_text())
NAMES = [name for name in available("holdfast.scenarios.corruptions") if name != "composition"]
SIZES = {"cifar": 32, "imagenet": 224}
scales = pytest.mark.parametrize("scale", SIZES)
every = pytest.mark.parametrize("name", NAMES)


def as_published(name, parameters, size):
    """Put one severity's parameters as the published code has them."""
    if name == "zoom_blur":  # a stop and a step for the list of factors
        return np.arange(1, *parameters)
    if name == "elastic_transform":  # shares of the size for pixels
        return np.array(parameters) * size
    return np.array(parameters[:2] if name == "frost" else parameters)  # the last of frost is of our texture


@scales
@every
def test_parameters_are_the_published_ones(name, scale):
    """Each severity of each family, to the last digit of the source."""
    table = getattr(find("holdfast.scenarios.corruptions", name, Corruption), scale)
    published = RECORD[scale]["parameters"][name]
    for ours, theirs in zip(table, published, strict=True):
        assert as_published(name, ours, SIZES[scale]) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("scale", ["cifar", pytest.param("imagenet", marks=pytest.mark.slow)])
@every
def test_images_come_out_as_the_published_ones(name, scale, benchmark):
    """Mean, deviation and change within 1 % of the range and four standard errors; frost's texture within 3 %."""
    count, times = benchmark.SYNTHETIC[scale]
    images = benchmark.synthetic(count, SIZES[scale])
    x, clean = torch.tensor(images).permute(0, 3, 1, 2) / 255.0, images / 255.0
    severities = (1, 2, 3, 4, 5) if scale == "cifar" else (1, 5)  # large images take long
    for severity in severities:
        means, errors = RECORD[scale]["statistics"][name][severity - 1]
        draws = [benchmark.ours(x, torch.arange(count) + 1000 * t, scale, name, severity) for t in range(times)]
        found = np.stack([benchmark.statistics(d.permute(0, 2, 3, 1).double().numpy(), clean) for d in draws])
        ours, own = (np.array(row) for row in benchmark.summary(found))
        room = (0.03 if name == "frost" else 0.01) + 4 * np.hypot(own, errors)
        assert (np.abs(ours - means) <= room).all(), (severity, ours, means, room)


def test_one_family_does_not_hide_the_others_pace(benchmark):
    """Beside the pace of all together it says how many have it alone, and what is left without the largest saving."""
    times = {"glass_blur": np.array([1.0, 70.0]), "jpeg": np.array([2.0, 1.0]), "snow": np.array([1.0, 5.0])}
    assert benchmark.overall(times) == 19.0
    said = benchmark.unequal(times)
    assert said == "of 3 families 2 have it alone, 1 are slower than published; without glass_blur 2.0"
