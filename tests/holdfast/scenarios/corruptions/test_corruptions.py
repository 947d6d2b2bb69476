"""Each corruption against what its formula says."""

from __future__ import annotations

import colorsys
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from holdfast.registry import available, find
from holdfast.scenarios.corruptions.base import Corruption
from holdfast.scenarios.corruptions.brightness import Brightness
from holdfast.scenarios.corruptions.contrast import Contrast
from holdfast.scenarios.corruptions.gaussian_noise import GaussianNoise
from holdfast.scenarios.corruptions.motion_blur import MotionBlur
from holdfast.scenarios.corruptions.saturate import Saturate
from holdfast.seeding import Noise
from holdfast.space import Box

FASHION = Path(__file__).parents[4] / "embedded" / "fashion_mnist_5k.npz"
EVERY = [
    find("holdfast.scenarios.corruptions", name, Corruption)
    for name in available("holdfast.scenarios.corruptions")
    if name != "composition"
]
GREY = [corruption for corruption in EVERY if corruption is not Saturate]
UNEVEN = {"elastic_transform", "frost", "glass_blur", "pixelate", "saturate", "spatter"}
"""Families whose published parameters do not all rise: in pixels, a severity may do less than the one before."""
SEVERITIES = (1, 2, 3, 4, 5)


def box(*shape):
    return Box(shape=shape, mean=(0.5,) * shape[0], std=(0.25,) * shape[0])


def colours(n=6, size=8):
    return Noise(2).uniform(torch.arange(n), (3, size, size))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(("size", "deviations"), [(32, GaussianNoise.cifar), (80, GaussianNoise.imagenet)])
def test_noise_has_the_deviation_of_its_severity(severity, size, deviations):
    """Before clipping: mean 0 and the published deviation, for small images and large ones."""
    sigma = deviations[severity - 1][0]
    x = torch.full((40, 1, size, size), 0.5)
    parameters = GaussianNoise().parameters(severity, box(1, size, size))
    moved = GaussianNoise().corrupt(x, torch.arange(40), parameters, Noise(1)) - x
    n = moved.numel()
    assert abs(float(moved.mean())) < 4 * sigma / math.sqrt(n)
    assert abs(float(moved.std()) / sigma - 1) < 4 / math.sqrt(2 * n)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_is_a_shift_of_the_hsv_value(severity):
    """Pixel by pixel as Python's own colour conversion says, black included."""
    x = colours()
    x[0, :, 0, 0] = 0.0
    ours = Brightness().disturb(x, torch.arange(6), severity, Noise(0), box(3, 8, 8))
    shift = Brightness.cifar[severity - 1][0]

    def reference(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
        return colorsys.hsv_to_rgb(hue, saturation, min(value + shift, 1.0))

    flat = x.permute(0, 2, 3, 1).reshape(-1, 3)
    expected = torch.tensor([reference(pixel) for pixel in flat]).reshape(6, 8, 8, 3).permute(0, 3, 1, 2)
    assert torch.allclose(ours, expected, atol=1e-5)


def test_brightness_of_grey_images_is_a_clipped_sum():
    """One channel has no hue."""
    x = colours()[:, :1]
    ours = Brightness().disturb(x, torch.arange(6), 5, Noise(0), box(1, 8, 8))
    assert torch.allclose(ours, (x + 0.3).clamp(max=1.0), atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_keeps_the_mean_and_scales_the_deviation(severity):
    """Of each channel of each image."""
    x = colours()
    ours = Contrast().disturb(x, torch.arange(6), severity, Noise(0), box(3, 8, 8))
    kept = Contrast.cifar[severity - 1][0]
    assert torch.allclose(ours.mean((2, 3)), x.mean((2, 3)), atol=1e-5)
    assert torch.allclose(ours.std((2, 3)), kept * x.std((2, 3)), atol=1e-5)


def test_motion_blur_equals_the_sum_written_out():
    """Each pixel is the Gaussian average of the pixels along its image's line, edges repeated."""
    x, ids, noise = colours(3, 9), torch.tensor([4, 5, 6]), Noise(8)
    radius, sigma = MotionBlur.cifar[4]
    ours = MotionBlur().disturb(x, ids, 5, noise, box(3, 9, 9))
    angles = np.deg2rad(noise.uniform(ids, (), -45.0, 45.0).double().numpy())
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(2 * int(radius) + 1)]
    for image, angle, blurred in zip(x, angles, ours, strict=True):
        expected = torch.zeros_like(image)
        for row in range(9):
            for column in range(9):
                for i, weight in enumerate(weights):
                    r = min(max(row + math.ceil(i * math.sin(angle) - 0.5), 0), 8)
                    c = min(max(column + math.ceil(i * math.cos(angle) - 0.5), 0), 8)
                    expected[:, row, column] += weight / sum(weights) * image[:, r, c]
        assert torch.allclose(blurred, expected, atol=1e-5)


def test_motion_blur_turns_each_image_its_own_way():
    """The angle belongs to the id: equal images differ, equal ids agree."""
    x = colours(1, 16).expand(3, -1, -1, -1)
    blurred = MotionBlur().disturb(x, torch.tensor([1, 2, 1]), 5, Noise(0), box(3, 16, 16))
    assert torch.equal(blurred[0], blurred[2])
    assert not torch.equal(blurred[0], blurred[1])


@pytest.mark.parametrize("corruption", [c for c in EVERY if c.name().split("/")[1] not in UNEVEN])
@pytest.mark.parametrize("scale", ["cifar", "imagenet"])
def test_damage_grows_with_severity(corruption, scale):
    """On real images no severity is nearer to the original than the one before.

    CIFAR-10-C's motion blur of severity 3 and 4 differ by nothing but the reach of weights below 1e-8.
    """
    x = torch.tensor(np.load(FASHION)["x_test"][:64, None] / 255.0, dtype=torch.float32)
    scenario, noise = corruption(scale=scale), Noise(3)
    distances = [
        float((scenario.disturb(x, torch.arange(64), severity, noise, box(1, 28, 28)) - x).square().mean())
        for severity in SEVERITIES
    ]
    assert distances[0] > 0
    assert distances == sorted(distances)
    assert len(set(distances)) >= 4


@pytest.mark.parametrize("corruption", EVERY)
def test_the_published_parameters_go_by_size(corruption):
    """Up to 64 pixels CIFAR-10-C's, above ImageNet-C's, unless params say otherwise."""
    assert corruption().parameters(2, box(3, 64, 200)) == corruption.cifar[1]
    assert corruption().parameters(2, box(3, 65, 200)) == corruption.imagenet[1]
    assert corruption(scale="cifar").parameters(5, box(3, 224, 224)) == corruption.cifar[4]
    assert len(corruption.cifar) == len(corruption.imagenet) == 5


@pytest.mark.parametrize("corruption", GREY)
def test_what_comes_out_is_an_image(corruption):
    """Bounds hold, also for pixels that come in from outside them."""
    x = torch.randn((5, 2, 11, 7), generator=torch.Generator().manual_seed(0)) * 3
    space = Box(shape=(2, 11, 7), low=-1.0, high=2.0, mean=(0.0, 0.0), std=(1.0, 1.0))
    ours = corruption().disturb(x, torch.arange(5), 5, Noise(0), space)
    assert ours.shape == x.shape
    assert float(ours.min()) >= -1.0
    assert float(ours.max()) <= 2.0
