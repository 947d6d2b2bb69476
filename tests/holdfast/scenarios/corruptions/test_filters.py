"""The filters and fields that corruptions are made of, against other programs and sums written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

from holdfast.scenarios.corruptions._edges import canny, distance, equalise
from holdfast.scenarios.corruptions._fields import plasma, poisson, power_law
from holdfast.scenarios.corruptions._filters import (
    box_weights,
    convolve,
    disk,
    fold,
    gaussian,
    resample,
    sample,
    zoom,
)
from holdfast.scenarios.corruptions.glass_blur import takings
from holdfast.seeding import Noise

SHAPES = [(7, 5), (33, 64), (1, 9), (32, 32)]


def images(shape, n=3, channels=2):
    return Noise(2).uniform(torch.arange(n), (channels, *shape))


def each(x, function):
    """Do the same to every channel of every image, in NumPy."""
    return torch.tensor(np.stack([[function(channel.double().numpy()) for channel in image] for image in x])).float()


@pytest.mark.parametrize(("edge", "stands"), [("nearest", "aaabccc"), ("reflect", "baabccb"), ("mirror", "cbabcba")])
def test_what_stands_outside_an_image(edge, stands):
    """Two pixels before and after an image of three."""
    assert "".join("abc"[i] for i in fold(torch.arange(-2, 5), 3, edge)) == stands


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("edge", ["nearest", "reflect", "mirror"])
@pytest.mark.parametrize("sigma", [0.0, 0.05, 0.7, 3.0])
def test_a_gaussian_is_scipys(shape, edge, sigma):
    """Also where it reaches over the whole image and further."""
    x = images(shape)
    expected = each(x, lambda channel: ndimage.gaussian_filter(channel, sigma, mode=edge, truncate=3.0))
    assert torch.allclose(gaussian(x, sigma, edge, truncate=3.0), expected, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("radius", "blur"), [(0.3, 0.4), (1.5, 0.1), (3.0, 0.1), (8.0, 0.5), (10.0, 0.5)])
def test_a_disk_is_spread_as_a_sum_says(shape, radius, blur):
    """The transform gives what the sum over neighbours gives, edges mirrored.

    The published kernel of a disk that fills its frame sums to a little over 1.
    """
    x, kernel = images(shape), disk(radius, blur)
    assert float(kernel.sum()) == pytest.approx({8.0: 1.012975, 10.0: 1.010786}.get(radius, 1.0))
    expected = each(x, lambda channel: ndimage.correlate(channel, kernel.numpy(), mode="mirror"))
    assert torch.allclose(convolve(x, kernel), expected, atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.25, 2.25, 4.5])
@pytest.mark.parametrize("size", [5, 28, 32, 64])
def test_a_zoom_is_scipys_on_the_published_crop(factor, size):
    """Crop, zoom and trim as the published code does."""
    x = images((size, size))
    crop = math.ceil(size / factor)
    top = (size - crop) // 2

    def zoomed(channel):
        large = ndimage.zoom(channel[top : top + crop, top : top + crop], factor, order=1)
        trim = (len(large) - size) // 2
        return large[trim : trim + size, trim : trim + size]

    assert torch.allclose(zoom(x, factor), each(x, zoomed), atol=1e-4)


@pytest.mark.parametrize(("size", "small"), [(32, 30), (28, 18), (224, 56), (7, 4), (5, 1), (9, 9)])
def test_a_box_filter_is_pillows(size, small):
    """There and back."""
    x = images((size, size), n=1, channels=1)
    by_pillow = Image.fromarray(x[0, 0].numpy()).resize((small, small), Image.Resampling.BOX)
    back = by_pillow.resize((size, size), Image.Resampling.BOX)
    weights = box_weights(small, size) @ box_weights(size, small)
    assert np.allclose(resample(x, weights, weights)[0, 0], np.asarray(back), atol=1e-6)


@pytest.mark.parametrize("edge", ["reflect", "mirror"])
def test_reading_between_pixels_is_scipys(edge):
    """Bilinear, inside and far outside."""
    x = images((6, 9))
    row, column = (span * (3 * Noise(s).uniform(torch.arange(3), (6, 9)) - 1) for s, span in ((4, 5.0), (5, 8.0)))
    for i, image in enumerate(x):
        expected = [ndimage.map_coordinates(c, [row[i], column[i]], order=1, mode=edge) for c in image.numpy()]
        assert np.allclose(sample(x, row, column, edge)[i], expected, atol=1e-4)


@pytest.mark.parametrize("mean", [0.0, 0.4, 5.0, 5.99, 6.01, 20.0, 150.0, 500.0])
def test_poisson_counts_are_those_of_the_distribution(mean):
    """At equal levels SciPy's inverse gives the same count, but for one level in five hundred."""
    level = np.linspace(0.0, 1.0, 20_001)[1:-1]
    counts = poisson(torch.full((len(level),), mean), torch.tensor(stats.norm.ppf(level)).float()).numpy()
    expected = stats.poisson.ppf(level, mean)
    assert np.abs(counts - expected).max() <= 1
    assert (counts != expected).mean() < 1 / 500


@pytest.mark.parametrize(("reach", "shape"), [(1, (7, 5)), (1, (32, 32)), (2, (9, 14)), (4, (40, 33)), (4, (6, 6))])
def test_glass_takes_as_visits_in_their_order_would(reach, shape):
    """One pixel after another, from the last to the first, each copies what its neighbour holds by then."""
    height, width = shape
    ids, noise = torch.arange(3), Noise(6)
    move = noise.integers(ids, 2 * reach, (2, height, width)) - reach
    ours = takings(ids, shape, reach, noise)
    for image in range(3):
        held = np.arange(height * width).reshape(shape)
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                down, right = move[image, :, row, column].tolist()
                held[row, column] = held[row + down, column + right]
        assert ours[image].tolist() == held.flatten().tolist()


def test_clouds_fill_their_range_and_belong_to_their_id():
    """From 0 to 1 over the square; equal ids have equal clouds; larger decay is smoother."""
    ids = torch.tensor([1, 2, 1])
    rough, smooth = (plasma(ids, (32, 32), decay, Noise(0)) for decay in (1.5, 3.0))
    assert rough.amin((1, 2)).tolist() == [0.0] * 3
    assert rough.amax((1, 2)).tolist() == [1.0] * 3
    assert torch.equal(rough[0], rough[2])
    assert not torch.equal(rough[0], rough[1])
    assert float(rough.diff(dim=2).abs().mean()) > float(smooth.diff(dim=2).abs().mean())
    assert plasma(ids, (7, 5), 2.0, Noise(0)).shape == (3, 7, 5)


@pytest.mark.parametrize("fall", [0.0, 0.8, 1.8])
def test_a_power_law_falls_as_told(fall):
    """Mean 0, deviation 1, and the slope of the logarithm of power."""
    field = power_law(torch.arange(200), (64, 64), fall, Noise(1)).numpy()
    assert np.abs(field.mean((1, 2))).max() < 1e-5
    assert field.var() == pytest.approx(1.0, rel=0.1)
    power = (np.abs(np.fft.fft2(field)) ** 2).mean(0)
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    band = (frequency > 0) & (frequency < 0.5)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
    assert slope == pytest.approx(-fall, abs=0.05)


def test_distance_is_the_least_sum_of_moves():
    """Against every way of three kinds of moves, written out, and cut off at 20."""
    edges = Noise(3).uniform(torch.arange(4), (12, 30)) < 0.01
    edges[3] = False

    def between(down, right):
        far, near = max(down, right), min(down, right)
        # Moves of one pixel, one diagonal, one of the knight: the two kinds that lie nearest.
        return (far - 2 * near) + 2.1969 * near if 2 * near <= far else (far - near) * 2.1969 + (2 * near - far) * 1.4

    expected = torch.full((4, 12, 30), 20.0)
    for i, row, column in edges.nonzero().tolist():
        for r, c in itertools.product(range(12), range(30)):
            expected[i, r, c] = min(float(expected[i, r, c]), between(abs(r - row), abs(c - column)))
    assert torch.allclose(distance(edges, 20), expected, atol=1e-4)


def test_edges_lie_where_levels_change():
    """A bright square has its outline as edge, also where the outline is weak; a weak square alone has none."""
    levels = torch.zeros((2, 16, 16), dtype=torch.int32)
    levels[0, 4:12, 4:12] = 60
    levels[0, 4:12, 8:12] = 25
    levels[1, 4:12, 4:12] = 25
    edges = canny(levels, 50, 150)
    assert edges[0, 4:12, 3:5].any(1).all()
    assert edges[0, 5:11, 11:13].any(1).all()
    assert not edges[0, :2].any()
    assert not edges[1].any()


def test_levels_are_spread_image_by_image():
    """The lowest becomes 0, the highest 255, in proportion to counts; one level alone stays."""
    levels = torch.tensor([[[3, 3], [5, 9]], [[7, 7], [7, 7]]], dtype=torch.int32)
    assert equalise(levels, 20).tolist() == [[[0, 0], [128, 255]], [[7, 7], [7, 7]]]
